"""Puts a ``quota_context`` around each request."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from llmquota.context import quota_context

__all__ = ["QuotaContextMiddleware"]

Whose = str | Mapping[str, str | None] | None
"""A workspace's id; or the keywords of ``quota_context``; or nobody's."""

_NAMES = ("workspace_id", "goal_id", "task_id", "user_id", "model")


class QuotaContextMiddleware:
    """Says whose the calls of each HTTP request and WebSocket are.

    Arguments:
        app: the application inside.
        whose: a function of yours, ``def`` or ``async def``, that gets the connection (its headers, path, cookies,
            ``state``, not its body) and returns the workspace's id, or a mapping with ``workspace_id``, ``goal_id``,
            ``task_id``, ``user_id`` and ``model`` (each may be left out), or ``None``, which leaves the context open.

    What ``whose`` raises goes to the application around. Anything else that it returns is a ``TypeError``.
    """

    def __init__(self, app: ASGIApp, *, whose: Callable[[HTTPConnection], Whose | Awaitable[Whose]]) -> None:
        self._app = app
        self._whose = whose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        said = self._whose(HTTPConnection(scope, receive))
        names = _names(await said if inspect.isawaitable(said) else said)
        if not names:
            return await self._app(scope, receive, send)
        with quota_context(**names):
            return await self._app(scope, receive, send)


def _names(said: object) -> dict[str, Any]:
    if said is None or said == "":
        return {}
    if isinstance(said, str):
        return {"workspace_id": said}
    if not isinstance(said, Mapping):
        raise TypeError(f"whose() returned {said!r}; expected a workspace's id, a mapping of names, or None")
    unknown = [name for name in said if name not in _NAMES]
    if unknown:
        raise TypeError(f"whose() returned a mapping with {unknown[0]!r}; expected {', '.join(_NAMES)}")
    return {name: value for name, value in said.items() if value is not None}
