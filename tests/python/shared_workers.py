"""What the processes of ``test_shared_store.py`` do. A module of its own, so that a spawned process can import it."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from llmquota import Hold, QuotaExceeded, QuotaManager

Limits = dict[str, Any]

#: Small, since a file is made for each test.
SIZE = "?size=16MB"

#: As long as the process, as a backend's manager is.
MANAGERS: list[QuotaManager] = []


#: What is said of the disk that a test's directory happens to lie on.
_OF_THE_DISK = ("(tmpfs)", "(overlay)", "(virtiofs)", "which writes to another place each time")


def troubles(report: dict[str, Any]) -> list[str]:
    """The warnings of a report, whatever disk it is about."""
    return [warning for warning in report["warnings"] if not any(words in warning for words in _OF_THE_DISK)]


def opened(directory: str, limits: Limits | None = None) -> QuotaManager:
    """The store in ``directory``."""
    return QuotaManager(f"shared:{directory}{SIZE}", limits=limits)


def take_all(directory: str, limits: Limits, start: Barrier, manager: QuotaManager | None, pipe: Connection) -> None:
    """Takes one request after the other until there is none left, and says how many it had."""
    tracker = (manager or opened(directory, limits)).get_tracker("acme")
    start.wait()
    granted = 0
    while True:
        try:
            hold = tracker.reserve(10)
        except QuotaExceeded:
            break
        granted += 1
        hold.settle(tokens=10)
    pipe.send(granted)


def hold_on(directory: str, limits: Limits, pipe: Connection) -> None:
    """Has one call under way and one that was not sent, until it is killed."""
    tracker = opened(directory, limits).get_tracker("acme")
    sent, kept = tracker.reserve(100, goal_id="goal-1"), tracker.reserve(7)
    sent.start()
    pipe.send((os.getpid(), sent.id, kept.id))
    signal.pause()


def fork_in_a_hold(directory: str, limits: Limits, pipe: Connection) -> None:
    """Forks while a call is under way, and waits to be killed; the child goes on."""
    tracker = opened(directory, limits).get_tracker("acme")
    hold = tracker.reserve(100)
    hold.start()
    parent = os.getpid()
    if os.fork():
        signal.pause()
    pipe.send((parent, os.getpid(), hold.id))
    _go_on(hold, tracker, pipe)


def _go_on(hold: Hold, tracker: Any, pipe: Connection) -> None:
    pipe.recv()
    pipe.send(hold.settle(tokens=5))
    tracker.record_request(tokens_used=3)
    pipe.send(tracker.snapshot()["usage"]["total"]["tokens"])
    pipe.recv()


def count_with(environ: dict[str, str], pipe: Connection) -> None:
    """Counts with settings of its own."""
    manager = QuotaManager.from_environment(environ)
    MANAGERS.append(manager)
    manager.record("acme", tokens_used=1)
    pipe.send(os.getpid())
    while pipe.recv() == "terms":
        pipe.send(manager.terms("acme")["limits"])


def open_as_nobody(directory: str, pipe: Connection) -> None:
    """Opens a store as a user who may not write there, and tells what it is told."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    manager = QuotaManager.from_environment({"LLMQUOTA_STORE": f"shared:{directory}"})
    try:
        manager.record("acme")
        pipe.send(None)
    except Exception as error:
        pipe.send((type(error).__name__, str(error), manager.is_open))


def use(directory: str, pipe: Connection) -> None:
    """Uses a store, and ends in the middle of a call."""
    MANAGERS.append(opened(directory))
    tracker = MANAGERS[0].get_tracker("acme")
    tracker.record_request(tokens_used=60, goal_id="goal-1")
    tracker.reserve(7).start()
