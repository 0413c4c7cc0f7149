"""Work that several processes do at once: each is told to go, and the wall time from the first to the last counts."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
import time
import timeit
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from measuring import Work

_SPAWN = multiprocessing.get_context("spawn")
WORKSPACES = 4


class Crew:
    """So many processes that do one thing, as often as they are told."""

    def __init__(self, count: int, worker: Callable[[Connection, str, int], None], place: str) -> None:
        """``worker(connection, place, number)`` runs in each of them."""
        self._members = []
        for number in range(count):
            here, there = _SPAWN.Pipe()
            process = _SPAWN.Process(target=worker, args=(there, place, number), daemon=True)
            process.start()
            # Only the process has it now: where that dies, nobody waits for its answer.
            there.close()
            self._members.append((process, here))
        for _, connection in self._members:
            connection.recv()

    def run(self, calls: int) -> float:
        """The wall seconds of ``calls`` calls, shared out among all."""
        share = max(1, calls // len(self._members))
        self._tell(share)
        # All are ready before any begins: what one still does before its round would be in the others' time.
        for _, connection in self._members:
            connection.recv()
        self._tell(share)
        times = [connection.recv() for _, connection in self._members]
        wall = max(end for _, end in times) - min(begin for begin, _ in times)
        return float(wall * calls / (share * len(self._members)))

    def leave(self) -> None:
        """Ends them."""
        self._tell(0)
        for process, _ in self._members:
            process.join()

    def _tell(self, calls: int) -> None:
        for _, connection in self._members:
            connection.send(calls)


def work(name: str, crew: Crew, calls: int) -> Work:
    """What a crew does, to be measured."""
    return Work(name, crew.run, calls=calls)


def _serve(connection: Connection, code: str, names: dict[str, Any], before: Callable[[], None]) -> None:
    setup = "; ".join(f"{name} = _names[{name!r}]" for name in names)
    timer = timeit.Timer(code, setup, globals={"_names": names})
    timer.timeit(1)
    connection.send(None)
    while calls := connection.recv():
        before()
        connection.send(None)
        connection.recv()
        begin = time.monotonic()
        timer.timeit(calls)
        connection.send((begin, time.monotonic()))


def record(connection: Connection, place: str, number: int) -> None:
    """Records on a shared store, all processes on the same few workspaces."""
    from llmquota import QuotaManager
    from rows import CAPS, RECORD

    manager = QuotaManager(f"shared:{place}", limits={"defaults": CAPS})
    tracker = manager.get_tracker(f"workspace-{number % WORKSPACES}")
    _serve(connection, RECORD, {"tracker": tracker}, manager.flush)


def make_counters(place: str) -> None:
    """The database of :func:`update`, made once: changing to WAL waits for nobody."""
    with contextlib.closing(_counters(place)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE usage (workspace TEXT PRIMARY KEY, requests INTEGER, tokens INTEGER)")


def _counters(place: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{place}/counters.db", timeout=60, isolation_level=None)


def update(connection: Connection, place: str, number: int) -> None:
    """The same counted by hand: one row of SQLite, one transaction a call, with the settings that are advised."""
    database = _counters(place)
    database.execute("PRAGMA synchronous=NORMAL")
    workspace = f"workspace-{number % WORKSPACES}"
    database.execute("INSERT OR IGNORE INTO usage VALUES (?, 0, 0)", (workspace,))
    code = 'execute("UPDATE usage SET requests = requests + 1, tokens = tokens + 100 WHERE workspace = ?", key)'
    _serve(connection, code, {"execute": database.execute, "key": (workspace,)}, lambda: None)
