"""Writes history to a file, oldest row first, in the format that its name ends in: .csv, .jsonl or .parquet."""

from __future__ import annotations

import argparse

from llmquota.exporting import FORMATS, export, format_of
from llmquota.history import rows

from .filters import add_filters, filters_of, positive
from .stores import OpenBook, opened

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write history to a CSV, JSON Lines or Parquet file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the file, the filters and ``--limit``."""
    names = ", ".join(f".{end}" for end in FORMATS)
    parser.add_argument(
        "file", metavar="FILE", help=f"ends in {names}; one of that name is replaced once all is written"
    )
    add_filters(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many rows; all of them without it")


def run(arguments: argparse.Namespace, open_book: OpenBook) -> int:
    """Writes the file and says how many rows it has. Always 0."""
    format_of(arguments.file)
    book = opened(arguments, open_book)
    count = export(rows(book, filters_of(arguments), limit=arguments.limit, newest_first=False), arguments.file)
    print(f"{arguments.file}: {count} rows")
    return 0
