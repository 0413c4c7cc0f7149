"""Adds up history and says which counters are not what it adds up to, and by how much."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from llmquota.parsing import shown_store

from .stores import OpenBook, chosen, opened

__all__ = ["HELP", "add_arguments", "run"]

HELP = "compare every counter with what history adds up to"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--repair`` and ``--json``."""
    parser.add_argument("--repair", action="store_true", help="set the counters that differ to what history adds up to")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(arguments: argparse.Namespace, open_book: OpenBook) -> int:
    """Prints what differs; 1 where something does and was not mended."""
    differences = opened(arguments, open_book).verify(repair=arguments.repair)
    well = arguments.repair or not differences
    if arguments.json:
        report = {
            "ok": well,
            "store": shown_store(chosen(arguments)),
            "repaired": arguments.repair,
            "differences": differences,
        }
        print(json.dumps(report, ensure_ascii=False))
        return 0 if well else 1
    state = "mended" if arguments.repair else "differs"
    for difference in differences:
        print(f"{state}: {_sentence(difference)}")
    if not differences:
        print("ok: every counter is what history adds up to")
    else:
        print(f"{'ok' if well else 'problems'}: {len(differences)} counters differed")
    return 0 if well else 1


def _sentence(difference: Mapping[str, Any]) -> str:
    owner = f" of {difference['owner']!a}" if difference["owner"] else ""
    start = ""
    if difference["span"] != "total":
        start = f" {datetime.fromtimestamp(difference['start'], timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    kept, recomputed = (_amount(difference, name) for name in ("kept", "recomputed"))
    # History keeps sums of its own; all others are what calls are decided by.
    is_a = "summed up" if difference["counter"] == "history" else "counted"
    return (
        f"{difference['scope']} {difference['name']!a}{owner}, {difference['span']}{start}, {difference['field']}:"
        f" {is_a} {kept:f}, history adds up to {recomputed:f} ({kept - recomputed:+f})"
    )


def _amount(difference: Mapping[str, Any], name: str) -> Decimal:
    number = Decimal(difference[name])
    # Of the cost, US dollars of nano-dollars.
    return number.scaleb(-9) if difference["field"] == "cost" else number
