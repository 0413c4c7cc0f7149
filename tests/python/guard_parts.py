"""What the tests of guarded functions share: a client of the fake, its counts beside llmquota's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai

from llmquota import QuotaManager
from llmquota.testing import FakeOpenAI

if int(openai.__version__.split(".")[0]) >= 3:
    import httpx2 as httpx
else:
    import httpx

HELLO: list[Any] = [{"role": "user", "content": "Hello, world"}]
HELLO_ESTIMATE = 3 + 4
"""Twelve characters and one message, by the estimate of a guard."""
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

# Up to 2.x the SDK lets the transport's error through once a stream has begun.
STREAM_BROKE = (openai.APIConnectionError, httpx.TransportError)


def connect(fake: FakeOpenAI, **options: Any) -> openai.OpenAI:
    """A client of the fake, without retries. It reads no certificates, which would take longer than most tests."""
    options = {"api_key": "test", "max_retries": 0, "timeout": 10, "base_url": fake.base_url, **options}
    return openai.OpenAI(http_client=httpx.Client(verify=False), **options)


def connect_async(fake: FakeOpenAI, **options: Any) -> openai.AsyncOpenAI:
    """The same, for a running loop."""
    options = {"api_key": "test", "max_retries": 0, "timeout": 10, "base_url": fake.base_url, **options}
    return openai.AsyncOpenAI(http_client=httpx.AsyncClient(verify=False), **options)


def counted(manager: QuotaManager, workspace: str = "acme", **account: str) -> tuple[int, int, int]:
    """Requests, tokens and errors of all time. Fails where a hold is still open."""
    assert open_holds(manager, workspace) == 0
    total = manager.usage(workspace, **account)["total"]
    return total["requests"], total["tokens"], total["errors"]


def open_holds(manager: QuotaManager, workspace: str = "acme") -> int:
    """How many calls are open."""
    return int(manager.snapshot(workspace)["holds"]["open"])


def served(fake: FakeOpenAI) -> tuple[int, int, int]:
    """The same by the provider's own books, for calls whose numbers it has told."""
    total = fake.served.total
    errors = sum(count for status, count in total.statuses.items() if status != "200")
    return total.requests, total.reported_tokens, errors


def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Waits until ``condition`` is true, and fails where it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def calls(manager: QuotaManager, **chosen: Any) -> list[dict[str, Any]]:
    """What history has of calls that have ended, the oldest first."""
    return [row for row in reversed(list(manager.history(**chosen))) if row["kind"] in ("settle", "record", "orphan")]
