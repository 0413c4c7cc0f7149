"""``services.api_rate_limiter``: permits of the engine, one for each call to a provider.

A permit is a record on the engine's account ``limiter/<provider>``, alone in its chain, with the limits of
``requests_per_minute``, ``requests_per_hour`` and ``max_burst``: there is no second count beside it.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from llmquota.errors import QuotaExceeded, exceeded
from llmquota.retry import attempted

from .buckets import TokenBucket
from .classify import of_exception
from .queueing import Line
from .reporting import Watch

__all__ = ["APIRateLimiter", "RateLimitConfig", "RateLimitStrategy", "TokenBucket"]

logger = logging.getLogger(__name__)

DEFAULT = "default"
LONGEST_BACKOFF = 300.0
"""Seconds."""
LOOK_INTERVAL = 1.0
"""The longest sleep of a waiter, in seconds: limits may be raised meanwhile, and a clock may be set."""


class RateLimitStrategy(Enum):
    """How a legacy configuration says that it wants to be limited. The engine counts any 60 seconds for all of them."""

    TOKEN_BUCKET = "token_bucket"
    SLIDING_WINDOW = "sliding_window"
    FIXED_WINDOW = "fixed_window"


@dataclass
class RateLimitConfig:
    """The limits of one provider, and how errors of too much haste are waited out."""

    provider: str
    requests_per_minute: int = 20
    requests_per_hour: int = 1000
    max_burst: int = 5
    retry_after_seconds: float = 60
    max_retries: int = 3
    exponential_base: float = 2.0
    strategy: RateLimitStrategy = RateLimitStrategy.TOKEN_BUCKET

    def limits(self) -> dict[str, int]:
        """What the engine enforces of it."""
        return {
            "requests_per_minute": self.requests_per_minute,
            "requests_per_hour": self.requests_per_hour,
            "max_burst": self.max_burst,
        }


def _built_in() -> dict[str, RateLimitConfig]:
    """The providers of the legacy limiter. The engine has these limits built in; ``limits.toml`` may change them."""
    return {
        config.provider: config
        for config in (
            RateLimitConfig("openai_gpt4", 40, 2000, 10, 60, 3),
            RateLimitConfig("openai_gpt35", 60, 3500, 15, 30, 3),
            RateLimitConfig("auto_completion", 5, 100, 2, 120, 2),
            RateLimitConfig("goal_unblock", 10, 200, 3, 90, 2),
            RateLimitConfig(DEFAULT, 30, 1500, 5, 60, 3),
        )
    }


_BUILT_IN_LIMITS = {name: config.limits() for name, config in _built_in().items()}
_limiters: weakref.WeakSet[APIRateLimiter] = weakref.WeakSet()


class APIRateLimiter:
    """Gives permits, by priority, and waits out a provider's rate limits. Any thread and any loop may ask."""

    def __init__(self, manager: Any = None) -> None:
        """``manager`` has the accounts of the permits; ``None`` is the one made from the environment."""
        self.configs: dict[str, RateLimitConfig] = _built_in()
        self.error_counts: defaultdict[str, int] = defaultdict(int)
        self._manager = manager
        self._overridden: set[str] = set()
        self._cooling_until: dict[str, float] = {}
        self.renew_locks()
        _limiters.add(self)

    def renew_locks(self) -> None:
        """In a forked child: those who wait, and the locks that they hold, are the parent's."""
        self._lines: defaultdict[str, Line] = defaultdict(Line)
        self._lock = threading.Lock()

    @property
    def manager(self) -> Any:
        """Whose engine counts the permits."""
        if self._manager is None:
            from llmquota.manager import workspace_quota_manager

            self._manager = workspace_quota_manager
        return self._manager

    def add_provider_config(self, config: RateLimitConfig) -> None:
        """Gives a provider these limits, in place of those it had."""
        self._apply(config)
        self.configs[config.provider] = config

    def _apply(self, config: RateLimitConfig) -> None:
        """Sees to it that the engine has these limits. What is built in is left to it, and so to ``limits.toml``."""
        name, limits = config.provider, config.limits()
        if limits == _BUILT_IN_LIMITS.get(name) and name not in self._overridden:
            return
        # Asked and not remembered: the engine may have begun anew.
        lines = self.manager.limiter_limits(name)
        if {line["limit"]: line["cap"] for line in lines if line["limit"] in limits} != limits:
            self.manager.set_override("limiter", "", name, limits)
            self._overridden.add(name)

    def _config(self, provider: str) -> tuple[str, RateLimitConfig]:
        """The name under which a provider is counted, and its configuration: an unknown one is ``default``."""
        config = self.configs.get(provider)
        return (DEFAULT, self.configs[DEFAULT]) if config is None else (provider, config)

    async def acquire(self, provider: str = DEFAULT, priority: str = "normal") -> float:
        """Waits for a permit and takes it. Returns the seconds waited, a cooldown included.

        Raises ``QuotaExceeded`` where a limit is 0, so that there never will be one.
        """
        name, config = self._config(provider)
        began: float | None = None
        with self._lines[name].join(priority) as place:
            while True:
                delay: float | None = None
                if place.is_first:
                    delay = self._delay(name, config)
                    if delay <= 0:
                        return 0.0 if began is None else time.monotonic() - began
                began = time.monotonic() if began is None else began
                await place.wait(delay if delay is None else min(delay, LOOK_INTERVAL))

    def _delay(self, name: str, config: RateLimitConfig) -> float:
        """Takes a permit and returns 0, or returns how long to wait before the next try."""
        cooling = self._cooling(name)
        if cooling > 0:
            return cooling
        self._apply(config)
        decision: Mapping[str, Any] | None = self.manager.permit(name)
        if decision is None:
            return 0.0
        if decision["never_fits"]:
            raise exceeded(decision)
        wait_ms = decision["retry_after_ms"]
        return LOOK_INTERVAL if wait_ms is None else max(wait_ms / 1_000, 0.001)

    def _cooling(self, name: str) -> float:
        return self._cooling_until.get(name, 0.0) - time.monotonic()

    async def handle_rate_limit_error(self, provider: str, error: BaseException) -> float:
        """Notes that the provider asked to slow down. Returns the seconds to wait before trying again: they double
        with each error in a row, and no permit is given for ``retry_after_seconds``."""
        return self._slow_down(provider, error)

    def _slow_down(self, provider: str, error: BaseException) -> float:
        name, config = self._config(provider)
        with self._lock:
            self.error_counts[name] += 1
            count = self.error_counts[name]
            self._cooling_until[name] = time.monotonic() + config.retry_after_seconds
        # Bounded before it is raised to the power, which is otherwise too large for a float.
        backoff = config.retry_after_seconds * config.exponential_base ** min(count - 1, 64)
        logger.warning("provider %s asked to slow down (error %d): %s", name, count, type(error).__name__)
        return float(min(backoff, LONGEST_BACKOFF))

    async def reset_error_count(self, provider: str) -> None:
        """The provider answers again: no errors, no cooldown."""
        name, _ = self._config(provider)
        with self._lock:
            self.error_counts[name] = 0
            self._cooling_until.pop(name, None)
        self._lines[name].nudge()

    def get_stats(self, provider: str | None = None) -> dict[str, dict[str, Any]]:
        """How the limiters stand, by provider; ``{}`` for one that is unknown. The hour is that of the clock."""
        names = list(self.configs) if not provider else [provider] if provider in self.configs else []
        return {name: self._stats(name) for name in names}

    def _stats(self, name: str) -> dict[str, Any]:
        self._apply(self.configs[name])
        lines = {line["limit"]: line for line in self.manager.limiter_limits(name)}
        taken = {kind: line["used"] + line["held"] for kind, line in lines.items()}
        return {
            "calls_last_minute": taken.get("requests_per_minute", 0),
            "calls_last_hour": taken.get("requests_per_hour", 0),
            "available_tokens": max(0, min((line["cap"] - taken[kind] for kind, line in lines.items()), default=0)),
            "error_count": self.error_counts.get(name, 0),
            "in_cooldown": self._cooling(name) > 0,
        }

    async def execute_with_rate_limit(
        self,
        func: Callable[..., Any],
        provider: str = DEFAULT,
        *args: Any,
        priority: str = "normal",
        max_retries: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls ``func(*args, **kwargs)`` with a permit, and again where the provider says that it was too fast.

        At most ``max_retries`` times again. The provider says so by HTTP status 429 or 529 or by an error code; a spent
        quota is not tried again. Any other exception, and the last of these, is raised as it is.
        """
        name, config = self._config(provider)

        async def once() -> Any:
            await self.acquire(name, priority)
            watch = Watch(self.manager, provider)
            try:
                with watch:
                    result = func(*args, **kwargs)
                    if inspect.isawaitable(result):
                        result = await result
            except Exception as error:
                watch.failed(error)
                raise
            watch.succeeded()
            await self.reset_error_count(name)
            return result

        retries = max(0, config.max_retries if max_retries is None else max_retries)
        return await attempted(once, _Patience(self, name, retries))


@dataclass(frozen=True)
class _Patience:
    """A provider that asked to slow down is asked again, each time later; nothing else is tried again."""

    limiter: APIRateLimiter
    name: str
    retries: int

    def delay_after(self, error: BaseException, failures: int, _elapsed: float, _barred: float) -> float | None:
        # A refusal of a workspace's own quota says nothing of the provider.
        if failures > self.retries or not isinstance(error, Exception) or isinstance(error, QuotaExceeded):
            return None
        failure = of_exception(error)
        if not failure.is_rate_limit:
            return None
        return max(self.limiter._slow_down(self.name, error), failure.retry_after or 0.0)


def _after_fork_in_child() -> None:
    for limiter in list(_limiters):
        limiter.renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
