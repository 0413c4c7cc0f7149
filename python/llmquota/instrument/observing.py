"""Calls that may be counted and never refused, and what stands for a hold there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from llmquota.admission import GuardedCall
from llmquota.context import Context
from llmquota.errors import QuotaError, QuotaInputError
from llmquota.estimates import Estimate
from llmquota.terms import Terms
from llmquota.usage import Usage

__all__ = ["ObservableCall", "Unheld"]


class Unheld:
    """Holds nothing: what the call used is recorded when it has ended."""

    id: str | None = None

    def __init__(
        self,
        record: Callable[[dict[str, Any]], None],
        hear: Callable[[Any, bool, float], list[str]],
        keywords: Callable[[Usage], dict[str, Any]],
        asked: int,
    ) -> None:
        """What of the call is told, and ``asked``: tokens that would have been held.

        ``hear`` takes headers as ``Hold.hear`` does, and the seconds since the start; ``keywords``: what ``record``
        takes of a usage.
        """
        self._record = record
        self._hear = hear
        self._asked = asked
        self._keywords = keywords
        self._process = os.getpid()
        self.state = "reserved"

    def start(self) -> None:
        """As of ``Hold``: the request leaves."""
        self.state = "started"
        self._began = time.monotonic()

    def hear(self, headers: Any, well: bool = True) -> list[str]:
        """As of ``Hold``: what is left of the provider's own limits."""
        return [] if self._process != os.getpid() else self._hear(headers, well, time.monotonic() - self._began)

    def settle(self, usage: Usage | None = None, **told: Any) -> bool:
        """As of ``Hold``: the first time counts."""
        # In a forked child the call is the parent's.
        if self.state != "started" or self._process != os.getpid():
            return False
        self.state = "settled"
        if told.get("requests") != 0:
            self._record({**({} if usage is None else self._keywords(usage)), **told})
        return True

    def release(self) -> bool:
        """As of ``Hold``: nothing was sent."""
        self.state = "released"
        return True

    def take_back(self) -> bool:
        """As of ``Hold``: what was recorded stays."""
        return False

    def __exit__(self, *_error: object) -> None:
        """As of ``Hold``: nobody knows what was used, so that what would have been held is."""
        self.settle(tokens=self._asked)


class ObservableCall(GuardedCall):
    """A call that leaves through the instrumentation, which may only observe."""

    #: Tokens that are charged at least where nobody says what it used, and nothing was held.
    LEAST = 0

    def __init__(self, terms: Terms, names: Context, estimate: Estimate, tokens: int | None, *, observe: bool) -> None:
        super().__init__(terms, names, estimate, tokens)
        self._observe = observe

    def begin(self) -> None:
        """Admits it. Raises ``QuotaExceeded``, unless calls are only observed."""
        try:
            super().begin()
        except QuotaError as error:
            # A name that cannot be cannot be counted either.
            if not self._observe or isinstance(error, QuotaInputError):
                raise
            self.has_begun()

    def has_begun(self) -> None:
        """It is under way, whatever the limits say."""
        self._started(Unheld(self._record, self._hear_of, self._keywords, max(self.LEAST, self._asked)))

    def _hear_of(self, headers: Any, well: bool, elapsed: float) -> list[str]:
        """As ``Hold.hear``, of a call without a hold."""
        terms = self._terms
        whose = {"provider": terms.provider, "credential": terms.credential, "model": self._context.model}
        heard: list[str] = self.manager.hear(self.workspace_id, headers, well, elapsed=elapsed, **whose)  # type: ignore[attr-defined]
        return heard
