"""Every name of the legacy backend's ``services.openai_quota_tracker`` and ``services.api_rate_limiter``.

``services/openai_quota_tracker.py`` becomes one import from here, and its callers do not change. Usage and limits lie
in the engine; the names here read it and write it. The objects of the process are made on first use, so that a ``.env``
that is loaded before the first import of a name counts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmquota.status import QuotaStatus

from .limiter import APIRateLimiter, RateLimitConfig, RateLimitStrategy, TokenBucket
from .manager import MultiWorkspaceQuotaManager
from .real_usage import get_usage_client
from .reporting import OpenAIQuotaReporter, QuotaInfo
from .tracker import WorkspaceQuotaTracker

if TYPE_CHECKING:
    quota_manager: MultiWorkspaceQuotaManager
    workspace_quota_manager: MultiWorkspaceQuotaManager
    quota_tracker: WorkspaceQuotaTracker
    openai_quota_tracker: OpenAIQuotaReporter
    api_rate_limiter: APIRateLimiter

__all__ = [
    "APIRateLimiter",
    "MultiWorkspaceQuotaManager",
    "OpenAIQuotaReporter",
    "OpenAIQuotaTracker",
    "QuotaInfo",
    "QuotaStatus",
    "RateLimitConfig",
    "RateLimitStrategy",
    "TokenBucket",
    "WorkspaceQuotaManager",
    "WorkspaceQuotaTracker",
    "acquire_api_permit",
    "api_rate_limiter",
    "execute_with_rate_limit",
    "get_rate_limit_stats",
    "get_usage_client",
    "openai_quota_tracker",
    "quota_manager",
    "quota_tracker",
    "workspace_quota_manager",
]

OpenAIQuotaTracker = WorkspaceQuotaTracker
WorkspaceQuotaManager = MultiWorkspaceQuotaManager


def _manager() -> Any:
    from llmquota.manager import workspace_quota_manager

    return workspace_quota_manager


_MAKERS: dict[str, Callable[[], Any]] = {
    "quota_manager": _manager,
    "workspace_quota_manager": _manager,
    "quota_tracker": lambda: _manager().get_tracker("global"),
    "openai_quota_tracker": lambda: OpenAIQuotaReporter(_manager()),
    "api_rate_limiter": APIRateLimiter,
}
_making = threading.RLock()


def _after_fork_in_child() -> None:
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def __getattr__(name: str) -> Any:
    maker = _MAKERS.get(name)
    if maker is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _making:
        # Once for the life of the process: callers bind it by name.
        return globals().get(name) or globals().setdefault(name, maker())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


async def acquire_api_permit(provider: str = "default", priority: str = "normal") -> float:
    """Waits for a permit of the process's limiter; see :meth:`APIRateLimiter.acquire`."""
    return await __getattr__("api_rate_limiter").acquire(provider, priority)  # type: ignore[no-any-return]


async def execute_with_rate_limit(
    func: Callable[..., Any], provider: str = "default", *args: Any, **kwargs: Any
) -> Any:
    """Calls ``func`` with a permit; see :meth:`APIRateLimiter.execute_with_rate_limit`."""
    return await __getattr__("api_rate_limiter").execute_with_rate_limit(func, provider, *args, **kwargs)


def get_rate_limit_stats(provider: str | None = None) -> dict[str, dict[str, Any]]:
    """How the limiters stand; see :meth:`APIRateLimiter.get_stats`."""
    return __getattr__("api_rate_limiter").get_stats(provider)  # type: ignore[no-any-return]
