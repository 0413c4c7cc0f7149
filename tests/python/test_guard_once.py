"""A call that several layers see is counted once: nested guards, records by hand, and both together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from guard_parts import HELLO, connect, connect_async, counted, served

import llmquota
from llmquota import QuotaExceeded, QuotaManager, _native, workspace_quota_manager
from llmquota.context import ContextThreadPoolExecutor, quota_context
from llmquota.guard import guarded, settle
from llmquota.testing import FakeOpenAI


@pytest.fixture(autouse=True)
def _no_claim_is_left_open() -> Iterator[None]:
    yield
    assert _native.open_claims(0) == 0


@pytest.fixture
def client(fake_openai: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with connect(fake_openai) as client:
        yield client


class Backend:
    """An outer guarded function around an inner one that stands at the provider."""

    def __init__(self, manager: QuotaManager, client: Any = None) -> None:
        self.manager, self.client = manager, client
        self.tracker = manager.get_tracker("acme")
        guard = guarded(manager=manager)
        self.inner, self.outer, self.text_only = guard(self._inner), guard(self._outer), guard(self._text_only)

    def _inner(self, messages: Any, workspace_id: str | None = None) -> Any:
        return self.client.chat.completions.create(model="gpt-4o", messages=messages)

    def _text_only(self, messages: Any, workspace_id: str | None = None) -> Any:
        return self._inner(messages).choices[0].message.content

    def _outer(self, body: Any, workspace_id: str | None = None) -> Any:
        return body()


@pytest.fixture
def backend(quota_manager: QuotaManager, client: openai.OpenAI) -> Backend:
    return Backend(quota_manager, client)


# --- guards in guards ---


def test_the_innermost_guard_counts(fake_openai, quota_manager, backend) -> None:
    answer = backend.outer(lambda: backend.inner(HELLO), "acme")
    assert answer.usage.total_tokens == fake_openai.served.total_tokens
    assert counted(quota_manager) == served(fake_openai)


def test_three_deep(fake_openai, quota_manager, backend) -> None:
    backend.outer(lambda: backend.outer(lambda: backend.inner(HELLO)), "acme")
    assert counted(quota_manager) == served(fake_openai)


def test_several_inside_one(fake_openai, quota_manager, backend) -> None:
    backend.outer(lambda: [backend.inner(HELLO) for _ in range(3)], "acme")
    assert counted(quota_manager) == served(fake_openai)
    assert fake_openai.served.requests == 3


def test_the_outer_one_leaves_room_for_the_inner_one(fake_openai, quota_manager, backend) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"max_concurrent": 1, "requests_per_minute": 1}}})
    backend.outer(lambda: backend.inner(HELLO), "acme")
    assert counted(quota_manager) == served(fake_openai)


async def test_tasks_inside_one(fake_openai, quota_manager) -> None:
    async with connect_async(fake_openai) as client:

        @guarded(manager=quota_manager)
        async def inner(messages: Any, workspace_id: str | None = None) -> Any:
            return await client.chat.completions.create(model="gpt-4o", messages=messages)

        @guarded(manager=quota_manager)
        async def outer(workspace_id: str) -> Any:
            return await asyncio.gather(*(inner(HELLO) for _ in range(4)))

        await outer("acme")
    assert counted(quota_manager) == served(fake_openai)
    assert fake_openai.served.requests == 4


def test_threads_inside_one(fake_openai, quota_manager, backend) -> None:
    def fan_out() -> Any:
        with ContextThreadPoolExecutor(4) as executor:
            return list(executor.map(lambda _: backend.inner(HELLO), range(4)))

    backend.outer(fan_out, "acme")
    assert counted(quota_manager) == served(fake_openai)
    assert fake_openai.served.requests == 4


def test_another_workspace_inside_is_another_call(fake_openai, quota_manager, backend) -> None:
    def body() -> Any:
        backend.inner(HELLO, "beta")
        return {"usage": {"total_tokens": 12}}

    backend.outer(body, "acme")
    assert counted(quota_manager) == (1, 12, 0)
    assert counted(quota_manager, "beta") == served(fake_openai)


def test_another_manager_inside_is_another_count(fake_openai, quota_manager, backend) -> None:
    other = Backend(QuotaManager(), backend.client)
    backend.outer(lambda: other.inner(HELLO), "acme")
    assert counted(quota_manager) == counted(other.manager) == served(fake_openai)


def test_an_inner_failure_is_one_failure(fake_openai, quota_manager, backend) -> None:
    fake_openai.fail(status=500)
    with pytest.raises(openai.InternalServerError):
        backend.outer(lambda: backend.inner(HELLO), "acme")
    assert counted(quota_manager) == (1, 0, 1) == served(fake_openai)


def test_a_refused_inner_call_is_none(fake_openai, quota_manager, backend) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"tokens_per_minute": 6}}})
    with pytest.raises(QuotaExceeded):
        backend.outer(lambda: backend.inner(HELLO), "acme")
    assert counted(quota_manager) == (0, 0, 0)

    def fall_back() -> Any:
        with pytest.raises(QuotaExceeded):
            backend.inner(HELLO)
        return backend.client.embeddings.create(model="text-embedding-3-small", input="x")

    backend.outer(fall_back, "acme")
    assert counted(quota_manager) == served(fake_openai), "what it found elsewhere is counted by its own usage"


def test_a_stream_inside_a_call_that_has_ended(fake_openai, quota_manager, client) -> None:
    @guarded(manager=quota_manager)
    def inner(messages: Any, workspace_id: str | None = None) -> Iterator[Any]:
        yield from client.chat.completions.create(
            model="gpt-4o", messages=messages, stream=True, stream_options={"include_usage": True}
        )

    @guarded(manager=quota_manager)
    def outer(workspace_id: str) -> Any:
        return inner(HELLO)

    assert list(outer("acme"))
    assert counted(quota_manager) == served(fake_openai)


# --- records by hand ---


def test_a_record_in_the_body_is_of_the_same_call(fake_openai, quota_manager, backend) -> None:
    def body() -> Any:
        answer = backend._inner(HELLO)
        backend.tracker.record_request(tokens_used=answer.usage.total_tokens)
        return answer

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)


def test_a_record_tells_what_the_result_does_not(fake_openai, quota_manager, backend) -> None:
    def body() -> str:
        usage = backend._inner(HELLO).usage
        backend.tracker.record_request(
            input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, model="o1"
        )
        return "text"

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)
    assert quota_manager.usage("acme")["total"]["input_tokens"] == fake_openai.served.total.prompt_tokens


def test_a_record_attributes_what_the_guard_does_not(fake_openai, quota_manager, backend) -> None:
    def body() -> Any:
        answer = backend._inner(HELLO)
        backend.tracker.record_request(tokens_used=1, goal_id="goal-1", task_id="t-7", model="gpt-4o")
        return answer

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)
    for account in ({"goal": "goal-1"}, {"task": "t-7"}, {"model": "gpt-4o"}):
        assert counted(quota_manager, **account) == served(fake_openai)
    with quota_context(goal_id="goal-2"):
        backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)
    assert counted(quota_manager, goal="goal-2")[0] == 1, "what the guard knows holds"
    assert counted(quota_manager, goal="goal-1")[0] == 1


def test_a_record_names_the_workspace_that_the_guard_does_not_know(fake_openai, quota_manager, backend) -> None:
    def body() -> Any:
        answer = backend._inner(HELLO)
        backend.tracker.record_request(tokens_used=answer.usage.total_tokens)
        return answer

    backend.outer(body)
    assert counted(quota_manager) == served(fake_openai)
    assert counted(quota_manager, "global") == (0, 0, 0)


def test_a_call_that_moves_is_not_taken_for_the_one_before(quota_manager) -> None:
    tracker = quota_manager.get_tracker("acme")

    @guarded(manager=quota_manager)
    def inner(workspace_id: str, goal: str | None = None) -> None:
        # The hold does not know the goal that its record names: the call moves there.
        tracker.record_request(tokens_used=10, goal_id=goal) if goal else settle(tokens=10)

    @guarded(manager=quota_manager)
    def outer(workspace_id: str) -> None:
        inner("acme")
        inner("acme", "g")

    outer("acme")
    assert counted(quota_manager) == (2, 20, 0)
    assert counted(quota_manager, goal="g") == (1, 10, 0)


def test_a_record_of_another_workspace_is_another_call(quota_manager, backend) -> None:
    def body() -> Any:
        backend.tracker.record_request(tokens_used=5, workspace_id="beta")
        return {"total_tokens": 7}

    backend.outer(body, "acme")
    assert counted(quota_manager) == (1, 7, 0)
    assert counted(quota_manager, "beta") == (1, 5, 0)


def test_a_second_record_is_a_second_call(quota_manager, backend) -> None:
    def body() -> None:
        backend.tracker.record_request(tokens_used=5)
        backend.tracker.record_request(tokens_used=7)

    backend.outer(body, "acme")
    assert counted(quota_manager) == (2, 12, 0)


def test_a_record_of_a_failure_is_the_failure_of_the_call(fake_openai, quota_manager, backend) -> None:
    fake_openai.fail(status=400, times=2)

    def raising() -> Any:
        try:
            return backend._inner(HELLO)
        except openai.BadRequestError:
            backend.tracker.record_request(success=False)
            raise

    def swallowing() -> Any:
        try:
            return raising()
        except openai.BadRequestError:
            return None

    with pytest.raises(openai.BadRequestError):
        backend.outer(raising, "acme")
    assert counted(quota_manager) == (1, 0, 1) == served(fake_openai)
    backend.outer(swallowing, "acme")
    assert counted(quota_manager) == (2, 0, 2) == served(fake_openai)


def test_a_record_around_the_guard_is_of_the_call_inside(fake_openai, quota_manager, backend) -> None:
    def body() -> Any:
        for _ in range(2):
            answer = backend.inner(HELLO)
            backend.tracker.record_request(tokens_used=answer.usage.total_tokens, goal_id="goal-1")
        return "text"

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)
    assert fake_openai.served.requests == 2


def test_a_record_around_the_guard_mends_its_estimate(fake_openai, quota_manager, backend) -> None:
    def body() -> None:
        backend.text_only(HELLO)
        backend.tracker.record_request(tokens_used=fake_openai.served.total_tokens)

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)


def test_a_record_two_guards_further_out(fake_openai, quota_manager, backend) -> None:
    def body() -> None:
        backend.outer(lambda: backend.inner(HELLO) and None)
        backend.tracker.record_request(tokens_used=fake_openai.served.total_tokens)

    backend.outer(body, "acme")
    assert counted(quota_manager) == served(fake_openai)


def test_records_outside_of_a_guard_are_calls(quota_manager, backend) -> None:
    backend.tracker.record_request(tokens_used=5)
    backend.outer(lambda: {"total_tokens": 7}, "acme")
    backend.tracker.record_request(tokens_used=5)
    assert counted(quota_manager) == (3, 17, 0)


def test_a_record_beside_an_open_call_is_a_call(quota_manager, backend) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def body() -> Any:
        entered.set()
        assert go_on.wait(10)
        return {"total_tokens": 7}

    thread = threading.Thread(target=backend.outer, args=(body, "acme"))
    thread.start()
    assert entered.wait(10)
    assert _native.open_claims(0) == 1
    backend.tracker.record_request(tokens_used=5)
    go_on.set()
    thread.join()
    assert counted(quota_manager) == (2, 12, 0)


async def test_a_record_in_a_task_of_the_body_and_after_it(quota_manager) -> None:
    tracker = quota_manager.get_tracker("acme")
    ended = asyncio.Event()

    async def record() -> None:
        tracker.record_request(tokens_used=5)

    async def record_late() -> None:
        await ended.wait()
        tracker.record_request(tokens_used=7)

    @guarded(manager=quota_manager)
    async def outer(workspace_id: str) -> Any:
        late = asyncio.create_task(record_late())
        await asyncio.create_task(record())
        return {"text": "Hi", "late": late}

    result = await outer("acme")
    assert counted(quota_manager) == (1, 5, 0)
    ended.set()
    await result["late"]
    assert counted(quota_manager) == (2, 12, 0)


def test_the_modules_own_record_request(fake_openai, client) -> None:
    @guarded()
    def ask(messages: Any, workspace_id: str) -> str:
        answer = client.chat.completions.create(model="gpt-4o", messages=messages)
        llmquota.record_request(tokens_used=answer.usage.total_tokens, goal_id="goal-1")
        return "text"

    ask(HELLO, "acme")
    assert counted(workspace_quota_manager) == served(fake_openai)
    assert counted(workspace_quota_manager, goal="goal-1") == served(fake_openai)


def test_a_body_that_settles_and_records(quota_manager, backend) -> None:
    def body() -> None:
        settle(tokens=9)
        backend.tracker.record_request(tokens_used=9)

    backend.outer(body, "acme")
    assert counted(quota_manager) == (1, 9, 0)


def test_a_bad_record_in_the_body_is_the_callers_error(quota_manager, backend) -> None:
    def body() -> Any:
        with pytest.raises(ValueError, match="tokens_used"):
            backend.tracker.record_request(tokens_used=-1)
        return {"total_tokens": 7}

    backend.outer(body, "acme")
    assert counted(quota_manager) == (1, 7, 0)
