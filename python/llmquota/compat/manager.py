"""``MultiWorkspaceQuotaManager``: the manager with the legacy names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from llmquota.manager import QuotaManager, QuotaTracker
from llmquota.sources import Environment

from . import clock
from .tracker import WorkspaceQuotaTracker

__all__ = ["MultiWorkspaceQuotaManager"]

GLOBAL = "global"


class MultiWorkspaceQuotaManager(QuotaManager):
    """Gives each workspace its tracker, always the same one. Without any argument it is made from the environment."""

    tracker_class = WorkspaceQuotaTracker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._global: QuotaTracker | None = None
        if not args and not kwargs:
            kwargs = {"_source": Environment()}
        super().__init__(*args, **kwargs)

    def get_tracker(self, workspace_id: str | None = None) -> WorkspaceQuotaTracker:
        """The tracker of a workspace; ``None``, ``""`` and ``"_global"`` are ``"global"``. Counts nothing by itself."""
        return cast(WorkspaceQuotaTracker, super().get_tracker(workspace_id))

    def _made(self, workspace_id: str | None) -> QuotaTracker:
        tracker = super()._made(workspace_id)
        if tracker.workspace_id == GLOBAL:
            # Bound by name all over a backend, so it is never another object.
            self._global = tracker
        return tracker

    def _renew_locks(self) -> None:
        super()._renew_locks()
        # Empty when this is called for a new manager; else this is a forked child.
        for tracker in list(self._held.values()):
            cast(WorkspaceQuotaTracker, tracker).renew_locks()

    @property
    def workspace_trackers(self) -> dict[str, WorkspaceQuotaTracker]:
        """The tracker objects that the manager keeps, by workspace: the dict itself."""
        return cast("dict[str, WorkspaceQuotaTracker]", self._trackers)

    def get_all_trackers(self) -> dict[str, WorkspaceQuotaTracker]:
        """The same: a copy."""
        return dict(self.workspace_trackers)

    def remove_tracker(self, workspace_id: str | None) -> None:
        """Forgets a tracker object; one that is unknown is no error. Its usage stays, and so does the global one."""
        if workspace_id is None or workspace_id == GLOBAL:
            return
        with self._trackers_lock:
            self._held.pop(workspace_id, None)
            self._trackers.pop(workspace_id, None)

    def cleanup_inactive_workspaces(self, inactive_hours: float = 24) -> int:
        """Forgets the tracker objects of workspaces that made no call for so long, unless somebody listens to them.

        Returns how many. Their usage stays in the engine, so no budget begins anew, and whoever holds such a tracker
        goes on with it.
        """
        since = clock.local(self.now()) - timedelta(hours=inactive_hours)
        used = {name: clock.local(at) for name, at in self.workspaces()}
        idle = [
            name
            for name, tracker in self.get_all_trackers().items()
            if name != GLOBAL and not tracker.connected_websockets and tracker.last_activity_among(used) <= since
        ]
        # Kept in sight as long as somebody holds it, so that it stays the tracker of its workspace.
        with self._trackers_lock:
            return sum(self._trackers.pop(name, None) is not None for name in idle)

    def restart(self) -> None:
        """Forgets everything that was counted, and what trackers keep themselves. Trackers stay valid."""
        super().restart()
        for tracker in list(self._held.values()):
            cast(WorkspaceQuotaTracker, tracker).forget_activity()
