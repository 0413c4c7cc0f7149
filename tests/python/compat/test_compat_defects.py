"""Part B: the defects of the legacy tracker that a module can mend, one test for each, by its number."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from compat_clients import START, Client, Stuck

from llmquota import QuotaExceeded
from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, QuotaStatus, WorkspaceQuotaTracker, broadcast

QUOTA_TEXT = (
    "Error code: 429 - {'error': {'message': 'You exceeded your current quota', 'type': 'insufficient_quota', "
    "'param': None, 'code': 'insufficient_quota'}}"
)
RATE_TEXT = (
    "Error code: 429 - {'error': {'message': 'Rate limit reached. Please try again in 7.5s.', 'type': 'tokens', "
    "'param': None, 'code': 'rate_limit_exceeded'}}"
)
CONTEXT_TEXT = (
    "Error code: 400 - {'error': {'message': 'maximum context length exceeded', 'type': 'invalid_request_error', "
    "'param': 'messages', 'code': 'context_length_exceeded'}}"
)
Limited = Callable[..., WorkspaceQuotaTracker]


# --- status and limits ---


def test_b01_a_full_minute_and_a_spent_quota_clear(limited: Limited, clock: ManualClock) -> None:
    tracker = limited(requests_per_minute=2)
    tracker.record_request()
    tracker.record_request()
    assert tracker.current_status is QuotaStatus.RATE_LIMITED
    clock.advance(61)
    assert tracker.current_status is QuotaStatus.NORMAL
    tracker.record_openai_error("RateLimitError", QUOTA_TEXT)
    assert tracker.current_status is QuotaStatus.QUOTA_EXCEEDED
    clock.advance(3_600)
    # It survives silence, and lets a call through that shows whether it still holds.
    assert tracker.current_status is QuotaStatus.QUOTA_EXCEEDED
    assert tracker.can_make_request()
    tracker.record_request(True, 1)
    assert tracker.current_status is QuotaStatus.NORMAL


def test_b02_a_warning_ends_with_the_usage(limited: Limited, clock: ManualClock) -> None:
    tracker = limited(requests_per_minute=10)
    for _ in range(8):
        tracker.record_request()
    assert tracker.current_status is QuotaStatus.WARNING
    clock.advance(61)
    assert tracker.current_status is QuotaStatus.NORMAL


def test_b03_a_spent_quota_is_recognised_from_the_sdk(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_openai_error("RateLimitError", QUOTA_TEXT)
    assert tracker.current_status is QuotaStatus.QUOTA_EXCEEDED
    assert not tracker.can_make_request()
    assert tracker.usage_stats["errors_count"] == 1


@pytest.mark.parametrize(("kind", "text"), [("BadRequestError", CONTEXT_TEXT), ("openai_error", CONTEXT_TEXT)])
def test_b04_exceeded_is_no_quota(tracker: WorkspaceQuotaTracker, kind: str, text: str) -> None:
    tracker.record_openai_error(kind, text)
    tracker.record_openai_error(kind, "exceeded")
    assert tracker.current_status is QuotaStatus.NORMAL
    assert tracker.usage_stats["errors_count"] == 2
    tracker.record_openai_error("openai_error", RATE_TEXT)
    assert tracker.current_status is QuotaStatus.RATE_LIMITED


@pytest.mark.parametrize("kind", ["GenerateError", "MigrateError", "rate", "RateError", "CorporateTimeout"])
def test_b05_rate_in_a_name_is_no_rate_limit(tracker: WorkspaceQuotaTracker, kind: str) -> None:
    tracker.record_openai_error(kind, "429 rate limit")
    assert tracker.current_status is QuotaStatus.NORMAL


@pytest.mark.parametrize(
    ("text", "status"), [(QUOTA_TEXT, QuotaStatus.QUOTA_EXCEEDED), (RATE_TEXT, QuotaStatus.RATE_LIMITED)]
)
def test_b06_the_enhanced_wrappers_errors_count(tracker: WorkspaceQuotaTracker, text: str, status: QuotaStatus) -> None:
    tracker.record_request(success=False, tokens_used=0)
    tracker.record_enhanced_usage(success=False, model="gpt-4o", api_method="chat.completions", error=text)
    assert tracker.current_status is status
    assert tracker.usage_stats["errors_count"] == 1


def test_b06_a_failing_provider_degrades(tracker: WorkspaceQuotaTracker) -> None:
    for _ in range(6):
        tracker.record_request(success=False)
        tracker.record_enhanced_usage(success=False, model="m", api_method="a", error="Error code: 529")
    assert tracker.current_status is QuotaStatus.DEGRADED


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"tokens_per_minute": 100}, QuotaStatus.RATE_LIMITED),
        ({"tokens_per_day": 100}, QuotaStatus.QUOTA_EXCEEDED),
        ({"budget_usd_per_month": 0.001}, QuotaStatus.QUOTA_EXCEEDED),
        ({"tokens_per_minute": 125}, QuotaStatus.WARNING),
        ({"tokens_per_minute": 200, "near_percent": 50}, QuotaStatus.WARNING),
        ({"tokens_per_minute": 200}, QuotaStatus.NORMAL),
    ],
)
def test_b07_every_limit_and_threshold_counts(limited: Limited, limit: dict, status: QuotaStatus) -> None:
    tracker = limited(**limit)
    tracker.record_request(True, 100)
    assert tracker.current_status is status


def test_b08_a_full_day_blocks(limited: Limited) -> None:
    tracker = limited(requests_per_day=10)
    for _ in range(10):
        tracker.record_request()
    assert tracker.current_status is QuotaStatus.QUOTA_EXCEEDED
    assert not tracker.can_make_request()
    with pytest.raises(QuotaExceeded):
        tracker.reserve()


def test_b09_failed_requests_count_toward_the_minute(limited: Limited) -> None:
    tracker = limited(requests_per_minute=3)
    for _ in range(3):
        tracker.record_request(success=False)
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 3
    assert tracker.current_status is QuotaStatus.RATE_LIMITED
    assert tracker.usage_stats["requests_this_minute"] == 0


def test_b10_what_was_never_set_is_set(limited: Limited) -> None:
    tracker = limited(requests_per_day=1)
    assert tracker.enhanced_stats["daily_limits_configured"] is True
    assert tracker.usage_stats["quota_reset_time"] is None
    tracker.record_request()
    tomorrow = datetime.fromtimestamp(START, timezone.utc).replace(hour=0, minute=0, second=0) + timedelta(days=1)
    assert tracker.usage_stats["quota_reset_time"] == tomorrow.astimezone().replace(tzinfo=None).isoformat()
    # Advice is not all there is: what asks before it calls is refused.
    with pytest.raises(QuotaExceeded):
        tracker.reserve()


def test_b11_the_providers_wait_is_heeded_and_told(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    tracker.record_openai_error("RateLimitError", RATE_TEXT)
    assert tracker.get_status_data()["retry_after_seconds"] == 8
    assert tracker.get_status_data()["details"] == {"retry_after": 8}
    clock.advance(7.6)
    assert tracker.current_status is QuotaStatus.NORMAL


def test_b12_a_limit_of_zero_blocks_and_reports(limited: Limited) -> None:
    tracker = limited(requests_per_minute=0, tokens_per_minute=0, requests_per_day=0)
    data = tracker.get_status_data()
    assert data["requests_per_minute"] == {"current": 0, "limit": 0, "percentage": 100.0, "unit": "requests"}
    assert not tracker.can_make_request()


@pytest.mark.parametrize("value", ["", "abc", "-5", "1e3", "5.5", "\u0665"])
def test_b12_a_malformed_variable_stops_no_import(in_backend: Callable[..., str], value: str) -> None:
    code = (
        "from services.openai_quota_tracker import quota_tracker as t;"
        "print(t.rate_limits['requests_per_minute'], t.rate_limits['monthly_budget_usd'])"
    )
    variables = {"OPENAI_RATE_LIMIT_PER_MINUTE": value, "OPENAI_MONTHLY_BUDGET_USD": "lots"}
    assert in_backend(code, **variables) == "500 100.0\n"


# --- time ---


def test_b13_a_new_day_shows_before_the_next_call(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    tracker.record_request(True, 70)
    clock.advance(22 * 3600)
    data = tracker.get_status_data()
    assert data["tokens_per_minute"]["current"] == data["requests_per_minute"]["current"] == 0
    assert data["requests_per_day"]["current"] == 0
    assert tracker.usage_stats["tokens_today"] == tracker.usage_stats["requests_today"] == 0
    assert tracker.usage_stats["tokens_used"] == 70


def test_b14_a_request_after_midnight_counts_once(clock: ManualClock, manager: MultiWorkspaceQuotaManager) -> None:
    clock.set_wall(datetime(2026, 3, 15, 0, 0, 5).timestamp())
    tracker = manager.get_tracker("acme")
    for _ in range(250):
        tracker.record_request(True, 1)
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 250
    assert tracker.current_status is QuotaStatus.NORMAL
    assert tracker.request_counts == {datetime(2026, 3, 15): tracker.usage_stats["requests_today"]}


def test_b15_a_repeated_hour_starts_anew_and_no_edge_doubles(limited: Limited, clock: ManualClock) -> None:
    tracker = limited(requests_per_minute=500)
    for _ in range(300):
        tracker.record_request()
    # The clock is set back over the same local minutes, an hour of real time later.
    clock.advance(3_600)
    clock.set_wall(START)
    for _ in range(210):
        tracker.record_request()
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 210
    # Half a minute later the last 60 seconds are not over, whatever minute it is.
    clock.advance(50)
    for _ in range(290):
        tracker.record_request()
    assert tracker.current_status is QuotaStatus.RATE_LIMITED


# --- without a loop, threads, processes ---


def test_b16_nothing_needs_a_loop(tracker: WorkspaceQuotaTracker, limited: Limited) -> None:
    client = Client()
    for each in (tracker, limited(requests_per_minute=1)):
        each.add_websocket(client)
        each.record_request()
        each.record_openai_error("RateLimitError", RATE_TEXT)
        each.current_status = QuotaStatus.NORMAL
        each.remove_websocket(client)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            tracker.record_openai_error("RateLimitError", RATE_TEXT)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def test_b17_the_callers_own_exception_is_the_one_that_is_raised(tracker: WorkspaceQuotaTracker) -> None:
    tracker.connected_websockets.append(Client())

    def factory() -> None:
        try:
            raise KeyError("the provider's")
        except Exception as error:
            tracker.record_openai_error(type(error).__name__, str(error))
            raise

    with pytest.raises(KeyError, match="the provider's"):
        factory()


def test_b18_a_record_that_crosses_a_threshold_keeps_the_result(limited: Limited) -> None:
    tracker = limited(requests_per_minute=1)
    tracker.connected_websockets.append(Client())

    def paid() -> str:
        tracker.record_request(True, 5)
        return "completion"

    assert paid() == "completion"
    assert tracker.current_status is QuotaStatus.RATE_LIMITED


async def test_b19_what_a_thread_records_is_pushed(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    await asyncio.to_thread(tracker.record_openai_error, "RateLimitError", QUOTA_TEXT)
    await asyncio.sleep(0.1)
    assert client.statuses == ["quota_exceeded"]


async def test_b20_tasks_are_kept_and_a_cancel_is_heard(
    tracker: WorkspaceQuotaTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    class Slow(Client):
        def __init__(self) -> None:
            super().__init__(delay=0.05)

    client = Slow()
    tracker.add_websocket(client)
    tracker.record_openai_error("RateLimitError", QUOTA_TEXT)
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0.3)
    assert len(client.messages) == 1
    monkeypatch.setattr(broadcast, "GRACE", 10.0)
    tracker.add_websocket(Stuck())
    broadcasting = asyncio.create_task(tracker.broadcast_status_update({"status": "normal"}))
    await asyncio.sleep(0.01)
    broadcasting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await broadcasting


def test_b21_a_fork_keeps_what_was_counted(manager: MultiWorkspaceQuotaManager) -> None:
    """Processes that share one store are for the stores that are shared; a fork takes its counts along."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this platform")
    tracker = manager.get_tracker("acme")
    tracker.record_request(True, 5)
    child = os.fork()
    if child == 0:
        ok = False
        with contextlib.suppress(BaseException):
            tracker.record_request(True, 6)
            tracker.record_enhanced_usage(success=True, tokens_used=6, model="m", api_method="a")
            ok = tracker.usage_stats["tokens_used"] == 11 and manager.get_tracker("acme") is tracker
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert tracker.usage_stats["tokens_used"] == 5


