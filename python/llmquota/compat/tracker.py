"""``WorkspaceQuotaTracker``: the legacy tracker, as a view of the engine."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmquota import _native
from llmquota.admission import GuardedCall
from llmquota.context import current_claim
from llmquota.manager import QuotaTracker
from llmquota.parsing import is_unicode
from llmquota.status import QuotaStatus

from . import shapes
from .account import Account
from .broadcast import Hub
from .classify import Failure, of_report
from .live import IdCounts, LiveDict, MinuteCounts, RateLimits, UsageStats, renew
from .real_usage import RealUsage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WorkspaceQuotaTracker"]

logger = logging.getLogger(__name__)

MAX_NAMES = 256
"""How many models and how many methods are told apart; further ones are counted together."""
MAX_ACTIVITY = 10
OTHER = "other"
_MAX_NAME_CHARS = 256
_MAX_ERROR_CHARS = 500
_FAILURES_TO_DEGRADE = 5
_WAITING = (QuotaStatus.RATE_LIMITED, QuotaStatus.QUOTA_EXCEEDED, QuotaStatus.DEGRADED)


class _OfRealUsage:
    """An attribute that :class:`RealUsage` has under another name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, tracker: Any, owner: type | None = None) -> Any:
        return self if tracker is None else getattr(tracker._real_usage, self._name)

    def __set__(self, tracker: Any, value: Any) -> None:
        setattr(tracker._real_usage, self._name, value)


