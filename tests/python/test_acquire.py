"""Waiting: whose turn it is, when it is told no, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from llmquota import Hold, ManualClock, QuotaExceeded, QuotaInputError, QuotaManager, QuotaTracker


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def manager(clock: ManualClock) -> QuotaManager:
    limits = {
        "defaults": {"tokens_per_minute": 1_000},
        "workspaces": {"one": {"max_concurrent": 1}, "two": {"max_concurrent": 1}},
    }
    return QuotaManager(clock=clock, limits=limits)


@pytest.fixture
def tracker(manager: QuotaManager) -> QuotaTracker:
    return manager.get_tracker("one")


def open_holds(tracker: QuotaTracker) -> int:
    return int(tracker.snapshot()["holds"]["open"])


async def until_waiting(tracker: QuotaTracker, waiters: int) -> None:
    """Until so many wait for the workspace's one place: a plain reserve is refused for them."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if waiting(tracker) >= waiters:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{waiters} waiters did not come")


def waiting(tracker: QuotaTracker) -> int:
    try:
        tracker.reserve().release()
    except QuotaExceeded as error:
        return error.queued_ahead
    return 0


def block(seconds: float) -> None:
    """Stops the loop, so that a grant finds nobody who takes it."""
    time.sleep(seconds)


async def test_there_is_no_wait_where_there_is_room(tracker: QuotaTracker) -> None:
    hold = await tracker.acquire(10, model="gpt-4o", goal_id="g")
    assert isinstance(hold, Hold)
    assert hold.state == "reserved"
    hold.release()


async def test_it_is_a_coroutine_that_a_task_takes(tracker: QuotaTracker) -> None:
    task = asyncio.create_task(tracker.acquire(10))
    (await task).release()


