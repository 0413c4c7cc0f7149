"""Other rate limiters of Python, doing what comes nearest to one record with four limits, in memory.

Each keeps its own way of counting: ``limits`` and ``throttled-py`` know one limit a call, so a call that has four asks
four times; ``pyrate-limiter`` knows several windows of one number, and gets four of requests, as its memory grows by an
entry for each token. None of them keeps tokens, cost, errors or goals beside the limit.
"""

from __future__ import annotations

from collections.abc import Mapping

import limits
import limits.storage
import limits.strategies
import pyrate_limiter
import throttled

from measuring import Work, statement

NAMES = ("limits", "pyrate-limiter", "throttled-py")


def works(caps: Mapping[str, int]) -> list[Work]:
    """The rivals' works, ``limits`` first."""
    return [_limits(caps), _throttled(caps), _pyrate(caps)]


def _limits(caps: Mapping[str, int]) -> Work:
    names = {
        "hit": limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage()).hit,
        "requests_minute": limits.RateLimitItemPerMinute(caps["requests_per_minute"]),
        "tokens_minute": limits.RateLimitItemPerMinute(caps["tokens_per_minute"], namespace="tokens"),
        "requests_day": limits.RateLimitItemPerDay(caps["requests_per_day"]),
        "tokens_day": limits.RateLimitItemPerDay(caps["tokens_per_day"], namespace="tokens"),
    }
    code = (
        'hit(requests_minute, "acme"); hit(tokens_minute, "acme", cost=100); '
        'hit(requests_day, "acme"); hit(tokens_day, "acme", cost=100)'
    )
    return statement("`limits`, 4 hits, fixed window", code, **names)


def _throttled(caps: Mapping[str, int]) -> Work:
    store = throttled.MemoryStore()

    def limiter(prefix: str, quota: throttled.Quota) -> throttled.Throttled:
        return throttled.Throttled(using="fixed_window", quota=quota, store=store, key_prefix=prefix)

    names = {
        "requests_minute": limiter("requests-minute", throttled.per_min(caps["requests_per_minute"])).limit,
        "tokens_minute": limiter("tokens-minute", throttled.per_min(caps["tokens_per_minute"])).limit,
        "requests_day": limiter("requests-day", throttled.per_day(caps["requests_per_day"])).limit,
        "tokens_day": limiter("tokens-day", throttled.per_day(caps["tokens_per_day"])).limit,
    }
    code = (
        'requests_minute("acme"); tokens_minute("acme", cost=100); requests_day("acme"); tokens_day("acme", cost=100)'
    )
    return statement("`throttled-py`, 4 limits, fixed window", code, **names)


def _pyrate(caps: Mapping[str, int]) -> Work:
    windows = ("MINUTE", "HOUR", "DAY", "WEEK")
    # A longer window has to allow more.
    rates = [
        pyrate_limiter.Rate(caps["requests_per_minute"] * 2**step, getattr(pyrate_limiter.Duration, window))
        for step, window in enumerate(windows)
    ]
    limiter = pyrate_limiter.Limiter(rates)
    return statement("`pyrate-limiter`, 4 windows of requests", 'acquire("acme")', acquire=limiter.try_acquire)
