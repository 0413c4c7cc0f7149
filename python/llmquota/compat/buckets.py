"""The token bucket of the legacy limiter, for code that uses it by itself; permits do not pass through it."""

from __future__ import annotations

import asyncio
import threading
import time

__all__ = ["TokenBucket"]


class TokenBucket:
    """Gives ``rate`` tokens a second, and at most ``capacity`` at once. Any thread and any loop may take some."""

    def __init__(self, rate: float, capacity: float) -> None:
        """Full at first."""
        if not (rate > 0 and capacity >= 0):
            raise ValueError("a bucket needs a rate above 0 and a capacity of 0 or more")
        self.rate = rate
        self.capacity = capacity
        self.last_update = time.monotonic()
        self._tokens = float(capacity)
        self._lock = threading.Lock()

    @property
    def tokens(self) -> float:
        """What it holds now."""
        with self._lock:
            self._fill()
            return max(0.0, self._tokens)

    async def acquire(self, tokens: float = 1) -> float:
        """Takes tokens, waiting for them where need be. Returns the seconds waited.

        Who comes first is served first: each takes its tokens at once, into debt, and waits outside the lock until
        they are there.
        """
        with self._lock:
            self._fill()
            self._tokens -= tokens
            wait = max(0.0, -self._tokens / self.rate)
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except BaseException:
                with self._lock:
                    self._tokens += tokens
                raise
        return wait

    def _fill(self) -> None:
        now = time.monotonic()
        self._tokens = min(float(self.capacity), self._tokens + (now - self.last_update) * self.rate)
        self.last_update = now
