"""What the tests of the fake share: a message, a client, patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai

from llmquota.testing import FakeOpenAI

if int(openai.__version__.split(".")[0]) >= 3:
    import httpx2 as httpx
else:
    import httpx

HELLO = [{"role": "user", "content": "Hello, world"}]
HELLO_TOKENS = 3 + 4 + 3
"""Of ``HELLO`` by the documented rule: a prompt, a message, twelve characters."""

# Up to 2.x the SDK lets the transport's error through once a stream has begun.
STREAM_BROKE = (openai.APIConnectionError, httpx.TransportError)


def connect(fake: FakeOpenAI, **options: Any) -> openai.OpenAI:
    """A client of the fake, without retries. It reads no certificates, which would take longer than most tests."""
    options = {"api_key": "test", "max_retries": 0, "timeout": 10, "base_url": fake.base_url, **options}
    return openai.OpenAI(http_client=httpx.Client(verify=False), **options)


def connect_async(fake: FakeOpenAI, **options: Any) -> openai.AsyncOpenAI:
    """The same for an event loop."""
    options = {"api_key": "test", "max_retries": 0, "timeout": 10, "base_url": fake.base_url, **options}
    return openai.AsyncOpenAI(http_client=httpx.AsyncClient(verify=False), **options)


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether ``condition`` comes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
