"""A guarded call that failed is made again, each try admitted and counted; a stream ends with its budget."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from guard_parts import HELLO, connect, connect_async, counted, eventually, open_holds, served
from hypothesis import given, strategies as st

import llmquota.retry
from llmquota import QuotaExceeded, QuotaManager, guarded
from llmquota.retry import Attempts, Retry, is_transient
from llmquota.testing import FakeOpenAI

Naps = list[float]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Naps:
    """What was slept between tries, which takes no time."""
    slept: Naps = []
    now = itertools.count()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    class Time:
        sleep = staticmethod(slept.append)
        monotonic = staticmethod(lambda: sum(slept) + next(now) * 1e-9)

    class Loop:
        pass

    Loop.sleep = staticmethod(sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(llmquota.retry, "time", Time)
    monkeypatch.setattr(llmquota.retry, "asyncio", Loop)
    return slept


def chat(manager: QuotaManager, client: openai.OpenAI, **options: Any) -> Any:
    @guarded(manager=manager, **options)
    def ask(workspace_id: str, *, model: str = "gpt-4o") -> Any:
        return client.chat.completions.create(model=model, messages=HELLO)

    return ask("acme")


def most(_low: float, high: float) -> float:
    return high


def test_what_waiting_mends_is_tried_again_and_each_try_is_counted(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps
) -> None:
    fake_openai.fail(status=500, times=2)
    with connect(fake_openai) as client:
        assert chat(quota_manager, client, retry=Retry(2, draw=most)).choices
    assert naps == [0.5, 1.0]
    assert counted(quota_manager) == served(fake_openai)
    assert counted(quota_manager)[::2] == (3, 2)


def test_the_last_error_is_raised_as_it_is(quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps) -> None:
    fake_openai.fail(status=503, times=None)
    with connect(fake_openai) as client, pytest.raises(openai.InternalServerError) as caught:
        chat(quota_manager, client, retry=2)
    assert len(naps) == 2
    assert counted(quota_manager) == (3, 0, 3)
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["llmquota: tried 3 times"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 429, "code": "insufficient_quota"}, openai.RateLimitError),
        ({"status": 400}, openai.BadRequestError),
        ({"status": 404}, openai.NotFoundError),
        ({"status": 500, "headers": {"x-should-retry": "false"}}, openai.InternalServerError),
    ],
)
def test_what_waiting_does_not_mend_is_not(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps, fault: dict[str, Any], kind: type[Exception]
) -> None:
    fake_openai.fail(times=None, **fault)
    with connect(fake_openai) as client, pytest.raises(kind):
        chat(quota_manager, client, retry=5)
    assert naps == []
    assert served(fake_openai)[0] == 1


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, 0.0),
    ],
)
def test_the_providers_own_time_comes_before_what_is_drawn(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps, headers: dict[str, str], asked: float
) -> None:
    # Not a 429, whose breaker would keep the next try back for a time that does not pass here.
    fake_openai.fail(status=503, headers=headers)
    with connect(fake_openai) as client:
        chat(quota_manager, client, retry=Retry(1, base_delay=0.5, draw=most))
    assert naps == [asked + 0.5]


def test_a_rate_limit_is_waited_out_past_the_breaker_that_it_opens(
    quota_manager: QuotaManager, quota_clock: Any, fake_openai: FakeOpenAI, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_openai.fail(status=429, code="rate_limit_exceeded", headers={"retry-after": "7"})
    monkeypatch.setattr(
        llmquota.retry.time, "sleep", lambda seconds: (naps.append(seconds), quota_clock.advance(seconds))
    )
    with connect(fake_openai) as client:
        assert chat(quota_manager, client, retry=1).choices
    assert 7 <= naps[0] <= 7.5
    assert counted(quota_manager)[::2] == (2, 1)


def test_a_breaker_that_opens_for_longer_than_anybody_said_is_waited_out_as_well(
    quota_manager: QuotaManager, quota_clock: Any, fake_openai: FakeOpenAI, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_openai.fail(status=429, code="rate_limit_exceeded")

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        quota_clock.advance(seconds)

    monkeypatch.setattr(llmquota.retry.time, "sleep", sleep)
    with connect(fake_openai) as client:
        assert chat(quota_manager, client, retry=1).choices
        assert len(naps) == 2
        assert 59 <= sum(naps) <= 62, "a minute, as no time was told"
        assert counted(quota_manager)[::2] == (2, 1)
        # Where that is too late, it is said until when.
        fake_openai.fail(status=429, code="rate_limit_exceeded")
        with pytest.raises(QuotaExceeded) as caught:
            chat(quota_manager, client, retry=Retry(5, deadline=30))
    assert caught.value.reason == "breaker"
    assert caught.value.retry_after is not None


def test_who_would_come_too_late_does_not_wait(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps
) -> None:
    fake_openai.fail(status=503, retry_after=50, times=None)
    with connect(fake_openai) as client, pytest.raises(openai.InternalServerError):
        chat(quota_manager, client, retry=Retry(9, deadline=120, base_delay=0))
    assert naps == [50, 50], "a third wait would end after two minutes"


def test_a_refusal_of_our_own_is_no_failure_of_the_provider(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, naps: Naps
) -> None:
    quota_manager.set_override("workspace", "", "acme", {"requests_per_minute": 1})
    fake_openai.fail(status=500)
    with connect(fake_openai) as client, pytest.raises(QuotaExceeded) as caught:
        chat(quota_manager, client, retry=5)
    assert len(naps) == 1
    assert caught.value.limits[0]["limit"] == "requests_per_minute"
    assert served(fake_openai)[0] == 1


async def test_a_coroutine_and_one_that_is_cancelled_between_tries(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect_async(fake_openai) as client:

        @guarded(manager=quota_manager, retry=Retry(3, base_delay=0.001))
        async def ask(workspace_id: str) -> Any:
            return await client.chat.completions.create(model="gpt-4o", messages=HELLO)

        fake_openai.fail(status=500, times=2)
        assert (await ask("acme")).choices
        assert counted(quota_manager) == served(fake_openai)
        fake_openai.fail(status=500, retry_after=30, times=None)
        task = asyncio.create_task(ask("globex"))
        await asyncio.to_thread(eventually, lambda: quota_manager.usage("globex")["total"]["errors"] == 1)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert counted(quota_manager, "globex") == (1, 0, 1)


async def test_a_synchronous_function_does_not_block_a_loop(quota_manager: QuotaManager) -> None:
    with pytest.raises(RuntimeError, match="guarded with retry= would block the running event loop"):
        guarded(manager=quota_manager, retry=1)(lambda workspace_id: 1)("acme")
    with pytest.raises(RuntimeError, match="guarded with wait= would block"):
        guarded(manager=quota_manager, wait=5)(lambda workspace_id: 1)("acme")


class Broken(Exception):
    """As a provider's error that waiting mends."""

    status_code = 500


