"""History as CSV, JSON Lines and Parquet: each read back by another reader, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmquota import QuotaInputError
from llmquota.exporting import export
from llmquota.history import COLUMNS

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NAMES = [column.name for column in COLUMNS]
NOTHING = dict.fromkeys(NAMES)

FULL: dict[str, Any] = {
    "id": 2**62,
    "kind": "settle",
    "at": "2026-01-31T12:00:07.123456789Z",
    "workspace": 'ac"me, Inc.\nRome',
    "goal": "goal-1",
    "task": "=cmd|' /C calc'!A0",
    "model": "gpt-4o",
    "user": "zoë@例え.jp",
    "credential": "openai/ab12",
    "limiter": None,
    "requests": 1,
    "errors": 0,
    "tokens": 2**53 + 1,
    "input_tokens": 60,
    "output_tokens": 40,
    "cached_tokens": 10,
    "reasoning_tokens": 5,
    "cost_usd": "9223372036.854775807",
    "certainty": "exact",
    "outcome": "ok",
    "method": "chat.completions.create",
    "request_id": "req_1",
    "latency_ms": 812,
    "hold": "hold-00000000000000ff",
    "granted_at": "2026-01-31T12:00:00Z",
    "replaced": False,
    "span": None,
    "start": None,
}
CORRECTION: dict[str, Any] = {
    **NOTHING,
    "id": 3,
    "kind": "adjust",
    "at": "1969-12-31T23:59:59.5Z",
    "workspace": "acme",
    "requests": -4,
    "errors": 0,
    "tokens": -(2**63),
    "cost_usd": "-0.000000001",
    "certainty": "exact",
    "replaced": True,
    "span": "day",
    "start": "1969-12-31T00:00:00Z",
}
ROWS = [FULL, CORRECTION]
MANY = 150_000


def many(count: int = MANY) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {**FULL, "id": number, "tokens": number}


def test_the_example_has_every_column() -> None:
    assert list(FULL) == NAMES


def test_csv_is_what_rfc_4180_says(tmp_path: Path) -> None:
    assert export(ROWS, tmp_path / "history.csv") == 2
    text = (tmp_path / "history.csv").read_bytes().decode()
    assert text.startswith(",".join(NAMES) + "\r\n")
    assert text.endswith("\r\n")
    assert '"ac""me, Inc.\nRome"' in text
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as file:
        full, correction = csv.DictReader(file)
    assert full == {
        name: "" if value is None else str(value).lower() if value is False else str(value)
        for name, value in FULL.items()
    }
    assert (correction["tokens"], correction["goal"], correction["replaced"]) == (str(-(2**63)), "", "true")


def test_json_lines_keep_every_digit(tmp_path: Path) -> None:
    assert export(ROWS, tmp_path / "history.jsonl") == 2
    lines = (tmp_path / "history.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == ROWS
    assert list(json.loads(lines[1])) == NAMES
    assert "zoë@例え.jp" in lines[0]


def test_parquet_keeps_types_and_every_digit(tmp_path: Path) -> None:
    assert export(ROWS, tmp_path / "history.parquet") == 2
    table = parquet.read_table(tmp_path / "history.parquet")
    assert table.column_names == NAMES
    kinds = {column.name: column.kind for column in COLUMNS}
    types = {
        "integer": pyarrow.int64(),
        "text": pyarrow.string(),
        "instant": pyarrow.timestamp("us", tz="UTC"),
        "money": pyarrow.decimal128(19, 9),
        "flag": pyarrow.bool_(),
    }
    assert {field.name: field.type for field in table.schema} == {name: types[kinds[name]] for name in NAMES}
    full, correction = table.to_pylist()
    converted = {
        "at": datetime(2026, 1, 31, 12, 0, 7, 123_456, tzinfo=timezone.utc),
        "granted_at": datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
        "cost_usd": Decimal("9223372036.854775807"),
    }
    assert full == {**FULL, **converted}
    assert correction["at"] == datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=timezone.utc)
    assert correction["cost_usd"] == Decimal("-0.000000001")
    assert (correction["tokens"], correction["replaced"], correction["goal"]) == (-(2**63), True, None)


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_a_history_without_rows_has_columns(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"history.{end.upper()}"
    assert export([], path) == 0
    if end == "parquet":
        assert parquet.read_table(path).column_names == NAMES
    else:
        assert path.read_text(encoding="utf-8").strip().split(",") == (NAMES if end == "csv" else [""])


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_a_long_history_goes_out_in_pages(tmp_path: Path, end: str) -> None:
    """It fits into little memory: 150,000 rows at once would be some 200 MB."""
    code = f"""
    import resource, sys
    import test_exporting
    from llmquota.exporting import export

    export(test_exporting.many(1000), "first.{end}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert export(test_exporting.many(), "history.{end}") == {MANY}
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 100, "megabytes"
    if end == "parquet":
        file = parquet.ParquetFile(tmp_path / "history.parquet")
        assert file.num_row_groups == 3
        assert file.read(["tokens"]).column(0).to_pylist() == list(range(MANY))
    else:
        lines = (tmp_path / f"history.{end}").read_bytes().count(b"req_1")
        assert lines == MANY


# --- whole or not at all ---


def test_another_file_of_that_name_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("old", encoding="utf-8")
    seen = []

    def rows() -> Iterator[dict[str, Any]]:
        seen.append(path.read_text(encoding="utf-8"))
        yield FULL

    export(rows(), path)
    assert seen == ["old"]
    assert path.read_text(encoding="utf-8").startswith("id,")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_rows_that_fail_leave_no_file(tmp_path: Path, end: str, error: type[BaseException]) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from many(5_000)
        raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        export(rows(), tmp_path / f"history.{end}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_a_file_that_finds_no_room_leaves_nothing(tmp_path: Path, end: str) -> None:
    (tmp_path / f"history.{end}").write_text("old", encoding="utf-8")
    code = f"""
    import resource, test_exporting
    from llmquota.exporting import export

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        export(test_exporting.many(20_000), "history.{end}")
    except OSError:
        print("no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    """
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no room\n", "")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [(f"history.{end}", "old")]


def test_a_killed_export_leaves_the_name_free(tmp_path: Path) -> None:
    code = """
    import os, signal, test_exporting
    from llmquota.exporting import export

    def rows():
        yield from test_exporting.many(10_000)
        os.kill(os.getpid(), signal.SIGKILL)

    export(rows(), "history.csv")
    """
    assert run(code, tmp_path).returncode == -signal.SIGKILL
    assert not (tmp_path / "history.csv").exists()
    assert [path.name.startswith(".history.csv.") for path in tmp_path.iterdir()] == [True], "the part alone is left"


def test_a_file_has_the_rights_of_any_new_file_and_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "history.csv").symlink_to(real / "other.csv")
    mask = os.umask(0o027)
    try:
        export(ROWS, tmp_path / "history.csv")
    finally:
        os.umask(mask)
    assert (tmp_path / "history.csv").is_symlink()
    assert (real / "other.csv").stat().st_mode & 0o777 == 0o640


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".csv")
    assert export(ROWS, path) == 2
    assert path.exists()


@pytest.mark.parametrize("name", ["history", "history.xlsx", "history.csv.gz", ".csv"])
def test_a_name_that_says_no_format_is_refused_before_a_row_is_read(tmp_path: Path, name: str) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        pytest.fail("a row was read")
        yield FULL

    with pytest.raises(QuotaInputError, match=r"ends in \.csv, \.jsonl or \.parquet"):
        export(rows(), tmp_path / name)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        export(ROWS, tmp_path / "nowhere" / "history.csv")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = """
    import sys, test_exporting
    from llmquota import QuotaError
    from llmquota.exporting import export

    sys.modules["pyarrow"] = None
    try:
        export(test_exporting.ROWS, "history.parquet")
    except QuotaError as error:
        print(error.code, str(error).partition("): ")[2])
    export(test_exporting.ROWS, "history.csv")
    """
    done = run(code, tmp_path)
    assert (done.stdout, done.stderr) == ("missing_package pip install 'llmquota[export]'\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, in ``folder``, which may use this module."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# --- its document ---


def test_every_column_is_documented_in_its_place() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/history.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE) == [
        (column.name, column.kind) for column in COLUMNS
    ]
