"""What the processes of ``test_waiting_processes.py`` do, in a module that a spawned process can import."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from shared_workers import Limits, opened


def wait_in_line(directory: str, limits: Limits, pipe: Connection) -> None:
    """Waits as it is told, by (name, workspace, keywords), a thread each; says who went, and lets go when told."""
    manager = opened(directory, limits)
    say = threading.Lock()
    held: dict[str, Any] = {}

    def wait(name: str, workspace: str, keywords: dict[str, Any]) -> None:
        hold = manager.get_tracker(workspace).acquire_sync(1, **keywords)
        with say:
            held[name] = hold
            pipe.send(name)

    pipe.send(os.getpid())
    while True:
        match pipe.recv():
            case "let go", name:
                held.pop(name).release()
            case name, workspace, keywords:
                threading.Thread(target=wait, args=(name, workspace, keywords), daemon=True).start()


def take_turns(directory: str, limits: Limits, seconds: float, pipe: Connection) -> None:
    """Many tasks of one workspace share one place with those of other processes; says how many turns they had."""
    manager = opened(directory, limits)
    tracker = manager.get_tracker("acme")
    until = time.monotonic() + seconds
    turns = 0

    async def turn_after_turn() -> None:
        nonlocal turns
        while time.monotonic() < until:
            async with await tracker.acquire(1) as hold:
                assert tracker.snapshot()["holds"]["open"] == 1, "two had the one place"
                await asyncio.sleep(0)
                hold.settle(1)
                turns += 1

    async def all_of_them() -> None:
        await asyncio.gather(*(turn_after_turn() for _ in range(8)))

    pipe.send("ready")
    pipe.recv()
    asyncio.run(all_of_them())
    pipe.send(turns)


def rest(directory: str, limits: Limits, seconds: float, pipe: Connection) -> None:
    """Waits in vain, and says how much of a processor that took."""
    tracker = opened(directory, limits).get_tracker("acme")
    pipe.send("ready")
    pipe.recv()
    began = time.process_time()
    threads = [threading.Thread(target=_in_vain, args=(tracker, seconds)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(time.process_time() - began)


def _in_vain(tracker: Any, seconds: float) -> None:
    from llmquota import QuotaExceeded

    try:
        tracker.acquire_sync(1, timeout=seconds)
    except QuotaExceeded:
        return
    raise AssertionError("somebody went")
