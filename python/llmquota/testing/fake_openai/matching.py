"""Which request a fault or a reply is for, and how often: shared by both queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .http1 import Request
from .routes import endpoint_of

__all__ = ["Predicate", "When", "checked_times", "matcher"]

Predicate = Callable[[Request], bool]
When = Predicate | Mapping[str, Any] | None
"""A predicate; or the values that a request must have: ``endpoint``, ``method``, ``model``, ``user``,
``stream``, ``headers`` (which maps names to values); or ``None`` for every request."""

_READERS: dict[str, Callable[[Request], Any]] = {
    "endpoint": endpoint_of,
    "method": lambda request: request.method,
    "model": lambda request: request.model,
    "user": lambda request: request.user,
    "stream": lambda request: request.stream,
}


def matcher(when: When) -> Predicate:
    """The predicate that ``when`` stands for. Raises ``ValueError`` for a key or value that cannot be matched."""
    if when is None:
        return lambda request: True
    if not isinstance(when, Mapping):
        if not callable(when):
            raise ValueError(f"when must be a predicate or a mapping, not {when!r}")
        return when
    wanted = dict(when)
    headers = wanted.pop("headers", {})
    if not isinstance(headers, Mapping):
        raise ValueError("when.headers must map names to values")
    if unknown := wanted.keys() - _READERS.keys():
        raise ValueError(f"when cannot match {sorted(unknown)}; it knows {sorted([*_READERS, 'headers'])}")
    expected_headers = {str(name).lower(): str(value) for name, value in headers.items()}

    def matches(request: Request) -> bool:
        return all(_READERS[key](request) == value for key, value in wanted.items()) and all(
            request.headers.get(name) == value for name, value in expected_headers.items()
        )

    return matches


def checked_times(times: int | None) -> int | None:
    """``times`` itself. Raises ``ValueError`` unless it is ``None`` (without end) or at least 1."""
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        raise ValueError(f"times must be None or a whole number of at least 1, not {times!r}")
    return times
