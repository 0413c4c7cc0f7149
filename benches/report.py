"""The figures as a table for the terminal and as ``docs/benchmarks.md``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import otel
import rivals
from measuring import Costs
from rows import Row

HOW = """\
Written by `{command}`. Absolute times belong to the machine they were measured on; the ratios are what is promised, and
`make bench` fails where a gate does not hold.

Both sides of a ratio run in one process, in {rounds} rounds that alternate, after one that is not counted. Garbage is
not collected meanwhile, and the time of the loop itself is subtracted. A time is that of the best round, and the ratio
that counts is that of the two best; beside it stand the median and the quartiles of the rounds' own ratios. The limits
are never met: every call is counted and passes. The empty method takes the keywords of `record_request` and does
nothing; like the package it is built for release, with the stable ABI."""


def machine() -> list[tuple[str, str]]:
    """What was measured on, and what."""
    names = ("llmquota", "openai", *rivals.NAMES, *otel.NAMES)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return [
        ("Processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("System", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Rust", rustc),
        ("Packages", ", ".join(versions)),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def load_average() -> str:
    """How busy the machine was in the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"


def line(row: Row) -> str:
    """One row for the terminal."""
    ratio = row.ratio
    figures = f"{_number(ratio.best):>7}  ({_time(row.above)} / {_time(row.below)}; median {_number(ratio.median)})"
    return f"{row.what.replace('`', '')}\n    {figures}{'' if row.bounds is None else '  ' + _verdict(row)}"


def page(rows: Sequence[Row], facts: Sequence[tuple[str, str]], command: str, rounds: int) -> str:
    """The whole of ``docs/benchmarks.md``."""
    gated = [row for row in rows if row.bounds is not None]
    free = [row for row in rows if row.bounds is None]
    parts = ["# Benchmarks", HOW.format(command=command, rounds=rounds), "## Gates", _table(gated, with_gates=True)]
    parts += ["## Beside them", _table(free, with_gates=False), "## Machine"]
    parts.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row], with_gates: bool) -> str:
    head = ["what", "time", "divided by", "ratio", "median (quartiles)"]
    if with_gates:
        head += ["goal", "gate", ""]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        ratio = row.ratio
        spread = f"{_number(ratio.median)} ({_number(ratio.low)} to {_number(ratio.high)})"
        cells = [row.what, _time(row.above), _time(row.below), _number(ratio.best), spread]
        if row.bounds is not None:
            sign = ">=" if row.bounds.at_least else "<="
            cells += [f"{sign} {row.bounds.goal:g}", f"{sign} {row.bounds.gate:g}", _word(row)]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _verdict(row: Row) -> str:
    bounds = row.bounds
    if bounds is None:
        return ""
    sign = ">=" if bounds.at_least else "<="
    return f"goal {sign} {bounds.goal:g}, gate {sign} {bounds.gate:g}: {_word(row)}"


def _word(row: Row) -> str:
    if not row.holds:
        return "MISSED"
    return "goal reached" if row.bounds is not None and row.bounds.is_reached(row.ratio) else "gate holds"


def _time(cost: Costs) -> str:
    nanos = cost.best * 1e9
    return f"{nanos:,.0f} ns" if nanos < 10_000 else f"{nanos / 1000:,.1f} us"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"
