"""Who is next: the callers that wait for one limiter, by priority and then by arrival.

Only the first may ask for a permit. A waiter belongs to the loop it waits on, and there may be several: it is woken
through its own loop, and one whose loop is closed is passed over.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Line", "Place"]

_RANKS = {"high": 0, "normal": 1, "low": 2}


class Line:
    """The waiters of one limiter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = itertools.count()
        self._places: list[Place] = []

    def join(self, priority: str) -> Place:
        """A place in the line; a priority that is none of high, normal and low is normal."""
        rank = _RANKS.get(priority, _RANKS["normal"])
        return Place(self, (rank, next(self._arrivals)), asyncio.get_running_loop())

    def __len__(self) -> int:
        return len(self._places)

    def nudge(self) -> None:
        """Something changed: the first may try again at once."""
        with self._lock:
            first = self._first()
        if first is not None:
            first.wake()

    def _enter(self, place: Place) -> None:
        with self._lock:
            bisect.insort(self._places, place, key=lambda each: each.key)

    def _leave(self, place: Place) -> None:
        with self._lock:
            if place in self._places:
                self._places.remove(place)
        self.nudge()

    def is_first(self, place: Place) -> bool:
        """Whether it is its turn."""
        with self._lock:
            return self._first() is place

    def _first(self) -> Place | None:
        while self._places and self._places[0].loop.is_closed():
            del self._places[0]
        return self._places[0] if self._places else None


class Place:
    """One waiter; a ``with`` block is its stay in the line."""

    def __init__(self, line: Line, key: tuple[int, int], loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.loop = loop
        self._line = line
        self._woken = asyncio.Event()

    def __enter__(self) -> Self:
        self._line._enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line._leave(self)

    @property
    def is_first(self) -> bool:
        """Whether it is its turn."""
        return self._line.is_first(self)

    async def wait(self, seconds: float | None) -> None:
        """Waits until it may be its turn, or for so long."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    def wake(self) -> None:
        """Wakes it, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            # Its loop has just been closed; whoever looks next passes it over.
            return
