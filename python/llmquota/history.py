"""History: what a row of it has, and how its rows are read page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

__all__ = ["COLUMNS", "Book", "Column", "Filters", "Row", "rows"]

Row = Mapping[str, Any]
"""A row, by column; ``None`` where a column has nothing to say."""

PAGE_ROWS = 1_000

Kind = Literal["integer", "text", "instant", "money", "flag"]


@dataclass(frozen=True)
class Column:
    """A column of history."""

    name: str
    #: ``integer``: ``int``, negative where a correction takes back. ``text``: ``str``. ``instant``: RFC 3339 in UTC, as
    #: ``str``. ``money``: US dollars as decimal ``str``, exact to nine places. ``flag``: ``bool``.
    kind: Kind


COLUMNS: tuple[Column, ...] = (
    Column("id", "integer"),
    Column("kind", "text"),
    Column("at", "instant"),
    Column("workspace", "text"),
    Column("goal", "text"),
    Column("task", "text"),
    Column("model", "text"),
    Column("user", "text"),
    Column("credential", "text"),
    Column("limiter", "text"),
    Column("requests", "integer"),
    Column("errors", "integer"),
    Column("tokens", "integer"),
    Column("input_tokens", "integer"),
    Column("output_tokens", "integer"),
    Column("cached_tokens", "integer"),
    Column("reasoning_tokens", "integer"),
    Column("cost_usd", "money"),
    Column("certainty", "text"),
    Column("outcome", "text"),
    Column("method", "text"),
    Column("request_id", "text"),
    Column("latency_ms", "integer"),
    Column("hold", "text"),
    Column("granted_at", "instant"),
    Column("replaced", "flag"),
    Column("span", "text"),
    Column("start", "instant"),
)
"""The columns of a row, in the order in which every export has them. ``docs/history.md`` says what each means."""


class Filters(TypedDict, total=False):
    """Which rows: those for which all that is given holds."""

    workspace_id: str
    goal_id: str
    task_id: str
    model: str
    user_id: str
    #: Not before this instant, in seconds since the epoch.
    since: float
    #: Before this instant, in seconds since the epoch.
    until: float


class Book(Protocol):
    """Whatever has a history: a :class:`~llmquota.QuotaManager`."""

    def history(
        self,
        workspace_id: str | None = None,
        *,
        goal_id: str | None = None,
        task_id: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 1_000,
        after: int | None = None,
        newest_first: bool = True,
    ) -> list[dict[str, Any]]:
        """At most ``limit`` rows, in the order in which they landed or the other way about.

        ``after`` is the ``id`` of the last row that the caller has: what follows it in that order is given.
        """


def rows(book: Book, filters: Filters, *, limit: int | None = None, newest_first: bool = True) -> Iterator[Row]:
    """The rows of a book, read in pages, so that a history of any length fits; at most ``limit`` of them.

    Those that land while it is read are left out.
    """
    newest = book.history(**filters, limit=1)
    if not newest:
        return
    last: int = newest[0]["id"]
    left, after = limit, None if not newest_first else last + 1
    while left is None or left > 0:
        asked = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        page = book.history(**filters, limit=asked, after=after, newest_first=newest_first)
        for row in page:
            # Not by time: a clock may have been set back.
            if row["id"] > last:
                return
            yield row
        if len(page) < asked:
            return
        after = page[-1]["id"]
        left = None if left is None else left - len(page)
