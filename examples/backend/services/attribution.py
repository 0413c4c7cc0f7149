"""Whom a request to the provider is for, and which hold it is counted by, said in its headers.

OpenAI ignores the first and logs the second. A gateway in front of it, or the demo's provider, keeps its own books by
them.
"""

from __future__ import annotations

from urllib.parse import quote

from llmquota.guard import current_hold


def attribution_headers(workspace_id: str, goal_id: str | None) -> dict[str, str]:
    """``X-Workspace-Id`` and, where there is a goal, ``X-Goal-Id``; percent-encoded, since headers are ASCII.

    In the body of a guarded function also ``X-Client-Request-Id``, its hold's id: the column ``hold`` of history. One
    can then be held against the other, call by call.
    """
    headers = {"X-Workspace-Id": quote(workspace_id)}
    if goal_id is not None:
        headers["X-Goal-Id"] = quote(goal_id)
    hold = current_hold()
    if hold is not None:
        headers["X-Client-Request-Id"] = hold.id
    return headers
