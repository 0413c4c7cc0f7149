"""Server-sent events: what OpenAI sends, in its order, with and without usage."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest
from fake_clients import HELLO, HELLO_TOKENS, connect, eventually

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.replies import DEFAULT_TEXT


def test_chat_stream_without_usage_is_charged_and_unreported(fake, client):
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    assert len(chunks) > 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == DEFAULT_TEXT
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    assert fake.served.unreported_requests == 1
    assert fake.served.unreported_tokens == fake.served.total_tokens > HELLO_TOKENS


def test_chat_stream_with_usage_ends_with_a_chunk_without_choices(fake, client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    assert last.choices == []
    assert last.usage.prompt_tokens == HELLO_TOKENS
    assert last.usage.total_tokens == fake.served.total_tokens
    assert fake.served.unreported_requests == 0


def test_include_usage_false_is_no_usage(fake, client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": False}
    )
    assert all(chunk.choices for chunk in stream)
    assert fake.served.unreported_requests == 1


def test_streamed_choices_each_get_the_whole_text(client):
    said = ["", ""]
    for chunk in client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, n=2):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == [DEFAULT_TEXT, DEFAULT_TEXT]


def test_streamed_tool_calls(fake, client):
    fake.reply(tool_calls=[{"name": "one", "arguments": {"a": 1}}, {"name": "two"}])
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for chunk in client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            names[call.index] = names.get(call.index, "") + (call.function.name or "")
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert names == {0: "one", 1: "two"}
    assert arguments == {0: '{"a": 1}', 1: "{}"}
    assert chunk.choices[0].finish_reason == "tool_calls"


def test_response_stream_has_the_events_the_sdk_expects(fake, client):
    with client.responses.stream(model="gpt-4o", input="Hello, world") as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == DEFAULT_TEXT
    assert final.usage.input_tokens == HELLO_TOKENS
    assert final.usage.total_tokens == fake.served.total_tokens
    assert fake.served.unreported_requests == 0
    assert client.responses.retrieve(final.id).output_text == DEFAULT_TEXT


def test_response_stream_of_a_function_call(fake, client):
    fake.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Rome", "days": [1, 2, 3]}}])
    events = list(client.responses.create(model="gpt-4o", input="Hello", stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert deltas == '{"city": "Rome", "days": [1, 2, 3]}'
    assert events[-1].response.output[0].arguments == deltas


def test_response_stream_cut_by_max_output_tokens_ends_incomplete(client):
    *_, last = client.responses.create(model="gpt-4o", input="Hello", stream=True, max_output_tokens=3)
    assert last.type == "response.incomplete"
    assert last.response.usage.output_tokens == 3


def test_chunk_delay_spreads_the_events(fake, client):
    fake.reply("x" * 48, chunk_delay=0.03)  # role, three pieces, finish, [DONE]: five pauses
    started = time.monotonic()
    arrivals = [
        time.monotonic() - started for _ in client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    ]
    assert arrivals[-1] - arrivals[0] >= 0.09


def test_async_streams(fake):
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="test", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].usage.total_tokens == fake.served.total_tokens
            async with client.responses.stream(model="gpt-4o", input="Hello") as responses:
                assert (await responses.get_final_response()).output_text == DEFAULT_TEXT

    asyncio.run(run())


@pytest.mark.parametrize("leave_after", [1, 3])
def test_client_that_leaves_mid_stream_is_unreported_and_harms_nobody(fake, client, leave_after):
    fake.reply(chunk_delay=0.02)
    for _ in range(3):
        stream = client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        for _, _ in zip(range(leave_after), stream, strict=False):
            pass
        stream.response.close()
    assert fake.served.unreported_requests == 3
    assert eventually(lambda: not fake.open_connections)
    assert fake.served.unreported_requests == 3, "a number was told to a client that had left"
    assert client.chat.completions.create(model="gpt-4o", messages=HELLO).usage.prompt_tokens == HELLO_TOKENS
    assert fake.served.unreported_requests == 3


def test_gzipped_stream_decodes_event_by_event():
    with (
        FakeOpenAI(gzip_streams=True) as fake,
        connect(fake) as client,
    ):
        fake.reply(chunk_delay=0.02)
        started = time.monotonic()
        stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        assert stream.response.headers["content-encoding"] == "gzip"
        next(iter(stream))
        first = time.monotonic() - started
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == DEFAULT_TEXT
        assert time.monotonic() - started > first + 0.1
