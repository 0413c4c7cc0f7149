"""A call that is seen where it leaves and by the backend's own layers is counted once."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from guard_parts import HELLO, USAGE, calls, connect_async, counted, served

import llmquota
from llmquota import QuotaExceeded, QuotaManager, guarded, quota_context
from llmquota.context import ContextThreadPoolExecutor
from llmquota.guard import current_hold
from llmquota.testing import FakeOpenAI


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **more)


def test_a_guard_around_it(instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI) -> None:
    @guarded(manager=instrumented)
    def answer(workspace_id: str, goal_id: str) -> Any:
        hold = current_hold()
        assert hold is not None
        # The name of the call in both books, though the guard's own hold is given back.
        return chat(client, extra_headers={"X-Client-Request-Id": hold.id})

    answer("acme", "g")
    assert counted(instrumented) == served(fake_openai)
    assert counted(instrumented, goal="g") == served(fake_openai)
    (row,) = calls(instrumented)
    assert row["hold"] == fake_openai.requests[0].headers["x-client-request-id"]


def test_a_guard_leaves_its_room_to_the_call_inside(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    instrumented.set_override("workspace", "", "acme", {"requests_per_minute": 1, "max_concurrent": 1})

    @guarded(manager=instrumented)
    def answer(workspace_id: str) -> Any:
        return chat(client)

    answer("acme")
    with pytest.raises(QuotaExceeded):
        answer("acme")
    assert counted(instrumented) == served(fake_openai) == (1, fake_openai.served.total.reported_tokens, 0)


def test_a_guarded_stream(instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI) -> None:
    @guarded(manager=instrumented)
    def stream(workspace_id: str) -> Any:
        yield from chat(client, **USAGE)

    assert list(stream("acme"))
    assert counted(instrumented) == served(fake_openai)


def test_several_calls_and_a_retry_in_one_guarded_body(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(status=500)

    @guarded(manager=instrumented)
    def answer(workspace_id: str) -> None:
        for _ in range(2):
            chat(client.with_options(max_retries=1))

    answer("acme")
    assert counted(instrumented) == served(fake_openai)
    assert counted(instrumented)[0] == 3


def test_a_record_by_hand_that_follows(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    tracker = instrumented.get_tracker("acme")
    with quota_context("acme"):
        for _ in range(3):
            tracker.record_request(tokens_used=chat(client).usage.total_tokens)
        assert counted(instrumented) == served(fake_openai)
        # One that no call came before is a call of its own: of a provider that nobody sees.
        tracker.record_request(tokens_used=7)
    requests, tokens, _ = served(fake_openai)
    assert counted(instrumented) == (requests + 1, tokens + 7, 0)


def test_records_by_hand_of_several_calls_at_once(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        with ContextThreadPoolExecutor(4) as executor:
            answers = list(executor.map(lambda _: chat(client), range(8)))
        for answer in answers:
            instrumented.get_tracker("acme").record_request(tokens_used=answer.usage.total_tokens)
    assert counted(instrumented) == served(fake_openai)


async def test_a_record_by_hand_after_tasks(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    async with connect_async(fake_openai) as client:

        async def one() -> Any:
            return await client.chat.completions.create(model="gpt-4o", messages=HELLO)

        async with quota_context("acme"):
            for answer in await asyncio.gather(*(one() for _ in range(4))):
                instrumented.get_tracker("acme").record_request(tokens_used=answer.usage.total_tokens)
    assert counted(instrumented) == served(fake_openai)


def test_a_record_by_hand_mends_what_was_estimated(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        stream = chat(client, stream=True, max_tokens=500)
        next(stream)
        stream.close()
        assert counted(instrumented)[1] >= 500
        instrumented.get_tracker("acme").record_request(input_tokens=100, output_tokens=20, model="gpt-4o")
    assert counted(instrumented) == (1, 120, 0)


def test_a_record_by_hand_of_another_workspace_is_another_call(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        chat(client)
        instrumented.get_tracker("globex").record_request(tokens_used=5)
    assert counted(instrumented) == served(fake_openai)
    assert counted(instrumented, "globex") == (1, 5, 0)


def test_a_record_by_hand_without_any_context(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    headers = {"X-LLMQuota-Workspace": "acme"}
    instrumented.get_tracker("acme").record_request(tokens_used=chat(client, extra_headers=headers).usage.total_tokens)
    assert counted(instrumented) == served(fake_openai)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_nobody_is_of_whom_the_record_by_hand_names(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI, stream: bool
) -> None:
    if stream:
        usage = list(chat(client, stream=True, stream_options={"include_usage": True}))[-1].usage
    else:
        usage = chat(client).usage
    assert counted(instrumented, "global") == served(fake_openai)
    cost = instrumented.get_tracker("global").snapshot()["usage"]["total"]["cost_usd"]
    instrumented.get_tracker("acme").record_request(tokens_used=usage.total_tokens, goal_id="goal-1", task_id="t-7")
    assert counted(instrumented, "global") == (0, 0, 0)
    assert counted(instrumented) == served(fake_openai)
    total = instrumented.get_tracker("acme").snapshot()["usage"]["total"]
    assert (total["cost_usd"], total["input_tokens"]) == (cost, usage.prompt_tokens), "as the provider told it"
    row = instrumented.history("acme", goal_id="goal-1", task_id="t-7")[0]
    assert (row["kind"], row["model"], row["tokens"]) == ("record", "gpt-4o", usage.total_tokens)
    # The next record is of no call that was seen.
    instrumented.get_tracker("acme").record_request(tokens_used=7)
    assert counted(instrumented)[0] == 2


def test_a_record_of_another_model_is_not_of_a_call_of_nobody(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    chat(client)
    tracker = instrumented.get_tracker("acme")
    tracker.record_request(tokens_used=5, model="claude-sonnet-4-5")
    assert (counted(instrumented, "global")[0], counted(instrumented)) == (1, (1, 5, 0))
    tracker.record_request(tokens_used=5, model="gpt-4o-2024-08-06")
    assert (counted(instrumented, "global")[0], counted(instrumented)[0]) == (0, 2)


def test_a_record_by_hand_does_not_fail_where_the_store_has_forgotten_the_call(
    fake_openai: FakeOpenAI, client: openai.OpenAI
) -> None:
    # Of ended calls it remembers some thousand.
    small = QuotaManager(store="memory:?size=1MiB")
    llmquota.instrument(small, providers={fake_openai.base_url: "openai"})
    try:
        tokens = chat(client).usage.total_tokens
        other = small.get_tracker("other")
        for _ in range(20_000):
            other.reserve(1).release()
        small.get_tracker("acme").record_request(tokens_used=tokens)
    finally:
        llmquota.uninstrument()
    assert counted(small) == served(fake_openai)
    assert counted(small, "global") == served(fake_openai), "what cannot be taken back stays counted"


def test_a_call_of_its_own_goes_before_one_of_nobody(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    chat(client)
    chat(client, extra_headers={"X-LLMQuota-Workspace": "acme"})
    instrumented.get_tracker("acme").record_request(tokens_used=5)
    assert [counted(instrumented, name)[0] for name in ("global", "acme")] == [1, 1]
    instrumented.get_tracker("acme").record_request(tokens_used=5)
    assert [counted(instrumented, name)[0] for name in ("global", "acme")] == [0, 2]


def test_a_record_by_hand_says_whose_goal_a_call_was(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        answer = chat(client)
        instrumented.get_tracker("acme").record_request(tokens_used=answer.usage.total_tokens, goal_id="goal-1")
    assert counted(instrumented) == served(fake_openai)
    assert [row["tokens"] for row in instrumented.history("acme", goal_id="goal-1")] == [answer.usage.total_tokens]


def test_a_broken_stream_of_nobody_moves_with_what_the_record_knows(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    stream = chat(client, stream=True, max_tokens=500)
    next(stream)
    stream.close()
    assert counted(instrumented, "global")[1] >= 500
    instrumented.get_tracker("acme").record_request(input_tokens=100, output_tokens=20, model="gpt-4o")
    assert (counted(instrumented, "global"), counted(instrumented)) == ((0, 0, 0), (1, 120, 0))


def test_a_failed_call_of_nobody_is_one_failure_of_whom_the_record_names(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(status=500)
    with pytest.raises(openai.InternalServerError):
        chat(client.with_options(max_retries=0))
    instrumented.get_tracker("acme").record_request(success=False, error_status=500)
    assert (counted(instrumented, "global"), counted(instrumented)) == ((0, 0, 0), (1, 0, 1))


def test_a_background_response_is_charged_once_and_then_exactly(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    with quota_context("acme"):
        begun = client.responses.create(model="gpt-4o", input="Hello", background=True, max_output_tokens=300)
        held = counted(instrumented)
        assert held[0] == 1
        assert held[1] >= 300
        for _ in range(3):
            done = client.responses.retrieve(begun.id)
    assert done.usage is not None
    assert counted(instrumented) == (4, done.usage.total_tokens, 0)
