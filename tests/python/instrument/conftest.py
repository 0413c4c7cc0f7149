"""What the tests of instrumented calls share: a manager that counts them, and clients of the fake."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from guard_parts import connect, connect_async

import llmquota
from llmquota import QuotaManager, _native
from llmquota.testing import FakeOpenAI


@pytest.fixture
def instrumented(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> Iterator[QuotaManager]:
    """The manager that counts the calls of this process while the test runs."""
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    yield quota_manager
    llmquota.uninstrument()
    if _native.open_claims(0):
        # Of a transport that a test before left behind.
        gc.collect()
    assert _native.open_claims(0) == 0


@pytest.fixture
def client(fake_openai: FakeOpenAI) -> Iterator[openai.OpenAI]:
    """A client of the fake, without retries."""
    with connect(fake_openai) as client:
        yield client


@pytest.fixture
async def async_client(fake_openai: FakeOpenAI) -> Any:
    """The same for a running loop."""
    async with connect_async(fake_openai) as client:
        yield client
