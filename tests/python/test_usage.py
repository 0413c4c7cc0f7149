"""Usage is read from what the real SDKs return, from dictionaries, and from objects nobody has seen before."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from llmquota.estimates import delta_characters, estimate_request
from llmquota.testing import FakeOpenAI
from llmquota.usage import StreamUsage, UsageNumbers, read_usage

HELLO: list[Any] = [{"role": "user", "content": "Hello, world"}]
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        fake.reply("Hi there", prompt_tokens=100, completion_tokens=40, cached_tokens=30, reasoning_tokens=10)
        yield fake


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=fake.base_url, api_key="test", max_retries=0) as client:
        yield client


def numbers(usage: UsageNumbers | None) -> tuple[int | None, ...]:
    assert usage is not None
    return (usage.input_tokens, usage.output_tokens, usage.tokens, usage.cached_tokens, usage.reasoning_tokens)


SERVED = (100, 40, 140, 30, 10)


def test_chat_completions(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    usage = read_usage(answer)
    assert usage is not None
    assert numbers(usage) == SERVED
    assert (usage.model, usage.response_id, usage.requests) == ("gpt-4o", answer.id, 1)
    assert usage.problems == ()
    assert numbers(read_usage(answer.usage)) == SERVED
    assert usage.request_id == answer._request_id is not None
    # Of the request the SDK's object knows, and its JSON does not.
    assert read_usage(answer.model_dump()) == replace(usage, request_id=None)


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="gpt-4o", input="Hello")
    usage = read_usage(answer)
    assert usage is not None
    assert numbers(usage) == SERVED
    assert usage.response_id == answer.id
    assert numbers(read_usage(answer.usage)) == SERVED
    assert usage.request_id == answer._request_id is not None
    assert read_usage(answer.model_dump()) == replace(usage, request_id=None)


def test_embeddings_have_an_input_only(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    usage = read_usage(client.embeddings.create(model="text-embedding-3-small", input="Hello, world"))
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.tokens) == (3, None, fake.served.total_tokens)
    assert usage.model == "text-embedding-3-small"


def test_raw_responses_are_parsed_once_their_body_has_arrived(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    assert numbers(read_usage(raw)) == SERVED
    open_stream = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO, stream=True)
    assert read_usage(open_stream) is None
    assert list(open_stream.parse()), "the body is still there to be read"


async def test_raw_responses_of_the_async_client(fake: FakeOpenAI) -> None:
    async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="test") as client:
        raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
        assert numbers(read_usage(raw)) == SERVED
        async with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO) as streamed:
            assert read_usage(streamed) is None
            assert numbers(read_usage(await streamed.parse())) == SERVED


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_streams_tell_it_in_their_last_item(client: openai.OpenAI, api: str) -> None:
    seen = StreamUsage()
    items = (
        client.chat.completions.create(model="gpt-4o", messages=HELLO, **USAGE)
        if api == "chat"
        else client.responses.create(model="gpt-4o", input="Hello", stream=True)
    )
    characters = 0
    for item in items:
        seen.see(item)
        characters += delta_characters(item)
        assert delta_characters(item) == delta_characters(item.model_dump())
    assert numbers(seen.usage) == SERVED
    assert characters == len("Hi there")


def test_the_agents_sdk(fake: FakeOpenAI) -> None:
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    fake.reply(
        tool_calls=[{"name": "add", "arguments": {"a": 1, "b": 2}}], prompt_tokens=50, completion_tokens=5, times=1
    )

    async def run() -> tuple[Any, list[Any]]:
        async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="test") as client:
            model = agents.OpenAIResponsesModel(model="gpt-4o", openai_client=client)
            agent = agents.Agent(name="a", model=model, tools=[agents.function_tool(add)])
            result = await agents.Runner.run(agent, "1 + 2?")
            streamed = agents.Runner.run_streamed(agent, "Hello")
            assert read_usage(streamed) is None, "it has only begun"
            events = [event async for event in streamed.stream_events()]
            assert numbers(read_usage(streamed)) == SERVED
            return result, events

    result, events = asyncio.run(run())
    usage = read_usage(result)
    assert usage is not None
    assert usage.requests == 2
    assert (usage.input_tokens, usage.output_tokens, usage.tokens) == (150, 45, 195)
    assert fake.served.total_tokens == 195 + 140
    assert read_usage(SimpleNamespace(raw_responses=result.raw_responses)) == UsageNumbers(
        input_tokens=150,
        output_tokens=45,
        total_tokens=195,
        cached_tokens=30,
        cache_write_tokens=0,
        reasoning_tokens=10,
        requests=2,
    )
    seen = StreamUsage()
    for event in events:
        seen.see(event)
    assert numbers(seen.usage) == SERVED
    assert sum(map(delta_characters, events)) == len("Hi there")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (120, UsageNumbers(total_tokens=120)),
        (120.0, UsageNumbers(total_tokens=120)),
        (0, UsageNumbers(total_tokens=0)),
        ({"tokens": 7}, UsageNumbers(total_tokens=7)),
        ({"tokens_used": 7}, UsageNumbers(total_tokens=7)),
        ({"total_tokens": 7}, UsageNumbers(total_tokens=7)),
        ({"usage": 7, "model": "m"}, UsageNumbers(total_tokens=7, model="m")),
        ({"usage": {"prompt_tokens": 3}, "service_tier": "flex"}, UsageNumbers(input_tokens=3, service_tier="flex")),
        (
            SimpleNamespace(usage=SimpleNamespace(input_tokens=3, output_tokens=4), id="r-1"),
            UsageNumbers(input_tokens=3, output_tokens=4, response_id="r-1"),
        ),
        (UsageNumbers(input_tokens=1), UsageNumbers(input_tokens=1)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "prompt_tokens_details": {"audio_tokens": 4},
                "completion_tokens_details": {"audio_tokens": 5},
            },
            UsageNumbers(input_tokens=10, output_tokens=9, audio_input_tokens=4, audio_output_tokens=5),
        ),
        # What a provider says of a part beyond its whole is cut: the whole is what it charges.
        (
            {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 5}},
            UsageNumbers(input_tokens=3, cached_tokens=3),
        ),
    ],
)
def test_shapes(source: Any, expected: UsageNumbers) -> None:
    assert read_usage(source) == expected


def test_anthropic_counts_its_cache_beside_the_input() -> None:
    message = {
        "id": "msg_1",
        "model": "claude",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 20,
        },
    }
    assert read_usage(message) == UsageNumbers(
        input_tokens=130, output_tokens=5, cached_tokens=100, cache_write_tokens=20, model="claude", response_id="msg_1"
    )
    # Others that pass the same keys on beside OpenAI's have counted them already.
    assert read_usage({"prompt_tokens": 130, "cache_read_input_tokens": 100}) == UsageNumbers(input_tokens=130)


def test_an_anthropic_stream_tells_it_in_two_parts() -> None:
    seen = StreamUsage()
    seen.see({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 10, "output_tokens": 1}}})
    seen.see({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}})
    seen.see({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15}})
    assert seen.usage == UsageNumbers(input_tokens=10, output_tokens=15, response_id="msg_1")


def test_a_growing_usage_counts_once_and_two_responses_count_both() -> None:
    seen = StreamUsage()
    for response, tokens in [("a", 1), ("a", 5), ("b", 7), ("b", 9)]:
        seen.see(
            {"id": response, "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}}
        )
    assert seen.usage is not None
    assert (seen.usage.tokens, seen.usage.requests) == (15 + 19, 2)


@pytest.mark.parametrize(
    "source",
    [
        None,
        "120",
        b"120",
        "",
        {},
        [],
        [120],
        object(),
        {"usage": None},
        {"data": [1, 2]},
        {"data": 5},
        {"message": "hi"},
    ],
)
def test_nothing_is_read_where_there_is_none(source: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert read_usage(source) is None
    assert not caplog.records


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, 1.5, True, "12", 2**53 + 1, 10**400, [], object()])
def test_numbers_that_cannot_be_are_left_out_and_named(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert read_usage({"usage": {"prompt_tokens": bad}}) is None
    assert "prompt_tokens" in caplog.text
    kept = read_usage({"usage": {"prompt_tokens": bad, "completion_tokens": 4}})
    assert kept is not None
    assert (kept.input_tokens, kept.output_tokens) == (None, 4)
    assert [problem.startswith("prompt_tokens is ") for problem in kept.problems] == [True]
    assert all(len(problem) < 80 for problem in kept.problems)


def test_an_object_that_raises_is_read_as_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Hostile:
        @property
        def usage(self) -> int:
            raise RuntimeError("no")

        http_response = SimpleNamespace(is_closed=True)

        def parse(self) -> None:
            raise ValueError("not JSON")

    assert read_usage(Hostile()) is None
    assert "Hostile" in caplog.text
    recursive: dict[str, Any] = {}
    recursive["usage"] = recursive
    assert read_usage(recursive) is None


def test_settle_is_told_a_total_only_where_it_is_more_than_its_parts() -> None:
    assert UsageNumbers(input_tokens=3, output_tokens=4, total_tokens=7).as_settle() == {
        "input_tokens": 3,
        "output_tokens": 4,
        "requests": 1,
    }
    assert UsageNumbers(input_tokens=3, output_tokens=4, total_tokens=12).as_settle()["tokens"] == 12
    assert UsageNumbers(total_tokens=12, model="m").as_settle() == {"tokens": 12, "model": "m", "requests": 1}


@pytest.mark.parametrize(
    ("arguments", "prompt", "answer"),
    [
        ({"prompt": "x" * 41}, 11, 0),
        ({"prompt": "x" * 40, "max_tokens": 100, "n": 3}, 10, 300),
        ({"messages": [{"role": "user", "content": "x" * 40}] * 2, "max_completion_tokens": 5}, 20 + 8, 5),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 8}]}]}, 2 + 4, 0),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 9999}}]}]}, 4, 0),
        ({"input": ["x" * 4, "x" * 8]}, 3, 0),
        ({"input": [1, 2, 3]}, 3, 0),
        ({"workspace_id": "x" * 400, "model": "y" * 400, "client": object(), "n": 2, "flag": True}, 0, 0),
        ({"max_tokens": None, "max_output_tokens": 7, "prompt": None}, 0, 7),
        ({"max_tokens": -5, "prompt": "abcd"}, 1, 0),
    ],
)
def test_estimates(arguments: dict[str, Any], prompt: int, answer: int) -> None:
    estimate = estimate_request(arguments, ignored=["workspace_id"])
    assert (estimate.prompt, estimate.max_output) == (prompt, answer)
    assert estimate.tokens == max(1, prompt + answer)


def test_sound_and_pictures_are_no_text() -> None:
    assert delta_characters({"type": "response.audio.delta", "delta": "x" * 1000}) == 0
    assert delta_characters({"type": "response.image_generation_call.partial_image", "delta": "x" * 1000}) == 0
    assert delta_characters({"type": "response.function_call_arguments.delta", "delta": '{"a"'}) == 4
    tool = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "add", "arguments": '{"a"'}}]}}]}
    assert delta_characters(tool) == 7
    assert delta_characters({"choices": [{"text": "abc"}]}) == 3
    assert delta_characters(b"abc") == 0


def test_what_is_charged_by_time_is_a_usage() -> None:
    spoken = read_usage({"text": "hello", "usage": {"type": "duration", "seconds": 8.4701}})
    assert spoken is not None
    assert (spoken.milliseconds, spoken.tokens, spoken.is_charged_otherwise) == (8_471, 0, True)
    assert read_usage({"usage": {"type": "duration", "seconds": "long"}}) is None
    assert read_usage({"usage": {"seconds": 8}}) is None


def test_tools_that_the_provider_used_are_read_from_an_answer() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "code_interpreter_call"},
        {"type": "code_interpreter_call"},
        {"type": "function_call"},
        {"type": "fresh_call"},
    ]
    answer = {"model": "gpt-4o", "output": output, "usage": {"input_tokens": 10, "output_tokens": 5}}
    usage = read_usage(answer)
    assert usage is not None
    assert (usage.web_searches, usage.code_sessions, usage.other_tools, usage.file_searches) == (1, 1, 1, None)
    charged = read_usage({**answer, "tool_usage": {"web_search": {"num_requests": 0}}})
    assert charged is not None
    assert charged.web_searches is None
    anthropic = read_usage({"input_tokens": 5, "output_tokens": 1, "server_tool_use": {"web_search_requests": 3}})
    assert anthropic is not None
    assert anthropic.web_searches == 3


def test_pictures_and_long_cache_entries_are_parts() -> None:
    details = {"image_tokens": 40, "text_tokens": 10}
    drawn = read_usage({"input_tokens": 50, "output_tokens": 9, "input_tokens_details": details})
    assert drawn is not None
    assert (drawn.image_input_tokens, drawn.image_output_tokens) == (40, None)
    creation = {"ephemeral_1h_input_tokens": 7, "ephemeral_5m_input_tokens": 13}
    written = read_usage({"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_creation": creation})
    assert written is not None
    assert (written.input_tokens, written.cache_write_tokens, written.cache_write_1h_tokens) == (25, 20, 7)
