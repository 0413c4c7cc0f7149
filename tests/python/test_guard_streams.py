"""Guarded streams: read to the end, broken, closed early, left behind, never begun. Each ends its hold, once."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from guard_parts import HELLO, HELLO_ESTIMATE, STREAM_BROKE, USAGE, connect, connect_async, counted, open_holds, served

from llmquota import QuotaExceeded, QuotaManager, _native, claims
from llmquota.context import current, quota_context
from llmquota.guard import current_hold, guarded
from llmquota.testing import FakeOpenAI

TEXT = "The quick brown fox jumps over the lazy dog"
ESTIMATED = HELLO_ESTIMATE + 11
"""The prompt and the 43 characters of ``TEXT``."""


@pytest.fixture(autouse=True)
def _no_claim_is_left_open() -> Iterator[None]:
    yield
    gc.collect()
    assert _native.open_claims(0) == 0


@pytest.fixture
def fake(fake_openai: FakeOpenAI) -> FakeOpenAI:
    fake_openai.reply(TEXT)
    return fake_openai


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with connect(fake) as client:
        yield client


class Streams:
    """The same stream, guarded in each of the ways there are."""

    def __init__(self, manager: QuotaManager, **options: Any) -> None:
        def generator(client: openai.OpenAI, messages: Any, workspace_id: str, **more: Any) -> Iterator[Any]:
            yield from client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, **more)

        def returned(client: openai.OpenAI, messages: Any, workspace_id: str, **more: Any) -> Any:
            return client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, **more)

        def returned_generator(*args: Any, workspace_id: str, **more: Any) -> Any:
            return generator(*args, workspace_id, **more)

        async def async_generator(client: openai.AsyncOpenAI, messages: Any, workspace_id: str, **more: Any) -> Any:
            stream = await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, **more)
            async for chunk in stream:
                yield chunk

        async def async_returned(client: openai.AsyncOpenAI, messages: Any, workspace_id: str, **more: Any) -> Any:
            return await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, **more)

        guard = guarded(manager=manager, **options)
        self.generator = guard(generator)
        self.returned = guard(returned)
        self.returned_generator = guard(returned_generator)
        self.async_generator = guard(async_generator)
        self.async_returned = guard(async_returned)


SYNC = ["generator", "returned", "returned_generator"]
ASYNC = ["async_generator", "async_returned"]


@pytest.fixture
def streams(quota_manager: QuotaManager) -> Streams:
    return Streams(quota_manager)


async def opened(streams: Streams, way: str, client: Any, **more: Any) -> Any:
    stream = getattr(streams, way)(client, HELLO, workspace_id="acme", **more)
    return await stream if asyncio.iscoroutine(stream) else stream


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


async def close(stream: Any) -> None:
    await (stream.aclose() if hasattr(stream, "aclose") else stream.close())


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# --- read to the end ---


@pytest.mark.parametrize("way", SYNC)
def test_the_last_chunk_tells_the_usage(fake, client, quota_manager, streams, way) -> None:
    stream = getattr(streams, way)(client, HELLO, workspace_id="acme", stream_options={"include_usage": True})
    chunks = list(stream)
    assert text_of(chunks) == TEXT
    assert counted(quota_manager) == served(fake)
    assert fake.served.unreported_requests == 0
    assert list(stream) == [], "a stream that has ended stays ended"
    assert counted(quota_manager) == served(fake)


@pytest.mark.parametrize("way", ASYNC)
async def test_the_last_chunk_of_an_async_stream_too(fake, quota_manager, streams, way) -> None:
    async with connect_async(fake) as client:
        stream = await opened(streams, way, client, stream_options={"include_usage": True})
        assert text_of([chunk async for chunk in stream]) == TEXT
    assert counted(quota_manager) == served(fake)


@pytest.mark.parametrize("way", SYNC)
def test_without_usage_the_text_is_counted(fake, client, quota_manager, streams, way) -> None:
    assert text_of(list(getattr(streams, way)(client, HELLO, workspace_id="acme"))) == TEXT
    assert counted(quota_manager) == (1, ESTIMATED, 0)
    assert fake.served.unreported_requests == 1


@pytest.mark.parametrize("way", ASYNC)
async def test_without_usage_the_text_of_an_async_stream_too(fake, quota_manager, streams, way) -> None:
    async with connect_async(fake) as client:
        stream = await opened(streams, way, client)
        assert text_of([chunk async for chunk in stream]) == TEXT
    assert counted(quota_manager) == (1, ESTIMATED, 0)


def test_events_of_the_responses_api(fake, client, quota_manager) -> None:
    @guarded(manager=quota_manager)
    def ask(workspace_id: str) -> Iterator[Any]:
        yield from client.responses.create(model="gpt-4o", input="Hello", stream=True)

    assert list(ask("acme"))[-1].type == "response.completed"
    assert counted(quota_manager) == served(fake)
    fake.fail("stream_without_usage")
    list(ask("acme"))
    assert counted(quota_manager)[:2] == (2, fake.served.total.reported_tokens + 11)


def test_a_generator_of_texts(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def texts(prompt: str, workspace_id: str) -> Iterator[str]:
        yield "abcd"
        yield "efgh"

    assert list(texts("12345678", "acme")) == ["abcd", "efgh"]
    assert counted(quota_manager) == (1, 4, 0)


def test_a_generator_that_says_nothing_is_charged_as_it_was_held(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=70)
    def silent(workspace_id: str) -> Iterator[Any]:
        yield object()

    list(silent("acme"))
    assert counted(quota_manager) == (1, 70, 0)


def test_a_generators_value_may_be_the_usage(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def body(workspace_id: str) -> Any:
        got = yield 1
        yield got
        return {"usage": {"total_tokens": 12}}

    reader = body("acme")
    assert next(reader) == 1
    assert reader.send("x") == "x"
    with pytest.raises(StopIteration) as stop:
        next(reader)
    assert stop.value.value == {"usage": {"total_tokens": 12}}
    assert counted(quota_manager) == (1, 12, 0)


# --- admitted when it is begun ---


@pytest.mark.parametrize("way", ["generator", "async_generator"])
async def test_a_generator_that_is_never_begun_is_nothing(fake, quota_manager, streams, way) -> None:
    stream = getattr(streams, way)(None, HELLO, workspace_id="acme")
    assert open_holds(quota_manager) == 0
    await stream.aclose() if way == "async_generator" else stream.close()
    del stream
    assert counted(quota_manager) == (0, 0, 0)
    assert fake.served.requests == 0


@pytest.mark.parametrize("way", ["generator", "async_generator"])
async def test_a_refused_generator_raises_in_its_first_step(fake, quota_manager, streams, way) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"requests_per_minute": 0}}})
    stream = getattr(streams, way)(None, HELLO, workspace_id="acme")
    with pytest.raises(QuotaExceeded):
        await anext(stream) if way == "async_generator" else next(stream)
    assert counted(quota_manager) == (0, 0, 0)
    assert fake.served.requests == 0


@pytest.mark.parametrize("way", ["returned", "returned_generator"])
def test_a_returned_stream_that_nobody_reads_is_charged_as_it_was_held(
    fake, client, quota_manager, streams, way
) -> None:
    stream = getattr(streams, way)(client, HELLO, workspace_id="acme")
    assert open_holds(quota_manager) == 1
    del stream
    gc.collect()
    assert counted(quota_manager) == (1, HELLO_ESTIMATE, 0)


# --- left before the end ---


@pytest.mark.parametrize(
    ("way", "how"), [*((way, how) for way in SYNC for how in ("close", "break", "collect")), ("returned", "with")]
)
def test_left_in_the_middle(fake, client, quota_manager, way, how) -> None:
    streams = Streams(quota_manager, tokens=90)
    stream = getattr(streams, way)(client, HELLO, workspace_id="acme")
    if how == "with":
        with stream as entered:
            next(entered)
    elif how == "break":
        for _ in stream:
            break
        stream.close()
    else:
        next(stream)
        if how == "close":
            stream.close()
    del stream
    gc.collect()
    assert counted(quota_manager) == (1, 90, 0)


@pytest.mark.parametrize("how", ["close", "cancel", "collect", "another task"])
@pytest.mark.parametrize("way", ASYNC)
async def test_an_async_stream_left_in_the_middle(fake, quota_manager, way, how) -> None:
    streams = Streams(quota_manager, tokens=90)
    fake.reply(TEXT, chunk_delay=0.01)
    async with connect_async(fake) as client:
        stream = await opened(streams, way, client)
        await anext(stream)

        if how == "close":
            await close(stream)
        elif how == "another task":
            with quota_context("other"):
                await asyncio.create_task(close(stream))
        elif how == "cancel":
            task = asyncio.create_task(read(stream))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
        del stream
        gc.collect()
        await asyncio.sleep(0.01)  # the loop closes a generator that was collected
        gc.collect()
    assert counted(quota_manager) == (1, 90, 0)
    assert current().workspace_id is None


def test_a_stream_that_is_collected_in_the_middle_of_another_call(fake, client, quota_manager) -> None:
    stream = Streams(quota_manager, tokens=90).returned(client, HELLO, workspace_id="acme")
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle

    def collect() -> None:
        with claims._lock:  # where any allocation may start the collector
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert counted(quota_manager) == (1, 90, 0)


def test_more_text_than_was_held_is_counted(fake, client, quota_manager) -> None:
    stream = Streams(quota_manager, tokens=1).generator(client, HELLO, workspace_id="acme")
    text = text_of([next(stream) for _ in range(4)])
    stream.close()
    assert len(text) > 0
    assert counted(quota_manager) == (1, HELLO_ESTIMATE + -(-len(text) // 4), 0)


def test_closed_after_the_usage_it_is_counted_by_it(fake, client, quota_manager, streams) -> None:
    stream = streams.generator(client, HELLO, workspace_id="acme", stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.usage is not None:
            break
    stream.close()
    assert counted(quota_manager) == served(fake)


def test_an_async_generator_collected_without_a_loop(quota_manager, recwarn) -> None:
    @guarded(manager=quota_manager, tokens=90)
    async def body(workspace_id: str) -> AsyncIterator[int]:
        yield 1

    reader = body("acme")
    with pytest.raises(StopIteration):
        reader.asend(None).send(None)  # a step by hand: no loop will close it
    assert open_holds(quota_manager) == 1
    del reader
    gc.collect()
    assert counted(quota_manager) == (1, 90, 0)
    assert not recwarn.list


async def test_what_is_thrown_in_reaches_the_body(quota_manager) -> None:
    thrown = KeyError("x")

    @guarded(manager=quota_manager)
    def survives(workspace_id: str) -> Any:
        try:
            yield 1
        except KeyError as error:
            yield error

    reader = survives("acme")
    next(reader)
    assert reader.throw(thrown) is thrown
    with pytest.raises(KeyError) as caught:
        reader.throw(thrown)
    assert caught.value is thrown
    assert thrown.__context__ is None
    assert counted(quota_manager)[0] == 1
    assert counted(quota_manager)[2] == 1

    @guarded(manager=quota_manager)
    async def async_survives(workspace_id: str) -> Any:
        try:
            yield 1
        except KeyError as error:
            yield error

    other = ValueError("y")
    async_reader = async_survives("acme")
    await anext(async_reader)
    assert await async_reader.athrow(thrown) is thrown
    with pytest.raises(ValueError, match="y") as caught_async:
        await async_reader.athrow(other)
    assert caught_async.value is other
    assert counted(quota_manager)[0] == 2
    assert counted(quota_manager)[2] == 2


def test_a_body_that_will_not_close_fails_as_it_would_unguarded(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=90)
    def stubborn(workspace_id: str) -> Any:
        try:
            yield 1
        finally:
            yield 2

    reader = stubborn("acme")
    next(reader)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        reader.close()
    assert counted(quota_manager) == (1, 90, 0)


# --- broken ---


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_in_stream", "after": 3},
        {"kind": "error_in_stream", "code": "rate_limit_exceeded", "after": 3},
        {"kind": "malformed_json", "after": 3},
    ],
)
@pytest.mark.parametrize("way", SYNC)
def test_a_stream_that_breaks(fake, client, quota_manager, way, fault) -> None:
    streams = Streams(quota_manager, tokens=2)
    fake.fail(**fault)
    chunks: list[Any] = []
    stream = getattr(streams, way)(client, HELLO, workspace_id="acme")
    with pytest.raises((*STREAM_BROKE, openai.APIError, ValueError)):
        chunks.extend(iter(lambda: next(stream), None))
    requests, tokens, errors = counted(quota_manager)
    assert (requests, errors) == (1, 1)
    assert tokens > 2, "the text that came before is counted"


@pytest.mark.parametrize("way", SYNC)
def test_an_error_in_place_of_a_stream(fake, client, quota_manager, streams, way) -> None:
    fake.fail(status=500)
    with pytest.raises(openai.InternalServerError):
        list(getattr(streams, way)(client, HELLO, workspace_id="acme"))
    assert counted(quota_manager) == (1, 0, 1) == served(fake)


@pytest.mark.parametrize("way", ASYNC)
async def test_an_error_in_place_of_an_async_stream(fake, quota_manager, streams, way) -> None:
    fake.fail(code="insufficient_quota")
    async with connect_async(fake) as client:
        with pytest.raises(openai.RateLimitError):
            await read(await opened(streams, way, client))
    assert counted(quota_manager) == (1, 0, 1) == served(fake)


# --- what stands for a stream ---


def test_what_stands_for_a_stream_is_one(fake, client, quota_manager, streams) -> None:
    stream = streams.returned(client, HELLO, workspace_id="acme", stream_options=USAGE["stream_options"])
    assert isinstance(stream, openai.Stream)
    assert stream.response.status_code == 200
    assert "Stream" in repr(stream)
    with stream as entered:
        assert entered is stream
        assert text_of(list(entered)) == TEXT
    assert counted(quota_manager) == served(fake)


async def test_what_stands_for_an_async_stream_is_one(fake, quota_manager, streams) -> None:
    async with connect_async(fake) as client:
        stream = await opened(streams, "async_returned", client, stream_options={"include_usage": True})
        assert isinstance(stream, openai.AsyncStream)
        async with stream as entered:
            assert text_of([chunk async for chunk in entered]) == TEXT
    assert counted(quota_manager) == served(fake)


def test_a_file_is_no_stream(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=5)
    def body(workspace_id: str) -> io.StringIO:
        return io.StringIO("text")

    assert type(body("acme")) is io.StringIO
    assert counted(quota_manager) == (1, 5, 0)


# --- around the steps ---


def test_the_reader_is_not_in_the_context_of_the_stream(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def body(workspace_id: str) -> Iterator[Any]:
        for _ in range(3):
            yield current().workspace_id, current_hold() is not None

    with quota_context("reader"):
        for inside in body("acme"):
            assert inside == ("acme", True)
            assert (current().workspace_id, current_hold()) == ("reader", None)
    assert counted(quota_manager)[0] == 1


def test_two_streams_read_in_turn(fake, client, quota_manager, streams) -> None:
    one = streams.generator(client, HELLO, workspace_id="acme", stream_options={"include_usage": True})
    two = streams.generator(client, HELLO, workspace_id="beta", stream_options={"include_usage": True})
    for _ in zip(one, two, strict=True):
        pass
    assert counted(quota_manager) == counted(quota_manager, "beta")
    assert counted(quota_manager)[1] * 2 == fake.served.total_tokens
