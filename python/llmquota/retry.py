"""Whether and when a failed call is made again: ``guarded(retry=...)``, and the legacy limiter, run on it.

Exponential backoff with full jitter: the n-th wait is drawn evenly between nothing and a cap that doubles, so that
those who failed together do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import _native
from .errors import QuotaError, QuotaExceeded, describe_failure

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from 3.11 on

__all__ = ["Attempts", "Plan", "Retry", "attempted", "plan_of"]

_T = TypeVar("_T")
_DOUBLINGS = 64
"""More would be too large for a float, and none is so patient."""


class Plan(Protocol):
    """What is to become of a failed call."""

    def delay_after(self, error: BaseException, failures: int, elapsed: float, barred: float) -> float | None:
        """Seconds until the next try; ``None`` where there is to be none.

        So many tries have failed, the last with ``error``, since the first began so many seconds ago. For ``barred``
        seconds from now another one would not be let through.
        """


@dataclass(frozen=True)
class Retry:
    """How often, and how patiently, a failed call is made again.

    Tried again is what waiting may mend, by the provider's error code or else the HTTP status: rate limits, overload,
    server errors, timeouts, broken connections. Never a spent quota, another 4xx, a refusal of llmquota's own, or what
    an answer forbids by ``x-should-retry: false``.
    """

    max_retries: int = 2
    """How many times again at most."""
    base_delay: float = 0.5
    """Seconds up to which the first wait is drawn; doubles with each."""
    max_delay: float = 60.0
    """Seconds up to which any wait is drawn."""
    deadline: float | None = 120.0
    """Seconds after the first try began, past which no other begins; ``None`` for no such time."""
    draw: Callable[[float, float], float] = random.uniform
    """Draws a number evenly between two."""

    def __post_init__(self) -> None:
        if isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise ValueError(f"Retry(max_retries={self.max_retries!r}): expected a whole number of 0 or more")
        for name in ("base_delay", "max_delay", "deadline"):
            value = getattr(self, name)
            if not (_is_duration(value) or (name == "deadline" and value is None)):
                raise ValueError(f"Retry({name}={value!r}): expected seconds, 0 or more")

    def delay_after(self, error: BaseException, failures: int, elapsed: float, barred: float = 0.0) -> float | None:
        """As of :class:`Plan`. The wait that the provider asks for comes before the one that is drawn."""
        if failures > self.max_retries or not is_transient(error):
            return None
        asked = max(barred, describe_failure(error)[2] or 0.0)
        delay = asked + self.draw(0.0, min(self.max_delay, self.base_delay * 2.0 ** min(failures - 1, _DOUBLINGS)))
        return None if self.deadline is not None and elapsed + delay > self.deadline else delay


def is_transient(error: BaseException) -> bool:
    """Whether waiting may mend ``error``."""
    if not isinstance(error, Exception) or isinstance(error, QuotaError):
        return False
    code, status, _ = describe_failure(error)
    return _native.is_transient(code, status) and not _forbids_retry(error)


def _forbids_retry(error: Exception) -> bool:
    try:
        return bool(error.response.headers.get("x-should-retry") == "false")  # type: ignore[attr-defined]
    except Exception:
        return False


def plan_of(retry: object) -> Retry | None:
    """``retry`` as of ``guarded()``: nothing, how many times again, or a :class:`Retry`.

    Raises ``TypeError`` for what is none of them, and ``ValueError`` for a number that cannot be.
    """
    if retry is None or retry is False:
        return None
    if isinstance(retry, int) and not isinstance(retry, bool):
        return Retry(max_retries=retry)
    if not isinstance(retry, Retry):
        raise TypeError(f"retry must be a whole number (how many times again) or a Retry, not {retry!r}")
    return retry


class Attempts:
    """The tries of one call."""

    __slots__ = ("_began", "_failures", "_last", "_plan")

    def __init__(self, plan: Plan | None) -> None:
        self._plan = plan
        self._failures = 0
        self._last: BaseException | None = None
        self._began = 0.0 if plan is None else time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        # It holds the frame that holds this.
        self._last = None

    def delay_after(self, error: BaseException) -> float | None:
        """Seconds until the next try; ``None`` where ``error`` is the last, which then says how many there were."""
        if self._plan is None:
            return None
        barred = 0.0
        if self._last is not None and isinstance(error, QuotaExceeded) and error.reason == "breaker":
            # The breaker that the try before has opened, for longer than the provider said: that was no try.
            barred, failed = error.retry_after or 0.0, self._last
        else:
            self._failures += 1
            self._last = failed = error
        delay = self._plan.delay_after(failed, self._failures, time.monotonic() - self._began, barred)
        # Exceptions have notes from Python 3.11 on.
        if delay is None and self._failures > 1 and hasattr(error, "add_note"):
            error.add_note(f"llmquota: tried {self._failures} times")
        return delay


async def attempted(call: Callable[[], Awaitable[_T]], plan: Plan | None) -> _T:
    """What ``call`` returns, after as many tries as ``plan`` gives it. Its last error is raised as it is."""
    with Attempts(plan) as attempts:
        while True:
            try:
                return await call()
            except BaseException as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    raise
            await asyncio.sleep(delay)


def attempted_here(call: Callable[[], _T], plan: Plan | None) -> _T:
    """The same on this thread, which sleeps meanwhile."""
    with Attempts(plan) as attempts:
        while True:
            try:
                return call()
            except BaseException as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    raise
            time.sleep(delay)


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
