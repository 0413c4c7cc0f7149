"""The WebSocket of the quota routes: the legacy envelopes, pushes to the right workspace, no message that closes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from demonstration.backend import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "backend"
IMPATIENT = """
import sys
import uvicorn
from fastapi import FastAPI
from routes import quota_socket

quota_socket.PING_AFTER_SECONDS = 0.2
app = FastAPI()
app.include_router(quota_socket.router)
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""
"""Serves the route alone, with a ping that comes sooner."""
Chat = Callable[..., httpx.Response]
Open = Callable[[str], ClientConnection]


@pytest.fixture
def socket_of(backend_url: str) -> Iterator[Open]:
    opened: list[ClientConnection] = []

    def open_socket(workspace_id: str) -> ClientConnection:
        url = f"ws{backend_url.removeprefix('http')}/api/quota/ws?workspace_id={workspace_id}"
        opened.append(connect(url))
        return opened[-1]

    yield open_socket
    for socket in opened:
        socket.close()


def receive(socket: ClientConnection, seconds: float = 5) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=seconds))
    return message


def test_the_status_comes_at_once(socket_of: Open, workspace: str) -> None:
    message = receive(socket_of(workspace))
    assert set(message) == {"type", "data"}
    assert message["type"] == "quota_initial"
    assert message["data"]["status"] == "normal"
    assert message["data"]["requests_per_minute"]["current"] == 0


def test_questions_are_answered_and_everything_else_is_ignored(socket_of: Open, workspace: str) -> None:
    socket = socket_of(workspace)
    receive(socket)
    for junk in (
        "[]",
        "5",
        "null",
        '"ping"',
        "{",
        "",
        '{"type": "pong"}',
        '{"type": ["ping"]}',
        '{"kind": 1}',
        "[" * 9_999,
    ):
        socket.send(junk)
    socket.send('{"type": "ping"}')
    assert receive(socket) == {"type": "pong"}
    socket.send('{"type": "request_status"}')
    update = receive(socket)
    assert set(update) == {"type", "data"}
    assert (update["type"], update["data"]["status"]) == ("quota_update", "normal")


def test_a_call_is_pushed_to_its_workspace_alone(socket_of: Open, chat: Chat, workspace: str) -> None:
    mine, other = socket_of(workspace), socket_of(f"{workspace}-other")
    receive(mine)
    receive(other)
    chat(workspace, goal_id="goal-1").raise_for_status()
    update = receive(mine)
    while update["data"]["tokens_per_minute"]["current"] == 0:  # pushed while the call was open
        update = receive(mine)
    assert set(update) == {"type", "data", "timestamp"}
    assert update["type"] == "quota_update"
    assert datetime.fromisoformat(update["timestamp"])
    assert update["data"]["requests_per_minute"]["current"] == 1
    assert update["data"]["goal_usage"][0]["goal_id"] == "goal-1"
    with pytest.raises(TimeoutError):
        other.recv(timeout=1)


def test_a_change_of_status_is_pushed_both_ways(
    socket_of: Open, chat: Chat, http: httpx.Client, admin_key: str
) -> None:
    name = "two-a-minute-socket"
    socket = socket_of(name)
    assert receive(socket)["data"]["status"] == "normal"
    for _ in range(2):
        chat(name).raise_for_status()
    while receive(socket)["data"]["status"] != "rate_limited":
        pass
    http.post("/api/quota/reset", headers={"X-Admin-Key": admin_key}, params={"workspace_id": name}).raise_for_status()
    while receive(socket)["data"]["status"] != "normal":
        pass


def test_many_clients_come_and_go(socket_of: Open, chat: Chat, workspace: str) -> None:
    sockets = [socket_of(workspace) for _ in range(12)]
    for socket in sockets:
        receive(socket)
    for socket in sockets[::2]:
        socket.close()
    chat(workspace).raise_for_status()
    for socket in sockets[1::2]:
        while receive(socket)["data"]["tokens_per_minute"]["current"] == 0:
            pass


def test_an_impossible_workspace_is_turned_away(socket_of: Open) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        socket_of("x" * 257).recv(timeout=5)


def test_a_silent_client_is_pinged() -> None:
    port = free_port(18_300)
    environment = {**os.environ, "LLMQUOTA_STORE": "memory:"}
    backend = subprocess.Popen([sys.executable, "-c", IMPATIENT, str(port)], cwd=EXAMPLE, env=environment)
    try:
        with connect_soon(f"ws://127.0.0.1:{port}/api/quota/ws") as socket:
            assert receive(socket)["type"] == "quota_initial"
            assert receive(socket) == {"type": "ping"}
            socket.send('{"type": "pong"}')
            assert receive(socket) == {"type": "ping"}
    finally:
        backend.terminate()
        backend.wait(30)


def connect_soon(url: str) -> ClientConnection:
    deadline = time.monotonic() + 60
    while True:
        try:
            return connect(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
