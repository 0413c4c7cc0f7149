"""Chat streams are asked what they used, and whoever reads them does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from guard_parts import HELLO, USAGE, calls, connect, connect_async, counted, served

import llmquota
from llmquota import QuotaManager, quota_context
from llmquota.instrument.asking import MAX_EVENT_BYTES, without_usage_chunk
from llmquota.testing import FakeOpenAI

USAGE_CHUNK = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\"usage\\""}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def asking(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> Iterator[QuotaManager]:
    """The manager that counts the calls of this process, and has streams asked."""
    llmquota.instrument(quota_manager, include_usage=True)
    yield quota_manager
    llmquota.uninstrument()


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **more)


def test_a_stream_is_counted_exactly_and_looks_as_ever(asking: QuotaManager, fake_openai: FakeOpenAI) -> None:
    fake_openai.reply("Hello, und grüß Gott", prompt_tokens=100, completion_tokens=20)
    with connect(fake_openai) as client, quota_context("acme"):
        chunks = list(chat(client, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello, und grüß Gott"
    assert counted(asking) == served(fake_openai) == (1, 120, 0)
    assert calls(asking)[0]["certainty"] == "exact"


def test_who_asks_gets_the_answer(asking: QuotaManager, fake_openai: FakeOpenAI) -> None:
    with connect(fake_openai) as client, quota_context("acme"):
        assert list(chat(client, **USAGE))[-1].usage is not None
        # Who asks not to be told is taken at the word.
        options: Any = {"stream": True, "stream_options": {"include_usage": False}}
        assert list(chat(client, **options))
        assert chat(client).usage is not None
        assert list(client.responses.create(model="gpt-4o", input="Hello", stream=True))
    assert [row["certainty"] for row in calls(asking)] == ["exact", "estimated", "exact", "exact"]
    asked = ["stream_options" in request.json for request in fake_openai.requests]
    assert asked == [True, True, False, False]


async def test_an_asynchronous_stream_too(asking: QuotaManager, fake_openai: FakeOpenAI) -> None:
    async with connect_async(fake_openai) as client:
        with quota_context("acme"):
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            assert all([chunk.choices async for chunk in stream])
    assert counted(asking) == served(fake_openai)


def test_the_sdks_retry_is_asked_anew(asking: QuotaManager, fake_openai: FakeOpenAI) -> None:
    fake_openai.fail(status=500)
    with connect(fake_openai, max_retries=1) as client, quota_context("acme"):
        assert list(chat(client, stream=True))
    assert counted(asking) == served(fake_openai)
    assert counted(asking)[0] == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_nothing_else_is_taken_out(size: int, end: bytes) -> None:
    events = [CHUNK, CHUNK, USAGE_CHUNK, b": a comment\n\n", b'data: {no json, "usage"\n\n', DONE, b"data: the rest"]
    whole = b"".join(events).replace(b"\n\n", end)
    through = without_usage_chunk()
    pieces = [whole[first : first + size] for first in range(0, len(whole), size)]
    got = b"".join(part for piece in [*pieces, b""] for part in through(piece))
    assert got == whole.replace(USAGE_CHUNK.replace(b"\n\n", end), b"")


def test_an_event_without_end_is_passed_on() -> None:
    through, size = without_usage_chunk(), 1 << 16
    piece = b"x" * size
    got = [sum(map(len, through(piece))) for _ in range(MAX_EVENT_BYTES // size + 3)]
    assert sum(got) == size * len(got)
    assert got[-1] == size
