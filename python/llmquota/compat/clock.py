"""Times as the legacy module writes them: naive, in the machine's own time zone."""

from __future__ import annotations

import re
from datetime import datetime, timezone

__all__ = ["local", "midnight", "minute", "naive_local", "naive_local_iso"]

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def local(epoch: float) -> datetime:
    """The local time of seconds since the Unix epoch."""
    return datetime.fromtimestamp(epoch)


def naive_local(instant: str) -> datetime:
    """The local time of an instant of the engine, RFC 3339 in UTC."""
    parts = _RFC3339.fullmatch(instant)
    if parts is None:
        raise ValueError(f"{instant!r} is no instant of the engine")
    micros = int((parts.group(2) or "").ljust(6, "0")[:6])
    utc = datetime.strptime(parts.group(1), "%Y-%m-%dT%H:%M:%S").replace(microsecond=micros, tzinfo=timezone.utc)
    return utc.astimezone().replace(tzinfo=None)


def naive_local_iso(instant: str | None) -> str | None:
    """The same as ISO text; ``None`` for ``None``."""
    return None if instant is None else naive_local(instant).isoformat()


def minute(moment: datetime) -> datetime:
    """The minute that a moment lies in."""
    return moment.replace(second=0, microsecond=0)


def midnight(moment: datetime) -> datetime:
    """The day that a moment lies in."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
