"""A4: the manager, which forgets objects and never usage."""

from __future__ import annotations

import gc
import threading
from datetime import timedelta

import pytest

from llmquota import QuotaInputError, manager as core
from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, WorkspaceQuotaTracker


def test_a_tracker_is_made_once(manager: MultiWorkspaceQuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    assert isinstance(tracker, WorkspaceQuotaTracker)
    assert manager.get_tracker("acme") is tracker
    assert manager.workspace_trackers == {"acme": tracker}
    assert isinstance(manager.workspace_trackers, dict)


def test_all_trackers_are_a_copy(manager: MultiWorkspaceQuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    copy = manager.get_all_trackers()
    assert copy == {"acme": tracker}
    copy.clear()
    assert manager.get_all_trackers() == {"acme": tracker}


@pytest.mark.parametrize("name", ["x" * 257, "a\0b", "x" * 10_000_000, 5, b"acme"])
def test_an_id_that_is_none_is_refused(manager: MultiWorkspaceQuotaManager, name: object) -> None:
    with pytest.raises(QuotaInputError, match="workspace_id"):
        manager.get_tracker(name)  # type: ignore[arg-type]
    assert manager.workspace_trackers == {}


def test_a_removed_tracker_comes_back_with_its_usage(manager: MultiWorkspaceQuotaManager) -> None:
    old = manager.get_tracker("acme")
    old.record_request(True, 100)
    manager.remove_tracker("acme")
    manager.remove_tracker("acme")
    manager.remove_tracker("unheard-of")
    assert "acme" not in manager.workspace_trackers
    new = manager.get_tracker("acme")
    assert new is not old
    assert new.usage_stats["tokens_used"] == 100
    old.record_request(True, 1)
    assert new.usage_stats["tokens_used"] == 101


def test_cleanup_forgets_objects_and_no_usage(manager: MultiWorkspaceQuotaManager, clock: ManualClock) -> None:
    kept = manager.get_tracker("kept")
    kept.rate_limits["requests_per_day"] = 1
    clock.advance(2)
    for name in ("kept", "idle", "global"):
        manager.get_tracker(name).record_request(True, 10)
    clock.advance(23 * 3600)
    manager.get_tracker("busy").record_request(True, 1)
    assert manager.cleanup_inactive_workspaces() == 0
    clock.advance(3600)
    assert manager.cleanup_inactive_workspaces(inactive_hours=24) == 2
    assert set(manager.workspace_trackers) == {"global", "busy"}
    # Who held it still has the tracker of its workspace.
    assert manager.get_tracker("kept") is kept
    assert kept.usage_stats["tokens_used"] == 10
    assert manager.get_tracker("idle").usage_stats["tokens_used"] == 10


def test_cleanup_goes_by_an_activity_that_was_assigned(manager: MultiWorkspaceQuotaManager, clock: ManualClock) -> None:
    tracker = manager.get_tracker("acme")
    tracker.record_request()
    tracker.last_activity -= timedelta(hours=25)
    assert manager.cleanup_inactive_workspaces(24) == 1


def test_a_budget_is_not_escaped_by_forgetting(manager: MultiWorkspaceQuotaManager) -> None:
    manager.get_tracker("acme").rate_limits["requests_per_day"] = 1
    manager.get_tracker("acme").record_request()
    manager.remove_tracker("acme")
    gc.collect()
    assert not manager.get_tracker("acme").can_make_request()


def test_a_subclass_can_give_its_own_trackers(clock: ManualClock) -> None:
    class Tracker(WorkspaceQuotaTracker):
        pass

    class Manager(MultiWorkspaceQuotaManager):
        tracker_class = Tracker

    manager = Manager(clock=clock)
    assert type(manager.get_tracker("acme")) is Tracker
    assert manager.get_tracker(None) is manager.get_tracker("_global")


def test_a_restart_forgets_all_and_keeps_the_objects(manager: MultiWorkspaceQuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    tracker.record_request(True, 5)
    tracker.record_enhanced_usage(success=True, tokens_used=5, model="m")
    manager.restart()
    assert manager.get_tracker("acme") is tracker
    assert tracker.usage_stats["tokens_used"] == 0
    assert tracker.enhanced_stats["models_used"] == {}


def test_threads_get_one_tracker(manager: MultiWorkspaceQuotaManager) -> None:
    found: list[WorkspaceQuotaTracker] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        found.append(manager.get_tracker("acme"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(tracker) for tracker in found}) == 1


def test_objects_are_bounded_and_the_global_one_stays(
    manager: MultiWorkspaceQuotaManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "MAX_TRACKERS", 100)
    of_global = id(manager.get_tracker("global"))
    for number in range(1_000):
        manager.get_tracker(f"asked-{number}").get_status_data()
    gc.collect()
    assert len(manager.workspace_trackers) <= 100
    assert id(manager.get_tracker(None)) == of_global
    assert [name for name, _ in manager.workspaces()] == ["global"]
