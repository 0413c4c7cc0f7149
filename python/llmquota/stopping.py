"""Whether what a stream has brought is still paid for: ``guarded(on_budget="stop")``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Meter"]

BUDGETS = frozenset({"budget_usd_per_day", "budget_usd_per_month", "tokens_per_day"})
"""Limits that waiting a minute does not mend."""
SLICE = 64
"""Tokens that a stream brings between two looks, and so by how many it may go past a budget."""

_log = logging.getLogger(__name__)


class Meter:
    """Looks, now and then, whether a stream that has brought more than was held for it fits what is left."""

    def __init__(self, explain: Callable[[int], Mapping[str, Any]], held: int, whose: str) -> None:
        """``explain`` says what so many tokens more would be answered; ``whose`` names the workspace in the log."""
        self._explain = explain
        self._held = held
        self._whose = whose
        # Up to what was held the stream is paid for.
        self._next = held + 1
        self._spent = False

    def is_spent(self, seen: int) -> bool:
        """Whether nothing is left for ``seen`` tokens. Never raises."""
        if seen < self._next or self._spent:
            return self._spent
        self._next = seen + SLICE
        try:
            lines = self._explain(seen - self._held)["limits"]
        except Exception:
            _log.exception("Whether the budget of %s pays for a stream could not be asked: it goes on", self._whose)
            return False
        spent = [line["limit"] for line in lines if line["limit"] in BUDGETS]
        if spent:
            self._spent = True
            _log.warning("A stream of %s was ended at about %d tokens: %s is spent", self._whose, seen, spent[0])
        return self._spent
