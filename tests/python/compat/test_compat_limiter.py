"""A10: the merged limiter, whose permits are records of the engine."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from llmquota import QuotaExceeded, guarded, quota_context
from llmquota._native import ManualClock
from llmquota.compat import (
    APIRateLimiter,
    MultiWorkspaceQuotaManager,
    RateLimitConfig,
    RateLimitStrategy,
    TokenBucket,
    acquire_api_permit,
    api_rate_limiter,
    execute_with_rate_limit,
    get_rate_limit_stats,
)


class TooManyRequests(Exception):
    """As a provider's client raises it."""

    def __init__(self, status: int = 429, code: str | None = "rate_limit_exceeded") -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status
        self.code = code


@pytest.fixture
def limiter(manager: MultiWorkspaceQuotaManager) -> APIRateLimiter:
    return APIRateLimiter(manager)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a retry waited; it does not wait in the test."""
    naps: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("llmquota.retry.asyncio", SimpleNamespace(sleep=sleep))
    return naps


@pytest.fixture
def no_cooldown(limiter: APIRateLimiter, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The same, and time passes while it sleeps."""
    monkeypatch.setattr(limiter, "_cooling", lambda name: 0.0)
    return naps


def test_the_configuration_has_its_fields_and_defaults() -> None:
    config = RateLimitConfig("mine")
    assert (config.requests_per_minute, config.requests_per_hour, config.max_burst) == (20, 1000, 5)
    assert (config.retry_after_seconds, config.max_retries, config.exponential_base) == (60, 3, 2.0)
    assert config.strategy is RateLimitStrategy.TOKEN_BUCKET
    assert [strategy.value for strategy in RateLimitStrategy] == ["token_bucket", "sliding_window", "fixed_window"]


@pytest.mark.parametrize(
    ("provider", "minute", "hour", "burst", "wait", "retries"),
    [
        ("openai_gpt4", 40, 2000, 10, 60, 3),
        ("openai_gpt35", 60, 3500, 15, 30, 3),
        ("auto_completion", 5, 100, 2, 120, 2),
        ("goal_unblock", 10, 200, 3, 90, 2),
        ("default", 30, 1500, 5, 60, 3),
    ],
)
def test_the_providers_that_are_built_in(
    limiter: APIRateLimiter, provider: str, minute: int, hour: int, burst: int, wait: int, retries: int
) -> None:
    config = limiter.configs[provider]
    assert (config.requests_per_minute, config.requests_per_hour, config.max_burst) == (minute, hour, burst)
    assert (config.retry_after_seconds, config.max_retries) == (wait, retries)
    lines = limiter.manager.limiter_limits(provider)
    assert {line["limit"]: line["cap"] for line in lines} == config.limits()


async def test_a_permit_is_a_record_of_the_engine(limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager) -> None:
    assert await limiter.acquire("auto_completion") == 0.0
    assert await limiter.acquire("auto_completion") == 0.0
    refused = manager.permit("auto_completion")
    assert refused is not None
    assert [(line["limit"], line["used"], line["scope"]) for line in refused["limits"]] == [("max_burst", 2, "limiter")]
    assert [name for name, _ in manager.workspaces()] == ["global"]
    assert manager.get_tracker("global").usage_stats["requests_today"] == 0


async def _take_all(limiter: APIRateLimiter, provider: str) -> int:
    """How many permits are to be had now."""
    for count in range(10_000):
        try:
            await asyncio.wait_for(limiter.acquire(provider), 0.02)
        except asyncio.TimeoutError:
            return count
    raise AssertionError("nothing limits it")


async def test_burst_and_minute_are_enforced(limiter: APIRateLimiter, clock: ManualClock) -> None:
    granted = []
    for pause in (0, 1, 1, 1, 58):
        clock.advance(pause)
        granted.append(await _take_all(limiter, "auto_completion"))
    assert granted == [2, 2, 1, 0, 2]


async def test_the_hour_is_enforced(limiter: APIRateLimiter, clock: ManualClock) -> None:
    limiter.add_provider_config(RateLimitConfig("hourly", requests_per_minute=50, requests_per_hour=120, max_burst=50))
    granted = []
    for pause in (0, 61, 61, 61, 1800):
        clock.advance(pause)
        granted.append(await _take_all(limiter, "hourly"))
    assert granted == [50, 50, 20, 0, 50]


async def test_waiting_for_a_permit_is_told(limiter: APIRateLimiter) -> None:
    limiter = APIRateLimiter(MultiWorkspaceQuotaManager())
    limiter.add_provider_config(RateLimitConfig("quick", max_burst=1))
    assert await limiter.acquire("quick") == 0.0
    began = time.monotonic()
    waited = await limiter.acquire("quick")
    assert waited == pytest.approx(time.monotonic() - began, abs=0.05)
    assert 0 < waited <= 1.2


