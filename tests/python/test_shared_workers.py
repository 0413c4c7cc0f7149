"""``uvicorn --workers 4`` on a shared store: one quota, whichever worker answers, also after one was killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from shared_workers import SIZE

from llmquota import QuotaManager

WORKERS = 4
CAP = 100


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"shared:{tmp_path}/store{SIZE}"


@pytest.fixture
def backend(store: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a backend that answers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS), "--log-level", "warning"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "shared_app:app", *arguments],
            cwd=Path(__file__).parent,
            env={**kept, "LLMQUOTA_STORE": store, "OPENAI_RATE_LIMIT_PER_DAY": str(CAP)},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def call(backend: str, workspace: str) -> dict[str, Any]:
    # A connection of its own, so that any worker may take it.
    answer = httpx.post(f"{backend}/call/{workspace}", timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until_all_answer(backend: str, without: int = 0) -> set[int]:
    """The workers, once each of them has answered."""
    pids: set[int] = set()
    until = time.monotonic() + 60
    with ThreadPoolExecutor(8) as threads:
        while len(pids - {without}) < WORKERS:
            assert time.monotonic() < until, f"only {pids} answer"
            for answer in [threads.submit(call, backend, "warm") for _ in range(8)]:
                if isinstance(answer.exception(), httpx.TransportError):
                    time.sleep(0.05)
                else:
                    pids.add(answer.result()["pid"])
    return pids - {without}


def test_four_workers_have_one_quota_also_after_one_was_killed(backend: str, store: str) -> None:
    workers = until_all_answer(backend)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: call(backend, "acme"), range(CAP + 60)))
    assert sum(answer["granted"] for answer in answers) == CAP
    assert len({answer["pid"] for answer in answers}) > 1
    looking = QuotaManager(store)
    processes = {process["pid"] for process in looking.doctor()["processes"] if not process["is_self"]}
    assert processes == workers
    killed = min(workers)
    os.kill(killed, signal.SIGKILL)
    assert len(until_all_answer(backend, without=killed)) == WORKERS
    assert not call(backend, "acme")["granted"], "the one that takes its place remembers"
    used = looking.usage("acme")["total"]
    assert (used["requests"], used["tokens"]) == (CAP, 10 * CAP)
    assert len(looking.history("acme", kinds=["settle"])) == CAP
    assert looking.verify() == []
