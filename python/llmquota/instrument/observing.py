"""What stands for a hold where calls are counted and never refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from llmquota.usage import UsageNumbers

__all__ = ["Unheld"]


class Unheld:
    """Holds nothing: what the call used is recorded when it has ended."""

    id: str | None = None

    def __init__(
        self,
        record: Callable[[dict[str, Any]], None],
        asked: int,
        keywords: Callable[[UsageNumbers], dict[str, Any]],
    ) -> None:
        """``asked``: tokens that would have been held; ``keywords``: what ``record`` takes of a usage."""
        self._record = record
        self._asked = asked
        self._keywords = keywords
        self._process = os.getpid()
        self.state = "reserved"

    def start(self) -> None:
        """As of ``Hold``: the request leaves."""
        self.state = "started"

    def settle(self, usage: UsageNumbers | None = None, **told: Any) -> bool:
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
