"""Prints what happened: one row for each call, correction and orphaned hold, the newest first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import chain, islice

from llmquota.exporting import write_csv, write_jsonl
from llmquota.history import Row, rows

from .filters import add_filters, filters_of, positive
from .stores import OpenBook, opened

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print what happened, row by row"

#: What a table shows of a row; the other formats have every column.
_SHOWN = (
    *("at", "kind", "workspace", "goal", "task", "model", "user"),
    *("requests", "errors", "tokens", "cost_usd", "certainty", "outcome", "hold"),
)
_NUMBERS = frozenset({"requests", "errors", "tokens", "cost_usd"})
#: Rows whose widths set those of a table's columns: a longer history is printed as it is read.
_MEASURED_ROWS = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the filters, ``--limit`` and ``--format``."""
    add_filters(parser)
    parser.add_argument("--limit", type=positive, default=100, metavar="N", help="at most so many rows; 100 without it")
    parser.add_argument("--format", choices=["table", "jsonl", "csv"], default="table")


def run(arguments: argparse.Namespace, open_book: OpenBook) -> int:
    """Prints the rows. Always 0."""
    found = rows(opened(arguments, open_book), filters_of(arguments), limit=arguments.limit)
    # The same bytes on every platform: no other encoding, no line end that is translated.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", newline="\n" if arguments.format == "table" else "")
    if arguments.format == "table":
        _print_table(found)
    else:
        {"jsonl": write_jsonl, "csv": write_csv}[arguments.format](sys.stdout, found)
    return 0


def _print_table(found: Iterable[Row]) -> None:
    lines = ([_cell(row.get(name)) for name in _SHOWN] for row in found)
    measured = [list(_SHOWN), *islice(lines, _MEASURED_ROWS)]
    widths = [max(map(len, column)) for column in zip(*measured, strict=True)]
    for line in chain(measured, lines):
        cells = [
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for cell, width, name in zip(line, widths, _SHOWN, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    """One word, so that columns can be cut by white space, and nothing that a terminal would obey."""
    if value is None or value == "":
        return "-"
    return "".join(
        character
        if character.isprintable() and not character.isspace()
        else ascii(character)[1:-1].replace(" ", "\\x20")
        for character in str(value)
    )
