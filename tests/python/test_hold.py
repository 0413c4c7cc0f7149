"""Holds: each way in which one ends, and what is counted then."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from llmquota import Hold, ManualClock, QuotaInputError, QuotaManager, QuotaTracker
from llmquota.errors import QuotaExceeded


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def manager(clock: ManualClock) -> QuotaManager:
    return QuotaManager(clock=clock, limits={"defaults": {"tokens_per_minute": 1_000, "max_concurrent": 3}})


@pytest.fixture
def tracker(manager: QuotaManager) -> QuotaTracker:
    return manager.get_tracker("acme")


def counted(tracker: QuotaTracker) -> tuple[int, int, int, int]:
    """Requests, tokens and errors in all, and open holds."""
    snapshot = tracker.snapshot()
    used = snapshot["usage"]["total"]
    return used["requests"], used["tokens"], used["errors"], snapshot["holds"]["open"]


def test_a_hold_is_shown_apart_from_what_is_used(tracker: QuotaTracker) -> None:
    hold = tracker.reserve(400, model="gpt-4o", goal_id="g")
    assert hold.id.startswith("hold-")
    assert (hold.state, hold.workspace_id, hold.cost_usd) == ("reserved", "acme", None)
    assert repr(hold) == f"<Hold {hold.id} reserved>"
    line = next(line for line in tracker.snapshot()["limits"] if line["limit"] == "tokens_per_minute")
    assert (line["used"], line["held"]) == (0, 400)
    with pytest.raises(QuotaExceeded) as caught:
        tracker.reserve(601)
    assert caught.value.limits[0]["held"] == 400
    hold.release()


# --- the table of ends: reserved and started ---


def settle(hold: Hold) -> None:
    hold.settle(tokens=7, cost_usd=0.5)


def release(hold: Hold) -> None:
    hold.release()


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    ("end", "state", "expected"), [(settle, "settled", (1, 7, 0, 0)), (release, "released", (0, 0, 0, 0))]
)
def test_said_ends(tracker: QuotaTracker, started: bool, end: Any, state: str, expected: tuple[int, ...]) -> None:
    hold = tracker.reserve(100)
    if started:
        assert hold.start()
        assert not hold.start()
    end(hold)
    assert hold.state == state
    assert counted(tracker) == expected
    assert hold.cost_usd == (0.5 if end is settle else None)


def test_dropped_without_a_word(tracker: QuotaTracker) -> None:
    hold = tracker.reserve(100)
    del hold
    gc.collect()
    assert counted(tracker) == (0, 0, 0, 0)
    hold = tracker.reserve(100)
    hold.start()
    del hold
    gc.collect()
    assert counted(tracker) == (1, 100, 0, 0)


def test_collected_in_a_cycle(tracker: QuotaTracker) -> None:
    cycle: dict[str, Any] = {"hold": tracker.reserve(100)}
    cycle["self"] = cycle
    del cycle
    gc.collect()
    assert counted(tracker) == (0, 0, 0, 0)


def test_expired(tracker: QuotaTracker, clock: ManualClock) -> None:
    reserved, started = tracker.reserve(100, ttl=5), tracker.reserve(200, ttl=5)
    started.start()
    clock.advance(5)
    assert counted(tracker) == (1, 200, 0, 0)
    assert not reserved.release()
    assert not started.release()
    assert (reserved.state, started.state) == ("released", "charged")
    # A settle that comes late replaces what was charged, and is a fact where nothing was.
    assert started.settle(30)
    assert counted(tracker) == (1, 30, 0, 0)
    assert reserved.settle(1)
    assert counted(tracker) == (2, 31, 0, 0)


def test_the_first_settle_counts(tracker: QuotaTracker) -> None:
    hold = tracker.reserve(100)
    assert hold.settle(7)
    assert not hold.settle(900)
    assert not hold.release()
    assert not hold.start()
    assert hold.state == "settled"
    assert counted(tracker) == (1, 7, 0, 0)


def test_a_settle_above_its_hold_lands_and_blocks(tracker: QuotaTracker) -> None:
    tracker.reserve(10).settle(5_000)
    assert counted(tracker)[1] == 5_000
    assert not tracker.can_make_request()


# --- blocks ---


def test_a_block_starts_its_hold_and_keeps_what_was_settled(tracker: QuotaTracker) -> None:
    with tracker.reserve(100) as hold:
        assert hold.state == "started"
        hold.settle(7)
    assert counted(tracker) == (1, 7, 0, 0)


def test_a_block_left_without_a_word_is_charged_as_held(tracker: QuotaTracker) -> None:
    with tracker.reserve(100) as hold:
        pass
    assert hold.state == "charged"
    assert counted(tracker) == (1, 100, 0, 0)


def test_a_block_that_released_stays_so(tracker: QuotaTracker) -> None:
    with tracker.reserve(100) as hold:
        hold.release()
        raise_nothing = hold.state
    assert raise_nothing == hold.state == "released"
    assert counted(tracker) == (0, 0, 0, 0)


class ProviderError(Exception):
    code = "insufficient_quota"
    status_code = 429


def test_an_exception_settles_as_failed_with_its_code_and_goes_on(tracker: QuotaTracker) -> None:
    error = ProviderError("no")
    with pytest.raises(ProviderError) as caught, tracker.reserve(100):
        raise error
    assert caught.value is error
    assert counted(tracker) == (1, 0, 1, 0)


def test_a_refused_connection_is_an_error_without_a_request(tracker: QuotaTracker) -> None:
    with pytest.raises(ConnectionRefusedError), tracker.reserve(100):
        raise ConnectionRefusedError
    assert counted(tracker) == (0, 0, 1, 0)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_what_was_cancelled_is_charged_as_held(tracker: QuotaTracker, error: type[BaseException]) -> None:
    with pytest.raises(error), tracker.reserve(100):
        raise error
    assert counted(tracker) == (1, 100, 0, 0)


def test_an_exception_after_the_settle_changes_nothing(tracker: QuotaTracker) -> None:
    def call() -> None:
        with tracker.reserve(100) as hold:
            hold.settle(7)
            raise ProviderError

    with pytest.raises(ProviderError):
        call()
    assert counted(tracker) == (1, 7, 0, 0)


async def test_the_same_in_an_async_block(tracker: QuotaTracker) -> None:
    async with tracker.reserve(100) as hold:
        assert hold.state == "started"
        await asyncio.sleep(0)
        hold.settle(7)
    async with tracker.reserve(50):
        pass
    with pytest.raises(ProviderError):
        async with tracker.reserve(100):
            raise ProviderError
    assert counted(tracker) == (3, 57, 1, 0)


def test_a_generator_left_in_the_middle_ends_its_hold(tracker: QuotaTracker) -> None:
    def stream() -> Any:
        with tracker.reserve(100):
            yield 1
            yield 2

    items = stream()
    assert next(items) == 1
    items.close()
    assert counted(tracker) == (1, 100, 0, 0)


# --- what a settle reads ---


class Details:
    cached_tokens = 4


class Usage:
    prompt_tokens = 10
    completion_tokens = 5
    total_tokens = 15
    prompt_tokens_details = Details()


class Response:
    usage = Usage()
    model = "gpt-4o-2024-08-06"


@pytest.mark.parametrize(
    "usage",
    [
        15,
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        {"usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}},
        Usage(),
        Response(),
    ],
)
def test_a_settle_reads_responses_usages_and_numbers(tracker: QuotaTracker, usage: Any) -> None:
    tracker.reserve(100).settle(usage)
    assert counted(tracker) == (1, 15, 0, 0)


def test_a_response_is_priced_by_its_own_model_and_its_cache(tracker: QuotaTracker) -> None:
    hold, plain = tracker.reserve(100), tracker.reserve(100)
    hold.settle(Response())
    plain.settle(input_tokens=10, output_tokens=5, model="gpt-4o-2024-08-06")
    assert hold.cost_usd is not None
    assert plain.cost_usd is not None
    assert 0 < hold.cost_usd < plain.cost_usd
    assert tracker.snapshot()["usage"]["total"]["cached_tokens"] == 4


def test_keywords_go_before_what_is_read(tracker: QuotaTracker) -> None:
    hold = tracker.reserve(100)
    hold.settle(Response(), tokens=99, cost_usd=2)
    assert counted(tracker)[1] == 99
    assert hold.cost_usd == 2


@pytest.mark.parametrize("usage", [None, {}, object()])
def test_where_nothing_says_what_was_used_it_is_charged_as_held(tracker: QuotaTracker, usage: Any) -> None:
    hold = tracker.reserve(100)
    assert hold.settle(usage)
    assert hold.state == "charged"
    assert counted(tracker) == (1, 100, 0, 0)
    assert hold.settle(20), "a later one replaces it"
    assert counted(tracker) == (1, 20, 0, 0)


def test_a_failure_without_numbers_used_nothing(tracker: QuotaTracker) -> None:
    tracker.reserve(100).settle(success=False, error_code="server_error", requests=0)
    assert counted(tracker) == (0, 0, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"usage": "100"}, "usage"),
        ({"usage": 1.5}, "usage"),
        ({"usage": True}, "usage"),
        ({"usage": -1}, "usage"),
        ({"usage": 2**53 + 1}, "usage"),
        ({"tokens": -1}, "tokens"),
        ({"cost_usd": float("nan")}, "cost_usd"),
        ({"requests": -1}, "requests"),
        ({"requests": 2**40}, "requests"),
        ({"tokens": 1, "model": 7}, "model"),
    ],
)
def test_a_settle_that_cannot_be_is_named_and_changes_nothing(
    tracker: QuotaTracker, arguments: dict[str, Any], field: str
) -> None:
    hold = tracker.reserve(100)
    with pytest.raises(QuotaInputError) as caught:
        hold.settle(**arguments)
    assert caught.value.field == field
    assert hold.state == "reserved"
    assert counted(tracker) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"tokens": -1}, "tokens"),
        ({"tokens": "1"}, "tokens"),
        ({"cost_usd": float("inf")}, "cost_usd"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"goal_id": ""}, "goal_id"),
        ({"priority": "urgent"}, "priority"),
    ],
)
def test_a_reserve_that_cannot_be_is_named(tracker: QuotaTracker, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(QuotaInputError) as caught:
        tracker.reserve(**arguments)
    assert caught.value.field == field
    assert counted(tracker) == (0, 0, 0, 0)


# --- limits that a hold takes ---


def test_open_calls_are_bounded_until_they_end(tracker: QuotaTracker) -> None:
    holds = [tracker.reserve() for _ in range(3)]
    with pytest.raises(QuotaExceeded) as caught:
        tracker.reserve()
    assert [line["limit"] for line in caught.value.limits] == ["max_concurrent"]
    holds.pop().release()
    tracker.reserve().release()


def test_a_providers_limit_is_shared_by_all_workspaces(clock: ManualClock) -> None:
    manager = QuotaManager(clock=clock, limits={"providers": {"openai": {"gpt-4o": {"requests_per_minute": 1}}}})
    call = {"provider": "openai", "credential": "ab12", "model": "gpt-4o"}
    manager.get_tracker("one").reserve(**call).settle(1)
    with pytest.raises(QuotaExceeded) as caught:
        manager.get_tracker("two").reserve(**call)
    assert [(line["scope"], line["account"]) for line in caught.value.limits] == [("provider_model", "gpt-4o")]
    manager.get_tracker("two").reserve(provider="openai", credential="cd34", model="gpt-4o").release()


def test_a_providers_failure_is_seen_by_the_others(clock: ManualClock) -> None:
    manager = QuotaManager(clock=clock)
    with pytest.raises(ProviderError), manager.reserve("one", provider="openai", credential="ab12"):
        raise ProviderError
    with pytest.raises(QuotaExceeded) as caught:
        manager.reserve("two", provider="openai", credential="ab12")
    assert (caught.value.reason, caught.value.decision["breaker"]) == ("breaker", "insufficient_quota")
    manager.reserve("two", provider="openai", credential="cd34").release()
