"""Says which store is in use, by which processes, and what is wrong with the settings and with it."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmquota import beacon
from llmquota.errors import QuotaError
from llmquota.manager import QuotaManager
from llmquota.parsing import shown_store
from llmquota.settings import MENDING, Settings
from llmquota.sources import Environment

from .stores import OpenBook, directory_of, is_private

__all__ = ["HELP", "add_arguments", "run"]

HELP = "say which store is in use, by whom, and what is wrong"

Report = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(arguments: argparse.Namespace, open_book: OpenBook) -> int:
    """Prints the report; 1 where anything is wrong."""
    with _silent_log():
        report = _examine(arguments.store, open_book)
    if arguments.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        for line in _lines(report):
            print(line)
    return 0 if report["ok"] else 1


def _examine(store: str | None, open_book: OpenBook) -> Report:
    settings = Settings.from_env()
    report: Report = {"store": "", "processes": [], "facts": {}, "settings": _bad_settings(), "warnings": []}
    if store is None:
        store = settings.store
    report["store"] = shown_store(store)
    _examine_private(report, settings) if is_private(store) else _examine_shared(report, store, open_book)
    report["ok"] = not report["settings"] and not report["warnings"]
    return report


def _bad_settings() -> list[str]:
    """What a backend with this environment would warn of, its limits file included."""
    # On memory, so that they are judged where the store cannot be opened too.
    manager = QuotaManager(_source=Environment(store="memory:?size=1MiB"))
    manager._open()
    return list(manager.problems)


def _examine_private(report: Report, settings: Settings) -> None:
    for family in beacon.families():
        report["processes"] += [{"pid": pid, "parent": family.parent} for pid in family.members]
        if len(family.members) > 1:
            report["warnings"].append(beacon.sentence(family))
    if settings.require_shared:
        report["warnings"].append(
            f"LLMQUOTA_REQUIRE_SHARED is set, so that nothing is admitted on memory:; set {MENDING}"
        )


def _examine_shared(report: Report, store: str, open_book: OpenBook) -> None:
    directory = directory_of(store)
    if directory is not None and not os.path.lexists(directory):
        report["warnings"].append(f"{directory}: there is no store yet; the first process that counts makes it")
        return
    try:
        found = open_book(store).doctor()
    except (QuotaError, OSError) as error:
        report["warnings"].append(f"the store cannot be opened: {error}")
        return
    report["processes"] = found.pop("processes")
    report["warnings"] += found.pop("warnings")
    # Told above: the name as it was given, and the settings also where the store cannot be opened.
    report["facts"] = {name: fact for name, fact in found.items() if name not in ("store", "settings")}


def _lines(report: Report) -> Iterator[str]:
    private = " (each process counts on its own)" if is_private(report["store"]) else ""
    yield f"store: {report['store']}{private}"
    for process in report["processes"]:
        facts = "".join(f", {name} {process[name]}" for name in ("parent", "version") if name in process)
        yield f"process: {process['pid']}{facts}{', this command' if process.get('is_self') else ''}"
    if not report["processes"]:
        yield "process: none"
    for name, value in report["facts"].items():
        yield f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value}"
    for problem in report["settings"]:
        yield f"setting: {problem}"
    for warning in report["warnings"]:
        yield f"warning: {warning}"
    problems = len(report["settings"]) + len(report["warnings"])
    yield "ok" if report["ok"] else f"problems: {problems}"


@contextmanager
def _silent_log() -> Iterator[None]:
    """What the package would log while it is looked at is in the report."""
    log = logging.getLogger("llmquota")
    log.addFilter(_never)
    try:
        yield
    finally:
        log.removeFilter(_never)


def _never(_record: logging.LogRecord) -> bool:
    return False
