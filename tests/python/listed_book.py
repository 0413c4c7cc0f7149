"""A book whose rows are a list: what a command asks for and prints is the same for any book."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from llmquota.history import COLUMNS

FIELDS = {"workspace_id": "workspace", "goal_id": "goal", "task_id": "task", "model": "model", "user_id": "user"}


def row(number: int, **values: Any) -> dict[str, Any]:
    """A row that has every column."""
    usual = {
        "id": number,
        "kind": "record",
        "at": f"2026-01-31T12:00:{number % 60:02}Z",
        "workspace": "acme",
        "model": "gpt-4o",
        "requests": 1,
        "errors": 0,
        "tokens": 100 + number,
        "cost_usd": "0.000250000",
        "certainty": "exact",
        "outcome": "ok",
        "replaced": False,
    }
    return {**dict.fromkeys(column.name for column in COLUMNS), **usual, **values}


class ListedBook:
    """Finds rows as a store does, and what it was told to find besides."""

    def __init__(
        self,
        rows: Sequence[dict[str, Any]] = (),
        differences: Sequence[dict[str, Any]] = (),
        facts: dict[str, Any] | None = None,
        each_page: Callable[[], None] = lambda: None,
    ) -> None:
        self.rows = list(rows)
        self.asked: list[dict[str, Any]] = []
        self._differences = differences
        self._facts = facts or {}
        self._each_page = each_page

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
        wanted = {
            "workspace_id": workspace_id,
            "goal_id": goal_id,
            "task_id": task_id,
            "model": model,
            "user_id": user_id,
            "since": since,
            "until": until,
        }
        self.asked.append({**{name: value for name, value in wanted.items() if value is not None}, "limit": limit})
        self._each_page()
        found = [
            each
            for each in self.rows
            if all(wanted[name] in (None, each[column]) for name, column in FIELDS.items())
            and (after is None or (each["id"] < after if newest_first else each["id"] > after))
        ]
        return sorted(found, key=lambda each: int(each["id"]), reverse=newest_first)[:limit]

    def verify(self, repair: bool = False) -> list[dict[str, Any]]:
        found = list(self._differences)
        if repair:
            self._differences = []
        return found

    def doctor(self) -> dict[str, Any]:
        return dict(self._facts)


def endless(announce: Callable[[], None]) -> ListedBook:
    """A book that has another page for ever, a tenth of a second each."""

    def pause() -> None:
        announce()
        time.sleep(0.1)

    return ListedBook([row(number) for number in range(20_000)], each_page=pause)