async def test_a_release_hands_on(tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    task = asyncio.create_task(tracker.acquire())
    await until_waiting(tracker, 1)
    held.release()
    async with await asyncio.wait_for(task, 10) as hold:
        hold.settle(1)
    assert open_holds(tracker) == 0


async def test_a_clock_that_moves_wakes(clock: ManualClock, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=1_000)
    task = asyncio.create_task(tracker.acquire(10))
    await until_waiting(tracker, 1)
    began = time.monotonic()
    clock.advance(61)
    (await asyncio.wait_for(task, 10)).release()
    assert time.monotonic() - began < 0.9, "it was woken, and did not sleep its nap out"


async def test_those_who_wait_go_first_come_first_served_within_their_priority(tracker: QuotaTracker) -> None:
    held, order, tasks = tracker.reserve(), list[str](), []

    async def wait(name: str, priority: str) -> None:
        hold = await tracker.acquire(priority=priority)
        order.append(name)
        hold.release()

    for number, (name, priority) in enumerate(
        [("n1", "normal"), ("l1", "low"), ("n2", "normal"), ("h1", "high"), ("h2", "high"), ("l2", "low")]
    ):
        tasks.append(asyncio.create_task(wait(name, priority)))
        await until_waiting(tracker, number + 1)
    held.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert order == ["h1", "h2", "n1", "n2", "l1", "l2"]


async def test_a_plain_reserve_does_not_pass_those_who_wait(clock: ManualClock, tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    task = asyncio.create_task(tracker.acquire())
    await until_waiting(tracker, 1)
    with pytest.raises(QuotaExceeded) as caught:
        tracker.reserve()
    assert (caught.value.reason, caught.value.queued_ahead) == ("queue", 1)
    held.release()
    (await asyncio.wait_for(task, 10)).release()


async def test_a_full_workspace_does_not_hold_up_another(manager: QuotaManager, tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    task = asyncio.create_task(tracker.acquire())
    await until_waiting(tracker, 1)
    (await asyncio.wait_for(manager.get_tracker("two").acquire(), 10)).release()
    held.release()
    (await asyncio.wait_for(task, 10)).release()


async def test_what_fits_at_no_time_is_refused_at_once(tracker: QuotaTracker) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        await tracker.acquire(1_001)
    assert caught.value.never_fits


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_a_timeout_says_why(tracker: QuotaTracker, timeout: float) -> None:
    held = tracker.reserve()
    with pytest.raises(QuotaExceeded) as caught:
        await asyncio.wait_for(tracker.acquire(timeout=timeout), 10)
    assert (caught.value.reason, caught.value.limits[0]["limit"]) == ("limit", "max_concurrent")
    held.release()
    tracker.reserve().release()


async def test_a_timeout_behind_others_says_how_many(tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    task = asyncio.create_task(tracker.acquire())
    await until_waiting(tracker, 1)
    with pytest.raises(QuotaExceeded) as caught:
        await asyncio.wait_for(tracker.acquire(timeout=0), 10)
    assert (caught.value.reason, caught.value.queued_ahead) == ("queue", 1)
    held.release()
    (await asyncio.wait_for(task, 10)).release()


async def test_a_timeout_passes_on_the_managers_clock_too(clock: ManualClock, tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    task = asyncio.create_task(tracker.acquire(timeout=30))
    await until_waiting(tracker, 1)
    clock.advance(30)
    with pytest.raises(QuotaExceeded):
        await asyncio.wait_for(task, 10)
    held.release()


async def test_a_cancelled_task_leaves_the_queue(tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    tasks = [asyncio.create_task(tracker.acquire()) for _ in range(5)]
    await until_waiting(tracker, 5)
    for task in tasks[:4]:
        task.cancel()
    await asyncio.gather(*tasks[:4], return_exceptions=True)
    held.release()
    (await asyncio.wait_for(tasks[4], 10)).release()
    tracker.reserve().release()


async def test_a_grant_that_nobody_takes_is_not_lost(tracker: QuotaTracker) -> None:
    """Cancelled at every moment around its grant, a task leaves no hold open."""
    for round_ in range(200):
        # By the queue: the grant of the round before may still be on its way back.
        held = await tracker.acquire(timeout=10)
        task = asyncio.create_task(tracker.acquire())
        if round_ % 4:
            await until_waiting(tracker, 1)
        held.release()
        for _ in range(round_ % 7):
            await asyncio.sleep(0)
        block(0.0005 * (round_ % 5))
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, Hold):
            result.release()
        del task, result
    deadline = time.monotonic() + 10
    while open_holds(tracker) and time.monotonic() < deadline:
        gc.collect()
        await asyncio.sleep(0.01)
    assert open_holds(tracker) == 0
    tracker.reserve().release()


async def test_two_queues_that_wake_each_other_let_the_machine_rest(manager: QuotaManager) -> None:
    held = [manager.get_tracker(name).reserve() for name in ("one", "two")]
    tasks = [asyncio.create_task(manager.get_tracker(name).acquire()) for name in ("one", "two")]
    for name in ("one", "two"):
        await until_waiting(manager.get_tracker(name), 1)
    began = manager.telemetry()["refusals"]["limit"]
    await asyncio.sleep(0.5)
    assert manager.telemetry()["refusals"]["limit"] - began < 1_500
    for hold in held:
        hold.release()
    for task in tasks:
        (await asyncio.wait_for(task, 10)).release()


async def test_many_tasks_share_one_place(manager: QuotaManager, tracker: QuotaTracker) -> None:
    inside, most, done = 0, 0, 0

    async def work() -> None:
        nonlocal inside, most, done
        async with await tracker.acquire(1) as hold:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            done += 1
            hold.settle(1)

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(50))), 60)
    assert (most, done, open_holds(tracker)) == (1, 50, 0)


def test_one_manager_serves_many_loops(tracker: QuotaTracker) -> None:
    async def work() -> None:
        for _ in range(5):
            async with await tracker.acquire(1) as hold:
                await asyncio.sleep(0)
                hold.settle(1)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tracker.snapshot()["usage"]["total"]["requests"] == 20
    assert open_holds(tracker) == 0


def test_it_needs_a_loop(tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    with pytest.raises(RuntimeError, match="no running event loop"):
        tracker.queue_up()
    held.release()
    tracker.reserve().release()


# --- threads ---


def test_a_thread_waits_and_others_run(tracker: QuotaTracker) -> None:
    held = tracker.reserve()
    got = list[Hold]()
    thread = threading.Thread(target=lambda: got.append(tracker.acquire_sync(1)))
    thread.start()
    asyncio.run(until_waiting(tracker, 1))
    assert not got
    held.release()
    thread.join(10)
    assert [hold.state for hold in got] == ["reserved"]
    got.pop().release()


def test_a_thread_is_woken_by_the_clock_and_told_by_the_timeout(clock: ManualClock, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=1_000)
    with pytest.raises(QuotaExceeded) as caught:
        tracker.acquire_sync(1, timeout=0.05)
    assert caught.value.limits[0]["limit"] == "tokens_per_minute"
    thread = threading.Thread(target=lambda: tracker.acquire_sync(1).release())
    thread.start()
    asyncio.run(until_waiting(tracker, 1))
    clock.advance(61)
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_that_waits_can_be_interrupted() -> None:
    code = (
        "import signal, threading, os\n"
        "from llmquota import QuotaManager\n"
        "tracker = QuotaManager(limits={'defaults': {'max_concurrent': 1}}).get_tracker('a')\n"
        "held = tracker.reserve()\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    tracker.acquire_sync()\n"
        "except KeyboardInterrupt:\n"
        "    held.release(); tracker.reserve().release(); print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


def test_the_interpreter_ends_while_somebody_waits() -> None:
    code = (
        "import asyncio, threading\n"
        "from llmquota import QuotaManager\n"
        "tracker = QuotaManager(limits={'defaults': {'max_concurrent': 1}}).get_tracker('a')\n"
        "held = tracker.reserve()\n"
        "threading.Thread(target=tracker.acquire_sync, daemon=True).start()\n"
        "async def main():\n"
        "    task = asyncio.create_task(tracker.acquire())\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
        assert (done.stderr, done.returncode) == ("", 0)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"tokens": -1}, "tokens"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"priority": "urgent"}, "priority"),
        ({"ttl": 0}, "ttl"),
        ({"goal_id": "a\0"}, "goal_id"),
    ],
)
async def test_what_cannot_be_is_named_and_nobody_queues(
    tracker: QuotaTracker, arguments: dict[str, Any], field: str
) -> None:
    for waits in (tracker.acquire, tracker.acquire_sync):
        with pytest.raises(QuotaInputError) as caught:
            await waits(**arguments)  # type: ignore[misc]  # the second raises before there is anything to await
        assert caught.value.field == field
    tracker.reserve().release()


async def test_for_ever_has_two_names(tracker: QuotaTracker) -> None:
    for timeout in (None, math.inf):
        (await tracker.acquire(timeout=timeout)).release()
