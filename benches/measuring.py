"""How two costs are compared: in rounds that alternate, so that a busy moment of the machine meets both.

Times are seconds a call, without the loop around it: the best loop around nothing, as one round's may be disturbed by
more than it takes. A cost is the best round's: what the code takes when nothing disturbs it. The spread of the rounds'
own ratios says how quiet the machine was.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Long against the clock's resolution, short against a scheduler's turn.
ROUND_SECONDS = 0.01


@dataclass(frozen=True)
class Work:
    """Something to measure: ``run(n)`` does it ``n`` times and returns the seconds that took, loop included."""

    name: str
    run: Callable[[int], float]
    # What to subtract: the same loop around nothing. None where the loop is not Python's.
    loop: Callable[[int], float] | None = None
    # Calls of one round; None finds out.
    calls: int | None = None


def statement(name: str, code: str, **names: Any) -> Work:
    """A line of Python in a loop. ``names`` are its local variables, as in a function that was written for it."""
    return Work(name, _timer(code, names).timeit, _timer("pass", {}).timeit)


def each(name: str, code: str, keys: Sequence[str], **names: Any) -> Work:
    """A line of Python for each ``key`` of a list, always the whole list."""
    names["keys"] = keys

    def run(of: str) -> Callable[[int], float]:
        timer = _timer(f"for key in keys: {of}", names)
        return lambda calls: timer.timeit(calls // len(keys))

    return Work(name, run(code), run("pass"), calls=len(keys))


def _timer(code: str, names: Mapping[str, Any]) -> timeit.Timer:
    # timeit's own globals become locals of its loop.
    setup = "; ".join(f"{name} = _names[{name!r}]" for name in names) or "pass"
    return timeit.Timer(code, setup, globals={"_names": names})


@dataclass
class Costs:
    """What a work took, round by round: seconds a call, with the loop, and the loop alone."""

    work: Work
    with_loop: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)

    @property
    def rounds(self) -> list[float]:
        """Seconds a call of each round."""
        around = min(self.loop, default=0.0)
        return [took - around for took in self.with_loop]

    @property
    def best(self) -> float:
        """The least of all rounds."""
        return min(self.rounds)


def measure(works: Sequence[Work], rounds: int) -> list[Costs]:
    """Runs every work once a round, in turn forwards and backwards; one round before them is not counted.

    Garbage is not collected meanwhile (``timeit`` sees to it).
    """
    costs = [Costs(work) for work in works]
    calls = [_calls(work) for work in works]
    for number in range(-1, rounds):
        order = list(zip(costs, calls, strict=True))
        for cost, count in order if number % 2 else reversed(order):
            work = cost.work
            around = work.loop(count) / count if work.loop else 0.0
            took = work.run(count) / count
            if number >= 0:
                cost.loop.append(around)
                cost.with_loop.append(took)
    return costs


def _calls(work: Work) -> int:
    if work.calls is not None:
        return work.calls
    # What only the first call pays (a table that is read, an account that is made) is no measure of the others.
    work.run(1)
    calls = 1
    while (took := work.run(calls)) < ROUND_SECONDS / 4:
        calls *= 4
    return max(1, round(calls * ROUND_SECONDS / took))


@dataclass(frozen=True)
class Ratio:
    """Of two costs that were measured in the same rounds: of the best, and of each round (quartiles)."""

    best: float
    median: float
    low: float
    high: float


def ratio(above: Costs, below: Costs) -> Ratio:
    """``above`` / ``below``."""
    each_round = [one / other for one, other in zip(above.rounds, below.rounds, strict=True)]
    low, median, high = statistics.quantiles(each_round, n=4, method="inclusive")
    return Ratio(above.best / below.best, median, low, high)