def test_b22_a_tracker_is_made_once_and_counts_exactly(manager: MultiWorkspaceQuotaManager) -> None:
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        for number in range(300):
            manager.get_tracker(f"ws-{number % 3}").record_request(True, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [manager.get_tracker(f"ws-{n}").usage_stats["tokens_used"] for n in range(3)] == [800, 800, 800]


# --- memory ---


def test_b23_minutes_leave_nothing_behind(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    accounts = None
    for _ in range(3 * 1_440):
        tracker.record_request(True, 1)
        clock.advance(60)
        accounts = accounts or tracker.manager.fill()["accounts"]
    assert len(tracker.request_counts) <= 2
    assert tracker.manager.fill()["accounts"] == accounts


def test_b24_asking_for_a_status_creates_nothing(manager: MultiWorkspaceQuotaManager) -> None:
    before = manager.fill()["accounts"]
    for number in range(200):
        tracker = manager.get_tracker(f"stranger-{number}")
        tracker.get_status_data()
        tracker.get_notification_data()
        tracker.get_enhanced_status_data()
        assert tracker.can_make_request()
        dict(tracker.usage_stats), dict(tracker.rate_limits), dict(tracker.goal_usage), dict(tracker.request_counts)
        assert tracker.last_activity
    assert manager.fill()["accounts"] == before
    # How many objects are kept is bounded too: see test_compat_manager.


def test_b25_names_are_bounded(tracker: WorkspaceQuotaTracker) -> None:
    for number in range(1_000):
        tracker.record_enhanced_usage(success=True, tokens_used=1, model=f"m{number}" * 100, api_method=f"a{number}")
        tracker.record_enhanced_usage(success=False, model="m", api_method=f"a{number}", error="x" * 10_000)
    stats = tracker.enhanced_stats
    for name in ("models_used", "tokens_by_model", "api_methods_used", "errors_by_method"):
        assert len(stats[name]) <= 257
        assert sum(stats[name].values()) == 1_000
        assert max(map(len, stats[name])) <= 256
    assert len(stats["recent_activity"]) == 10
    assert len(stats["recent_activity"][0]["error"]) <= 500


# --- reset and identity ---


def test_b26_six_keys_break_no_record(tracker: WorkspaceQuotaTracker) -> None:
    tracker.usage_stats = {
        "requests_today": 0,
        "requests_this_minute": 0,
        "tokens_used": 0,
        "errors_count": 0,
        "last_error_time": None,
        "quota_reset_time": None,
    }
    tracker.record_request(True, 5)
    assert tracker.usage_stats["tokens_today"] == 5


def test_b27_any_workspace_is_reset_with_all_that_is_told_of_it(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 5, goal_id="g")
    tracker.record_enhanced_usage(success=True, tokens_used=5, model="m", api_method="a")
    tracker.record_openai_error("RateLimitError", QUOTA_TEXT)
    tracker.reset()
    assert tracker.current_status is QuotaStatus.NORMAL
    assert tracker.usage_stats["tokens_used"] == 0
    assert tracker.goal_usage == {}
    assert tracker.get_enhanced_status_data()["enhanced_tracking"]["recent_activity"] == []
    assert tracker.enhanced_stats["models_used"] == {}


def test_b28_the_global_tracker_cannot_be_split_off(manager: MultiWorkspaceQuotaManager) -> None:
    tracker = manager.get_tracker("global")
    for name in ("global", "_global", "", None):
        manager.remove_tracker(name)
        assert manager.get_tracker("global") is tracker
    manager.workspace_trackers.clear()
    assert manager.get_tracker(None) is manager.get_tracker("global") is tracker


async def test_b29_the_names_exist_and_the_limiter_reports_to_them() -> None:
    from llmquota import compat

    assert compat.workspace_quota_manager is compat.quota_manager
    await compat.openai_quota_tracker.track_request("openai_gpt4")
    assert compat.quota_tracker.usage_stats["requests_today"] == 1
    info = await compat.openai_quota_tracker.handle_openai_error(
        RuntimeError("no"), {"provider": "openai_gpt4", "attempt": 1, "function": "f"}
    )
    assert info.status.value == "normal"
    assert compat.openai_quota_tracker.usage_stats["errors_count"] == 1

    class Spent(Exception):
        status_code, code = 429, "insufficient_quota"

    info = await compat.openai_quota_tracker.handle_openai_error(Spent())
    assert (info.status, info.code, info.can_make_request) == (QuotaStatus.QUOTA_EXCEEDED, "insufficient_quota", False)
    assert info.retry_after is not None
    assert info.workspace_id == "global"


# --- what is counted ---


def test_b31_a_record_by_hand_of_a_guarded_call_is_not_a_second_one(manager: MultiWorkspaceQuotaManager) -> None:
    from llmquota import guarded

    tracker = manager.get_tracker("acme")

    @guarded(workspace="workspace_id", manager=manager)
    def call(workspace_id: str) -> dict:
        tracker.record_request(success=True, tokens_used=40, goal_id="g")
        return {}

    call("acme")
    assert tracker.usage_stats["requests_today"] == 1
    assert tracker.usage_stats["tokens_used"] == 40


def test_b37_a_model_has_its_own_price(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, model="gpt-4o-mini", provider="openai", input_tokens=1_000, output_tokens=1_000)
    cheap = tracker.usage_stats["daily_cost_usd"]
    tracker.record_request(True, model="gpt-4o", provider="openai", input_tokens=1_000, output_tokens=1_000)
    assert 0 < cheap < tracker.usage_stats["daily_cost_usd"] - cheap


def test_b38_one_call_is_one_call(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 10)
    tracker.record_enhanced_usage(success=True, tokens_used=10, model="m", api_method="ok")
    tracker.record_request(False)
    tracker.record_enhanced_usage(success=False, model="m", api_method="failed-only", error="boom")
    assert tracker.get_status_data()["requests_per_day"]["current"] == 2
    assert tracker.usage_stats["tokens_used"] == 10
    methods = tracker.get_enhanced_status_data()["enhanced_tracking"]["api_methods_breakdown"]
    assert methods["failed-only"] == {"request_count": 0, "error_count": 1}


def test_b38_tokens_have_a_direction(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, input_tokens=7, output_tokens=3)
    usage = tracker.snapshot()["usage"]["total"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["tokens"]) == (7, 3, 10)


async def test_b39_fetches_are_merged(tracker: WorkspaceQuotaTracker) -> None:
    calls = 0

    class Slow:
        async def get_today_usage(self) -> dict:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.05)
            return {"total_cost": 1}

        async def check_budget_status(self) -> dict:
            return {}

        async def get_model_comparison(self, days: int) -> dict:
            return {}

    tracker.usage_client = Slow()
    answers = await asyncio.gather(*(tracker.fetch_real_usage_data() for _ in range(10)))
    assert calls == 1
    assert all(answer is answers[0] for answer in answers)


# --- WebSocket ---


async def test_b40_overlapping_broadcasts_lose_no_client(tracker: WorkspaceQuotaTracker) -> None:
    first, late = Client(delay=0.02), Client()
    tracker.add_websocket(first)
    one = asyncio.create_task(tracker.broadcast_status_update({"status": "normal", "n": 1}))
    await asyncio.sleep(0.005)
    two = asyncio.create_task(tracker.broadcast_status_update({"status": "normal", "n": 2}))
    tracker.add_websocket(late)
    await asyncio.gather(one, two)
    assert tracker.connected_websockets == [first, late]
    await tracker.broadcast_status_update({"status": "normal", "n": 3})
    assert [message["data"]["n"] for message in first.messages] == [1, 2, 3]
    assert late.messages[-1]["data"]["n"] == 3


async def test_b41_a_client_that_leaves_meanwhile_stays_away(tracker: WorkspaceQuotaTracker) -> None:
    class Leaving(Client):
        async def send_text(self, data: str) -> None:
            tracker.remove_websocket(self)
            await super().send_text(data)

    leaving, next_one = Leaving(), Client()
    tracker.add_websocket(leaving)
    tracker.add_websocket(next_one)
    await tracker.broadcast_status_update({"status": "normal"})
    assert tracker.connected_websockets == [next_one]
    assert len(next_one.messages) == 1


async def test_b42_a_stuck_client_delays_nobody_and_is_dropped(
    tracker: WorkspaceQuotaTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "SEND_TIMEOUT", 0.5)
    stuck, good = Stuck(), Client()
    tracker.add_websocket(stuck)
    tracker.add_websocket(good)
    began = time.monotonic()
    sending = asyncio.create_task(tracker.broadcast_status_update({"status": "normal"}))
    await asyncio.sleep(0.05)
    assert len(good.messages) == 1
    await sending
    assert time.monotonic() - began < 0.4
    await asyncio.sleep(0.6)
    assert tracker.connected_websockets == [good]


async def test_b43_ordinary_usage_is_pushed(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    tracker.record_request(True, 5)
    await asyncio.sleep(3 * broadcast.LOOK_INTERVAL)
    assert [message["data"]["tokens_per_minute"]["current"] for message in client.messages] == [5]


@pytest.mark.parametrize("storm", ["errors", "broadcasts"])
async def test_b43_a_storm_is_coalesced(tracker: WorkspaceQuotaTracker, storm: str) -> None:
    client = Client()
    tracker.add_websocket(client)
    began = time.monotonic()
    for number in range(500):
        tracker.record_openai_error("ValueError", str(number))
        if storm == "broadcasts":
            await tracker.broadcast_status_update(tracker.get_status_data())
        await asyncio.sleep(0)
    await asyncio.sleep(2.5 * broadcast.LOOK_INTERVAL)
    elapsed = time.monotonic() - began
    assert len(client.messages) <= broadcast.BURST + elapsed / broadcast.LOOK_INTERVAL + 1
    assert client.messages[-1]["data"]["errors"]["count"] == 500


async def test_b44_cost_alerts_carry_the_status(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    tracker.current_status = QuotaStatus.RATE_LIMITED
    await tracker.broadcast_status_update({"type": "cost_intelligence_alerts", "alerts": [{"id": "a"}]})
    data = next(each["data"] for each in client.messages if "alerts" in each["data"])
    assert data["type"] == "cost_intelligence_alerts"
    assert data["alerts"] == [{"id": "a"}]
    assert data["status"] == "rate_limited"
    assert data["requests_per_minute"]["limit"] == 500


# --- the limiter ---


def test_b48_two_loops_share_a_limiter() -> None:
    code = """
import asyncio, threading
from llmquota.compat import APIRateLimiter, MultiWorkspaceQuotaManager, RateLimitConfig
limiter = APIRateLimiter(MultiWorkspaceQuotaManager())
limiter.add_provider_config(RateLimitConfig("shared", requests_per_minute=1000, max_burst=2))
waited = []
async def take():
    waited.append(await limiter.acquire("shared"))
threads = [threading.Thread(target=lambda: asyncio.run(take())) for _ in range(4)]
[t.start() for t in threads]; [t.join(20) for t in threads]
assert len(waited) == 4, waited
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# The other items of B48 are tests of test_compat_limiter.
