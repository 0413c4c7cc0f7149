"""The rows of the speed table, and the figures that stand beside them without a gate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import rivals
from llmquota import QuotaManager
from measuring import Costs, Ratio, Work, each, measure, ratio, statement

# Never met: every call of every side is counted and passes.
CAPS = {
    "requests_per_minute": 1_000_000_000,
    "tokens_per_minute": 1_000_000_000_000,
    "requests_per_day": 1_000_000_000,
    "tokens_per_day": 1_000_000_000_000,
}
RECORD = 'tracker.record_request(success=True, tokens_used=100, goal_id="goal-1")'
WORKSPACES = 1_000_000
# Room for a minute of each of them, a bucket a second: address space, of which a part is touched.
STORE_OF_MANY = "memory:?size=8GB"
THREADS = 8


@dataclass(frozen=True)
class Bounds:
    """What a ratio is to reach and what it must not miss: at most so much, or at least."""

    goal: float
    gate: float
    at_least: bool = False

    def holds(self, ratio: Ratio) -> bool:
        """Whether the gate holds."""
        return ratio.best >= self.gate if self.at_least else ratio.best <= self.gate

    def is_reached(self, ratio: Ratio) -> bool:
        """Whether the goal is reached."""
        return ratio.best >= self.goal if self.at_least else ratio.best <= self.goal


@dataclass(frozen=True)
class Row:
    """One measured ratio, ``above`` / ``below``."""

    what: str
    above: Costs
    below: Costs
    bounds: Bounds | None = None

    @property
    def ratio(self) -> Ratio:
        """The measured ratio."""
        return ratio(self.above, self.below)

    @property
    def holds(self) -> bool:
        """False where a gate is missed."""
        return self.bounds is None or self.bounds.holds(self.ratio)


def measured(baseline: ModuleType, rounds: int) -> Iterator[Row]:
    """Measures everything and gives the rows as they come."""
    yield from _calls(baseline, rounds)
    yield from _rivals(rounds)


def _tracker() -> tuple[QuotaManager, Work]:
    manager = QuotaManager(limits={"defaults": CAPS})
    return manager, statement("`record_request`", RECORD, tracker=manager.get_tracker("acme"))


def _calls(baseline: ModuleType, rounds: int) -> Iterator[Row]:
    manager, record = _tracker()
    tracker = manager.get_tracker("acme")
    engine = baseline.Engine("[defaults]\n" + "".join(f"{name} = {cap}\n" for name, cap in CAPS.items()))
    reserve = 'hold = tracker.reserve(tokens=100, goal_id="goal-1"); hold.start(); hold.settle(tokens=100)'
    modelled = f'{RECORD[:-1]}, task_id="task-1", model="gpt-4o")'
    names = {"tracker": tracker}
    works = [
        statement("an empty PyO3 method", RECORD, tracker=baseline.Tracker()),
        record,
        statement("`can_make_request`", "tracker.can_make_request()", **names),
        statement("an empty PyO3 method without arguments", "tracker.can_make_request()", tracker=baseline.Tracker()),
        Work("the engine's record, in Rust", engine.record),
        Work("the engine's `can_make_request`, in Rust", engine.can_make_request),
        statement("`record_request` with a task and a model, priced by it", modelled, **names),
        # An answer that stands since the last one costs less than one after a record.
        statement("`record_request`, then `can_make_request`", f"{RECORD}; tracker.can_make_request()", **names),
        statement("`reserve`, `start`, `settle`", reserve, **names),
        statement(
            "`acquire_sync`, `start`, `settle`, where nobody waits", reserve.replace("reserve", "acquire_sync"), **names
        ),
        Work(f"`record_request` on {THREADS} threads at once", lambda calls: _on_threads(tracker, calls)),
        statement("`explain`", 'tracker.explain(100, goal_id="goal-1")', **names),
        statement("`snapshot`", "tracker.snapshot()", **names),
    ]
    empty, recorded, asked, *others = measure(works, rounds)
    yield Row("`record_request` / an empty PyO3 method with the same keywords", recorded, empty, Bounds(1.5, 2))
    yield Row("`can_make_request` / the same empty method", asked, empty, Bounds(0.35, 0.5))
    for cost in others:
        yield Row(f"{cost.work.name} / the empty method", cost, empty)


def _on_threads(tracker: object, calls: int) -> float:
    share = max(1, calls // THREADS)
    works = [statement("", RECORD, tracker=tracker) for _ in range(THREADS)]
    begin = threading.Barrier(THREADS + 1)

    def run(work: Work) -> None:
        begin.wait()
        work.run(share)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    # Each thread's calls are counted: with one interpreter lock they take turns.
    return (time.perf_counter() - start) * calls / (share * THREADS)


def _rivals(rounds: int) -> Iterator[Row]:
    _manager, record = _tracker()
    recorded, *theirs = measure([record, *rivals.works(CAPS)], rounds)
    bounds = [Bounds(100, 50, at_least=True)]
    for cost in theirs:
        yield Row(f"{cost.work.name} / one record with 4 limits", cost, recorded, bounds.pop() if bounds else None)


def many(baseline: ModuleType, rounds: int) -> Iterator[Row]:
    """The row of a million workspaces, whose gigabytes stay: the last."""
    rounds = max(2, rounds // 8)
    keys = [f"workspace-{number}" for number in range(WORKSPACES)]
    random.Random(1).shuffle(keys)
    manager, counts = QuotaManager(STORE_OF_MANY, limits={"defaults": CAPS}), baseline.Counts()
    works = [
        each("record", "record(key, tokens_used=100)", keys, record=manager.record),
        each("increment", "increment(key)", keys, increment=counts.increment),
    ]
    recorded, incremented = measure(works, rounds)
    known = manager.fill()
    if known["folded"] or known["accounts"] < WORKSPACES or counts.get(keys[0]) < rounds:
        raise RuntimeError(f"not every workspace was counted: {known}")
    what = f"record over {WORKSPACES:,} workspaces, in random order / an increment in a `HashMap` of as many"
    yield Row(what, recorded, incremented, Bounds(2, 3))
