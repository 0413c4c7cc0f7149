"""The rows of the shared store: what a record costs that other processes see and that survives them."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import ModuleType

import processes
from llmquota import QuotaManager
from measuring import Costs, Work, measure, statement
from rows import CAPS, RECORD, Bounds, Row

# Fits the journal of a store of the default size, and is less than what history is written for at once.
BURST = 16_000
SUSTAINED = 400_000
# SQLite's checkpoint, which comes every thousand pages, is part of what an update costs: each round has some.
UPDATES = 4_000
BATCH = 8_192
MANY = 200_000
SLOW_ROUNDS = 5


def measured(baseline: ModuleType, rounds: int) -> Iterator[Row]:
    """Measures everything and gives the rows as they come."""
    with tempfile.TemporaryDirectory(prefix="llmquota-bench-") as folder:
        yield from _burst(baseline, rounds, f"{folder}/burst")
        yield from _processes(rounds, folder)
        yield from _sustained(folder)
        yield from _large(folder)


def _burst(baseline: ModuleType, rounds: int, place: str) -> Iterator[Row]:
    manager = QuotaManager(f"shared:{place}", limits={"defaults": CAPS})
    tracker = manager.get_tracker("acme")
    timed = statement("`record_request`, shared", RECORD, tracker=tracker)

    def run(calls: int) -> float:
        # Each burst finds the journal empty.
        manager.flush()
        return timed.run(calls)

    works = [
        statement("an empty PyO3 method", RECORD, tracker=baseline.Tracker()),
        Work(timed.name, run, timed.loop, calls=BURST),
        statement("`can_make_request`, shared", "tracker.can_make_request()", tracker=tracker),
    ]
    empty, recorded, asked = measure(works, rounds)
    what = "`record_request` on `shared:`, a burst that fits the journal / the empty method"
    yield Row(what, recorded, empty, Bounds(2, 3))
    yield Row("`can_make_request` on `shared:` / the empty method", asked, empty)
    manager.close()


def _processes(rounds: int, folder: str) -> Iterator[Row]:
    for count in (1, 2, 4):
        places = [f"{folder}/{kind}-{count}" for kind in ("record", "update")]
        for place in places:
            os.mkdir(place)
        processes.make_counters(places[1])
        crews = [processes.Crew(count, worker, place) for worker, place in zip(_WORKERS, places, strict=True)]
        # Until the journal has gone round, each process meets each of its pages for the first time.
        for _ in range(6):
            crews[0].run(BURST)
        recorded, updated = measure(
            [
                processes.work("record", crews[0], BURST),
                processes.work("UPDATE", crews[1], UPDATES),
            ],
            rounds,
        )
        for crew in crews:
            crew.leave()
        name = "process" if count == 1 else "processes"
        what = f"{count} {name}, a hand-written `sqlite3` UPDATE / a shared record"
        yield Row(what, updated, recorded, Bounds(100, 50, at_least=True) if count == 4 else None)


_WORKERS = (processes.record, processes.update)


def _sustained(folder: str) -> Iterator[Row]:
    manager = QuotaManager(f"shared:{folder}/sustained", limits={"defaults": CAPS})
    trackers = [manager.get_tracker(f"workspace-{number}") for number in range(8)]
    goals = [f"goal-{number}" for number in range(16)]

    def run(calls: int) -> float:
        # As fast as history takes them: nobody gets ahead of it by more than half of the journal.
        begin = time.perf_counter()
        for number in range(calls):
            trackers[number % 8].record_request(success=True, tokens_used=100, goal_id=goals[number % 16])
            if number % 4_096 == 0:
                while manager.doctor()["journal_waiting"] > 32_768:
                    time.sleep(0.001)
        manager.flush()
        return time.perf_counter() - begin

    run(50_000)
    rows = _rows_of(f"{folder}/sustained/history.db")
    inserted = [_insert(f"{folder}/bare-{number}.db", rows) for number in range(SLOW_ROUNDS)]
    recorded = [run(SUSTAINED) / SUSTAINED for _ in range(SLOW_ROUNDS)]
    manager.close()
    what = "rows a second: sustained shared records, drained to history / a bare `sqlite3` insert of the same rows"
    # A rate is the other way round than a time.
    yield Row(what, _costs("a bare insert", inserted), _costs("a sustained record", recorded), Bounds(0.8, 0.5, True))


def _rows_of(path: str) -> list[tuple[object, ...]]:
    """The rows that history has of such records, as it keeps them, without their numbers."""
    database = sqlite3.connect(path)
    page = [row[1:] for row in database.execute("SELECT * FROM history LIMIT 50000")]
    database.close()
    return page * (SUSTAINED // len(page))


def _insert(path: str, rows: Sequence[tuple[object, ...]]) -> float:
    """Seconds a row: as many columns as history's rows have, batches of the same size, synchronous as well."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    columns = ", ".join(f"c{number}" for number in range(len(rows[0])))
    database.execute(f"CREATE TABLE history (id INTEGER PRIMARY KEY, {columns})")
    marks = ", ".join("?" * len(rows[0]))
    begin = time.perf_counter()
    for first in range(0, len(rows), BATCH):
        database.execute("BEGIN")
        database.executemany(f"INSERT INTO history ({columns}) VALUES ({marks})", rows[first : first + BATCH])
        database.execute("COMMIT")
    took = time.perf_counter() - begin
    database.close()
    return took / len(rows)


def _large(folder: str) -> Iterator[Row]:
    place = f"{folder}/large"
    manager = QuotaManager(f"shared:{place}")
    small = [_opening(f"{folder}/small") for _ in range(SLOW_ROUNDS)]
    before = _bytes_of(f"{place}/region")
    for number in range(MANY):
        manager.get_tracker(f"workspace-{number}").record_request(tokens_used=1)
    manager.flush()
    a_workspace = (_bytes_of(f"{place}/region") - before) / MANY
    print(f"memory a workspace: {a_workspace:.0f} bytes of the region's file, {MANY:,} workspaces")
    manager.close()
    large = [_opening(place) for _ in range(SLOW_ROUNDS)]
    what = f"opening a store with {MANY:,} workspaces / an empty one"
    yield Row(what, _costs("large", large), _costs("small", small))


def _opening(place: str) -> float:
    begin = time.perf_counter()
    manager = QuotaManager(f"shared:{place}")
    manager.get_tracker("acme").can_make_request()
    took = time.perf_counter() - begin
    manager.close()
    return took


def _bytes_of(path: str) -> int:
    return os.stat(path).st_blocks * 512


def _costs(name: str, rounds: Sequence[float]) -> Costs:
    return Costs(Work(name, lambda _calls: 0.0), with_loop=list(rounds))
