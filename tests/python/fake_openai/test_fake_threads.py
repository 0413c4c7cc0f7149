"""Runs on threads, through the real SDK."""

from __future__ import annotations

import asyncio
import math

import openai
import pytest
from fake_clients import HELLO, HELLO_TOKENS, connect, connect_async

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.replies import DEFAULT_TEXT

# The SDK says so of the whole Assistants API.
pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")

TEXT_TOKENS = math.ceil(len(DEFAULT_TEXT) / 4)


def test_run_tells_its_usage_once_it_is_complete(fake, client):
    thread = client.beta.threads.create(messages=HELLO)
    made = client.beta.threads.runs.create(thread.id, assistant_id="asst_1", model="gpt-4o-mini", instructions="Short")
    assert (made.status, made.usage, made.thread_id) == ("queued", None, thread.id)
    assert fake.served.unreported_requests == 1
    for _ in range(2):
        found = client.beta.threads.runs.retrieve(made.id, thread_id=thread.id)
        assert (found.status, found.model) == ("completed", "gpt-4o-mini")
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (HELLO_TOKENS + 4 + 2, TEXT_TOKENS)
    served = fake.served
    assert served.by("endpoint")["/v1/threads/{id}/runs"].total_tokens == found.usage.total_tokens
    assert served.by("model")["gpt-4o-mini"].total_tokens == served.total_tokens == found.usage.total_tokens
    assert served.unreported_requests == 0


def test_thread_grows_and_its_next_run_costs_more(fake, client):
    fake.reply("abcd")
    thread = client.beta.threads.create()
    client.beta.threads.messages.create(thread.id, role="user", content=HELLO[0]["content"])
    run = {"thread_id": thread.id, "assistant_id": "asst_1", "poll_interval_ms": 1}
    first = client.beta.threads.runs.create_and_poll(**run)
    parts = [{"type": "text", "text": "x" * 9}]
    second = client.beta.threads.runs.create_and_poll(**run, additional_messages=[{"role": "user", "content": parts}])
    assert first.usage.prompt_tokens == HELLO_TOKENS
    assert second.usage.prompt_tokens == HELLO_TOKENS + (4 + 1) + (4 + 3)
    shown = client.beta.threads.messages.list(thread.id).data
    assert [message.role for message in shown] == ["assistant", "user", "assistant", "user"]
    assert [message.content[0].text.value for message in shown] == ["abcd", "x" * 9, "abcd", "Hello, world"]
    assert fake.served.by("model")["gpt-4o"].total_tokens == first.usage.total_tokens + second.usage.total_tokens


def test_streamed_run_tells_its_usage_in_step_and_run(fake, client):
    thread = client.beta.threads.create(messages=HELLO)
    events = list(client.beta.threads.runs.create(thread.id, assistant_id="asst_1", stream=True))
    names = list(dict.fromkeys(event.event for event in events))
    assert names == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    assert all(event.data.usage is None for event in events[:5])
    step, run = (event.data for event in events[-2:])
    assert step.usage.total_tokens == run.usage.total_tokens == fake.served.total_tokens == HELLO_TOKENS + TEXT_TOKENS
    assert fake.served.unreported_requests == 0


def test_stream_of_a_new_thread_with_the_helper_of_the_sdk(fake, client):
    with client.beta.threads.create_and_run_stream(assistant_id="asst_1", thread={"messages": HELLO}) as stream:
        assert "".join(stream.text_deltas) == DEFAULT_TEXT
        run = stream.get_final_run()
        assert stream.get_final_messages()[0].content[0].text.value == DEFAULT_TEXT
    assert run.usage.total_tokens == fake.served.by("endpoint")["/v1/threads/runs"].total_tokens
    assert client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id).usage == run.usage


def test_stream_without_usage_has_it_nowhere(fake, client):
    fake.fail("stream_without_usage", when={"stream": True})
    thread = client.beta.threads.create(messages=HELLO)
    events = list(client.beta.threads.runs.create(thread.id, assistant_id="asst_1", stream=True))
    assert [event.data.usage for event in events[-2:]] == [None, None]
    assert fake.served.unreported_requests == 1


def test_cut_run_is_incomplete(fake, client):
    thread = client.beta.threads.create(messages=HELLO)
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id="asst_1", max_completion_tokens=2, poll_interval_ms=1
    )
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")
    assert run.usage.completion_tokens == 2
    *_, last = client.beta.threads.runs.create(thread.id, assistant_id="asst_1", max_completion_tokens=2, stream=True)
    assert (last.event, last.data.usage.completion_tokens) == ("thread.run.incomplete", 2)


def test_unknown_ids_are_404(fake, client):
    thread = client.beta.threads.create()
    for missing in (
        lambda: client.beta.threads.runs.create("thread_0", assistant_id="asst_1"),
        lambda: client.beta.threads.runs.retrieve("run_0", thread_id=thread.id),
        lambda: client.beta.threads.messages.list("thread_0"),
    ):
        with pytest.raises(openai.NotFoundError):
            missing()
    with pytest.raises(openai.BadRequestError):
        client.beta.threads.create(messages=[{"role": "user", "content": ""}])
    fake.reset()
    with pytest.raises(openai.NotFoundError):
        client.beta.threads.messages.list(thread.id)


def test_a_refused_run_leaves_no_trace():
    with FakeOpenAI(tokens_per_minute=100) as fake, connect(fake) as client:
        thread = client.beta.threads.create(messages=HELLO)
        run = {"thread_id": thread.id, "assistant_id": "asst_1", "additional_messages": HELLO}
        fake.reply(completion_tokens=1_000, times=1)
        fake.reply("abcd")
        with pytest.raises(openai.RateLimitError):
            client.beta.threads.runs.create(**run, max_completion_tokens=200)
        assert len(client.beta.threads.messages.list(thread.id).data) == 1
        assert fake.served.total_tokens == 0


def test_async(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            made = await client.beta.threads.create_and_run_poll(
                assistant_id="asst_1", thread={"messages": HELLO}, poll_interval_ms=1
            )
            assert made.usage.total_tokens == fake.served.total_tokens
            stream = await client.beta.threads.runs.create(made.thread_id, assistant_id="asst_1", stream=True)
            last = [event async for event in stream][-1]
            assert made.usage.total_tokens + last.data.usage.total_tokens == fake.served.total_tokens

    asyncio.run(run())
    assert fake.served.unreported_requests == 0
