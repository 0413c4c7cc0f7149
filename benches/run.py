"""Measures the speed table and checks its gates: ``make bench``.

    python benches/run.py [--quick]

Prints each row as it comes and writes ``docs/benchmarks.md``; ``--quick`` takes fewer rounds and writes nothing. Needs
the installed package, the rivals and a Rust toolchain. Exit code 1: a gate does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import sys

import baseline
import instrumented
import report
import rows
import shared

PAGE = baseline.ROOT / "docs" / "benchmarks.md"
ROUNDS = 40
QUICK_ROUNDS = 8


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Measures the speed table and checks its gates.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and docs/benchmarks.md stays as it is")
    quick = parser.parse_args().quick
    rounds = QUICK_ROUNDS if quick else ROUNDS

    facts = report.machine()
    for name, value in facts:
        print(f"{name}: {value}")
    before = report.load_average()
    measured = []
    empty = baseline.load()
    every = (
        rows.measured(empty, rounds),
        instrumented.measured(rounds),
        shared.measured(empty, rounds),
        rows.many(empty, rounds),
    )
    for row in itertools.chain(*every):
        measured.append(row)
        print(report.line(row), flush=True)
    facts.append(("Load before and after", f"{before} and {report.load_average()}"))
    if not quick:
        PAGE.write_text(report.page(measured, facts, "make bench", rounds), encoding="utf-8")
        print(f"written to {PAGE.relative_to(baseline.ROOT)}")
    missed = [row for row in measured if not row.holds]
    for row in missed:
        print(f"gate missed: {row.what}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
