"""A5: the JSON shapes, to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from unittest import mock

import pytest
from compat_clients import START

from llmquota._native import ManualClock
from llmquota.compat import WorkspaceQuotaTracker

NOW = datetime.fromtimestamp(START).isoformat()


def test_the_status_has_exactly_these_parts(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 300, goal_id="g", task_id="t")
    tracker.record_request(False)
    data = tracker.get_status_data()
    assert data == {
        "status": "normal",
        "requests_per_minute": {"current": 2, "limit": 500, "percentage": 0.4, "unit": "requests"},
        "requests_per_day": {"current": 2, "limit": 10_000, "percentage": 0.02, "unit": "requests"},
        "tokens_per_minute": {"current": 300, "limit": 150_000, "percentage": 0.2, "unit": "tokens"},
        "errors": {"count": 1, "last_error": NOW},
        "last_updated": NOW,
        "goal_usage": [{"goal_id": "g", "tokens_used": 300, "request_count": 1, "avg_tokens_per_request": 300.0}],
        "task_usage": [{"task_id": "t", "tokens_used": 300, "request_count": 1, "avg_tokens_per_request": 300.0}],
        "retry_after_seconds": None,
        "details": {"retry_after": None},
    }
    assert type(data["status"]) is str
    assert type(data["requests_per_minute"]["percentage"]) is float
    assert json.loads(json.dumps(data)) == data


def test_each_status_is_a_new_dict(tracker: WorkspaceQuotaTracker) -> None:
    first = tracker.get_status_data()
    first.update(tracker.get_enhanced_status_data())
    first["requests_per_minute"]["current"] = 99
    assert "enhanced_tracking" not in tracker.get_status_data()
    assert tracker.get_status_data()["requests_per_minute"]["current"] == 0


def test_the_five_largest_goals_lead(tracker: WorkspaceQuotaTracker) -> None:
    for number in range(8):
        tracker.record_request(True, number * 10, goal_id=f"g{number}")
    listed = tracker.get_status_data()["goal_usage"]
    assert [entry["goal_id"] for entry in listed] == ["g7", "g6", "g5", "g4", "g3"]


def test_an_open_hold_counts_toward_the_limit(tracker: WorkspaceQuotaTracker) -> None:
    with tracker.reserve(tokens=1_500):
        data = tracker.get_status_data()
        assert data["requests_per_minute"]["current"] == 1
        assert data["tokens_per_minute"] == {
            "current": 1_500,
            "limit": 150_000,
            "percentage": 1.0,
            "unit": "tokens",
        }
        assert tracker.usage_stats["tokens_used"] == 0


def test_the_wait_is_told(limited: Callable[..., WorkspaceQuotaTracker], clock: ManualClock) -> None:
    tracker = limited(requests_per_minute=2)
    tracker.record_request()
    clock.advance(20)
    tracker.record_request()
    data = tracker.get_status_data()
    assert data["status"] == "rate_limited"
    assert data["retry_after_seconds"] == data["details"]["retry_after"]
    assert 39 <= data["retry_after_seconds"] <= 41
    clock.advance(data["retry_after_seconds"])
    assert tracker.can_make_request()
    assert tracker.get_status_data()["retry_after_seconds"] is None


def test_full_tokens_tell_the_wait_too(limited: Callable[..., WorkspaceQuotaTracker]) -> None:
    tracker = limited(tokens_per_minute=100)
    tracker.record_request(True, 100)
    assert tracker.get_status_data()["retry_after_seconds"] in (60, 61)


def test_a_lifted_limit_is_the_largest_number(limited: Callable[..., WorkspaceQuotaTracker]) -> None:
    tracker = limited(requests_per_minute="unlimited", budget_usd_per_month="unlimited")
    tracker.record_request()
    gauge = tracker.get_status_data()["requests_per_minute"]
    assert gauge == {"current": 1, "limit": 2**53, "percentage": 0.0, "unit": "requests"}
    assert tracker.rate_limits["requests_per_minute"] == 2**53
    assert json.loads(json.dumps(tracker.rate_limits))["monthly_budget_usd"] > 9e9


def test_the_enhanced_status_has_exactly_these_parts(tracker: WorkspaceQuotaTracker) -> None:
    empty = {
        "models_breakdown": {},
        "api_methods_breakdown": {},
        "recent_activity": [],
        "total_unique_models": 0,
        "total_unique_methods": 0,
    }
    assert tracker.get_enhanced_status_data() == {"enhanced_tracking": empty}
    for number in range(12):
        tracker.record_request(True, 10)
        tracker.record_enhanced_usage(success=True, tokens_used=number, model="gpt-4o", api_method="chat.completions")
    tracker.record_enhanced_usage(success=False, model="gpt-4o", api_method="files.list", error="no")
    data = tracker.get_enhanced_status_data()["enhanced_tracking"]
    assert data["models_breakdown"] == {"gpt-4o": {"request_count": 12, "tokens_used": 66}}
    assert data["api_methods_breakdown"] == {
        "chat.completions": {"request_count": 12, "error_count": 0},
        "files.list": {"request_count": 0, "error_count": 1},
    }
    assert [entry["tokens_used"] for entry in data["recent_activity"]] == [0, 11, 10, 9, 8]
    assert (data["total_unique_models"], data["total_unique_methods"]) == (1, 2)
    assert len(tracker.enhanced_stats["recent_activity"]) == 10


def test_models_that_the_engine_knows_are_broken_down(tracker: WorkspaceQuotaTracker) -> None:
    tracker.record_request(True, 40, model="gpt-4o-mini")
    assert tracker.get_enhanced_status_data()["enhanced_tracking"]["models_breakdown"] == {
        "gpt-4o-mini": {"request_count": 1, "tokens_used": 40}
    }


KEYS = {"show_notification", "level", "title", "message", "suggested_actions", "status_data"}


def test_nothing_is_notified_while_all_is_well(tracker: WorkspaceQuotaTracker) -> None:
    data = tracker.get_notification_data()
    assert set(data) == KEYS
    assert data["status_data"] == {**tracker.get_status_data(), "last_updated": mock.ANY}
    del data["status_data"]
    assert data == {"show_notification": False, "level": "info", "title": "", "message": "", "suggested_actions": []}


@pytest.mark.parametrize(
    ("status", "level", "title"),
    [
        ("warning", "warning", "API Quota Warning"),
        ("rate_limited", "warning", "Rate Limited"),
        ("quota_exceeded", "error", "Quota Exceeded"),
        ("degraded", "warning", "Degraded Service"),
    ],
)
def test_each_status_is_notified(
    limited: Callable[..., WorkspaceQuotaTracker], status: str, level: str, title: str
) -> None:
    tracker = limited(requests_per_minute=10)
    if status == "warning":
        for _ in range(8):
            tracker.record_request()
    else:
        tracker.current_status = status
    data = tracker.get_notification_data()
    assert data["show_notification"] is True
    assert (data["level"], data["title"]) == (level, title)
    assert data["message"]
    assert len(data["suggested_actions"]) == 3
    assert data["status_data"]["status"] == status
    translated = tracker.get_notification_data(language="it-IT,it;q=0.9")
    assert translated["message"] != data["message"]
    assert (translated["level"], len(translated["suggested_actions"])) == (level, 3)
    assert tracker.get_notification_data(language="xx")["message"] == data["message"]
