"""A3, A4: a tracker's attributes and methods, which read and write the engine."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from unittest import mock

import pytest
from compat_clients import START

from llmquota import QuotaInputError
from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, QuotaStatus, WorkspaceQuotaTracker

AT_FIRST = {
    "requests_today": 0,
    "requests_this_minute": 0,
    "tokens_used": 0,
    "tokens_today": 0,
    "tokens_this_minute": 0,
    "errors_count": 0,
    "last_error_time": None,
    "quota_reset_time": None,
    "daily_cost_usd": 0.0,
}
SIX_KEYS = {
    "requests_today": 0,
    "requests_this_minute": 0,
    "tokens_used": 0,
    "errors_count": 0,
    "last_error_time": None,
    "quota_reset_time": None,
}
NOW = datetime.fromtimestamp(START)
MINUTE = NOW.replace(second=0, microsecond=0)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


def test_usage_stats_begin_with_nine_keys(tracker: WorkspaceQuotaTracker) -> None:
    assert tracker.usage_stats == AT_FIRST
    assert list(tracker.usage_stats) == list(AT_FIRST)
    assert len(tracker.usage_stats) == 9
    assert isinstance(tracker.usage_stats, dict)


def test_a_success_and_a_failure_are_counted_as_before(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 1_000)
    tracker.record_request(success=True, tokens_used=500)
    tracker.record_request(False, 77)
    stats = tracker.usage_stats
    assert stats["requests_today"] == stats["requests_this_minute"] == 2
    assert stats["tokens_used"] == stats["tokens_today"] == stats["tokens_this_minute"]
    assert stats["errors_count"] == 1
    assert stats["last_error_time"] == NOW.isoformat()
    assert stats["daily_cost_usd"] == pytest.approx(0.01 * stats["tokens_used"] / 1_000)


def test_a_reference_to_the_stats_stays_live(tracker: WorkspaceQuotaTracker) -> None:
    stats = tracker.usage_stats
    tracker.record_request(True, 10)
    assert stats["tokens_used"] == 10
    assert stats.get("tokens_used") == 10
    assert stats.get("nothing", 5) == 5
    assert dict(stats)["tokens_used"] == {**stats}["tokens_used"] == 10
    assert json.loads(json.dumps(stats))["tokens_used"] == 10
    assert copy.copy(stats) == copy.deepcopy(stats) == stats.copy() == stats
    assert type(stats.copy()) is dict
    assert (stats | {"more": 1})["more"] == 1


def test_an_item_write_is_an_operation_of_the_engine(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 10)
    tracker.record_request(False)
    tracker.usage_stats["tokens_used"] = 500
    tracker.usage_stats["tokens_today"] += 90
    tracker.usage_stats["requests_today"] = 7
    tracker.usage_stats.update(requests_this_minute=3, errors_count=4, daily_cost_usd=1.25)
    tracker.usage_stats["last_error_time"] = "2026-03-01T08:00:00"
    snapshot = tracker.snapshot()
    assert snapshot["usage"]["total"]["tokens"] == 500
    assert snapshot["usage"]["day"]["tokens"] == 100
    assert snapshot["usage"]["day"]["cost_usd"] == 1.25
    assert tracker.usage_stats["requests_today"] == 7
    assert tracker.usage_stats["requests_this_minute"] == 3
    assert tracker.usage_stats["errors_count"] == 4
    assert tracker.usage_stats["last_error_time"] == "2026-03-01T08:00:00"
    tracker.record_request(True, 10)
    assert tracker.usage_stats["requests_today"] == 8
    assert tracker.usage_stats["tokens_used"] == 510


def test_writing_what_cannot_be_is_refused(tracker: WorkspaceQuotaTracker) -> None:
    for value in (-1, "abc", 2**60, True):
        with pytest.raises((QuotaInputError, TypeError)):
            tracker.usage_stats["tokens_used"] = value
    with pytest.raises(KeyError, match="usage_stats has no 'tokens'"):
        tracker.usage_stats["tokens"] = 1
    assert tracker.usage_stats == AT_FIRST


def test_assigning_six_keys_sets_all_nine(tracker: WorkspaceQuotaTracker) -> None:
    for _ in range(3):
        tracker.record_request(True, 100)
    tracker.record_request(False)
    tracker.usage_stats = dict(SIX_KEYS)
    assert tracker.usage_stats == AT_FIRST
    status = tracker.get_status_data()
    assert status["requests_per_minute"]["current"] == status["tokens_per_minute"]["current"] == 0
    assert status["requests_per_day"]["current"] == 0
    tracker.record_request(True, 5)
    assert tracker.usage_stats["tokens_today"] == 5


def test_assigning_numbers_keeps_them(tracker: WorkspaceQuotaTracker) -> None:
    tracker.usage_stats = {"requests_today": 5, "tokens_used": 70, "errors_count": 2}
    assert tracker.usage_stats == {**AT_FIRST, "requests_today": 5, "tokens_used": 70, "errors_count": 2}


def test_the_counts_have_a_minute_and_a_midnight(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    tracker.record_request(True, 1)
    clock.advance(3600)
    tracker.record_request(True, 1)
    tracker.record_request(False)
    later = MINUTE + timedelta(hours=1)
    assert tracker.request_counts == {later: 1, MIDNIGHT: 2}
    assert tracker.error_counts == {later: 1, MIDNIGHT: 1}
    assert tracker.request_counts.get(MINUTE, 0) == 0
    assert tracker.request_counts[MINUTE] == 0
    assert MINUTE not in tracker.request_counts
    assert sorted(tracker.request_counts) == [MIDNIGHT, later]
    assert isinstance(tracker.request_counts, dict)
    assert tracker.request_counts.default_factory is int


@pytest.mark.parametrize("failures", [0, 3])
def test_clear_zeroes_what_the_status_reports(tracker: WorkspaceQuotaTracker, failures: int) -> None:
    for _ in range(4):
        tracker.record_request(True, 1)
    for _ in range(failures):
        tracker.record_request(False)
    tracker.request_counts.clear()
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 0
    assert tracker.request_counts == {}
    tracker.record_request(True, 1)
    assert tracker.request_counts[MINUTE] == 1


def test_counts_can_be_written_and_errors_cleared(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(False)
    tracker.request_counts[MINUTE] += 4
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 5
    tracker.error_counts.clear()
    assert tracker.error_counts == {}
    assert tracker.request_counts[MINUTE] == 4
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 4
    tracker.request_counts[MINUTE - timedelta(days=3)] = 9
    assert tracker.request_counts == {MINUTE: 4}


def test_the_limits_are_those_that_hold(limited: Callable[..., WorkspaceQuotaTracker]) -> None:
    tracker = limited(requests_per_minute=40, near_percent=70)
    assert tracker.rate_limits == {
        "requests_per_minute": 40,
        "requests_per_day": 10_000,
        "tokens_per_minute": 150_000,
        "tokens_per_day": 2_000_000,
        "monthly_budget_usd": 100.0,
        "warning_threshold": 0.7,
        "critical_threshold": 0.95,
    }
    assert type(tracker.rate_limits["requests_per_minute"]) is int
    assert type(tracker.rate_limits["monthly_budget_usd"]) is float


def test_writing_a_limit_overrides_it_and_enforces_it(tracker: WorkspaceQuotaTracker) -> None:
    tracker.rate_limits["requests_per_minute"] = 2
    tracker.rate_limits["monthly_budget_usd"] = 50.0
    assert tracker.rate_limits["requests_per_minute"] == 2
    assert tracker.rate_limits["monthly_budget_usd"] == 50.0
    tracker.record_request(True, 1)
    assert tracker.can_make_request()
    tracker.record_request(True, 1)
    assert not tracker.can_make_request()
    assert tracker.current_status is QuotaStatus.RATE_LIMITED
    del tracker.rate_limits["requests_per_minute"]
    assert tracker.rate_limits["requests_per_minute"] == 500
    assert tracker.rate_limits["monthly_budget_usd"] == 50.0
    assert tracker.can_make_request()


def test_assigning_all_limits_overrides_those_that_differ(tracker: WorkspaceQuotaTracker) -> None:
    tracker.rate_limits = {**tracker.rate_limits, "tokens_per_minute": 9}
    assert tracker.rate_limits["tokens_per_minute"] == 9
    limits = tracker.manager.terms("acme")["limits"]
    assert {kind for kind, term in limits.items() if term["source"] == "override"} == {"tokens_per_minute"}


def test_a_threshold_or_an_unknown_limit_cannot_be_written(tracker: WorkspaceQuotaTracker) -> None:
    with pytest.raises(TypeError, match="near_percent"):
        tracker.rate_limits["warning_threshold"] = 0.5
    with pytest.raises(KeyError, match="rate_limits has no 'tokens'"):
        tracker.rate_limits["tokens"] = 5
    with pytest.raises(QuotaInputError):
        tracker.rate_limits["requests_per_minute"] = "1e3"


def test_goals_and_tasks_are_counted(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(success=True, tokens_used=100, goal_id="goal-1", task_id="t-1")
    tracker.record_request(success=True, tokens_used=50, goal_id="goal-1")
    tracker.record_request(success=False, goal_id="goal-1")
    tracker.record_request(success=False, goal_id="failed-only")
    assert tracker.goal_usage["goal-1"] == 150
    assert tracker.task_usage == {"t-1": 100}
    assert tracker.goal_request_counts["goal-1"] == 2
    assert tracker.task_request_counts["t-1"] == 1
    assert tracker.goal_usage["unheard-of"] == 0
    assert tracker.goal_usage == {"goal-1": 150}
    assert "unheard-of" not in tracker.goal_usage
    assert tracker.goal_usage.get("unheard-of", "none") == "none"
    assert json.loads(json.dumps(tracker.goal_usage)) == {"goal-1": 150}
    assert sum(tracker.goal_request_counts.values()) == 2


def test_reading_a_goal_creates_nothing(tracker: WorkspaceQuotaTracker) -> None:
    before = tracker.manager.fill()["accounts"]
    assert tracker.goal_usage["unheard-of"] == 0
    assert tracker.get_goal_quota_usage("unheard-of")["tokens_used"] == 0
    assert tracker.manager.fill()["accounts"] == before


def test_a_goals_share(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 300, goal_id="g")
    tracker.record_request(True, 100)
    assert tracker.get_goal_quota_usage("g") == {
        "goal_id": "g",
        "tokens_used": 300,
        "request_count": 1,
        "percentage_of_total": 75.0,
    }


def test_record_request_for_another_workspace(
    manager: MultiWorkspaceQuotaManager, tracker: WorkspaceQuotaTracker
) -> None:
    tracker.record_request(True, 10, "g", "t", "other")
    assert tracker.usage_stats["tokens_used"] == 0
    assert manager.get_tracker("other").goal_usage["g"] == 10


@pytest.mark.parametrize("status", list(QuotaStatus))
def test_a_status_can_be_assigned(tracker: WorkspaceQuotaTracker, status: QuotaStatus) -> None:
    tracker.current_status = status
    expected = QuotaStatus.NORMAL if status is QuotaStatus.WARNING else status
    assert tracker.current_status is expected
    assert tracker.can_make_request() is (expected not in (QuotaStatus.RATE_LIMITED, QuotaStatus.QUOTA_EXCEEDED))
    tracker.current_status = QuotaStatus.NORMAL
    assert tracker.current_status is QuotaStatus.NORMAL
    assert tracker.current_status.value == "normal"


def test_assigning_normal_does_not_hide_a_full_limit(limited: Callable[..., WorkspaceQuotaTracker]) -> None:
    tracker = limited(requests_per_minute=1)
    tracker.record_request()
    tracker.current_status = QuotaStatus.NORMAL
    assert tracker.current_status is QuotaStatus.RATE_LIMITED


def test_an_error_by_hand_opens_no_other_workspaces_breaker(manager: MultiWorkspaceQuotaManager) -> None:
    manager.get_tracker("acme").record_openai_error("insufficient_quota")
    assert not manager.get_tracker("acme").can_make_request()
    for other in ("other", "global"):
        assert manager.get_tracker(other).current_status is QuotaStatus.NORMAL
        assert manager.get_tracker(other).can_make_request()


def test_the_routes_reset(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 200_000)
    tracker.record_openai_error("insufficient_quota")
    assert tracker.current_status is QuotaStatus.QUOTA_EXCEEDED
    tracker.usage_stats = dict(SIX_KEYS)
    tracker.request_counts.clear()
    tracker.error_counts.clear()
    tracker.current_status = QuotaStatus.NORMAL
    assert tracker.get_status_data()["status"] == "normal"
    assert tracker.can_make_request()


def test_the_last_activity_is_that_of_the_engine(
    tracker: WorkspaceQuotaTracker, clock: ManualClock, manager: MultiWorkspaceQuotaManager
) -> None:
    assert tracker.last_reset == tracker.last_activity == NOW
    tracker.record_request()
    assert tracker.last_activity == NOW
    clock.advance(600)
    tracker.record_request()
    later = NOW + timedelta(seconds=600)
    assert abs(tracker.last_activity - later) < timedelta(seconds=2)
    long_ago = NOW - timedelta(days=2)
    tracker.last_activity = long_ago
    assert tracker.last_activity == long_ago
    tracker.record_request()
    assert abs(tracker.last_activity - later) < timedelta(seconds=2)


def test_enhanced_usage_tells_more_and_counts_nothing(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 10)
    tracker.record_enhanced_usage(success=True, tokens_used=10, model="gpt-4o", api_method="chat.completions")
    tracker.record_request(False)
    tracker.record_enhanced_usage(success=False, model="gpt-4o", api_method="embeddings.create", error="boom")
    assert tracker.usage_stats["requests_today"] == 1
    assert tracker.usage_stats["errors_count"] == 1
    stats = tracker.enhanced_stats
    assert stats["models_used"] == {"gpt-4o": 1}
    assert stats["tokens_by_model"]["gpt-4o"] == 10
    assert stats["api_methods_used"] == {"chat.completions": 1}
    assert stats["errors_by_method"] == {"embeddings.create": 1}
    assert stats["models_used"]["unheard-of"] == 0
    assert [entry["success"] for entry in stats["recent_activity"]] == [False, True]
    assert stats["recent_activity"][0] == {
        "timestamp": NOW.isoformat(),
        "model": "gpt-4o",
        "api_method": "embeddings.create",
        "tokens_used": 0,
        "success": False,
        "error": "boom",
    }
    assert stats.get("daily_limits_configured", False) is False


def test_a_configured_daily_limit_shows(limited: Callable[..., WorkspaceQuotaTracker]) -> None:
    assert limited(tokens_per_day=5).enhanced_stats["daily_limits_configured"] is True


def test_a_tracker_can_be_patched_and_subclassed(tracker: WorkspaceQuotaTracker) -> None:
    with mock.patch.object(tracker, "record_request") as record:
        tracker.record_request(success=True, tokens_used=5)
        tracker.record_openai_error("RateLimitError", "")
    assert record.call_args_list == [mock.call(success=True, tokens_used=5), mock.call(success=False)]
    assert tracker.usage_stats["requests_today"] == 0
    assert tracker.current_status is QuotaStatus.RATE_LIMITED
    with mock.patch.object(WorkspaceQuotaTracker, "can_make_request", return_value="patched"):
        assert tracker.can_make_request() == "patched"

    class Loud(WorkspaceQuotaTracker):
        def record_request(self, success: bool = True, tokens_used: int = 0) -> None:  # type: ignore[override]
            self.heard = (success, tokens_used)
            super().record_request(success, tokens_used)

    loud = Loud("acme", tracker.manager)
    loud.record_openai_error("RateLimitError", "")
    assert loud.heard == (False, 0)
    assert loud.usage_stats["errors_count"] == 1
    assert isinstance(loud, WorkspaceQuotaTracker)


def test_a_tracker_made_by_itself_begins_at_zero() -> None:
    first = WorkspaceQuotaTracker("acme")
    first.record_request(True, 5)
    second = WorkspaceQuotaTracker(workspace_id="acme")
    assert (first.workspace_id, second.workspace_id) == ("acme", "acme")
    assert first.usage_stats["tokens_used"] == 5
    assert second.usage_stats["tokens_used"] == 0
    assert WorkspaceQuotaTracker().workspace_id == "global"


def test_a_hundred_thousand_goals(tracker: WorkspaceQuotaTracker) -> None:
    for number in range(100_000):
        tracker.record_request(True, number % 7, goal_id=f"goal-{number}")
    assert tracker.usage_stats["tokens_used"] == sum(number % 7 for number in range(100_000))
    assert sum(tracker.goal_usage.values()) == tracker.usage_stats["tokens_used"]
    assert tracker.goal_usage["goal-99999"] == 99_999 % 7
    assert len(tracker.get_status_data()["goal_usage"]) == 5


def test_threads_lose_no_record(tracker: WorkspaceQuotaTracker) -> None:
    def work() -> None:
        for _ in range(500):
            tracker.record_request(True, 2, goal_id="g")
            tracker.record_enhanced_usage(success=True, tokens_used=2, model="m", api_method="a")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.usage_stats["requests_today"] == 4_000
    assert tracker.goal_usage["g"] == 8_000
    assert tracker.enhanced_stats["models_used"]["m"] == 4_000


def test_cleanup_keeps_today(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 1)
    tracker.cleanup_old_data()
    assert tracker.usage_stats["requests_today"] == 1


def test_writing_a_goals_usage_is_an_operation_of_the_engine(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(tokens_used=100, goal_id="goal-1")
    tracker.goal_usage["goal-1"] += 20
    assert tracker.goal_usage["goal-1"] == 120
    assert tracker.usage_stats["tokens_used"] == 100
