"""The manager of all workspaces, and the tracker of one.

:data:`workspace_quota_manager` is the one that is made from the environment; it opens its store when it is first used,
so that no setting can stop the import.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from . import _native
from ._native import Hold, ManualClock
from .bookkeeping import Bookkeeping
from .context import Context, current, resolve_workspace
from .errors import QuotaError
from .events import Subscription
from .parsing import shown_store
from .settings import Settings
from .sources import DEFAULT_HISTORY_DAYS, DEFAULT_POLICY, DEFAULT_TIMEZONE, Arguments, Environment, Source
from .status import QuotaStatus

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Hold", "ManualClock", "QuotaManager", "QuotaTracker", "record_request", "workspace_quota_manager"]

MAX_TRACKERS = 10_000
"""Tracker objects that a manager keeps by itself; past it the oldest are let go. Their usage lies in the store."""


class QuotaTracker(_native.Tracker):
    """One workspace's own door to its quota: get it from :meth:`QuotaManager.get_tracker`.

    Its usage lies in the manager's store, so a tracker that is kept never goes stale. Threads, forked children and
    event loops may use one tracker at once.
    """

    @property
    def status(self) -> QuotaStatus:
        """How the workspace stands now."""
        return QuotaStatus(self.snapshot()["status"])

    async def acquire(
        self,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        ttl: float = 600.0,
        priority: str = "normal",
        timeout: float | None = None,
    ) -> Hold:
        """Waits its turn and takes a hold, as :meth:`reserve` does without waiting.

        ``priority`` is ``"high"``, ``"normal"`` or ``"low"``; within one, workspaces take turns by their weight, and a
        workspace's calls go by arrival, in all processes of the store. ``timeout`` is in seconds, by the manager's
        clock or the machine's, whichever passes first; ``None`` waits for ever, 0 tries once.
        Raises :class:`QuotaExceeded` where the call fits at no time, and when the timeout has passed: its ``reason``
        and ``queued_ahead`` are those of the last look. Cancelled, it leaves the queue and holds nothing.
        """
        waiting = self.queue_up(
            tokens,
            model=model,
            goal_id=goal_id,
            task_id=task_id,
            user_id=user_id,
            provider=provider,
            credential=credential,
            cost_usd=cost_usd,
            ttl=ttl,
            priority=priority,
            timeout=timeout,
        )
        if isinstance(waiting, Hold):
            return waiting
        try:
            return await waiting
        except BaseException:
            # Granted in the very turn of the loop in which this task was cancelled.
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().release()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workspace_id!r}>"


class QuotaManager(Bookkeeping):
    """Gives every workspace its own quota.

    Args:
        store: ``"memory:"`` is private to the process, ``"shared:/absolute/path"`` one for all processes of the host,
            which restarts leave as it is. ``?size=512MB`` behind either sets its bound.
        limits: the path of a ``limits.toml``, read again when it changes, or a mapping of the same shape.
        clock: a :class:`ManualClock`, for tests; the machine's without one.
        timezone: where days and months begin, by IANA name, unless ``limits`` says otherwise.
        on_store_failure: ``"closed"`` refuses calls while the store cannot be asked, ``"open"`` lets them pass.
        history_days: how many days a shared store keeps each call as a row of its history.

    Raises:
        QuotaConfigError: a setting is not valid, or the limits file cannot be read, or the directory of a shared store
            cannot serve.
        QuotaStoreError: a shared store is damaged, full, or of another version; the message says what to do.

    Threads, forked children and event loops may use one manager at once. On memory a forked child goes on with a copy
    of what was used, on a shared store with the same. The holds that were open stay the parent's.
    """

    #: The class of the trackers that are made from here on.
    tracker_class: type[QuotaTracker] = QuotaTracker

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        # Opened by its source, which subclasses and the environment's manager may put off.
        return super().__new__(cls, None)

    def __init__(
        self,
        store: str = "memory:",
        limits: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        clock: ManualClock | None = None,
        timezone: str = DEFAULT_TIMEZONE,
        on_store_failure: str = DEFAULT_POLICY,
        *,
        history_days: int = DEFAULT_HISTORY_DAYS,
        _source: Source | None = None,
    ) -> None:
        self._source = _source or Arguments(store, limits, clock, timezone, on_store_failure, history_days)
        # The strong references keep a tracker that somebody will ask for again; the weak ones make sure that one that
        # is held comes back as the same object.
        self._trackers: dict[str, QuotaTracker] = {}
        self._held: weakref.WeakValueDictionary[str, QuotaTracker] = weakref.WeakValueDictionary()
        self._renew_locks()
        _managers.add(self)
        if _source is None:
            self._open()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> QuotaManager:
        """A manager of what the environment (``environ``, by default the process's) says when it is first used.

        Settings that are not valid are named in one log entry, and their defaults hold. Only a use can raise, as long
        as the store is not open: :class:`QuotaConfigError` where ``LLMQUOTA_REQUIRE_SHARED`` is set and the store is
        not shared, that or :class:`QuotaStoreError` where ``LLMQUOTA_STORE`` names a shared one that cannot be opened.
        """
        return cls(_source=Environment(environ))

    def _renew_locks(self) -> None:
        self._settings_lock = threading.Lock()
        self._trackers_lock = threading.Lock()

    def _open(self) -> None:
        """Called by the first use."""
        with self._settings_lock:
            if not self.is_open:
                self._source.open(self)

    def _reload(self, now: float) -> None:
        """Called by a use, once a second at most, where there is a limits file. ``now`` is in seconds of any clock."""
        # Whoever comes second need not wait: the first one reads what the second would.
        if self._settings_lock.acquire(blocking=False):
            try:
                self._source.reload(self, now)
            finally:
                self._settings_lock.release()

    @property
    def settings(self) -> Settings:
        """The settings of the environment that are in force; the defaults for a manager made with arguments."""
        return self._source.settings

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the settings and the limits file, and what holds instead; empty where nothing is."""
        return self._source.problems

    def doctor(self) -> dict[str, Any]:
        """Which store is in use, by which processes, and what is wrong with it and with the settings.

        ``store`` (its name without secrets), ``version`` (of the package), ``directory``; ``accounts`` and
        ``accounts_bound``, ``folded``, ``open_holds``, ``journal_waiting`` and ``journal_bound`` (records on their way
        to history); ``processes``, each with ``pid``, ``version`` and ``is_self``; ``families``, each a list of the
        process ids of one program that count on their own; ``settings`` and ``warnings``, a sentence for each thing
        that is wrong, none where all is well. Everything can be written as JSON.
        """
        # Only for those who ask, so that no import pays for it.
        from . import beacon

        report = self.report()
        families = [family for family in beacon.families() if len(family.members) > 1]
        if report["directory"] is None:
            report["warnings"] += [beacon.sentence(family) for family in families]
        return {
            **report,
            "store": shown_store(self._source.store),
            "version": _native.__version__,
            "families": [list(family.members) for family in families],
            "settings": list(self.problems),
        }

    def get_tracker(self, workspace_id: str | None = None) -> QuotaTracker:
        """The tracker of a workspace: for one id the same object as long as somebody holds it.

        ``None``, ``""``, ``"_global"`` and ``"global"`` are one workspace. Raises :class:`QuotaInputError` for an id
        that is not 1 to 256 bytes of UTF-8 without control characters.
        """
        try:
            return self._trackers[workspace_id]  # type: ignore[index]  # None is simply not there
        except (KeyError, TypeError):
            return self._made(workspace_id)

    def _made(self, workspace_id: str | None) -> QuotaTracker:
        # Outside of the lock: it checks the id, and may open the store.
        made = self.tracker_class(self, workspace_id)
        with self._trackers_lock:
            tracker = self._held.setdefault(made.workspace_id, made)
            self._trackers[made.workspace_id] = tracker
            if len(self._trackers) > MAX_TRACKERS:
                for oldest in list(self._trackers)[: MAX_TRACKERS // 10]:
                    del self._trackers[oldest]
        return tracker

    def remove_tracker(self, workspace_id: str | None) -> None:
        """Forgets the tracker object of a workspace, and nothing that it has used. Silent where there is none."""
        name = "global" if workspace_id in (None, "", "_global") else str(workspace_id)
        self._trackers.pop(name, None)

    def get_all_trackers(self) -> Mapping[str, QuotaTracker]:
        """The trackers that were asked for, by workspace: a copy."""
        return dict(self._trackers)

    def close(self) -> None:
        """Closes the store; the next use opens it again. What a shared one has not in history yet is written first."""
        self._write_out()
        super().close()

    def _write_out(self) -> None:
        # Whoever reads the files after the last process has ended, another version of the package too, finds all there.
        # After a kill the next process does it.
        if self.is_open and not self._source.store.startswith("memory:"):
            with contextlib.suppress(QuotaError):
                self.flush()

    def subscribe(self, workspace_id: str | None = None) -> Subscription:
        """What happens from now on, in this process and in the others of the store: of one workspace, or of all.

        Read it with ``next(timeout=...)``, ``for`` or ``async for``; leave its block, close it or drop it to end it.
        Raises :class:`QuotaInputError` for an id that is not valid.
        """
        return Subscription(self, workspace_id)

    def events(self, workspace_id: str | None = None) -> Subscription:
        """The same, as it reads best: ``async for event in manager.events("acme")``."""
        return self.subscribe(workspace_id)

    def restart(self) -> None:
        """Opens the store again, with the settings as they are now. Trackers stay valid.

        On memory that forgets everything that was counted; a shared store forgets nothing. For tests, and for settings
        of the environment that changed.
        """
        self.close()
        if isinstance(self._source, Arguments):
            self._open()


# Locks of managers that another thread held while this process was forked would stay locked in it.
_managers: weakref.WeakSet[QuotaManager] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for manager in list(_managers):
        manager._renew_locks()
        if manager.is_open:
            manager._source.forked(manager)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _write_out_all() -> None:
    for manager in list(_managers):
        manager._write_out()


atexit.register(_write_out_all)

# Here, for it is a subclass of the above: code that knows the legacy names and code that does not share one manager.
from .compat.manager import MultiWorkspaceQuotaManager  # noqa: E402

workspace_quota_manager: MultiWorkspaceQuotaManager = MultiWorkspaceQuotaManager()
"""The manager made from the environment, on its first use."""


def record_request(
    success: bool = True,
    tokens_used: SupportsIndex | None = 0,
    goal_id: str | None = None,
    task_id: str | None = None,
    workspace_id: str | None = None,
    *,
    model: str | None = None,
    user_id: str | None = None,
    provider: str | None = None,
    credential: str | None = None,
    input_tokens: SupportsIndex | None = None,
    output_tokens: SupportsIndex | None = None,
    cached_tokens: SupportsIndex | None = None,
    reasoning_tokens: SupportsIndex | None = None,
    cost_usd: SupportsFloat | None = None,
    error_code: str | None = None,
    error_status: SupportsIndex | None = None,
    retry_after: SupportsFloat | None = None,
    service_tier: str | None = None,
    request_id: str | None = None,
    latency_ms: SupportsFloat | None = None,
    method: str | None = None,
) -> None:
    """Reports a call that has happened to :data:`workspace_quota_manager`. It always lands, past any limit.

    Whose call it was is taken from the arguments, then from :class:`quota_context`, then it is ``"global"``'s. Numbers
    and errors are those of ``QuotaTracker.record_request``; ``request_id`` (the provider's), ``latency_ms`` and
    ``method`` (such as ``"chat.completions.create"``) are for history alone. Raises :class:`QuotaInputError` for input
    that cannot be, and then nothing is recorded.
    """
    whose = Context(workspace_id or None, goal_id, task_id, user_id, model).within(current())
    workspace_quota_manager.record(
        resolve_workspace(whose.workspace_id),
        success,
        tokens_used,
        whose.goal_id,
        whose.task_id,
        model=whose.model,
        user_id=whose.user_id,
        provider=provider,
        credential=credential,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        reasoning_tokens=reasoning_tokens,
        cost_usd=cost_usd,
        error_code=error_code,
        error_status=error_status,
        retry_after=retry_after,
        service_tier=service_tier,
        request_id=request_id,
        latency_ms=latency_ms,
        method=method,
    )
