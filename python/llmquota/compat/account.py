"""What the legacy names ask of the engine for one workspace: the one place that speaks to the manager."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import clock
from .classify import Failure
from .shapes import TOP, successes

if TYPE_CHECKING:
    from llmquota import _native

__all__ = ["Account"]

Json = dict[str, Any]


class Account:
    """One workspace. It keeps no usage, so it never goes stale."""

    def __init__(self, engine: _native.Manager, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self._engine = engine
        self._top: dict[str, tuple[float, list[Json]]] = {}

    def now(self) -> datetime:
        """The naive local time of the engine's clock."""
        return clock.local(self._engine.now())

    def snapshot(self) -> Json:
        """The workspace as it stands. Creates nothing."""
        return self._engine.snapshot(self.workspace_id)

    def explain(self) -> Json:
        """What the least of calls would be answered."""
        return self._engine.explain(self.workspace_id, 1)

    def notice(self, language: str | None) -> Json:
        """The notice of its state in the reader's language, English for ``None``."""
        return self._engine.notice(self.workspace_id, language or "en")

    def attribution(self, scope: str, limit: int | None = None) -> list[Json]:
        """Goals, tasks or models, most tokens first."""
        return self._engine.attribution(self.workspace_id, scope, limit)

    def top(self, scope: str) -> list[Json]:
        """The first of them. A listing that takes long, of very many ids, is reused for twenty times as long."""
        fresh_until, entries = self._top.get(scope, (0.0, []))
        began = time.perf_counter()
        if began >= fresh_until:
            entries = self.attribution(scope, TOP)
            ended = time.perf_counter()
            # What takes a few milliseconds may be asked at any time.
            pause = 20 * (ended - began) if ended - began > 0.01 else 0.0
            self._top[scope] = (ended + pause, entries)
        return entries

    def usage_of(self, scope: str, name: str) -> Json:
        """The usage of one goal or task."""
        return self._engine.usage(self.workspace_id, **{scope: name})

    def last_used(self) -> datetime | None:
        """When it was last used; ``None`` for never."""
        return next((clock.local(at) for name, at in self._engine.workspaces() if name == self.workspace_id), None)

    def terms(self) -> Json:
        """What is configured: ``limits``, ``near_percent``, ``critical_percent``."""
        return self._engine.terms(self.workspace_id)

    def set(self, period: str, counter: str, value: Any) -> None:
        """Sets one counter."""
        self._engine.adjust(self.workspace_id, period, counter, value)

    def set_of(self, scope: str, name: str, counter: str, value: Any) -> None:
        """Sets one lifetime counter of a goal or task."""
        self._engine.adjust(self.workspace_id, "total", counter, value, **{scope: name})

    def set_requests(self, period: str, succeeded: int) -> None:
        """Sets how many requests did not fail; those that failed stay."""
        self.set(period, "requests", succeeded + self.snapshot()["usage"][period]["errors"])

    def set_errors(self, period: str, failed: int) -> None:
        """Sets how many requests failed; those that did not stay."""
        kept = successes(self.snapshot()["usage"][period])
        self.set(period, "errors", failed)
        self.set(period, "requests", kept + failed)

    def set_last_error(self, time: str | datetime | None) -> None:
        """Sets when a call last failed: naive local time, as ISO text or not."""
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        self._engine.set_last_error(self.workspace_id, None if moment is None else moment.timestamp())

    def override(self, kind: str, cap: Any) -> None:
        """Sets an administrator's override of one limit, beside those of others; ``None`` takes it away."""
        limits = {
            name: {"cap": term["cap"], "mode": term["mode"]}
            for name, term in self.terms()["limits"].items()
            if term["source"] == "override" and name != kind
        }
        if cap is not None:
            limits[kind] = cap
        if limits:
            self._engine.set_override("workspace", "", self.workspace_id, limits)
        else:
            self._engine.remove_override("workspace", "", self.workspace_id)

    def learn(self, failure: Failure) -> None:
        """Tells this workspace's breaker of a failure. Counts no request."""
        if failure:
            self._engine.learn(
                self.workspace_id, code=failure.code, status=failure.status, retry_after=failure.retry_after
            )

    def close_breaker(self) -> None:
        """Forgets the failures that hold calls back."""
        self._engine.close_breaker(self.workspace_id)
