"""Which rows of history a command is about: the arguments that say so."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from llmquota.history import Filters

__all__ = ["add_filters", "filters_of", "instant", "positive"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workspace``, ``--goal``, ``--task``, ``--model``, ``--user``, ``--since`` and ``--until``."""
    group = parser.add_argument_group("which rows", "All that is given must hold. Without any, every row.")
    group.add_argument("--workspace", metavar="ID", help="of this workspace; 'global' is that of nobody's calls")
    group.add_argument("--goal", metavar="ID")
    group.add_argument("--task", metavar="ID")
    group.add_argument("--model", metavar="NAME")
    group.add_argument("--user", metavar="ID")
    group.add_argument(
        "--since",
        type=instant,
        metavar="TIME",
        help="from this instant on: 2026-01-31, 2026-01-31T12:00:00+01:00 (UTC without an offset), or 30m, 24h, 7d ago",
    )
    group.add_argument("--until", type=instant, metavar="TIME", help="before this instant, written likewise")


def filters_of(arguments: argparse.Namespace) -> Filters:
    """What the arguments say."""
    given: dict[str, Any] = {
        "workspace_id": arguments.workspace,
        "goal_id": arguments.goal,
        "task_id": arguments.task,
        "model": arguments.model,
        "user_id": arguments.user,
        "since": arguments.since,
        "until": arguments.until,
    }
    return cast(Filters, {name: value for name, value in given.items() if value is not None})


def instant(text: str) -> float:
    """An instant in seconds since the epoch. Raises ``argparse.ArgumentTypeError`` for what is none."""
    ago = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    try:
        if ago is not None:
            return time.time() - timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds()
        # Python 3.10 reads no Z.
        at = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
        return (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant; expected 2026-01-31, 2026-01-31T12:00:00Z, or a time ago such as 30m, 24h or 7d"
        ) from None


def positive(text: str) -> int:
    """A whole number from 1 on. Raises ``argparse.ArgumentTypeError`` for what is none."""
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
