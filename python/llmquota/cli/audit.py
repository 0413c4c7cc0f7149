"""Reads a code base and lists every place that calls a provider, and who counts its calls. It runs nothing of it."""

from __future__ import annotations

import argparse
import dataclasses
import json

from llmquota.auditing import Audit, Place, audit

from .stores import OpenBook

__all__ = ["HELP", "add_arguments", "run"]

HELP = "list the places of a code base that call a provider, and which are not counted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the paths and ``--json``."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a directory or a file; all of them are one code base")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of lines")


def run(arguments: argparse.Namespace, _open_book: OpenBook) -> int:
    """Prints the places; 1 where one of them is not covered, or a file cannot be read."""
    found = audit(arguments.paths)
    if arguments.json:
        # In ASCII: a file may be called what is no text.
        print(json.dumps([dataclasses.asdict(place) for place in found.places]))
    else:
        for place in found.places:
            print(_line(place))
        print(_count(found))
    return 0 if all(place.covered for place in found.places) else 1


def _line(place: Place) -> str:
    state = {True: "covered by ", False: "NOT covered: ", None: "NOT judged: "}[place.covered]
    return _printable(f"{place.path}:{place.line}  {place.what}  {state}{place.because}")


def _count(found: Audit) -> str:
    uncovered = sum(place.covered is False for place in found.places)
    unread = sum(place.covered is None for place in found.places)
    places = len(found.places) - unread
    read = f"{places} places in {found.files} files"
    if not uncovered and not unread:
        return f"ok: {read}, all covered"
    return f"problems: {uncovered} of {read} are not covered" + (f", {unread} could not be read" if unread else "")


def _printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
