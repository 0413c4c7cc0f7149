"""Writes rows of history as CSV, JSON Lines or Parquet.

The rows come one at a time and go out in pages, so that a history of any length fits. A file appears under its name
whole or not at all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import secrets
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import IO, Any, BinaryIO

from .errors import QuotaError, QuotaInputError
from .history import COLUMNS, Kind, Row

__all__ = ["FORMATS", "export", "format_of", "write_csv", "write_jsonl"]

#: Rows of one group of a Parquet file, which a reader takes or skips as a whole.
_GROUP_ROWS = 65_536
_BATCH_ROWS = 4_096


def write_csv(file: IO[str], rows: Iterable[Row]) -> int:
    """Writes CSV as RFC 4180 has it: a line of names, lines that end in CR LF, an empty field where there is nothing.

    ``file`` must not translate line ends. Texts are written as they are, also one that a spreadsheet would take for a
    formula. Returns how many rows there were.
    """
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([column.name for column in COLUMNS])
    count = 0
    for row in rows:
        writer.writerow([_csv_field(row.get(column.name)) for column in COLUMNS])
        count += 1
    return count


def _csv_field(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def write_jsonl(file: IO[str], rows: Iterable[Row]) -> int:
    """Writes one JSON object a line, with every column, ``null`` where there is nothing. Money is text.

    Returns how many rows there were.
    """
    count = 0
    for row in rows:
        whole = {column.name: row.get(column.name) for column in COLUMNS}
        file.write(json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")
        count += 1
    return count


def _text(write: Callable[[IO[str], Iterable[Row]], int]) -> Callable[[BinaryIO, Iterable[Row]], int]:
    def binary(file: BinaryIO, rows: Iterable[Row]) -> int:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            return write(text, rows)
        finally:
            # Flushes, and leaves the file open.
            text.detach()

    return binary


def _write_parquet(file: BinaryIO, rows: Iterable[Row]) -> int:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise QuotaError(
            f"Parquet needs pyarrow, which cannot be imported ({error}): pip install 'llmquota[export]'",
            "missing_package",
            "pyarrow",
        ) from error
    types: dict[Kind, Any] = {
        "integer": arrow.int64(),
        "text": arrow.string(),
        # Nanoseconds are a later addition to the format that some readers refuse.
        "instant": arrow.timestamp("us", tz="UTC"),
        # Every sum of 64 bits in nano-dollars fits.
        "money": arrow.decimal128(19, 9),
        "flag": arrow.bool_(),
    }
    schema = arrow.schema([arrow.field(column.name, types[column.kind]) for column in COLUMNS])

    def batch_of(page: list[Row]) -> Any:
        values = [[_parquet_value(row.get(column.name), column.kind) for row in page] for column in COLUMNS]
        columns = zip(values, schema, strict=True)
        return arrow.record_batch([arrow.array(given, field.type) for given, field in columns], schema=schema)

    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for batches in _pages((batch_of(page) for page in _pages(rows, _BATCH_ROWS)), _GROUP_ROWS // _BATCH_ROWS):
            table = arrow.Table.from_batches(batches)
            writer.write_table(table)
            count += table.num_rows
    return count


def _pages(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(things)
    while page := list(islice(remaining, size)):
        yield page


def _parquet_value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "money":
        return Decimal(value)
    return _microseconds(value) if kind == "instant" else value


def _microseconds(instant: str) -> int:
    """Since the epoch, of RFC 3339 in UTC; what is finer is cut off."""
    parts = re.fullmatch(r"(\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?Z", instant)
    if parts is None:
        raise ValueError(f"{instant!r} is not RFC 3339 in UTC")
    *numbers, fraction = parts.groups()
    return timegm(tuple(map(int, numbers))) * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))


FORMATS: dict[str, Callable[[BinaryIO, Iterable[Row]], int]] = {
    "csv": _text(write_csv),
    "jsonl": _text(write_jsonl),
    "parquet": _write_parquet,
}
"""What writes each format, by the end of a file's name."""


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's name ends in. Raises :class:`QuotaInputError` where it is none of :data:`FORMATS`."""
    end = os.path.splitext(os.fspath(path))[1].lower()
    if end[1:] not in FORMATS:
        raise QuotaInputError(
            f"path: {os.fspath(path)!r} does not say its format; expected a name that ends in .csv, .jsonl or .parquet",
            "invalid_path",
            "path",
        )
    return end[1:]


def export(rows: Iterable[Row], path: str | os.PathLike[str]) -> int:
    """Writes rows to a file, in the format that its name ends in: ``.csv``, ``.jsonl`` or ``.parquet``.

    Returns how many rows there were. The file appears, or takes the place of an earlier one, when it is whole and on
    the disk; on any error there is nothing left of it. Raises :class:`QuotaInputError` for another name,
    :class:`QuotaError` where Parquet is asked for and pyarrow is missing, ``OSError`` where it cannot be written, and
    whatever ``rows`` raises.
    """
    write = FORMATS[format_of(path)]
    # Of a link what it leads to is replaced, and not the link.
    target = os.path.realpath(os.fspath(path))
    part = os.path.join(os.path.dirname(target), f".{os.path.basename(target)[:100]}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            count = write(file, rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return count
