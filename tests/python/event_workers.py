"""What the processes of ``test_events.py`` do. A module of its own, so that a spawned process can import it."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any

from llmquota import QuotaManager


def opened(directory: str, limits: dict[str, Any] | None = None) -> QuotaManager:
    """The store in ``directory``: small, since a file is made for each test."""
    return QuotaManager(f"shared:{directory}?size=16MB", limits=limits)


def record_when_told(directory: str, limits: dict[str, Any] | None, pipe: Connection) -> None:
    """Records as many calls as it is told, and says when, by the clock that all processes of a host share."""
    record(opened(directory, limits), pipe)


def record(manager: QuotaManager, pipe: Connection) -> None:
    """The same with a manager that is there."""
    pipe.send("ready")
    for count, pause in iter(pipe.recv, None):
        times = []
        for _ in range(count):
            times.append(time.monotonic())
            manager.record("acme", True, 1)
            time.sleep(pause)
        pipe.send(times)


def record_in_a_child_that_forked(directory: str, limits: dict[str, Any] | None, pipe: Connection) -> None:
    """Listens, and forks: the child has no listener of its own, and is heard all the same."""
    manager = opened(directory, limits)
    with manager.subscribe("acme") as inherited:
        manager.record("other")
        child = os.fork()
        if child == 0:
            is_over = inherited.closed and inherited.take() is None and inherited.next(timeout=30) is None
            pipe.send(is_over)
            record(manager, pipe)
            with manager.subscribe("acme") as own:
                manager.record("acme")
                first = own.next(timeout=10)
                pipe.send(first and first["type"])
            os._exit(0)
        os.waitpid(child, 0)
        heard = [event for event in iter(inherited.take, None) if event["type"] == "record"]
        pipe.send(len(heard))


def listen(directory: str, limits: dict[str, Any] | None, pipe: Connection) -> None:
    """Tells of each crossing and each change of status until it has heard of the 100th call, and a moment longer."""
    manager = opened(directory, limits)
    with manager.subscribe("acme") as subscription:
        pipe.send("ready")
        told, last = [], False
        while event := subscription.next(timeout=0.5 if last else 30):
            if event["type"] == "threshold":
                told.append((event["limit"]["limit"], event["level"]))
            elif event["type"] == "status":
                told.append((event["old"], event["new"]))
            last = last or (event["type"] == "record" and event["version"] >= 100)
        pipe.send(told)


def listen_until_killed(directory: str, limits: dict[str, Any] | None, pipe: Connection) -> None:
    """Listens, in vain."""
    manager = opened(directory, limits)
    subscriptions = [manager.subscribe(workspace) for workspace in (None, "acme")]
    pipe.send("ready")
    for subscription in subscriptions:
        subscription.next()


def hold_until_told(directory: str, limits: dict[str, Any] | None, pipe: Connection) -> None:
    """Has a call under way, and ends it at each word."""
    tracker = opened(directory, limits).get_tracker("acme")
    for _ in iter(pipe.recv, None):
        hold = tracker.reserve()
        pipe.send("held")
        pipe.recv()
        at = time.monotonic()
        hold.settle(tokens=1)
        pipe.send(at)