def test_a_generator_is_begun_again_only_before_its_first_item(quota_manager: QuotaManager, naps: Naps) -> None:
    begun: list[int] = []

    @guarded(manager=quota_manager, retry=3)
    def stream(workspace_id: str, fails_after: int) -> Iterator[str]:
        begun.append(1)
        if len(begun) < 3:
            raise Broken
        for item in range(fails_after):
            yield f"{item}"
        if fails_after < 9:
            raise Broken

    assert list(stream("acme", 9)) == [f"{item}" for item in range(9)]
    assert (len(begun), counted(quota_manager)[::2]) == (3, (3, 2))
    with pytest.raises(Broken):
        list(stream("acme", 2))
    assert len(begun) == 4
    assert len(naps) == 2


async def test_an_async_generator_too(quota_manager: QuotaManager, naps: Naps) -> None:
    begun: list[int] = []

    @guarded(manager=quota_manager, retry=3)
    async def stream(workspace_id: str) -> AsyncIterator[str]:
        begun.append(1)
        if len(begun) < 3:
            raise Broken
        yield "one"
        raise Broken

    items: list[str] = []

    async def read() -> None:
        async for item in stream("acme"):
            items.append(item)

    with pytest.raises(Broken):
        await read()
    assert (items, len(begun), len(naps), counted(quota_manager)[::2]) == (["one"], 3, 2, (3, 3))


@given(st.integers(0, 2_000), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 100), st.integers(0, 2**32))
def test_a_wait_is_between_what_is_asked_and_a_cap_that_doubles(
    failures: int, base: float, longest: float, asked: float, seed: int
) -> None:
    error = Broken()
    error.response = type("Response", (), {"headers": {"retry-after": str(asked)}})()  # type: ignore[attr-defined]
    retry = Retry(5_000, base, longest, None, random.Random(seed).uniform)
    delay = retry.delay_after(error, failures + 1, 0.0)
    assert delay is not None
    assert asked <= delay + 1e-6
    assert delay <= asked + min(longest, base * 2.0 ** min(failures, 64)) + 1e-6
    within = Retry(5_000, base, longest, 60.0, random.Random(seed).uniform).delay_after(error, failures + 1, 30.0)
    assert (within is None) == (30.0 + delay > 60.0)


