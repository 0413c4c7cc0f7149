"""A real rate limit as OpenAI has it: token buckets by model, refilled continuously, and ``x-ratelimit-*`` headers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

from .errors import ProviderError

__all__ = ["RateLimit", "go_duration", "retry_headers"]


class RateLimit:
    """Requests and tokens a minute for each model; ``None`` is unlimited and sends no headers."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self._limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def reset(self) -> None:
        """Fills all buckets."""
        with self._lock:
            self._buckets.clear()

    def admit(self, model: str, tokens: int) -> Mapping[str, str]:
        """Takes one request of ``tokens`` from the model's buckets, or nothing.

        Returns the headers of the answer. Raises ``ProviderError`` (429 ``rate_limit_exceeded``) with the same headers
        and, unless the request could never fit, ``retry-after`` and ``retry-after-ms``.
        """
        with self._lock:
            now = self._clock()
            asked = {"requests": 1, "tokens": tokens}
            buckets = {
                kind: self._buckets.setdefault((model, kind), _Bucket(limit, now))
                for kind, limit in self._limits.items()
                if limit is not None
            }
            for bucket in buckets.values():
                bucket.refill(now)
            waits = {kind: bucket.wait(asked[kind]) for kind, bucket in buckets.items()}
            kind = max(waits, key=lambda name: waits[name], default=None)
            if kind is None or waits[kind] == 0:
                for name, bucket in buckets.items():
                    bucket.level -= asked[name]
                return _headers(buckets)
            raise _refusal(model, kind, buckets, asked[kind], waits[kind])


class _Bucket:
    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.level = float(limit)
        self._filled_at = now

    def refill(self, now: float) -> None:
        self.level = min(self.limit, self.level + (now - self._filled_at) * self.limit / 60)
        self._filled_at = now

    def wait(self, amount: int) -> float:
        """Seconds until ``amount`` fits; infinite if it never does."""
        if amount > self.limit:
            return math.inf
        # A whole number of seconds later the level is the amount but for the last bits of a float.
        missing = amount - self.level
        return missing * 60 / self.limit if missing > 1e-6 else 0.0

    @property
    def remaining(self) -> int:
        return int(self.level + 1e-6)

    @property
    def resets_in(self) -> float:
        return (self.limit - self.level) * 60 / self.limit


def _headers(buckets: Mapping[str, _Bucket]) -> dict[str, str]:
    headers = {}
    for kind, bucket in buckets.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(bucket.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(bucket.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = go_duration(bucket.resets_in)
    return headers


def _refusal(model: str, kind: str, buckets: Mapping[str, _Bucket], asked: int, wait: float) -> ProviderError:
    bucket = buckets[kind]
    unit = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}[kind]
    headers = _headers(buckets)
    if math.isinf(wait):
        message = f"Request too large for {model} on {unit}: Limit {bucket.limit}, Requested {asked}."
    else:
        used = bucket.limit - bucket.remaining
        message = (
            f"Rate limit reached for {model} on {unit}: Limit {bucket.limit}, Used {used}, Requested {asked}. "
            f"Please try again in {go_duration(wait)}."
        )
        headers |= retry_headers(wait)
    return ProviderError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)


def retry_headers(seconds: float) -> dict[str, str]:
    """``retry-after`` in whole seconds and ``retry-after-ms``, both rounded up: whoever waits so long is in time."""
    milliseconds = math.ceil(round(seconds * 1000, 6))
    return {"retry-after": str(-(-milliseconds // 1000)), "retry-after-ms": str(milliseconds)}


def go_duration(seconds: float) -> str:
    """Seconds as Go prints a duration, to the millisecond, rounded up: ``0s``, ``6ms``, ``1.182s``, ``20m52.666s``."""
    milliseconds = math.ceil(round(max(seconds, 0.0) * 1000, 6))
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{rest}"
    return f"{minutes}m{rest}" if minutes else rest
