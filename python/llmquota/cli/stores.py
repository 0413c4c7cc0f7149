"""Which store a command looks at, and how it is shown."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, Protocol, cast

from llmquota import history, parsing
from llmquota.errors import QuotaConfigError, QuotaStoreError
from llmquota.manager import QuotaManager
from llmquota.settings import MENDING, Settings
from llmquota.sources import Environment

__all__ = ["Book", "OpenBook", "add_store", "chosen", "directory_of", "is_private", "open_book", "opened"]


class Book(history.Book, Protocol):
    """A store, opened: a :class:`~llmquota.QuotaManager`."""

    def verify(self, repair: bool = False) -> list[dict[str, Any]]:
        """The counters that are not what history adds up to; mends all of them where ``repair`` is true.

        Each has ``counter`` (``history`` for its own sums, ``region`` for what calls are decided by), ``scope``,
        ``owner``, ``name``, ``span``, ``start`` (seconds since the epoch, 0 for the total), ``field``, ``kept``, and
        ``recomputed`` (what history adds up to); ``cost`` is in nano-dollars.
        """

    def doctor(self) -> dict[str, Any]:
        """``processes`` (each with ``pid``, ``version``, ``is_self``), ``warnings`` (sentences), and facts by name."""


OpenBook = Callable[[str], Book]
"""Opens the store of a name. Raises :class:`~llmquota.QuotaError`."""


def add_store(parser: argparse.ArgumentParser) -> None:
    """Adds ``--store``."""
    parser.add_argument(
        "--store",
        type=_store,
        metavar="NAME",
        help="the store, such as shared:/var/lib/llmquota; that of LLMQUOTA_STORE without it",
    )


def _store(text: str) -> str:
    try:
        return parsing.store(text.strip())
    except parsing.Invalid as invalid:
        # Not argparse's own message, which would repeat the value: it may hold a password.
        raise argparse.ArgumentTypeError(f"expected {invalid}") from None


def chosen(arguments: argparse.Namespace) -> str:
    """The store's name: that of ``--store``, or the environment's.

    Raises :class:`~llmquota.QuotaConfigError` where the environment's is not valid: the default that a backend falls
    back on is not what anybody wants to look at.
    """
    if arguments.store is not None:
        return cast(str, arguments.store)
    settings = Settings.from_env()
    for problem in settings.problems:
        if problem.variable == "LLMQUOTA_STORE":
            raise QuotaConfigError(
                f"LLMQUOTA_STORE: {problem.value} is not valid; expected {problem.expected}", "invalid_config", "store"
            )
    return settings.store


def opened(arguments: argparse.Namespace, open_book: OpenBook) -> Book:
    """The store that was chosen, opened. Raises :class:`~llmquota.QuotaError` where only its owner can read it."""
    store = chosen(arguments)
    if is_private(store):
        raise QuotaConfigError(
            "memory: is private to the process that counts in it, and nobody else can read it; name the store that"
            f" processes share with --store or in the environment: {MENDING}",
            "invalid_config",
            "store",
        )
    return open_book(store)


def open_book(store: str) -> Book:
    """Opens a store that is there, with the settings of the environment. A command makes none."""
    directory = directory_of(store)
    if directory is not None and not os.path.isdir(directory):
        raise QuotaStoreError(f"{directory}: there is no store; the first process that counts makes it", "no_store")
    manager = QuotaManager(_source=Environment(store=store, observe=True))
    manager._open()
    return manager


def is_private(store: str) -> bool:
    """True for a store of one process alone."""
    return store.startswith("memory:")


def directory_of(store: str) -> str | None:
    """The directory of a store that the processes of a host share; ``None`` for any other store."""
    scheme, _, rest = store.partition(":")
    return rest.partition("?")[0] if scheme == "shared" else None
