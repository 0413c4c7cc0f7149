"""The JSON shapes of the legacy module, made of the engine's. Pure: no clock, no store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .clock import naive_local_iso

__all__ = ["enhanced", "goal_usage", "notification", "status"]

UNLIMITED = 2**53
"""What stands where a limit is lifted: the largest that can be set. Readers of these shapes expect a number."""
UNLIMITED_USD = 9_223_372_036.0
TOP = 5
"""How many goals and tasks a status lists."""

Json = dict[str, Any]
_GAUGES = (
    ("requests_per_minute", "minute", "requests"),
    ("requests_per_day", "day", "requests"),
    ("tokens_per_minute", "minute", "tokens"),
)


def status(
    snapshot: Mapping[str, Any],
    decision: Mapping[str, Any] | None,
    goals: Iterable[Mapping[str, Any]],
    tasks: Iterable[Mapping[str, Any]],
) -> Json:
    """``get_status_data()``. ``decision`` is what a call would be answered now, where calls may be refused.

    ``current`` is what counts toward the limit: failed requests and open calls too.
    """
    limits = {line["limit"]: line for line in snapshot["limits"]}
    wait_ms = decision.get("retry_after_ms") if decision else None
    wait = None if wait_ms is None else math.ceil(wait_ms / 1_000)
    return {
        "status": str(snapshot["status"]),
        **{kind: _gauge(limits.get(kind), snapshot["usage"][period][unit], unit) for kind, period, unit in _GAUGES},
        "errors": {
            "count": snapshot["usage"]["total"]["errors"],
            "last_error": naive_local_iso(snapshot["last_error_at"]),
        },
        "last_updated": naive_local_iso(snapshot["as_of"]),
        "goal_usage": [_share("goal_id", entry) for entry in goals],
        "task_usage": [_share("task_id", entry) for entry in tasks],
        "retry_after_seconds": wait,
        "details": {"retry_after": wait},
    }


def _gauge(line: Mapping[str, Any] | None, used: int, unit: str) -> Json:
    if line is None:
        return {"current": used, "limit": UNLIMITED, "percentage": 0.0, "unit": unit}
    return {
        "current": line["used"] + line["held"],
        "limit": line["cap"],
        "percentage": float(line["percentage"]),
        "unit": unit,
    }


def successes(usage: Mapping[str, Any]) -> int:
    """The requests of one period that did not fail."""
    return max(0, int(usage["requests"]) - int(usage["errors"]))


def _share(id_name: str, entry: Mapping[str, Any]) -> Json:
    tokens, requests = entry["total"]["tokens"], successes(entry["total"])
    return {
        id_name: entry["id"],
        "tokens_used": tokens,
        "request_count": requests,
        "avg_tokens_per_request": tokens / requests if requests else 0.0,
    }


def goal_usage(goal_id: str, goal: Mapping[str, Any], workspace: Mapping[str, Any]) -> Json:
    """``get_goal_quota_usage()``, of the lifetime usage of the goal and of its workspace."""
    tokens, total = goal["tokens"], workspace["tokens"]
    return {
        "goal_id": goal_id,
        "tokens_used": tokens,
        "request_count": successes(goal),
        "percentage_of_total": tokens / total * 100 if total else 0.0,
    }


def notification(notice: Mapping[str, Any], status_data: Json) -> Json:
    """``get_notification_data()``."""
    return {
        "show_notification": status_data["status"] != "normal",
        "level": str(notice["level"]),
        "title": notice["title"],
        "message": notice["message"],
        "suggested_actions": list(notice["actions"]),
        "status_data": status_data,
    }


def enhanced(
    stats: Mapping[str, Any], models: Iterable[Mapping[str, Any]], real_usage: Mapping[str, Any] | None
) -> Json:
    """``get_enhanced_status_data()``.

    A model that the engine knows by itself has the larger numbers of the two: calls of which both were told are the
    same.
    """
    breakdown = {
        model: {"request_count": count, "tokens_used": stats["tokens_by_model"].get(model, 0)}
        for model, count in dict(stats["models_used"]).items()
    }
    for entry in models:
        told = breakdown.setdefault(entry["id"], {"request_count": 0, "tokens_used": 0})
        told["request_count"] = max(told["request_count"], successes(entry["total"]))
        told["tokens_used"] = max(told["tokens_used"], entry["total"]["tokens"])
    used, failed = dict(stats["api_methods_used"]), dict(stats["errors_by_method"])
    methods = {
        method: {"request_count": used.get(method, 0), "error_count": failed.get(method, 0)}
        for method in [*used, *(method for method in failed if method not in used)]
    }
    data: Json = {
        "enhanced_tracking": {
            "models_breakdown": breakdown,
            "api_methods_breakdown": methods,
            "recent_activity": [dict(entry) for entry in stats["recent_activity"][:5]],
            "total_unique_models": len(breakdown),
            "total_unique_methods": len(methods),
        }
    }
    if real_usage:
        data["real_usage"] = dict(real_usage)
    return data
