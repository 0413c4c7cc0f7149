"""Answers that no provider should give: the caller gets each byte as it came, and what cannot be read is estimated."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from guard_parts import HELLO, HELLO_ESTIMATE, calls, counted

import llmquota
from llmquota import QuotaManager, quota_context

JSON = "application/json"
EVENTS = "text/event-stream"
WHOLE = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
CHUNK = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "four"}}]}
ASKED = HELLO_ESTIMATE + 50
"""What the calls of these tests are held at."""


class Provider(ThreadingHTTPServer):
    """Answers every request as it is told, byte for byte."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.status, self.kind, self.headers, self.body = 200, JSON, {}, b""
        self.piece = 1 << 20
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what a test wants."""

    def answers(self, body: Any, kind: str = JSON, status: int = 200, piece: int = 1 << 20, **headers: str) -> None:
        """From now on. Headers by their names with ``_`` for ``-``."""
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.kind, self.piece = status, kind, piece
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Answering(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.server.status)
        for name, value in {"content-type": self.server.kind, **self.server.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        for first in range(0, len(self.server.body), self.server.piece):
            self.wfile.write(self.server.body[first : first + self.server.piece])

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def provider(quota_manager: QuotaManager) -> Iterator[Provider]:
    """A provider whose calls are counted for as long as the test runs."""
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        llmquota.instrument(quota_manager, providers={provider.base_url: "openai"})
        yield provider
        llmquota.uninstrument()
        provider.shutdown()
        thread.join()


CALL = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 50}


def ask(provider: Provider) -> httpx.Response:
    with httpx.Client(verify=False) as client, quota_context("acme"):
        return client.post(f"{provider.base_url}/chat/completions", json=CALL)


def stream(provider: Provider) -> bytes:
    with httpx.Client(verify=False) as client, quota_context("acme"):
        url = f"{provider.base_url}/chat/completions"
        with client.stream("POST", url, json={**CALL, "stream": True}) as response:
            return b"".join(response.iter_raw())


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + (e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n\n" for e in events)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"usage"', b"{" * 10_000, b"\xff\xfe", json.dumps(WHOLE).encode()[:-30], b"<html>"],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_none_is_charged_as_it_was_held(
    body: bytes, provider: Provider, quota_manager: QuotaManager
) -> None:
    provider.answers(body)
    assert ask(provider).content == body
    requests, tokens, errors = counted(quota_manager)
    assert (requests, errors) == (1, 0)
    assert tokens > 0
    assert calls(quota_manager)[0]["certainty"] == "estimated"


SEARCHED = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-4o",
    "output": [
        {"type": "web_search_call", "action": {"type": "search", "query": "cats"}},
        {"type": "web_search_call", "action": {"type": "open_page", "url": "https://cats.example"}},
        {"type": "file_search_call"},
        {"type": "mcp_call"},
    ],
    "usage": {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100},
}
SEARCHES_USD = 0.0025 + 0.001 + 0.01 + 0.0025
"""The tokens, a search of the web and one of files."""


@pytest.mark.parametrize("is_stream", [False, True])
def test_tools_that_the_provider_used_are_charged_once(
    is_stream: bool, provider: Provider, quota_manager: QuotaManager
) -> None:
    if is_stream:
        events = [{"type": f"response.{kind}", "response": SEARCHED} for kind in ("in_progress", "completed")]
        done = {"type": "response.output_item.done", "item": SEARCHED["output"][0]}  # type: ignore[index]
        provider.answers(sse(events[0], done, events[1]), kind=EVENTS, piece=7)
    else:
        provider.answers(SEARCHED)
    with httpx.Client(verify=False) as client, quota_context("acme"):
        client.post(f"{provider.base_url}/responses", json={"model": "gpt-4o", "input": "cats", "stream": is_stream})
    assert quota_manager.usage("acme")["total"]["cost_usd"] == pytest.approx(SEARCHES_USD, abs=1e-12)
    assert calls(quota_manager)[0]["certainty"] == "exact"
    assert counted(quota_manager) == (1, 1_100, 0)


@pytest.mark.parametrize("number", [-5, "100", None, 1e400, 2**70, 0.5, True, [], {"a": 1}])
def test_a_number_that_cannot_be_is_left_out(number: Any, provider: Provider, quota_manager: QuotaManager) -> None:
    provider.answers({**WHOLE, "usage": {"prompt_tokens": number, "completion_tokens": 20}})
    ask(provider)
    requests, tokens, _ = counted(quota_manager)
    assert requests == 1
    assert 20 <= tokens <= 2**53


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate"])
def test_a_stream_is_passed_on_as_it_came_and_read_on_the_way(
    coding: str, piece: int, provider: Provider, quota_manager: QuotaManager
) -> None:
    body = sse(*[CHUNK] * 20, {**WHOLE}, b"[DONE]")
    packed = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding](body)
    provider.answers(packed, EVENTS, piece=piece, content_encoding=coding)
    assert stream(provider) == packed
    assert counted(quota_manager) == (1, 120, 0)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "rot13"])
def test_a_stream_that_is_not_packed_as_it_says_is_an_estimate(
    coding: str, provider: Provider, quota_manager: QuotaManager
) -> None:
    body = sse(CHUNK, WHOLE, b"[DONE]")
    provider.answers(body, EVENTS, content_encoding=coding)
    assert stream(provider) == body
    assert counted(quota_manager) == (1, ASKED, 0)


@pytest.mark.parametrize(
    "body",
    [
        sse(b"{"),
        sse(b"{} {}"),
        b"data",
        b"data: \n\n" * 50,
        b"\n" * 1_000,
        sse(b"[DONE"),
        b"event: x\n\n",
        b"\xff" * 99,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_events_that_are_none_are_passed_on(body: bytes, provider: Provider, quota_manager: QuotaManager) -> None:
    provider.answers(body, EVENTS)
    assert stream(provider) == body
    requests, tokens, _ = counted(quota_manager)
    assert requests == 1
    assert tokens > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after_ms": "never", "retry_after": "7"}, 7),
        ({"retry_after_ms": "6500"}, 7),
        ({"x_ratelimit_reset_tokens": "-1", "x_ratelimit_remaining_tokens": "many"}, None),
    ],
)
def test_the_next_call_is_refused_until_the_provider_said_whatever_it_said(
    headers: dict[str, str], seconds: int | None, provider: Provider, quota_manager: QuotaManager
) -> None:
    provider.answers({"error": {"code": "rate_limit_exceeded"}}, status=429, **headers)
    ask(provider)
    assert counted(quota_manager) == (1, 0, 1)
    refusal = ask(provider)
    assert refusal.json()["error"]["type"] == "quota_refused"
    assert counted(quota_manager) == (1, 0, 1)
    if seconds is not None:
        assert refusal.headers["retry-after"] == str(seconds)


def test_an_error_in_a_body_that_says_that_all_is_well(provider: Provider, quota_manager: QuotaManager) -> None:
    provider.answers({"error": {"code": "server_error", "message": "no", "type": "server_error"}})
    ask(provider)
    requests, _, errors = counted(quota_manager)
    assert (requests, errors) == (1, 1)


def test_an_error_in_a_stream_that_began_well(provider: Provider, quota_manager: QuotaManager) -> None:
    provider.answers(sse(CHUNK, {"error": {"code": "server_error", "message": "no"}}), EVENTS)
    stream(provider)
    requests, tokens, errors = counted(quota_manager)
    assert (requests, errors) == (1, 1)
    assert tokens > 0


def test_an_event_of_many_megabytes_is_held_by_nobody(provider: Provider, quota_manager: QuotaManager) -> None:
    image = {"type": "image_generation.completed", "b64_json": "A" * (16 << 20), "usage": {"total_tokens": 4_160}}
    body = sse(image)
    provider.answers(body, EVENTS)
    with httpx.Client(verify=False) as client, quota_context("acme"):
        ask = {"model": "gpt-image-1", "prompt": "a cat", "stream": True}
        with client.stream("POST", f"{provider.base_url}/images/generations", json=ask) as response:
            assert sum(map(len, response.iter_raw())) == len(body)
    assert counted(quota_manager) == (1, 4_160, 0)


def test_a_body_that_is_read_in_part_and_closed(provider: Provider, quota_manager: QuotaManager) -> None:
    provider.answers({"padding": "A" * (8 << 20), **WHOLE})
    url = f"{provider.base_url}/chat/completions"
    with httpx.Client(verify=False) as client, quota_context("acme"), client.stream("POST", url, json=CALL) as response:
        next(response.iter_raw())
    assert counted(quota_manager) == (1, ASKED, 0)
