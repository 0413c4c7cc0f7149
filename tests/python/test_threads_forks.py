"""Threads and forked children use one manager at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from llmquota import ManualClock, QuotaExceeded, QuotaManager, QuotaTracker

THREADS = 8


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Runs ``work(number)`` in each thread, all starting together; raises what one of them raised."""
    barrier, raised = threading.Barrier(threads), list[BaseException]()

    def run(number: int) -> None:
        try:
            barrier.wait(30)
            work(number)
        except BaseException as error:
            raised.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


@pytest.fixture
def manager() -> QuotaManager:
    return QuotaManager(clock=ManualClock(), limits={"defaults": {"requests_per_minute": 100, "max_concurrent": 5}})


def test_threads_lose_no_record() -> None:
    manager = QuotaManager()
    in_threads(
        lambda number: (
            [manager.get_tracker("acme").record_request(tokens_used=1, goal_id=f"g{number}") for _ in range(500)]
            and None
        )
    )
    usage = manager.usage("acme")["total"]
    assert (usage["requests"], usage["tokens"]) == (THREADS * 500, THREADS * 500)
    assert all(manager.usage("acme", goal=f"g{number}")["total"]["tokens"] == 500 for number in range(THREADS))


def test_threads_meet_a_limit_exactly(manager: QuotaManager) -> None:
    tracker, granted = manager.get_tracker("acme"), [0] * THREADS

    def work(number: int) -> None:
        for _ in range(50):
            try:
                hold = tracker.reserve(1)
            except QuotaExceeded:
                continue
            granted[number] += 1
            hold.settle(1)

    in_threads(work)
    snapshot = tracker.snapshot()
    # Less where more than five were open at once, never more.
    assert sum(granted) == snapshot["usage"]["total"]["requests"] <= 100
    assert snapshot["holds"]["open"] == 0
    while sum(granted) < 100:
        tracker.reserve(1).settle(1)
        granted[0] += 1
    with pytest.raises(QuotaExceeded):
        tracker.reserve(1)