class WorkspaceQuotaTracker(QuotaTracker):
    """The quota of one workspace.

    Its usage lies in the engine, so that no tracker goes stale and none that is forgotten takes its usage with it. What
    it keeps itself is who listens, and the models, methods and last calls that ``record_enhanced_usage`` told of.
    """

    usage_client = _OfRealUsage("client")
    real_usage_data = _OfRealUsage("data")
    last_real_usage_fetch = _OfRealUsage("fetched_at")
    real_usage_cache_minutes = _OfRealUsage("cache_minutes")

    def __new__(cls, workspace_id: Any = None, manager: Any = None) -> Self:
        """The tracker of a workspace; without a manager it has an engine of its own, and begins at zero.

        The two may come in either order: callers of the legacy module give the workspace alone.
        """
        manager, workspace_id = _in_order(workspace_id, manager)
        if manager is None:
            from .manager import MultiWorkspaceQuotaManager

            manager = MultiWorkspaceQuotaManager()
        return super().__new__(cls, manager, workspace_id)

    def __init__(self, workspace_id: Any = None, manager: Any = None) -> None:
        account = Account(self.manager, self.workspace_id)
        self._account = account
        self._usage_stats = UsageStats(account)
        self._rate_limits = RateLimits(account)
        self._request_counts = MinuteCounts(account, errors=False)
        self._error_counts = MinuteCounts(account, errors=True)
        self._by_id = {
            "goal_usage": IdCounts(account, "goal", lambda total: int(total["tokens"]), "tokens"),
            "task_usage": IdCounts(account, "task", lambda total: int(total["tokens"]), "tokens"),
            "goal_request_counts": IdCounts(account, "goal", shapes.successes, "requests"),
            "task_request_counts": IdCounts(account, "task", shapes.successes, "requests"),
        }
        self._hub = Hub(self._pushed, account.now)
        self._real_usage = RealUsage()
        self._lock = threading.Lock()
        self._enhanced = _no_activity()
        self._activity_set: tuple[datetime, int] | None = None
        self.last_reset = account.now()

    # --- what callers read, and assign ---

    @property
    def current_status(self) -> QuotaStatus:
        """The status that follows from counters, breaker and clock.

        Assigning moves the workspace's breaker, which is what can be remembered of a status: ``NORMAL`` and ``WARNING``
        close it, the others open it as a provider's own error would. A limit that is full stays full.
        """
        return QuotaStatus(self._account.snapshot()["status"])

    @current_status.setter
    def current_status(self, status: QuotaStatus | str) -> None:
        status = QuotaStatus(status)
        self._account.close_breaker()
        if status is QuotaStatus.RATE_LIMITED:
            self._account.learn(Failure("rate_limit_exceeded", 429))
        elif status is QuotaStatus.QUOTA_EXCEEDED:
            self._account.learn(Failure("insufficient_quota", 429))
        elif status is QuotaStatus.DEGRADED:
            for _ in range(_FAILURES_TO_DEGRADE):
                self._account.learn(Failure("server_error", 500))
        self._hub.changed()

    @property
    def usage_stats(self) -> LiveDict[str, Any]:
        """The nine numbers. Assigning a mapping sets all nine: what it lacks becomes 0 or ``None``."""
        renew(self._usage_stats)
        return self._usage_stats

    @usage_stats.setter
    def usage_stats(self, values: Mapping[str, Any]) -> None:
        self._usage_stats.assign(dict(values))
        self._hub.changed()

    @property
    def rate_limits(self) -> LiveDict[str, Any]:
        """The limits as they hold now. Writing one sets an administrator's override."""
        renew(self._rate_limits)
        return self._rate_limits

    @rate_limits.setter
    def rate_limits(self, limits: Mapping[str, Any]) -> None:
        now = dict(self._rate_limits)
        self._rate_limits.update({key: value for key, value in limits.items() if now.get(key) != value})

    @property
    def request_counts(self) -> LiveDict[datetime, int]:
        """Requests that did not fail, by minute and by day."""
        renew(self._request_counts)
        return self._request_counts

    @request_counts.setter
    def request_counts(self, counts: Mapping[datetime, int]) -> None:
        self._request_counts.clear()
        self._request_counts.update(counts)

    @property
    def error_counts(self) -> LiveDict[datetime, int]:
        """Requests that failed, by minute and by day."""
        renew(self._error_counts)
        return self._error_counts

    @error_counts.setter
    def error_counts(self, counts: Mapping[datetime, int]) -> None:
        self._error_counts.clear()
        self._error_counts.update(counts)

    @property
    def goal_usage(self) -> LiveDict[str, int]:
        """Tokens by goal."""
        return self._ids("goal_usage")

    @property
    def task_usage(self) -> LiveDict[str, int]:
        """Tokens by task."""
        return self._ids("task_usage")

    @property
    def goal_request_counts(self) -> LiveDict[str, int]:
        """Requests that did not fail, by goal."""
        return self._ids("goal_request_counts")

    @property
    def task_request_counts(self) -> LiveDict[str, int]:
        """Requests that did not fail, by task."""
        return self._ids("task_request_counts")

    def _ids(self, name: str) -> IdCounts:
        counts = self._by_id[name]
        renew(counts)
        return counts

    @property
    def enhanced_stats(self) -> dict[str, Any]:
        """What ``record_enhanced_usage`` told: a plain dict that may be written."""
        self._enhanced["daily_limits_configured"] = any(
            term["source"] != "builtin" and kind in ("requests_per_day", "tokens_per_day", "budget_usd_per_day")
            for kind, term in self._account.terms()["limits"].items()
        )
        return self._enhanced

    @enhanced_stats.setter
    def enhanced_stats(self, stats: dict[str, Any]) -> None:
        self._enhanced = {**_no_activity(), **stats}

    @property
    def connected_websockets(self) -> list[Any]:
        """Who listens."""
        return self._hub.sockets

    @connected_websockets.setter
    def connected_websockets(self, sockets: list[Any]) -> None:
        self._hub.sockets = sockets

    @property
    def last_activity(self) -> datetime:
        """When the workspace last made a call, to two seconds, or this object was made, whichever came later.

        What was assigned holds until the next call.
        """
        return self.last_activity_among(None)

    @last_activity.setter
    def last_activity(self, moment: datetime) -> None:
        self._activity_set = (moment, self._account.snapshot()["version"])

    def last_activity_among(self, used: Mapping[str, datetime] | None) -> datetime:
        """The same; ``used`` has what the engine knows of every workspace, for those who ask for many."""
        if self._activity_set is not None:
            assigned, version = self._activity_set
            if self._account.snapshot()["version"] == version:
                return assigned
        last = self._account.last_used() if used is None else used.get(self.workspace_id)
        return self.last_reset if last is None else max(last, self.last_reset)

    # --- what callers record ---

    def record_openai_error(self, error_type: str, error_message: str = "") -> None:
        """Counts a failed request, and what it says of the provider: ``type(exc).__name__`` and ``str(exc)``.

        The provider's code is read out of the SDK's text; free words do not count. It moves the breaker of this
        workspace alone.
        """
        self.record_failure(of_report(str(error_type), str(error_message)))

    def record_failure(self, failure: Failure) -> None:
        """Counts a failed request for a reason that is known."""
        if type(self).record_request is _native.Tracker.record_request and "record_request" not in self.__dict__:
            self.record_request(
                success=False,
                error_code=failure.code,
                error_status=failure.status,
                retry_after=failure.retry_after,
            )
        else:
            # Somebody has put another in its place, which may have the legacy arguments alone.
            self.record_request(success=False)
            self._account.learn(failure)
        self._hub.changed()

    def record_enhanced_usage(
        self,
        success: bool,
        tokens_used: int = 0,
        model: str = "unknown",
        api_method: str = "unknown",
        error: str | None = None,
    ) -> None:
        """Tells more of the call that ``record_request`` has just counted; counts no request itself.

        ``error`` is ``str(exc)``: the breaker learns from the provider's code in it.
        """
        tokens = max(0, int(tokens_used or 0))
        claim, method = current_claim(), str(api_method)[:_MAX_NAME_CHARS]
        if isinstance(claim, GuardedCall) and claim.is_for(self.workspace_id, self.manager) and is_unicode(method):
            # The row of the call is not written yet, and can have it.
            claim.method = method
        with self._lock:
            stats = self._enhanced
            if success:
                model_name = _name_in(stats["models_used"], model)
                stats["models_used"][model_name] += 1
                stats["tokens_by_model"][model_name] += tokens
                stats["api_methods_used"][_name_in(stats["api_methods_used"], api_method)] += 1
            else:
                stats["errors_by_method"][_name_in(stats["errors_by_method"], api_method)] += 1
            entry = {
                "timestamp": self._account.now().isoformat(),
                "model": str(model)[:_MAX_NAME_CHARS],
                "api_method": str(api_method)[:_MAX_NAME_CHARS],
                "tokens_used": tokens,
                "success": bool(success),
                "error": None if success or error is None else str(error)[:_MAX_ERROR_CHARS],
            }
            stats["recent_activity"].insert(0, entry)
            del stats["recent_activity"][MAX_ACTIVITY:]
        if not success and error is not None:
            self._account.learn(of_report(None, str(error)))
            self._hub.changed()

    def reset(self) -> None:
        """Forgets what the workspace has used, by goal and task too, and closes its breaker. Open holds stay."""
        super().reset()
        self.forget_activity()
        self._hub.changed()

    def forget_activity(self) -> None:
        """Forgets what ``record_enhanced_usage`` told."""
        with self._lock:
            self._enhanced = _no_activity()

    def renew_locks(self) -> None:
        """In a forked child: what another thread of the parent held would stay locked."""
        self._lock = threading.Lock()
        self._hub.renew_locks()
        self._real_usage.renew_locks()

    def cleanup_old_data(self) -> None:
        """Nothing is left to do: the engine forgets each minute and day as it ends."""

    # --- what callers show ---

    def get_status_data(self) -> dict[str, Any]:
        """How the workspace stands: a new dict, ready for JSON. Creates nothing in the engine."""
        snapshot = self._account.snapshot()
        waits = snapshot["status"] in _WAITING
        return shapes.status(
            snapshot,
            self._account.explain() if waits else None,
            self._account.top("goal"),
            self._account.top("task"),
        )

    def get_enhanced_status_data(self) -> dict[str, Any]:
        """Models, methods and last calls, and what the provider itself says where that was fetched."""
        models = self._account.attribution("model")
        with self._lock:
            return shapes.enhanced(self._enhanced, models, self._real_usage.data)

    def get_notification_data(self, language: str | None = None) -> dict[str, Any]:
        """What to tell the workspace's people, in the language of an ``Accept-Language`` value, else in English."""
        return shapes.notification(self._account.notice(language), self.get_status_data())

    def get_goal_quota_usage(self, goal_id: str) -> dict[str, Any]:
        """What one goal has used of the workspace's lifetime tokens."""
        goal = self._account.usage_of("goal", goal_id)["total"]
        return shapes.goal_usage(goal_id, goal, self._account.snapshot()["usage"]["total"])

    async def fetch_real_usage_data(self) -> dict[str, Any] | None:
        """What the provider itself says was used, at most five minutes old; ``None`` on any failure."""
        return await self._real_usage.fetch()

    # --- who is told ---

    def add_websocket(self, websocket: Any) -> None:
        """From here on ``websocket`` hears of changes, on the loop that runs here; without one, of broadcasts alone."""
        self._hub.add(websocket)

    def remove_websocket(self, websocket: Any) -> None:
        """Forgets it; one that is unknown is no error."""
        self._hub.remove(websocket)

    async def broadcast_status_update(self, status_data: Mapping[str, Any]) -> None:
        """Sends ``{"type": "quota_update", "data": status_data, "timestamp"}`` to all who listen."""
        await self._hub.broadcast(status_data)

    def _pushed(self) -> dict[str, Any]:
        status = self.get_status_data()
        return {**status, **self.get_enhanced_status_data()} if self._enhanced["recent_activity"] else status


def _in_order(workspace_id: Any, manager: Any) -> tuple[Any, Any]:
    """Manager and workspace, whichever came first."""
    if isinstance(workspace_id, _native.Manager):
        return workspace_id, manager
    return manager, workspace_id


def _no_activity() -> dict[str, Any]:
    return {
        "models_used": defaultdict(int),
        "api_methods_used": defaultdict(int),
        "tokens_by_model": defaultdict(int),
        "errors_by_method": defaultdict(int),
        "recent_activity": [],
        "daily_limits_configured": False,
    }


def _name_in(known: Mapping[str, int], name: object) -> str:
    """The name to count under: callers give names freely, and memory is bounded."""
    text = str(name)[:_MAX_NAME_CHARS]
    return text if text in known or len(known) < MAX_NAMES else OTHER
