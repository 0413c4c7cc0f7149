"""What a decorator, or the instrumentation of an endpoint, says of all its calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .retry import Retry

__all__ = ["Terms", "manager_of", "refuse_to_block"]


@dataclass(frozen=True)
class Terms:
    """What a decorator says of all calls of its function."""

    provider: str | None
    credential: str | None
    manager: Any
    """A ``QuotaManager``, a function that returns one, or ``None`` for the one made from the environment."""
    wait: bool | float
    """Whether to wait for room, or how many seconds at most."""
    priority: str
    usage: Callable[[Any], Any] | None
    """Finds the usage in the function's result, or something that :func:`read_usage` reads."""
    method: str | None
    """What the provider calls what the function does, for history."""
    retry: Retry | None = None
    stops: bool = False
    """Whether a stream ends when the budget does."""

    @property
    def blocks(self) -> str | None:
        """What would stop an event loop, in a function that is not asynchronous."""
        return "wait" if self.wait is not False else "retry" if self.retry is not None else None


def manager_of(terms: Terms) -> Any:
    """The manager that counts the calls."""
    given = terms.manager
    if given is None:
        # When it is first needed: it is made from the environment.
        from .manager import workspace_quota_manager

        return workspace_quota_manager
    return given() if callable(given) else given


def refuse_to_block(option: str) -> None:
    """Raises ``RuntimeError`` in a running event loop, which ``option`` would stop."""
    # Looked up: where nobody has loaded it no loop runs, and loading it costs every import of the package.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return
    raise RuntimeError(f"a function guarded with {option}= would block the running event loop: make it async")