async def test_an_unknown_provider_counts_as_default(limiter: APIRateLimiter) -> None:
    await limiter.acquire("never-heard-of")
    assert limiter.get_stats("default")["default"]["calls_last_minute"] == 1
    assert limiter.get_stats("never-heard-of") == {}
    await limiter.handle_rate_limit_error("never-heard-of", TooManyRequests())
    assert limiter.get_stats("default")["default"]["in_cooldown"]


async def test_a_limit_of_zero_is_refused_at_once(limiter: APIRateLimiter) -> None:
    limiter.add_provider_config(RateLimitConfig("closed", requests_per_minute=0))
    with pytest.raises(QuotaExceeded) as refused:
        await limiter.acquire("closed")
    assert refused.value.never_fits


async def test_a_configuration_may_be_changed_in_place(limiter: APIRateLimiter) -> None:
    limiter.configs["default"].max_burst = 1
    assert await _take_all(limiter, "default") == 1
    limiter.configs["mine"] = RateLimitConfig("mine", max_burst=2)
    assert await _take_all(limiter, "mine") == 2


async def test_a_configuration_outlives_a_restart_of_the_engine(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager
) -> None:
    limiter.add_provider_config(RateLimitConfig("mine", max_burst=2))
    assert await _take_all(limiter, "mine") == 2
    manager.restart()
    assert await _take_all(limiter, "mine") == 2


async def test_what_is_built_in_is_left_to_the_limits_file(clock: ManualClock) -> None:
    manager = MultiWorkspaceQuotaManager(clock=clock, limits={"limiters": {"default": {"max_burst": 1}}})
    limiter = APIRateLimiter(manager)
    assert await _take_all(limiter, "default") == 1
    limiter.configs["default"].max_burst = 3
    clock.advance(1)
    assert await _take_all(limiter, "default") == 3
    limiter.configs["default"].max_burst = 5
    clock.advance(1)
    assert await _take_all(limiter, "default") == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
async def test_a_forked_child_has_no_waiters(limiter: APIRateLimiter) -> None:
    limiter.add_provider_config(RateLimitConfig("mine", max_burst=1))
    await limiter.acquire("mine")
    waiting = asyncio.create_task(limiter.acquire("mine"))
    await asyncio.sleep(0.01)
    with limiter._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if len(limiter._lines["mine"]) == 0 and limiter._lock.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222  # the child ends at once
    assert len(limiter._lines["mine"]) == 1
    waiting.cancel()


async def test_the_statistics(limiter: APIRateLimiter) -> None:
    await limiter.acquire("openai_gpt4")
    await limiter.acquire("openai_gpt4")
    assert limiter.get_stats("openai_gpt4") == {
        "openai_gpt4": {
            "calls_last_minute": 2,
            "calls_last_hour": 2,
            "available_tokens": 8,
            "error_count": 0,
            "in_cooldown": False,
        }
    }
    assert set(limiter.get_stats()) == set(limiter.configs)


@pytest.mark.parametrize(
    ("provider", "waits"), [("default", [60, 120, 240, 300, 300]), ("openai_gpt35", [30, 60, 120, 240, 300])]
)
async def test_the_backoff_doubles_to_five_minutes(limiter: APIRateLimiter, provider: str, waits: list[int]) -> None:
    assert [await limiter.handle_rate_limit_error(provider, TooManyRequests()) for _ in waits] == waits
    assert limiter.get_stats(provider)[provider]["error_count"] == len(waits)
    await limiter.reset_error_count(provider)
    assert limiter.get_stats(provider)[provider]["error_count"] == 0
    assert await limiter.handle_rate_limit_error(provider, TooManyRequests()) == waits[0]


async def test_ten_thousand_errors_do_not_overflow(limiter: APIRateLimiter) -> None:
    limiter.error_counts["default"] = 10_000
    assert await limiter.handle_rate_limit_error("default", TooManyRequests()) == 300


async def test_a_cooldown_is_waited_out_and_told(limiter: APIRateLimiter) -> None:
    limiter.add_provider_config(RateLimitConfig("quick", retry_after_seconds=0.2))
    await limiter.handle_rate_limit_error("quick", TooManyRequests())
    assert limiter.get_stats("quick")["quick"]["in_cooldown"]
    assert await limiter.acquire("quick") == pytest.approx(0.2, abs=0.1)
    assert not limiter.get_stats("quick")["quick"]["in_cooldown"]


