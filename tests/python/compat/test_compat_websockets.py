"""A4, A7: who listens is told, from any thread, and one that does not listen delays nobody."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from unittest.mock import AsyncMock

import pytest
from compat_clients import Broken, Client, Stuck

from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, QuotaStatus, WorkspaceQuotaTracker, broadcast


async def until(condition: object, seconds: float = 3.0) -> None:
    """Waits for what another task or thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def test_a_broadcast_is_a_coroutine_object(tracker: WorkspaceQuotaTracker) -> None:
    coroutine = tracker.broadcast_status_update({})
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


async def test_a_broadcast_reaches_all_in_the_envelope(tracker: WorkspaceQuotaTracker) -> None:
    clients = [Client(), Client()]
    for client in clients:
        tracker.add_websocket(client)
    assert tracker.connected_websockets == clients
    await asyncio.create_task(tracker.broadcast_status_update({"status": "normal", "n": 1}))
    for client in clients:
        (message,) = client.messages
        assert message == {
            "type": "quota_update",
            "data": {"status": "normal", "n": 1},
            "timestamp": message["timestamp"],
        }
        assert message["timestamp"].startswith("2026-03-14T")


async def test_a_client_whose_send_fails_is_forgotten(tracker: WorkspaceQuotaTracker) -> None:
    good, bad = Client(), Broken()
    for client in (bad, good):
        tracker.add_websocket(client)
    await tracker.broadcast_status_update(tracker.get_status_data())
    assert tracker.connected_websockets == [good]
    assert len(good.messages) == 1


async def test_removing_is_silent_and_stops_the_messages(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.remove_websocket(client)
    tracker.add_websocket(client)
    tracker.add_websocket(client)
    assert len(tracker.connected_websockets) == 1
    tracker.remove_websocket(client)
    tracker.remove_websocket(client)
    await tracker.broadcast_status_update({"status": "normal"})
    assert client.messages == []
    assert not tracker.connected_websockets


async def test_the_list_may_be_changed_by_others(tracker: WorkspaceQuotaTracker) -> None:
    first, second = Client(), Client()
    tracker.connected_websockets.append(first)
    await tracker.broadcast_status_update({"status": "normal"})
    tracker.connected_websockets = [second]
    await tracker.broadcast_status_update({"status": "warning"})
    assert (first.statuses, second.statuses) == (["normal"], ["warning"])


async def test_any_object_with_an_async_send_text_will_do(tracker: WorkspaceQuotaTracker) -> None:
    client = AsyncMock()
    tracker.add_websocket(client)
    await tracker.broadcast_status_update({"status": "normal"})
    client.send_text.assert_awaited_once()


async def test_a_change_of_status_is_pushed_without_a_word(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    client = Client()
    tracker.add_websocket(client)
    tracker.rate_limits["requests_per_minute"] = 1
    tracker.record_request(True, 5)
    await until(lambda: client.statuses[-1:] == ["rate_limited"])
    clock.advance(61)
    await until(lambda: client.statuses[-1:] == ["normal"])


async def test_nothing_is_pushed_while_nothing_changes(tracker: WorkspaceQuotaTracker, clock: ManualClock) -> None:
    client = Client()
    tracker.record_request(True, 5)
    tracker.add_websocket(client)
    for _ in range(3):
        clock.advance(1)
        await asyncio.sleep(broadcast.LOOK_INTERVAL)
    assert client.messages == []


@pytest.mark.parametrize("change", ["error", "status", "stats", "reset"])
async def test_a_change_by_hand_is_pushed_at_once(tracker: WorkspaceQuotaTracker, change: str) -> None:
    tracker.record_request(True, 5)
    client = Client()
    tracker.add_websocket(client)
    {
        "error": lambda: tracker.record_openai_error("RateLimitError", ""),
        "status": lambda: setattr(tracker, "current_status", QuotaStatus.QUOTA_EXCEEDED),
        "stats": lambda: setattr(tracker, "usage_stats", {}),
        "reset": tracker.reset,
    }[change]()
    await asyncio.sleep(0.05)
    assert len(client.messages) == 1


async def test_activity_rides_along_once_there_is_some(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    tracker.record_request(True, 5)
    tracker.record_enhanced_usage(success=True, tokens_used=5, model="m", api_method="a")
    await until(lambda: client.messages)
    assert client.messages[-1]["data"]["enhanced_tracking"]["models_breakdown"]["m"]["request_count"] == 1


def test_a_client_added_without_a_loop_hears_of_broadcasts(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    tracker.record_openai_error("RateLimitError", "")
    asyncio.run(tracker.broadcast_status_update({"status": "normal"}))
    assert client.statuses == ["normal"]
    asyncio.run(tracker.broadcast_status_update({"status": "warning"}))
    assert client.statuses == ["normal", "warning"]


async def test_a_broadcast_from_another_loop_is_sent_on_the_clients_own(tracker: WorkspaceQuotaTracker) -> None:
    loops = []

    class Own(Client):
        async def send_text(self, data: str) -> None:
            loops.append(asyncio.get_running_loop())
            await super().send_text(data)

    client = Own()
    tracker.add_websocket(client)
    await asyncio.to_thread(asyncio.run, tracker.broadcast_status_update({"status": "normal", "n": 1}))
    await until(lambda: client.messages)
    assert set(loops) == {asyncio.get_running_loop()}


def test_clients_of_a_loop_that_ended_are_forgotten(tracker: WorkspaceQuotaTracker) -> None:
    gone = Client()

    async def stay() -> None:
        tracker.add_websocket(gone)

    asyncio.run(stay())
    tracker.record_openai_error("RateLimitError", "")
    assert gone not in tracker.connected_websockets


async def test_a_tracker_with_listeners_is_not_cleaned_up(
    manager: MultiWorkspaceQuotaManager, clock: ManualClock
) -> None:
    client = Client()
    manager.get_tracker("watched").add_websocket(client)
    clock.advance(90_000)
    assert manager.cleanup_inactive_workspaces() == 0
    manager.get_tracker("watched").remove_websocket(client)
    assert manager.cleanup_inactive_workspaces() == 1


async def test_what_waits_for_a_stuck_client_is_bounded(
    tracker: WorkspaceQuotaTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "GRACE", 0.0)
    stuck = Stuck()
    tracker.add_websocket(stuck)
    for number in range(500):
        await tracker.broadcast_status_update({"type": "cost_intelligence_alerts", "alerts": [number]})
    (client,) = tracker._hub._clients.values()
    assert len(client._waiting) <= broadcast.MAX_WAITING


async def test_a_hundred_threads_that_record_are_heard(tracker: WorkspaceQuotaTracker) -> None:
    client = Client()
    tracker.add_websocket(client)
    threads = [threading.Thread(target=tracker.record_request, args=(True, 1)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await until(lambda: client.messages and client.messages[-1]["data"]["tokens_per_minute"]["current"] == 100)
