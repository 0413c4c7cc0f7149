"""Whose the calls of a request are: the middleware, under a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from guard_parts import HELLO, connect, counted, eventually
from starlette.requests import HTTPConnection
from websockets.sync.client import connect as open_socket

import llmquota
from llmquota import QuotaManager
from llmquota.context import current
from llmquota.fastapi import QuotaContextMiddleware
from llmquota.testing import FakeOpenAI

ran: list[str | None] = []


def app_with(whose: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(QuotaContextMiddleware, whose=whose)

    @app.get("/async")
    async def in_a_coroutine() -> list[str | None]:
        await asyncio.sleep(0.01)
        return [current().workspace_id, current().goal_id]

    @app.get("/sync")
    def in_a_thread() -> list[str | None]:
        return [current().workspace_id, current().goal_id]

    @app.get("/stream")
    async def in_a_stream() -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            yield f"{current().workspace_id} "
            await asyncio.sleep(0.01)
            yield f"{current().workspace_id}"

        return StreamingResponse(words())

    @app.get("/later")
    async def in_a_background_task(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: ran.append(current().workspace_id))

    @app.websocket("/socket")
    async def in_a_socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(str(current().workspace_id))
        await socket.close()

    return app


class Server:
    """An application under uvicorn, in a thread of its own."""

    def __init__(self, app: FastAPI) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        eventually(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_error: object) -> None:
        self._server.should_exit = True
        self._thread.join()


def by_header(connection: HTTPConnection) -> Any:
    return connection.headers.get("x-workspace-id")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(app_with(by_header)) as url:
        yield url


def get(url: str, workspace: str | None = "acme") -> httpx.Response:
    headers = {} if workspace is None else {"x-workspace-id": workspace}
    with httpx.Client(verify=False) as client:
        return client.get(url, headers=headers)


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_a_route_knows_whose_its_calls_are(url: str, path: str) -> None:
    assert get(url + path).json() == ["acme", None]
    assert get(url + path, "globex").json() == ["globex", None]
    assert get(url + path, None).json() == [None, None]


def test_so_do_streams_background_tasks_and_sockets(url: str) -> None:
    assert get(f"{url}/stream").text == "acme acme"
    ran.clear()
    get(f"{url}/later")
    eventually(lambda: ran == ["acme"])
    headers = {"x-workspace-id": "acme"}
    with open_socket(url.replace("http", "ws") + "/socket", additional_headers=headers) as socket:
        assert socket.recv() == "acme"


def test_requests_at_once_do_not_meet(url: str) -> None:
    async def ask(client: httpx.AsyncClient, workspace: str) -> Any:
        return (await client.get(f"{url}/async", headers={"x-workspace-id": workspace})).json()[0]

    async def ask_all() -> list[Any]:
        async with httpx.AsyncClient(verify=False) as client:
            return await asyncio.gather(*(ask(client, f"w{number}") for number in range(30)))

    assert asyncio.run(ask_all()) == [f"w{number}" for number in range(30)]


def test_the_function_may_wait_and_may_say_more() -> None:
    async def whose(connection: HTTPConnection) -> Any:
        await asyncio.sleep(0)
        return {"workspace_id": "acme", "goal_id": connection.query_params.get("goal"), "task_id": None}

    with Server(app_with(whose)) as url:
        assert get(f"{url}/async?goal=g").json() == ["acme", "g"]
        assert get(f"{url}/sync").json() == ["acme", None]


@pytest.mark.parametrize(
    ("said", "named"), [(7, "returned 7"), ({"workspace": "acme"}, "'workspace'"), (["acme"], r"\['acme'\]")]
)
async def test_what_is_no_name_is_told(said: Any, named: str) -> None:
    middleware = QuotaContextMiddleware(FastAPI(), whose=lambda _connection: said)
    scope: Any = {"type": "http", "headers": []}
    with pytest.raises(TypeError, match=named):
        await middleware(scope, None, None)  # type: ignore[arg-type]


def test_an_instrumented_call_in_a_route_is_the_requests(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    app = app_with(by_header)

    @app.get("/ask")
    def ask() -> int:
        with connect(fake_openai) as client:
            answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.usage is not None
        return answer.usage.total_tokens

    llmquota.instrument(quota_manager)
    try:
        with Server(app) as url:
            tokens = [get(f"{url}/ask", workspace).json() for workspace in ("acme", "globex", "acme")]
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager) == (2, tokens[0] + tokens[2], 0)
    assert counted(quota_manager, "globex") == (1, tokens[1], 0)