async def test_a_success_ends_a_cooldown_for_those_who_wait(limiter: APIRateLimiter) -> None:
    await limiter.handle_rate_limit_error("default", TooManyRequests())
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.02)
    await limiter.reset_error_count("default")
    assert await asyncio.wait_for(waiting, 0.5) < 0.5


async def test_who_has_priority_goes_first(limiter: APIRateLimiter, clock: ManualClock) -> None:
    limiter.add_provider_config(RateLimitConfig("line", requests_per_minute=100, max_burst=1))
    await limiter.acquire("line")
    order: list[str] = []

    async def wait(name: str, priority: str) -> None:
        await limiter.acquire("line", priority)
        order.append(name)
        clock.advance(1)

    tasks = []
    for name, priority in [("a", "low"), ("b", "normal"), ("c", "high"), ("d", "high"), ("e", "normal"), ("f", "?")]:
        tasks.append(asyncio.create_task(wait(name, priority)))
        await asyncio.sleep(0.005)
    clock.advance(1)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert order == ["c", "d", "b", "e", "f", "a"]


async def test_one_who_gives_up_holds_nobody_up(limiter: APIRateLimiter, clock: ManualClock) -> None:
    limiter.add_provider_config(RateLimitConfig("line", max_burst=1))
    await limiter.acquire("line")
    first = asyncio.create_task(limiter.acquire("line", "high"))
    second = asyncio.create_task(limiter.acquire("line"))
    await asyncio.sleep(0.01)
    first.cancel()
    clock.advance(1)
    await asyncio.wait_for(second, 3)
    assert first.cancelled()


# --- execute_with_rate_limit ---


async def test_positional_and_keyword_arguments_go_to_the_function(limiter: APIRateLimiter) -> None:
    async def function(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    result = await limiter.execute_with_rate_limit(
        function, "default", "high", 3, priority="high", max_retries=0, key="value"
    )
    assert result == (("high", 3), {"key": "value"})
    assert await limiter.execute_with_rate_limit(lambda: function(1), provider="default", priority="low") == ((1,), {})
    assert await limiter.execute_with_rate_limit(lambda: 7) == 7


@pytest.mark.parametrize(
    "error", [TooManyRequests(), TooManyRequests(429, None), TooManyRequests(529, "overloaded_error")]
)
async def test_haste_is_tried_again_and_the_error_is_raised_in_the_end(
    limiter: APIRateLimiter, no_cooldown: list[float], error: Exception
) -> None:
    calls = 0

    async def function() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(TooManyRequests) as raised:
        await limiter.execute_with_rate_limit(function)
    assert raised.value is error
    assert calls == 4
    assert no_cooldown == [60, 120, 240]


async def test_the_number_of_retries_can_be_given(limiter: APIRateLimiter, no_cooldown: list[float]) -> None:
    answers: list[Any] = [TooManyRequests(), TooManyRequests(), "answer"]

    async def function() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await limiter.execute_with_rate_limit(function, max_retries=2) == "answer"
    assert limiter.get_stats("default")["default"]["error_count"] == 0


@pytest.mark.parametrize(
    "error",
    [
        ValueError("429 rate_limit overloaded quota_exceeded"),
        TooManyRequests(429, "insufficient_quota"),
        TooManyRequests(500, "server_error"),
        TooManyRequests(400, "context_length_exceeded"),
    ],
)
async def test_anything_else_is_raised_at_once(
    limiter: APIRateLimiter, no_cooldown: list[float], error: Exception
) -> None:
    async def function() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await limiter.execute_with_rate_limit(function)
    assert raised.value is error
    assert no_cooldown == []
    assert not limiter.get_stats("default")["default"]["in_cooldown"]


async def test_a_refusal_of_a_workspaces_own_quota_is_not_the_providers(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager, no_cooldown: list[float]
) -> None:
    tracker = manager.get_tracker("acme")
    tracker.rate_limits["requests_per_minute"] = 0
    with pytest.raises(QuotaExceeded):
        await limiter.execute_with_rate_limit(tracker.reserve, "openai_gpt4")
    assert not limiter.get_stats("openai_gpt4")["openai_gpt4"]["in_cooldown"]
    assert tracker.usage_stats["errors_count"] == 0
    assert manager.get_tracker("global").usage_stats["errors_count"] == 0


# --- what it tells the tracker ---


def _counts(manager: MultiWorkspaceQuotaManager, workspace: str = "global") -> tuple[int, int]:
    stats = manager.get_tracker(workspace).usage_stats
    return stats["requests_today"], stats["errors_count"]


async def test_a_call_to_openai_is_counted_once(limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager) -> None:
    async def function() -> str:
        return "answer"

    await limiter.execute_with_rate_limit(function, "openai_gpt4")
    await limiter.execute_with_rate_limit(function, "goal_unblock")
    assert _counts(manager) == (1, 0)


async def test_the_context_says_whose_call_it_was(limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager) -> None:
    with quota_context(workspace_id="acme", goal_id="g"):
        await limiter.execute_with_rate_limit(lambda: None, "openai_gpt4")
    assert _counts(manager, "acme") == (1, 0)
    assert manager.get_tracker("acme").goal_request_counts["g"] == 1
    assert _counts(manager) == (0, 0)


async def test_a_call_that_counts_itself_is_not_counted_again(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager
) -> None:
    tracker = manager.get_tracker("acme")

    @guarded(workspace="workspace_id", manager=manager)
    async def guarded_call(workspace_id: str) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}

    async def by_hand() -> None:
        tracker.record_request(success=True, tokens_used=5)

    await limiter.execute_with_rate_limit(by_hand, "openai_gpt4")
    assert _counts(manager, "acme") == (1, 0)
    await limiter.execute_with_rate_limit(guarded_call, "openai_gpt4", "acme")
    assert _counts(manager, "acme") == (2, 0)
    assert tracker.usage_stats["tokens_used"] == 12
    assert _counts(manager) == (0, 0)


