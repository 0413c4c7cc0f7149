"""What the provider itself says was used, by the backend's own ``services.openai_usage_api_client``.

That client asks day by day and may take minutes, so callers that come meanwhile share one fetch, and its answer is kept
for five minutes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

__all__ = ["RealUsage", "get_usage_client"]

logger = logging.getLogger(__name__)
_DAYS = 7
_OF_TODAY = {"total_cost": 0.0, "total_tokens": 0, "total_requests": 0, "hourly_breakdown": {}}
#: Where the name is looked up, so that replacing it there works.
_PLACES = ("services.openai_quota_tracker", "llmquota.compat")


def get_usage_client() -> Any:
    """The backend's usage client, imported on first use: the wheel does not need it."""
    return importlib.import_module("services.openai_usage_api_client").get_usage_client()


def _replaced() -> Callable[[], Any]:
    """``get_usage_client``, or what stands in its place in one of the modules that export it."""
    for place in _PLACES:
        found: Callable[[], Any] | None = getattr(sys.modules.get(place), "get_usage_client", None)
        if found is not None and found is not get_usage_client:
            return found
    return get_usage_client


class RealUsage:
    """The answer of one tracker, and the fetch that is under way. Any thread and any loop may fetch."""

    def __init__(self) -> None:
        self.client: Any = None
        self.data: dict[str, Any] | None = None
        self.fetched_at: datetime | None = None
        self.cache_minutes: float = 5
        self._flight: concurrent.futures.Future[dict[str, Any] | None] | None = None
        self._lock = threading.Lock()
        # Kept, for a loop has only weak references to its tasks.
        self._task: asyncio.Task[None] | None = None

    async def fetch(self) -> dict[str, Any] | None:
        """The usage, at most ``cache_minutes`` old; ``None`` on any failure."""
        with self._lock:
            if self.data and self._is_fresh():
                return self.data
            flight = self._flight
            if flight is None:
                flight = self._flight = concurrent.futures.Future()
                self._task = asyncio.get_running_loop().create_task(self._fly(flight))
        # Shielded: a caller that gives up does not end the fetch of the others.
        return await asyncio.shield(asyncio.wrap_future(flight))

    def renew_locks(self) -> None:
        """In a forked child: a fetch that was under way is the parent's."""
        self._lock = threading.Lock()
        self._flight = self._task = None

    def _is_fresh(self) -> bool:
        if self.fetched_at is None:
            return False
        age = datetime.now() - self.fetched_at
        return timedelta(0) <= age < timedelta(minutes=self.cache_minutes)

    async def _fly(self, flight: concurrent.futures.Future[dict[str, Any] | None]) -> None:
        data = None
        try:
            data = await self._ask()
        except Exception as error:
            logger.warning("the provider's own usage could not be fetched: %s", error)
        finally:
            # Also where the loop ends in the middle: nobody waits for ever.
            with self._lock:
                self._flight = None
                if data is not None:
                    self.data, self.fetched_at = data, datetime.now()
            flight.set_result(data)

    async def _ask(self) -> dict[str, Any]:
        if self.client is None:
            self.client = _replaced()()
        today = await _answer(self.client.get_today_usage())
        budget = await _answer(self.client.check_budget_status())
        models = await _answer(self.client.get_model_comparison(days=_DAYS))
        return {
            "today": {name: _get(today, name, default) for name, default in _OF_TODAY.items()},
            "budget": budget,
            "model_comparison": models,
            "last_updated": datetime.now().isoformat(),
        }


async def _answer(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


def _get(source: Any, name: str, default: Any) -> Any:
    return source.get(name, default) if isinstance(source, Mapping) else getattr(source, name, default)
