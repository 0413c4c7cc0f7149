"""What stands for a hold where calls are counted and never refused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from llmquota.usage import Usage

__all__ = ["Unheld"]


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
