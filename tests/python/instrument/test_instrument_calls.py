"""Calls of every kind that an SDK makes are counted as the provider bills them, and not a line of theirs is changed."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import openai
import pytest
from guard_parts import HELLO, STREAM_BROKE, USAGE, calls, connect, connect_async, counted, eventually, served
from pydantic import BaseModel

import llmquota
from llmquota import QuotaManager, quota_context
from llmquota.context import forget_unattributed, unattributed
from llmquota.testing import FakeOpenAI


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **more)


def read(stream: Any) -> None:
    for _ in stream:
        pass


SYNC = {
    "chat": lambda c: chat(c),
    "chat, streamed": lambda c: read(chat(c, **USAGE)),
    "chat, raw": lambda c: c.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO).parse(),
    "chat, with options": lambda c: chat(c.with_options(timeout=5)),
    "responses": lambda c: c.responses.create(model="gpt-4o", input="Hello"),
    "responses, streamed": lambda c: read(c.responses.create(model="gpt-4o", input="Hello", stream=True)),
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hello"),
    "models": lambda c: c.models.list(),
    "moderations": lambda c: c.moderations.create(input="Hello"),
}


@pytest.mark.parametrize("name", SYNC)
def test_a_call_is_counted_once_as_the_provider_bills_it(
    name: str, instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply("Hello", prompt_tokens=100, completion_tokens=20)
    with quota_context("acme", goal_id="g"):
        SYNC[name](client)
    assert counted(instrumented) == served(fake_openai)
    (row,) = calls(instrumented)
    assert (row["workspace"], row["goal"], row["certainty"]) == ("acme", "g", "exact")
    assert counted(instrumented, goal="g") == served(fake_openai)


def test_the_model_of_a_form_is_whose_limits_and_prices_hold(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        client.images.edit(model="gpt-image-1", image=("a.png", b"\x89PNG"), prompt="Hello")
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", b"RIFF"))
    assert counted(instrumented) == served(fake_openai)
    assert [(row["model"], row["certainty"]) for row in calls(instrumented)] == [
        ("gpt-image-1", "exact"),
        ("gpt-4o-transcribe", "exact"),
    ]


READINGS = [
    lambda response: response.parse(),
    lambda response: response.read(),
    lambda response: list(response.iter_lines()),
    lambda response: list(response.iter_bytes(1)),
]


def test_a_streaming_response_is_counted_whatever_it_is_read_as(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    streaming = client.chat.completions.with_streaming_response
    with quota_context("acme"):
        for way in (
            lambda r: r.parse(),
            lambda r: r.read(),
            lambda r: list(r.iter_lines()),
            lambda r: list(r.iter_bytes(1)),
        ):
            with streaming.create(model="gpt-4o", messages=HELLO) as response:
                way(response)
    assert counted(instrumented) == served(fake_openai)


def test_parsed_and_helped_calls_are_counted(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    class Answer(BaseModel):
        word: str

    fake_openai.reply('{"word": "yes"}')
    with quota_context("acme"):
        client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Answer)
        fake_openai.reply('{"word": "yes"}')
        client.responses.parse(model="gpt-4o", input="Hello", text_format=Answer)
        with client.responses.stream(model="gpt-4o", input="Hello") as stream:
            read(stream)
            stream.get_final_response()
        with client.chat.completions.stream(
            model="gpt-4o", messages=HELLO, stream_options={"include_usage": True}
        ) as stream:
            read(stream)
    assert counted(instrumented) == served(fake_openai)


async def test_asynchronous_calls_are_counted(
    instrumented: QuotaManager, async_client: openai.AsyncOpenAI, fake_openai: FakeOpenAI
) -> None:
    async def one(workspace: str) -> None:
        with quota_context(workspace):
            await async_client.chat.completions.create(model="gpt-4o", messages=HELLO)
            async for _ in await async_client.chat.completions.create(model="gpt-4o", messages=HELLO, **USAGE):
                pass
            async with async_client.responses.with_streaming_response.create(model="gpt-4o", input="Hello") as response:
                await response.read()

    names = [f"w{number}" for number in range(5)]
    await asyncio.gather(*(one(name) for name in names))
    each = [counted(instrumented, name) for name in names]
    assert tuple(map(sum, zip(*each, strict=True))) == served(fake_openai)
    assert [requests for requests, _, _ in each] == [3] * 5


def test_the_sdks_own_retries_are_requests(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    fake_openai.fail(status=500, times=2)
    with connect(fake_openai, max_retries=2) as client, quota_context("acme"):
        chat(client)
    assert counted(instrumented) == served(fake_openai)
    assert [row["outcome"] for row in calls(instrumented)][:2] != ["ok", "ok"]
    assert counted(instrumented)[0] == 3


def test_the_provider_refuses(instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI) -> None:
    fake_openai.fail(status=429, retry_after=7)
    with quota_context("acme"), pytest.raises(openai.RateLimitError):
        chat(client)
    assert counted(instrumented) == (1, 0, 1)
    snapshot = instrumented.snapshot("acme")
    assert snapshot["status"] == "rate_limited", snapshot


def test_nobody_listens(instrumented: QuotaManager) -> None:
    with FakeOpenAI() as gone:
        base = gone.base_url
    llmquota.instrument(instrumented, providers={base: "openai"})
    client = openai.OpenAI(base_url=base, api_key="test", max_retries=0)
    with quota_context("acme"), pytest.raises(openai.APIConnectionError):
        chat(client)
    assert counted(instrumented) == (0, 0, 1)


def test_a_stream_that_is_left_early_is_an_estimate_and_not_nothing(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply("word " * 200, chunk_delay=0.01)
    with quota_context("acme"):
        stream = chat(client, stream=True)
        text = "".join(next(stream).choices[0].delta.content or "" for _ in range(40))
        stream.close()
    (row,) = calls(instrumented)
    requests, tokens, errors = counted(instrumented)
    # What had come, give or take a piece that lay in the socket: not all of 1,000 characters.
    least = len(text) // 4
    assert (requests, errors) == (1, 0)
    assert 10 < least <= tokens <= least + 30
    assert row["certainty"] == "estimated"


def test_a_stream_that_nobody_reads_on_is_counted_when_it_is_collected(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        stream = chat(client, stream=True)
        next(stream)
    stream.response.close()
    del stream
    gc.collect()
    requests, tokens, _ = counted(instrumented)
    assert requests == 1
    assert tokens > 0


def test_a_stream_that_breaks_is_counted_as_a_failure(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(kind="drop_in_stream")
    with quota_context("acme"), pytest.raises(STREAM_BROKE):
        read(chat(client, stream=True))
    requests, tokens, errors = counted(instrumented)
    assert (requests, errors) == (1, 1)
    assert tokens > 0


async def test_a_cancelled_call_is_charged(
    instrumented: QuotaManager, async_client: openai.AsyncOpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(kind="timeout")

    async def one() -> None:
        with quota_context("acme"):
            await async_client.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=100)

    task = asyncio.create_task(one())
    await asyncio.to_thread(eventually, lambda: fake_openai.served.total.requests == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    requests, tokens, _ = counted(instrumented)
    assert requests == 1
    assert tokens >= 100


def test_a_call_for_nobody_is_listed_by_its_place(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    forget_unattributed()
    client.models.list()
    client.models.list()
    (first, second) = sorted(unattributed(), key=lambda site: site.line)
    assert first.file == second.file == __file__
    assert first.function == "test_a_call_for_nobody_is_listed_by_its_place"
    assert (first.calls, second.calls, second.line - first.line) == (1, 1, 1)
    assert counted(instrumented, "global")[0] == 2


async def test_a_call_for_nobody_is_listed_by_its_place_in_a_coroutine(
    instrumented: QuotaManager, async_client: openai.AsyncOpenAI
) -> None:
    forget_unattributed()
    await async_client.models.list()
    (site,) = unattributed()
    assert site.file == __file__


def test_headers_say_whose_call_it_is_and_do_not_leave(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    headers = {"X-LLMQuota-Workspace": "caf%C3%A9", "X-LLMQuota-Goal": "of the client"}
    with connect(fake_openai, default_headers=headers) as client:
        chat(client)
        chat(client, extra_headers={"X-LLMQuota-Goal": "of the call"})
        with quota_context("acme"):
            chat(client)
    assert counted(instrumented, "café")[0] == 2
    assert [row["goal"] for row in calls(instrumented)] == ["of the client", "of the call", None]
    assert counted(instrumented, "acme")[0] == 1
    assert not any(name.startswith("x-llmquota") for request in fake_openai.requests for name in request.headers)


def test_the_hold_is_sent_along(instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI) -> None:
    with quota_context("acme"):
        chat(client)
        chat(client, extra_headers={"X-Client-Request-Id": "mine"})
    first, second = calls(instrumented)
    sent = [request.headers["x-client-request-id"] for request in fake_openai.requests]
    assert sent == [first["hold"], "mine"]
    assert second["hold"] != first["hold"]


async def test_a_client_that_is_made_before_is_covered(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    before, async_before = connect(fake_openai), connect_async(fake_openai)
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    try:
        with quota_context("acme"):
            before.models.list()
            await async_before.models.list()
    finally:
        llmquota.uninstrument()
        before.close()
        await async_before.close()
    assert counted(quota_manager)[0] == 2
