"""The rows of the instrumentation: what it adds to a call of the SDK, over loopback and without any network."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
from openai.resources.chat.completions import Completions

import llmquota
import otel
from llmquota import QuotaManager, quota_context
from measuring import Work, measure
from rows import CAPS, Bounds, Row

CALLS = 20
MESSAGES: list[Any] = [{"role": "user", "content": "Hello, world"}]
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


def measured(rounds: int) -> Iterator[Row]:
    """Measures everything and gives the rows as they come."""
    # Of its own process: a provider of this one would take turns with its caller.
    command = [sys.executable, "-m", "llmquota.testing.fake_openai", "--port", "0"]
    provider = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert provider.stdout is not None
        yield from _rows(provider.stdout.readline().strip(), rounds)
    finally:
        provider.kill()
        provider.wait()


def _rows(base: str, rounds: int) -> Iterator[Row]:
    manager = QuotaManager(limits={"defaults": CAPS})
    here = httpx2.Client(transport=httpx2.MockTransport(lambda _request: httpx2.Response(200, json=ANSWER)))
    wrapped = otel.wrapped()
    with (
        openai.OpenAI(base_url=base, api_key="test") as far,
        openai.OpenAI(base_url=base, api_key="test", http_client=here) as near,
        quota_context("acme", goal_id="goal-1"),
    ):
        ways: list[tuple[str, Callable[[int], float], Bounds | None]] = [
            ("a chat call over loopback", lambda calls: _called(far, calls), Bounds(1.03, 1.10)),
            ("a chat call over a mock transport", lambda calls: _called(near, calls), None),
            ("a chunk of a streamed chat call over loopback", lambda calls: _streamed(far, calls), None),
        ]
        for name, run, bounds in ways:
            works = [
                Work(name, run, calls=CALLS),
                Work(f"{name}, instrumented", _with(manager, base, run), calls=CALLS),
                *(Work(f"{name}, {rival}", _traced(create, run), calls=CALLS) for rival, create in wrapped.items()),
            ]
            without, with_it, *traced = measure(works, rounds)
            yield Row(f"{name} through `instrument()` / the same call without", with_it, without, bounds)
            for rival, cost in zip(wrapped, traced, strict=True):
                yield Row(f"{name} through `{rival}` / the same call without", cost, without)


def _with(manager: QuotaManager, base: str, run: Callable[[int], float]) -> Callable[[int], float]:
    def instrumented(calls: int) -> float:
        llmquota.instrument(manager, providers={base: "openai"})
        try:
            return run(calls)
        finally:
            llmquota.uninstrument()

    return instrumented


def _traced(create: Any, run: Callable[[int], float]) -> Callable[[int], float]:
    def traced(calls: int) -> float:
        original = vars(Completions)["create"]
        Completions.create = create  # type: ignore[method-assign]
        try:
            return run(calls)
        finally:
            Completions.create = original  # type: ignore[method-assign]

    return traced


def _called(client: openai.OpenAI, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    return time.perf_counter() - begin


def _streamed(client: openai.OpenAI, calls: int) -> float:
    begin, chunks = time.perf_counter(), 0
    for _ in range(calls):
        chunks += sum(1 for _ in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **STREAMED))
    return (time.perf_counter() - begin) * calls / chunks
