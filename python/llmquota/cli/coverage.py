"""Calls every method of the installed openai SDK, at a provider of its own, and compares what it sent with its count.

It reaches no real provider and no store, and needs no key.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .stores import OpenBook

if TYPE_CHECKING:
    from llmquota.covering import Coverage

__all__ = ["HELP", "add_arguments", "run"]

HELP = "call every method of the installed SDK, and say which are counted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(arguments: argparse.Namespace, _open_book: OpenBook) -> int:
    """Prints what was found; 1 where a method is not counted."""
    # Loads a server and the instrumentation, which no other command needs.
    from llmquota.covering import cover

    found = cover()
    if arguments.json:
        print(json.dumps(_report(found)))
    else:
        for line in _lines(found):
            print(line)
    return 1 if found.missed else 0


def _report(found: Coverage) -> dict[str, Any]:
    calls = found.calls
    return {
        "sdk": found.sdk,
        "counted": len(found.sending) - len(found.missed),
        "total": len(found.sending),
        "calls": len(calls),
        "requests": {"served": sum(call.served for call in calls), "recorded": sum(call.recorded for call in calls)},
        "tokens": {"told": sum(call.told for call in calls), "recorded": sum(call.read for call in calls)},
        "resources": {name: {"counted": counted, "total": total} for name, counted, total in _resources(found)},
        "not_counted": [{"method": each.method.name, "because": each.problems} for each in found.missed],
        "no_request": [each.method.name for each in found.silent],
        "websocket": [method.name for method in found.websockets],
        "raised": [
            {"method": each.method.name, "way": call.way, "error": call.raised}
            for each in found.sending
            for call in each.calls
            if call.raised and call.served
        ],
    }


def _resources(found: Coverage) -> list[tuple[str, int, int]]:
    """Each resource, how many of its methods are counted, and how many there are."""
    total = Counter(each.method.resource for each in found.sending)
    missed = Counter(each.method.resource for each in found.missed)
    return [(name, count - missed[name], count) for name, count in total.items()]


def _lines(found: Coverage) -> Iterator[str]:
    report = _report(found)
    for name, counted, total in _resources(found):
        yield f"{name:<26}{counted:>4} / {total}"
    for missed in report["not_counted"]:
        yield f"NOT counted: {missed['method']}"
        for why in missed["because"]:
            yield f"    {' '.join(why.split())}"
    if report["raised"]:
        names = ", ".join(dict.fromkeys(each["method"] for each in report["raised"]))
        yield f"the SDK raised an error after their requests, in {len(report['raised'])} calls of {names}"
    if report["no_request"]:
        yield f"make no request: {', '.join(report['no_request'])}"
    if report["websocket"]:
        yield f"WebSocket, not called: {len(report['websocket'])} ({', '.join(report['websocket'])})"
    yield (
        f"{report['calls']} calls with openai {report['sdk']}: {report['requests']['served']} requests served,"
        f" {report['requests']['recorded']} recorded; {report['tokens']['told']} tokens told,"
        f" {report['tokens']['recorded']} recorded"
    )
    state = "problems" if found.missed else "ok"
    yield f"{state}: {report['counted']} of {report['total']} methods are counted"