def test_full_jitter_spreads_those_who_failed_together() -> None:
    delays = [Retry(9, 8.0).delay_after(Broken(), 3, 0.0) or 0.0 for _ in range(1_000)]
    assert (min(delays) < 3, max(delays) > 29, 13 < sum(delays) / len(delays) < 19) == (True, True, True)


def test_none_is_tried_again_where_nobody_asked() -> None:
    assert Attempts(None).delay_after(Broken()) is None
    assert not is_transient(KeyboardInterrupt())
    assert not is_transient(ValueError("Error code: 500"))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"retry": "often"}, TypeError, "retry must be a whole number"),
        ({"retry": -1}, ValueError, r"Retry\(max_retries=-1\): expected a whole number of 0 or more"),
        ({"retry": True}, TypeError, "retry must be"),
        ({"wait": -1}, ValueError, "wait must be True, False, or seconds of 0 or more, not -1"),
        ({"wait": "30"}, ValueError, "wait must be"),
        ({"wait": float("nan")}, ValueError, "wait must be"),
        ({"on_budget": "end"}, ValueError, "on_budget must be one of 'go on', 'stop', not 'end'"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        guarded(**options)


@pytest.mark.parametrize("field", ["base_delay", "max_delay", "deadline"])
@pytest.mark.parametrize("value", [-1, float("inf"), "1", True])
def test_a_plan_that_cannot_be_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Retry\({field}="):
        Retry(**{field: value})


# --- a stream and its budget ---


def budget(manager: QuotaManager, **limits: Any) -> None:
    manager.set_override("workspace", "", "acme", limits)


def words(count: int) -> Iterator[str]:
    """Four characters each: about a token."""
    return (f"w{item:02} " for item in itertools.islice(itertools.cycle(range(100)), count))


def test_a_stream_ends_softly_when_its_budget_does(quota_manager: QuotaManager, caplog: Any) -> None:
    budget(quota_manager, tokens_per_day=500)
    closed = []

    @guarded(manager=quota_manager, on_budget="stop", tokens=100)
    def stream(workspace_id: str) -> Iterator[str]:
        try:
            yield from words(5_000)
        finally:
            closed.append(True)

    items = list(stream("acme"))
    assert closed == [True], "the provider's stream is closed"
    assert 500 <= len(items) <= 500 + 64 + 1
    _, tokens, errors = counted(quota_manager)
    assert (errors, abs(tokens - len(items)) <= 1) == (0, True), "what it brought is counted"
    assert "tokens_per_day is spent" in caplog.text


def test_what_was_held_is_paid_for_and_money_counts_as_well(quota_manager: QuotaManager) -> None:
    budget(quota_manager, budget_usd_per_month=0.01)

    @guarded(manager=quota_manager, on_budget="stop", tokens=900)
    def stream(workspace_id: str) -> Iterator[str]:
        yield from words(5_000)

    # Without a model a thousand tokens cost a cent.
    assert 1_000 <= len(list(stream("acme"))) <= 1_065
    assert open_holds(quota_manager) == 0


def test_a_minutes_limit_or_none_ends_no_stream(quota_manager: QuotaManager) -> None:
    budget(quota_manager, tokens_per_minute=500)

    @guarded(manager=quota_manager, on_budget="stop", tokens=100)
    def stream(workspace_id: str) -> Iterator[str]:
        yield from words(2_000)

    assert len(list(stream("acme"))) == 2_000

    @guarded(manager=quota_manager, tokens=100)
    def goes_on(workspace_id: str) -> Iterator[str]:
        yield from words(2_000)

    quota_manager.set_override("workspace", "", "globex", {"tokens_per_day": 500})
    assert len(list(goes_on("globex"))) == 2_000


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_of_the_sdk_is_closed_too(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, is_async: bool
) -> None:
    budget(quota_manager, tokens_per_day=150)
    fake_openai.reply(" ".join(words(2_000)))
    options: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO, "stream": True}
    chunks = 0
    if is_async:
        async with connect_async(fake_openai) as client:

            @guarded(manager=quota_manager, on_budget="stop", tokens=100)
            async def ask(workspace_id: str) -> Any:
                return await client.chat.completions.create(**options)

            stream = await ask("acme")
            async for _chunk in stream:
                chunks += 1
    else:
        with connect(fake_openai) as plain_client:
            plain = guarded(manager=quota_manager, on_budget="stop", tokens=100)(
                lambda workspace_id: plain_client.chat.completions.create(**options)
            )
            for _chunk in plain("acme"):
                chunks += 1
    requests, tokens, errors = counted(quota_manager)
    assert (requests, errors) == (1, 0)
    assert 150 <= tokens <= 150 + 64 + 16, "and is not read to its end"
