"""Whom a request to the provider is for, said in its headers.

OpenAI ignores them. A gateway in front of it, or the demo's provider, keeps its own books by them.
"""

from __future__ import annotations

from urllib.parse import quote


def attribution_headers(workspace_id: str, goal_id: str | None) -> dict[str, str]:
    """``X-Workspace-Id`` and, where there is a goal, ``X-Goal-Id``; percent-encoded, since headers are ASCII."""
    headers = {"X-Workspace-Id": quote(workspace_id)}
    if goal_id is not None:
        headers["X-Goal-Id"] = quote(goal_id)
    return headers
