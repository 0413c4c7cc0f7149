"""The fake's own endpoint under ``/__fake__/``, for a test or a demo that runs in another process.

- ``POST /__fake__/faults``: one fault or a list; the fields of :class:`~.faults.Fault` with ``times``, ``when`` (a
  mapping) and ``probability``;
- ``POST /__fake__/replies``: one reply or a list; the fields of :class:`~.replies.Reply` with ``times`` and ``when``;
- ``GET /__fake__/served``: ``Served.as_dict()``;
- ``POST /__fake__/reset``.

It is not counted, not limited and asks for no key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from .errors import error_body
from .faults import Fault
from .http1 import Request
from .provider import Provider
from .replies import Reply

__all__ = ["Admin"]

_FAULT_FIELDS = {field.name for field in fields(Fault)}
_REPLY_FIELDS = {field.name for field in fields(Reply)}


class Admin:
    """Answers ``/__fake__/*``."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._routes: dict[tuple[str, str], Callable[[Request], dict[str, Any]]] = {
            ("POST", "/__fake__/faults"): self._faults,
            ("POST", "/__fake__/replies"): self._replies,
            ("GET", "/__fake__/served"): lambda request: provider.ledger.snapshot().as_dict(),
            ("POST", "/__fake__/reset"): self._reset,
        }

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Status and body: 200, 400 for a body that means nothing, 404."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            return 404, error_body(f"Invalid URL ({request.method} {request.path})")
        try:
            return 200, route(request)
        except (ValueError, TypeError, RecursionError) as error:
            return 400, error_body(str(error))

    def _faults(self, request: Request) -> dict[str, Any]:
        # All are checked before the first is queued: a bad list changes nothing.
        items = [_split(item, _FAULT_FIELDS, {"times", "when", "probability"}) for item in _items(request)]
        faults = [(Fault(**own), {"times": 1, "when": None, "probability": 1.0} | how) for own, how in items]
        trial = type(self._provider.faults)(seed=0)
        for queue in (trial, self._provider.faults):
            for fault, how in faults:
                queue.add(fault, **how)
        return {"queued": len(self._provider.faults)}

    def _replies(self, request: Request) -> dict[str, Any]:
        items = [_split(item, _REPLY_FIELDS, {"times", "when"}) for item in _items(request)]
        replies = [(Reply(**own), {"times": None, "when": None} | how) for own, how in items]
        trial = type(self._provider.replies)()
        for queue in (trial, self._provider.replies):
            for reply, how in replies:
                queue.add(reply, **how)
        return {"added": len(replies)}

    def _reset(self, request: Request) -> dict[str, Any]:
        self._provider.reset()
        return {"reset": True}


def _items(request: Request) -> list[Any]:
    value = json.loads(request.body)
    return value if isinstance(value, list) else [value]


def _split(item: Any, own: set[str], how: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(item, dict):
        raise ValueError(f"expected a JSON object, not {item!r}")
    if unknown := item.keys() - own - how:
        raise ValueError(f"unknown fields {sorted(unknown)}; there are {sorted(own | how)}")
    return {key: item[key] for key in item.keys() & own}, {key: item[key] for key in item.keys() & how}