def test_threads_that_wait_keep_to_what_may_be_open(manager: QuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    lock, inside, most = threading.Lock(), 0, 0

    def work(_number: int) -> None:
        nonlocal inside, most
        for _ in range(10):
            with tracker.acquire_sync(timeout=30) as hold:
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
                hold.settle(1)

    in_threads(work)
    assert most <= 5
    assert tracker.snapshot()["usage"]["total"]["requests"] == THREADS * 10


def test_threads_get_one_tracker_for_one_id() -> None:
    for _ in range(20):
        manager = QuotaManager("memory:?size=1MiB")
        got = list[QuotaTracker]()
        in_threads(lambda _number, manager=manager, got=got: got.append(manager.get_tracker("acme")))  # type: ignore[misc]
        assert len(got) == THREADS
        assert len({id(tracker) for tracker in got}) == 1


def test_the_first_use_opens_one_store() -> None:
    for _ in range(20):
        manager = QuotaManager.from_environment({"LLMQUOTA_TIMEZONE": "UTC"})
        in_threads(lambda _number, manager=manager: manager.record("acme", tokens_used=1))  # type: ignore[misc]
        assert manager.usage("acme")["total"]["tokens"] == THREADS


def test_one_hold_ended_by_many_threads_ends_once(manager: QuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    for _ in range(20):
        hold, ended = tracker.reserve(10), list[bool]()
        in_threads(
            lambda number, hold=hold, ended=ended: ended.append(hold.settle(1) if number % 2 else hold.release())
        )  # type: ignore[misc]
        assert sum(ended) in (1, 2), "a settle after a release is a fact of its own"
        assert tracker.snapshot()["holds"]["open"] == 0


# --- forks ---

PRELUDE = """
import gc, os, sys, threading, asyncio
from llmquota import QuotaManager, QuotaExceeded

manager = QuotaManager(limits={"defaults": {"tokens_per_minute": 1000, "max_concurrent": 2}})
tracker = manager.get_tracker("acme")

def counted():
    snapshot = tracker.snapshot()
    total = snapshot["usage"]["total"]
    return total["requests"], total["tokens"], total["errors"], snapshot["holds"]["open"], snapshot["holds"]["tokens"]

def in_child(work):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run(code: str) -> None:
    """In a process of its own, which warns of nothing: pytest's has threads, of which a fork would warn.

    Its lines are not counted: a thread may hold the lock of coverage's own data while another forks.
    """
    program = PRELUDE + textwrap.dedent(code)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


@forks
def test_a_child_begins_with_what_was_used_and_without_its_parents_holds() -> None:
    run("""
    tracker.record_request(tokens_used=100)
    hold = tracker.reserve(300)
    hold.start()

    def child():
        assert counted() == (1, 100, 0, 0, 0), counted()
        tracker.record_request(tokens_used=1)
        assert counted() == (2, 101, 0, 0, 0), counted()
        assert manager.get_tracker("acme") is tracker
        manager.get_tracker("new").record_request()

    in_child(child)
    assert counted() == (1, 100, 0, 1, 300), counted()
    assert hold.settle(7)
    assert counted() == (2, 107, 0, 0, 0), counted()
    """)


@forks
@pytest.mark.parametrize(
    "leave", ["pass", "raise ValueError", "hold.settle(9)", "hold.release()", "hold.start()", "del hold; gc.collect()"]
)
def test_an_inherited_hold_changes_nothing_in_the_child(leave: str) -> None:
    run(f"""
    def leaves(hold):
        {leave}

    holds = [tracker.reserve(300)]
    with holds[0]:
        def child():
            global holds
            before = counted()
            try:
                with holds[0] as hold:
                    leaves(holds.pop())
            except ValueError:
                pass
            del hold
            gc.collect()
            assert counted() == before == (0, 0, 0, 0, 0), counted()

        in_child(child)
        assert counted() == (0, 0, 0, 1, 300), counted()
    assert counted() == (1, 300, 0, 0, 0), counted()
    """)


@forks
def test_a_child_waits_though_its_parent_waited() -> None:
    run("""
    async def wait():
        held = tracker.reserve(), tracker.reserve()
        task = asyncio.create_task(tracker.acquire(1, timeout=20))
        await asyncio.sleep(0.05)
        assert not task.done()
        held[0].release()
        (await task).release()
        held[1].release()

    def both():
        asyncio.run(wait())
        tracker.acquire_sync(1).release()

    both()
    in_child(both)
    in_child(lambda: in_child(both))
    both()
    """)


@forks
def test_a_fork_while_others_wait() -> None:
    run("""
    held = [tracker.reserve(), tracker.reserve()]
    done = []

    def wait():
        done.append(tracker.acquire_sync(1, timeout=20).settle(1))

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()

    async def main():
        task = asyncio.create_task(tracker.acquire(1, timeout=20))
        await asyncio.sleep(0.1)

        def child():
            # Nobody waits here, and nothing is held.
            for _ in range(3):
                tracker.reserve(1).release()
            tracker.acquire_sync(1).release()

        in_child(child)
        for hold in held:
            hold.release()
        (await task).settle(1)

    asyncio.run(main())
    for thread in waiting:
        thread.join(20)
    assert done == [True, True, True], done
    assert counted()[:1] == (4,), counted()
    """)


@forks
def test_forks_under_load() -> None:
    run("""
    stop = threading.Event()

    def load(number):
        while not stop.is_set():
            tracker.record_request(tokens_used=1, goal_id=f"g{number}")
            manager.get_tracker(f"w{number}").snapshot()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()

    def child():
        before = counted()[1]
        for _ in range(100):
            tracker.record_request(tokens_used=1)
        assert counted()[1] == before + 100
        manager.get_tracker("of-the-child").record_request()

    for _ in range(20):
        in_child(child)
    stop.set()
    for thread in threads:
        thread.join()
    """)


@forks
def test_the_environments_manager_can_be_used_first_by_a_child() -> None:
    run("""
    from llmquota import record_request, workspace_quota_manager

    def child():
        record_request(tokens_used=5, workspace_id="acme")
        assert workspace_quota_manager.usage("acme")["total"]["tokens"] == 5

    in_child(child)
    assert not workspace_quota_manager.is_open
    child()
    """)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    if not hasattr(os, "fork") and method == "fork":
        pytest.skip("the platform has no fork")
    run(f"""
    import multiprocessing

    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        assert pool.map(abs, range(4)) == [0, 1, 2, 3]
    tracker.record_request()
    """)
