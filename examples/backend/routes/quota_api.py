"""The quota routes under ``/api/quota``, in the envelopes that the legacy frontend knows."""

from __future__ import annotations

import math
from hmac import compare_digest
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query
from pydantic import BaseModel

from llmquota.settings import admin_reset_key
from services.openai_quota_tracker import workspace_quota_manager

router = APIRouter(prefix="/api/quota", tags=["quota"])

# Without a workspace, a route is about the calls that nobody attributed.
WorkspaceId = Annotated[str | None, Query()]
Language = Annotated[str, Header()]


class ResetRequest(BaseModel):
    """The JSON body of a reset; the key may also come by header."""

    admin_key: str | None = None
    workspace_id: str | None = None


@router.get("/status")
def status(workspace_id: WorkspaceId = None) -> dict[str, Any]:
    """The workspace as it stands."""
    data = workspace_quota_manager.get_tracker(workspace_id).get_status_data()
    return {"success": True, "data": data, "workspace_id": workspace_id}


@router.get("/notifications")
def notifications(workspace_id: WorkspaceId = None, accept_language: Language = "en") -> dict[str, Any]:
    """What to tell the workspace's people, in their language."""
    tracker = workspace_quota_manager.get_tracker(workspace_id)
    return {"success": True, "data": tracker.get_notification_data(accept_language)}


@router.get("/usage")
def usage(period: str = "current", workspace_id: WorkspaceId = None) -> dict[str, Any]:
    """The legacy counters, and ``usage`` by ``minute``, ``day``, ``month`` and ``total``, or of one such ``period``."""
    tracker = workspace_quota_manager.get_tracker(workspace_id)
    data = tracker.get_status_data()
    kept = ("requests_per_minute", "requests_per_day", "errors", "last_updated", "status")
    by_period = tracker.snapshot()["usage"]
    chosen = by_period.get(period, by_period)
    return {"success": True, "data": {"period": period, **{key: data[key] for key in kept}, "usage": chosen}}


@router.get("/check")
def check(workspace_id: WorkspaceId = None, accept_language: Language = "en") -> dict[str, Any]:
    """Whether a call would be admitted now, and if not, in how many seconds."""
    tracker = workspace_quota_manager.get_tracker(workspace_id)
    decision = tracker.explain()
    notice = workspace_quota_manager.check_notice(tracker.workspace_id, accept_language)
    data = {
        "can_make_request": decision["allowed"],
        "status": tracker.get_status_data()["status"],
        "message": notice["message"],
    }
    if notice["actions"]:
        data["suggested_actions"] = notice["actions"]
    if decision["retry_after_ms"] is not None:
        data["wait_seconds"] = math.ceil(decision["retry_after_ms"] / 1_000)
    return {"success": True, "data": data}


@router.get("/history")
def history(workspace_id: WorkspaceId = None, limit: Annotated[int, Query(ge=1, le=100_000)] = 100) -> dict[str, Any]:
    """The workspace's calls, one row each, the newest first; docs/history.md has the columns."""
    tracker = workspace_quota_manager.get_tracker(workspace_id)
    return {"success": True, "data": workspace_quota_manager.history(tracker.workspace_id, limit=limit)}


@router.post("/reset")
async def reset(
    body: ResetRequest | None = None,
    workspace_id: WorkspaceId = None,
    admin_key: Annotated[str | None, Query(deprecated=True, description="Ends up in access logs.")] = None,
    x_admin_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Zeroes the workspace's counters and closes its breakers; open calls stay counted as open."""
    expected = admin_reset_key()
    if expected is None:
        raise HTTPException(503, "Quota reset is not configured: set QUOTA_ADMIN_RESET_KEY")
    body = body or ResetRequest()
    given = x_admin_key or body.admin_key or admin_key or ""
    if not compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "Invalid admin key")
    tracker = workspace_quota_manager.get_tracker(body.workspace_id or workspace_id)
    tracker.reset()
    await tracker.broadcast_status_update(tracker.get_status_data())
    return {"success": True, "message": "Quota statistics reset successfully"}


@router.get("/goal/{goal_id}/usage")
def goal_usage(goal_id: str, workspace_id: WorkspaceId = None) -> dict[str, Any]:
    """What a goal of the workspace has used."""
    tracker = workspace_quota_manager.get_tracker(workspace_id)
    return {"success": True, "data": tracker.get_goal_quota_usage(goal_id)}
