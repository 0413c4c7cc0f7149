"""The fake's own books: what it served, to whom, and what it told.

An answer is written down before its first byte leaves, so that a connection that is dropped is in the books too. Its
number becomes *reported* just before the bytes that carry it leave; until then, and for ever if they never do, it is
*unreported*: the provider has charged it, and the caller cannot know. Reported means given to the network: a client
that hangs up with the bytes unread still counts as told.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .http1 import Request
from .tokens import Usage

__all__ = ["Charge", "Ledger", "Served", "Tally"]


@dataclass
class Tally:
    """Counts of a group of requests."""

    requests: int = 0
    """Every request, also those answered with an error."""
    charged_requests: int = 0
    """Requests that cost tokens."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Among the prompt tokens."""
    reasoning_tokens: int = 0
    """Among the completion tokens."""
    total_tokens: int = 0
    """Prompt and completion."""
    audio_seconds: int = 0
    """Seconds of sound that were charged by the second, for which there are no tokens."""
    unreported_requests: int = 0
    """Among the charged: those whose number never left (a stream without usage, a dropped connection)."""
    unreported_tokens: int = 0
    """Their total tokens."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Requests by status: ``"200"``, ``"429"``; ``"dropped"`` where no status was sent."""

    @property
    def reported_tokens(self) -> int:
        """The total tokens that callers were told of."""
        return self.total_tokens - self.unreported_tokens

    def as_dict(self) -> dict[str, Any]:
        """The same, JSON-serialisable."""
        return {
            "requests": self.requests,
            "charged_requests": self.charged_requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "total_tokens": self.total_tokens,
            "audio_seconds": self.audio_seconds,
            "unreported_requests": self.unreported_requests,
            "unreported_tokens": self.unreported_tokens,
            "statuses": dict(self.statuses),
        }

    def copy(self) -> Tally:
        """A copy that later requests do not change."""
        return replace(self, statuses=dict(self.statuses))

    def _count(self, status: str, usage: Usage) -> None:
        self.requests += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cached_tokens += usage.cached_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.total_tokens += usage.total_tokens
        self.audio_seconds += usage.audio_seconds
        if usage.total_tokens:
            self.charged_requests += 1
            self.unreported_requests += 1
            self.unreported_tokens += usage.total_tokens

    def _report(self, usage: Usage) -> None:
        self.unreported_requests -= 1
        self.unreported_tokens -= usage.total_tokens


class Served:
    """A snapshot of the books: the totals as attributes, their splits by :meth:`by`."""

    def __init__(
        self, total: Tally, groups: Mapping[str, Mapping[str, Tally]], client_request_ids: Sequence[str]
    ) -> None:
        self.total = total
        self.client_request_ids = tuple(client_request_ids)
        """Every ``x-client-request-id`` in the order of arrival."""
        self._groups = groups

    @property
    def requests(self) -> int:
        """Every request, also those answered with an error."""
        return self.total.requests

    @property
    def total_tokens(self) -> int:
        """Tokens charged."""
        return self.total.total_tokens

    @property
    def unreported_requests(self) -> int:
        """Charged requests whose number never left."""
        return self.total.unreported_requests

    @property
    def unreported_tokens(self) -> int:
        """Their tokens."""
        return self.total.unreported_tokens

    def by(self, group: str) -> Mapping[str, Tally]:
        """The split by ``"endpoint"``, ``"model"``, ``"status"`` or one of the fake's ``group_by`` headers.

        The value is ``""`` where a request has none. For a header, the body's ``user`` is the second choice.
        Raises ``KeyError`` for a group that is not kept.
        """
        if group.lower() not in self._groups:
            raise KeyError(f"the fake keeps no split by {group!r}, only by {sorted(self._groups)}")
        return self._groups[group.lower()]

    def as_dict(self) -> dict[str, Any]:
        """``{<the totals>, "by": {group: {value: {...}}}, "client_request_ids": [...]}``."""
        return {
            **self.total.as_dict(),
            "by": {
                group: {value: tally.as_dict() for value, tally in values.items()}
                for group, values in self._groups.items()
            },
            "client_request_ids": list(self.client_request_ids),
        }


class Charge:
    """One line of the books. :meth:`report` is called just before the bytes that carry its number leave."""

    def __init__(self, lock: threading.Lock, tallies: Sequence[Tally], usage: Usage) -> None:
        self._lock = lock
        self._tallies = tallies
        self._usage = usage
        self._reported = usage.total_tokens == 0

    def report(self) -> None:
        """The caller is told the number. A second call changes nothing."""
        with self._lock:
            if self._reported:
                return
            self._reported = True
            for tally in self._tallies:
                tally._report(self._usage)


class Ledger:
    """The books while they are kept. Any thread may call it."""

    def __init__(self, group_by: Sequence[str]) -> None:
        self._headers = tuple(header.lower() for header in group_by)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Starts new books. A charge of the old ones that is reported later does not touch the new."""
        with self._lock:
            self._total = Tally()
            self._groups: dict[str, dict[str, Tally]] = {
                group: {} for group in ("endpoint", "model", "status", *self._headers)
            }
            self._client_request_ids: list[str] = []

    def count(self, request: Request, *, endpoint: str, model: str, status: str, usage: Usage) -> Charge:
        """Writes one answer down, as not yet reported."""
        values = {"endpoint": endpoint, "model": model, "status": status}
        for header in self._headers:
            values[header] = request.headers.get(header) or request.user
        client_request_id = request.headers.get("x-client-request-id")
        with self._lock:
            tallies = [self._total]
            tallies += [self._groups[group].setdefault(value, Tally()) for group, value in values.items()]
            for tally in tallies:
                tally._count(status, usage)
            if client_request_id is not None:
                self._client_request_ids.append(client_request_id)
        return Charge(self._lock, tallies, usage)

    def snapshot(self) -> Served:
        """The books as they stand."""
        with self._lock:
            groups = {
                group: {value: tally.copy() for value, tally in values.items()}
                for group, values in self._groups.items()
            }
            return Served(self._total.copy(), groups, self._client_request_ids)
