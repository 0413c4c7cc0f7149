"""The command ``llmquota``: looks at a store from outside of the processes that count in it, at code, or at an SDK.

Each subcommand is a module with ``HELP``, ``add_arguments(parser)`` and ``run(arguments)``, which returns 0 or 1. What
it says goes to the output, what went wrong to the error output. The exit status:

====  =======================================================================
0     done, and all is well
1     done, and ``doctor`` found problems, ``verify`` counters that differ,
      ``audit`` calls that nobody counts, or ``coverage`` methods
2     an argument or a setting is not valid, or ``coverage`` has no SDK to call;
      nothing was done
3     it could not be done: the store, a file, a package that is not there
130   interrupted
141   whoever read the output went away
143   told to end
====  =======================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from llmquota._native import __version__
from llmquota.errors import QuotaError, QuotaInputError

from . import audit, coverage, doctor, export, history, verify
from .stores import OpenBook, add_store, open_book

__all__ = ["main"]

Command = Callable[[argparse.Namespace, OpenBook], int]

_COMMANDS = {
    "doctor": doctor,
    "verify": verify,
    "history": history,
    "export": export,
    "audit": audit,
    "coverage": coverage,
}
_WITHOUT_STORE = (audit, coverage)
"""They look at what is in no store yet."""


def main(argv: Sequence[str] | None = None, open_book: OpenBook = open_book) -> int:
    """Runs the command with the words of ``argv``, by default the process's; returns its exit status."""
    arguments = _parser().parse_args(argv)
    with _ended_by_a_signal():
        try:
            run: Command = _COMMANDS[arguments.command].run
            status = run(arguments, open_book)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends, and would complain.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except (QuotaError, OSError) as error:
            print(f"llmquota {arguments.command}: {error}", file=sys.stderr)
            return 2 if isinstance(error, QuotaInputError) else 3
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmquota",
        description="Looks at the quota that the processes of a backend share, and at what spends it.",
        epilog="Exit status: 0 all is well, 1 problems were found, 2 an argument or a setting is not valid,"
        " 3 it could not be done.",
    )
    parser.add_argument("--version", action="version", version=f"llmquota {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        one = commands.add_parser(name, help=command.HELP, description=command.__doc__)
        if command not in _WITHOUT_STORE:
            add_store(one)
        command.add_arguments(one)
    return parser


@contextlib.contextmanager
def _ended_by_a_signal() -> Iterator[None]:
    """A SIGTERM ends the command as an exception does, so that no file is left in the middle."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:
        # Not the main thread: whoever called has signals of its own.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
