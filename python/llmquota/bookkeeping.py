"""What a manager tells of what it keeps: history, its sums, whether the counters agree with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, SupportsIndex, TypeAlias, cast

from . import _native
from .history import Filters, rows

__all__ = ["Bookkeeping", "Instant"]

Instant: TypeAlias = "datetime | float"
"""An instant: a ``datetime``, in UTC where it has no time zone, or seconds since the epoch."""


class Bookkeeping(_native.Manager):
    """The questions to what is kept. A :class:`~llmquota.QuotaManager` is one.

    A shared store keeps history; on memory it is what happened last, as far as it fits. Each question is answered with
    all that happened before it, in whichever process.
    """

    def history(
        self,
        workspace_id: str | None = None,
        *,
        goal_id: str | None = None,
        task_id: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        kinds: Sequence[str] = (),
        after: SupportsIndex | None = None,
        limit: SupportsIndex = 1_000,
        newest_first: bool = True,
    ) -> list[dict[str, Any]]:
        """The rows of which all that is given holds, ``limit`` (100,000 at most) of them.

        ``None`` is any workspace. ``since`` is included, ``until`` is not. ``kinds`` are words of the column ``kind``.
        For the next page, ``after`` is the ``id`` of the last row of this one.

        Each row has every column of ``llmquota.history.COLUMNS``, ``None`` where there is nothing: times are RFC 3339
        in UTC, money is US dollars as decimal text. ``docs/history.md`` tells what they mean. Raises
        :class:`QuotaInputError` for a question that cannot be, :class:`QuotaStoreError` where history cannot be read.
        """
        return self.history_rows(
            workspace=workspace_id,
            goal=goal_id,
            task=task_id,
            model=model,
            user=user_id,
            since=_seconds(since),
            until=_seconds(until),
            kinds=kinds,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    def rollups(
        self,
        period: str,
        workspace_id: str | None = None,
        *,
        goal_id: str | None = None,
        task_id: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        limit: SupportsIndex = 1_000,
        newest_first: bool = True,
    ) -> list[dict[str, Any]]:
        """What was used in each ``"hour"``, ``"day"`` or ``"month"`` that begins in the time asked for, or ``"total"``.

        Of the workspace, or of the goal, task, model or user in it: one of these at most. Without a workspace, of every
        one. Periods in which nothing was used are not there. The sums outlive the rows of history; those of a shared
        store alone are kept.

        Each has ``scope``, ``owner`` (the workspace of a goal, task, model or user), ``name``, ``span``, ``start``
        (RFC 3339 in UTC, ``None`` for the total), ``requests``, ``errors``, ``tokens``, ``input_tokens``,
        ``output_tokens``, ``cached_tokens`` and ``cost_usd`` (US dollars as decimal text). Raises as :meth:`history`
        does.
        """
        return self.history_sums(
            period,
            workspace=workspace_id,
            goal=goal_id,
            task=task_id,
            model=model,
            user=user_id,
            since=_seconds(since),
            until=_seconds(until),
            limit=limit,
            newest_first=newest_first,
        )

    def export(
        self,
        path: str | os.PathLike[str],
        workspace_id: str | None = None,
        *,
        goal_id: str | None = None,
        task_id: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        limit: int | None = None,
    ) -> int:
        """Writes rows to a file, the oldest first, ``limit`` of them at most; returns how many.

        The name ends in ``.csv``, ``.jsonl`` or ``.parquet`` (``pip install 'llmquota[export]'``). The file is there
        when it is whole, and takes the place of an earlier one. Raises :class:`QuotaInputError` for another name,
        :class:`QuotaError` where pyarrow is missing, ``OSError`` where the file cannot be written, and as
        :meth:`history` does.
        """
        # Only for those who export, so that no import pays for it.
        from .exporting import export, format_of

        format_of(path)
        given = {
            "workspace_id": workspace_id,
            "goal_id": goal_id,
            "task_id": task_id,
            "model": model,
            "user_id": user_id,
            "since": _seconds(since),
            "until": _seconds(until),
        }
        filters = cast(Filters, {name: value for name, value in given.items() if value is not None})
        return export(rows(self, filters, limit=limit, newest_first=False), path)

    def verify(self, repair: bool = False) -> list[dict[str, Any]]:
        """The counters that are not what history adds up to; none where all is well, and on memory.

        With ``repair`` each is set to what history says. Each has ``counter`` (``"history"`` for its own sums,
        ``"region"`` for what calls are decided by), ``scope``, ``owner``, ``name``, ``span``, ``start`` (seconds since
        the epoch, 0 for the total), ``field``, ``kept`` and ``recomputed``; ``cost`` is in nano-dollars. Reads all of
        history. Raises :class:`QuotaStoreError` where that cannot be.
        """
        return super().verify(repair)

    def flush(self) -> None:
        """Waits until history has all that happened before: at most a fifth of a second, unless the disk is behind.

        Raises :class:`QuotaStoreError` where nobody writes it within five seconds; what waits stays where it is.
        """
        super().flush()


def _seconds(instant: Instant | None) -> float | None:
    if isinstance(instant, datetime):
        return (instant if instant.tzinfo is not None else instant.replace(tzinfo=timezone.utc)).timestamp()
    return instant