async def test_a_failure_is_counted_once_and_moves_the_breaker(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager
) -> None:
    async def plain() -> None:
        raise TooManyRequests(429, "insufficient_quota")

    async def by_hand() -> None:
        try:
            raise TooManyRequests(429, "insufficient_quota")
        except TooManyRequests as error:
            manager.get_tracker("acme").record_openai_error(type(error).__name__, str(error))
            raise

    for function, workspace in ((plain, "global"), (by_hand, "acme")):
        with pytest.raises(TooManyRequests):
            await limiter.execute_with_rate_limit(function, "openai_gpt4")
        assert _counts(manager, workspace) == (0, 1)
        assert manager.get_tracker(workspace).current_status == "quota_exceeded"


async def test_a_limiter_inside_a_guarded_call_counts_nothing_twice(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager
) -> None:
    @guarded(workspace="workspace_id", manager=manager)
    async def call(workspace_id: str, function: Callable[[], Any]) -> Any:
        return await limiter.execute_with_rate_limit(function, "openai_gpt4")

    async def answer() -> dict[str, Any]:
        return {"usage": {"total_tokens": 7}}

    async def by_hand() -> dict[str, Any]:
        manager.get_tracker("acme").record_request(success=True, tokens_used=9)
        return {}

    await call("acme", answer)
    assert _counts(manager, "acme") == (1, 0)
    await call("acme", by_hand)
    assert _counts(manager, "acme") == (2, 0)
    assert manager.get_tracker("acme").usage_stats["tokens_used"] == 16


async def test_a_report_that_fails_takes_no_answer(
    limiter: APIRateLimiter, manager: MultiWorkspaceQuotaManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("store")

    monkeypatch.setattr(manager, "get_tracker", fail)
    assert await limiter.execute_with_rate_limit(lambda: 5, "openai_gpt4") == 5


# --- the process's own ---


async def test_the_functions_use_the_processs_limiter() -> None:
    assert await acquire_api_permit("goal_unblock", priority="high") == 0.0
    assert await execute_with_rate_limit(lambda *args: args, "goal_unblock", 1, 2) == (1, 2)
    assert get_rate_limit_stats("goal_unblock") == api_rate_limiter.get_stats("goal_unblock")
    assert get_rate_limit_stats("goal_unblock")["goal_unblock"]["calls_last_minute"] >= 2


# --- the token bucket ---


async def test_a_bucket_gives_its_capacity_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=50, capacity=2)
    assert [await bucket.acquire() for _ in range(2)] == [0.0, 0.0]
    began = time.monotonic()
    waits = await asyncio.gather(*(bucket.acquire() for _ in range(5)))
    assert time.monotonic() - began == pytest.approx(0.1, abs=0.05)
    assert sorted(waits) == waits
    assert bucket.tokens < 1.5


async def test_a_bucket_gets_back_what_was_not_taken() -> None:
    bucket = TokenBucket(rate=0.001, capacity=1)
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert bucket._tokens > -0.5


def test_a_bucket_serves_several_loops() -> None:
    bucket = TokenBucket(rate=100, capacity=1)
    threads = [threading.Thread(target=asyncio.run, args=(bucket.acquire(),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_a_bucket_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="rate above 0"):
        TokenBucket(0, 5)
