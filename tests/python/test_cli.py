"""The command ``llmquota``: what it prints, and its exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from listed_book import ListedBook, row

from llmquota import QuotaStoreError
from llmquota.cli import main
from llmquota.cli.filters import instant
from llmquota.history import COLUMNS, rows
from llmquota.parsing import shown_store

SHARED = "shared:/var/lib/llmquota"

Printed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Runs the command on a book: its exit status, output and error output."""
    for name in os.environ:
        if name.startswith(("LLMQUOTA_", "OPENAI_")):
            monkeypatch.delenv(name)

    def run(*arguments: str, book: ListedBook | Exception | None = None) -> tuple[int, str, str]:
        def open_book(store: str) -> ListedBook:
            assert store == SHARED
            if isinstance(book, Exception):
                raise book
            assert book is not None, "no store is opened here"
            return book

        try:
            status = main(arguments, open_book)
        except SystemExit as end:
            # As argparse ends a command.
            status = cast(int, end.code)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}
    return {**kept, "TMPDIR": str(tmp_path)}


def command(
    *arguments: str, environment: dict[str, str], status: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command itself, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "llmquota", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert status is None or done.returncode == status, done.stderr
    return done


# --- arguments ---


def test_it_says_its_version_and_what_it_can_do(environment: dict[str, str]) -> None:
    assert command("--version", environment=environment, status=0).stdout.startswith("llmquota 0.")
    told = command("--help", environment=environment, status=0).stdout
    assert all(name in told for name in ("doctor", "verify", "history", "export", "Exit status"))
    for name in ("doctor", "verify", "history", "export"):
        assert "--store" in command(name, "--help", environment=environment, status=0).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("mend",),
        ("history", "--limit", "0"),
        ("history", "--limit", "many"),
        ("history", "--since", "yesterday"),
        ("history", "--since", "2026-02-30"),
        ("history", "--until", "999999999w"),
        ("history", "--format", "parquet"),
        ("export",),
        ("export", "history.xlsx"),
        ("history", "--store", "shard:/x"),
        ("verify", "--store", "memory:"),
        ("history",),
    ],
)
def test_what_is_no_argument_is_refused_with_status_2(printed: Printed, arguments: tuple[str, ...]) -> None:
    status, output, errors = printed(*arguments)
    assert (status, output) == (2, "")
    assert "Traceback" not in errors
    assert "llmquota" in errors


def test_a_bad_store_is_told_what_it_was_meant_to_be_and_its_password_to_nobody(printed: Printed) -> None:
    assert "did you mean 'shared:/x'?" in printed("verify", "--store", "shard:/x")[2]
    assert "hunter2" not in "".join(map(str, printed("verify", "--store", "reddis://u:hunter2@h")))


def test_a_bad_store_of_the_environment_is_not_what_a_backend_falls_back_on(
    printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMQUOTA_STORE", "shard:/user/hunter2")
    status, output, errors = printed("history")
    assert (status, output) == (2, "")
    assert errors.startswith("llmquota history: LLMQUOTA_STORE: 'shard:...' is not valid; expected ")


def test_a_private_store_is_told_how_to_share_it(printed: Printed) -> None:
    errors = printed("history")[2]
    assert errors.rstrip().endswith("LLMQUOTA_STORE=shared:/var/lib/llmquota")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("history", "verify"):
        done = command(name, "--store", f"shared:{tmp_path}/none?size=64MB", environment=environment, status=3)
        assert done.stderr.startswith(f"llmquota {name}: {tmp_path}/none: there is no store;")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (SHARED + "?size=512MB", SHARED + "?size=512MB"),
        ("memory:", "memory:"),
        ("redis://:hunter2@host:6379/0?password=hunter2", "redis://...@host:6379/0"),
        ("rediss://host", "rediss://host"),
        ("redis://user:hunter2@host:port/0", "redis://..."),
    ],
)
def test_no_password_of_a_store_is_shown(store: str, expected: str) -> None:
    assert shown_store(store) == expected


# --- doctor ---


@pytest.fixture
def counting(tmp_path: Path, environment: dict[str, str]) -> Any:
    """Starts processes of one program that count on memory, and ends them."""
    code = "from llmquota import record_request; record_request(); print('counts', flush=True); input()"
    with (tmp_path / "errors").open("w") as errors:
        started: list[subprocess.Popen[str]] = []

        def start() -> int:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            started.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "counts\n"
            return process.pid

        yield start
        for process in started:
            process.kill()
            process.communicate()


def test_doctor_finds_the_processes_that_count_on_their_own(
    counting: Callable[[], int], environment: dict[str, str]
) -> None:
    head = "store: memory: (each process counts on its own)\n"
    assert command("doctor", environment=environment, status=0).stdout == head + "process: none\nok\n"
    pids = [counting()]
    parent = os.getpid()
    alone = command("doctor", environment=environment, status=0).stdout
    assert alone == f"{head}process: {pids[0]}, parent {parent}\nok\n"
    pids.append(counting())
    several = command("doctor", environment=environment, status=1).stdout.splitlines()
    assert several[1:3] == [f"process: {pid}, parent {parent}" for pid in sorted(pids)]
    assert several[3].startswith(f"warning: processes {min(pids)}, {max(pids)} of one program each count on their own")
    assert several[3].endswith("LLMQUOTA_STORE=shared:/var/lib/llmquota")
    assert several[4:] == ["problems: 1"]
    report = json.loads(command("doctor", "--json", environment=environment, status=1).stdout)
    assert report["ok"] is False
    assert report["processes"] == [{"pid": pid, "parent": parent} for pid in sorted(pids)]


def test_doctor_names_every_bad_setting_and_no_secret(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "limits.toml").write_text("[defaults]\nrequests_per_minut = 1\n", encoding="utf-8")
    done = command(
        "doctor",
        environment={
            **environment,
            "OPENAI_RATE_LIMIT_PER_MINUTE": "1e3",
            "LLMQUOTA_STORE": "shard:/x",
            "LLMQUOTA_TIMEZONE": "Europe/Rom",
            "LLMQUOTA_LIMITS": str(tmp_path / "limits.toml"),
            "LLMQUOTA_TOKEN_SECRET": "hunter2",
            "LLMQUOTA_REQUIRE_SHARED": "1",
        },
        status=1,
    )
    settings = [line for line in done.stdout.splitlines() if line.startswith("setting: ")]
    assert len(settings) == 4
    for words in ("PER_MINUTE: '1e3'", "did you mean 'shared:/x'?", "'Europe/Rome'", "limits.toml, line 2"):
        assert any(words in line for line in settings), words
    assert "warning: LLMQUOTA_REQUIRE_SHARED is set" in done.stdout
    assert done.stdout.endswith("problems: 5\n")
    assert (done.stderr, "hunter2" in done.stdout) == ("", False)


def test_doctor_tells_what_a_shared_store_says_of_itself(
    printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmquota.cli.doctor.directory_of", lambda _store: str(tmp_path))
    book = ListedBook(
        facts={
            "store": SHARED,
            "processes": [
                {"pid": 11, "version": "0.1.0", "is_self": False},
                {"pid": 12, "version": "0.1.0", "is_self": True},
            ],
            "warnings": [],
            "settings": [],
            "journal_waiting": 7,
            "families": [[1, 2]],
        }
    )
    status, output, errors = printed("doctor", "--store", SHARED, book=book)
    assert (status, errors) == (0, "")
    processes = "process: 11, version 0.1.0\nprocess: 12, version 0.1.0, this command\n"
    assert output == f"store: {SHARED}\n{processes}journal_waiting: 7\nfamilies: [[1, 2]]\nok\n"
    troubled = ListedBook(facts={"processes": [], "warnings": ["two versions use it"]})
    status, output, _ = printed("doctor", "--json", "--store", SHARED, book=troubled)
    assert (status, json.loads(output)["warnings"]) == (1, ["two versions use it"])


def test_doctor_says_why_a_store_cannot_be_opened(
    printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output, _ = printed("doctor", "--store", f"shared:{tmp_path}/none")
    assert (status, f"warning: {tmp_path}/none: there is no store yet" in output) == (1, True)
    monkeypatch.setattr("llmquota.cli.doctor.directory_of", lambda _store: str(tmp_path))
    status, output, _ = printed("doctor", "--store", SHARED, book=QuotaStoreError("made by a newer version", "x"))
    assert status == 1
    assert "warning: the store cannot be opened: made by a newer version\n" in output


# --- verify ---

NIGHT = {
    "counter": "region",
    "scope": "task",
    "owner": "acme",
    "name": "night\x1b[2J",
    "span": "day",
    "start": 1_769_817_600,
}
ACME = {"scope": "workspace", "owner": "", "name": "acme", "span": "total", "start": 0}
DIFFERENCES = [
    {"counter": "region", **NIGHT, "field": "cost", "kept": 300_000_000, "recomputed": 1_000_000_000},
    {"counter": "history", **ACME, "field": "tokens", "kept": 110, "recomputed": 100},
]


def test_verify_says_which_counters_differ_and_by_how_much(printed: Printed) -> None:
    status, output, errors = printed("verify", "--store", SHARED, book=ListedBook(differences=DIFFERENCES))
    assert (status, errors) == (1, "")
    day, total, last = output.splitlines()
    assert day.startswith("differs: task 'night\\x1b[2J' of 'acme', day 2026-01-31T00:00:00Z, cost: ")
    assert day.endswith(": counted 0.300000000, history adds up to 1.000000000 (-0.700000000)")
    assert total == "differs: workspace 'acme', total, tokens: summed up 110, history adds up to 100 (+10)"
    assert last == "problems: 2 counters differed"
    status, output, _ = printed("verify", "--json", "--store", SHARED, book=ListedBook(differences=DIFFERENCES))
    report = {"ok": False, "store": SHARED, "repaired": False, "differences": DIFFERENCES}
    assert (status, json.loads(output)) == (1, report)


def test_verify_mends_what_differs(printed: Printed) -> None:
    book = ListedBook(differences=DIFFERENCES)
    status, output, _ = printed("verify", "--repair", "--store", SHARED, book=book)
    assert (status, output.splitlines()[-1]) == (0, "ok: 2 counters differed")
    assert output.startswith("mended: task ")
    assert printed("verify", "--store", SHARED, book=book)[:2] == (0, "ok: every counter is what history adds up to\n")
    book = ListedBook(differences=DIFFERENCES)
    report = json.loads(printed("verify", "--repair", "--json", "--store", SHARED, book=book)[1])
    assert (report["ok"], report["repaired"], report["differences"]) == (True, True, DIFFERENCES)


def test_verify_of_a_store_that_is_well(printed: Printed) -> None:
    status, output, _ = printed("verify", "--store", SHARED, book=ListedBook())
    assert (status, output) == (0, "ok: every counter is what history adds up to\n")
    status, output, _ = printed("verify", "--json", "--store", SHARED, book=ListedBook())
    assert (status, json.loads(output)["ok"]) == (0, True)


def test_a_store_that_fails_is_status_3(printed: Printed) -> None:
    for error in (QuotaStoreError("damaged", "store_damaged"), PermissionError(13, "Permission denied", "/x")):
        status, output, errors = printed("verify", "--store", SHARED, book=error)
        assert (status, output, errors) == (3, "", f"llmquota verify: {error}\n")


# --- history ---


def test_a_table_has_aligned_columns_of_single_words(printed: Printed) -> None:
    told = [
        row(1, workspace="a b", task="x\x1b[31m\u202e", tokens=5),
        row(2, goal="goal-1", user="zoë", cost_usd="12.000000000", hold="hold-00000000000000ff"),
    ]
    status, output, _ = printed("history", "--store", SHARED, book=ListedBook(told))
    assert status == 0
    assert output == textwrap.dedent(
        """\
        at                    kind    workspace  goal    task             model   user  requests  errors  tokens      cost_usd  certainty  outcome  hold
        2026-01-31T12:00:02Z  record  acme       goal-1  -                gpt-4o  zoë          1       0     102  12.000000000  exact      ok       hold-00000000000000ff
        2026-01-31T12:00:01Z  record  a\\x20b     -       x\\x1b[31m\\u202e  gpt-4o  -            1       0       5   0.000250000  exact      ok       -
        """  # noqa: E501
    )


def test_history_is_told_as_csv_and_json_lines_too(printed: Printed) -> None:
    book = ListedBook([row(number) for number in range(3)])
    status, output, _ = printed("history", "--store", SHARED, "--format", "csv", "--limit", "2", book=book)
    assert status == 0
    assert [line["id"] for line in csv.DictReader(io.StringIO(output))] == ["2", "1"]
    status, output, _ = printed("history", "--store", SHARED, "--format", "jsonl", book=book)
    assert [json.loads(line)["id"] for line in output.splitlines()] == [2, 1, 0]
    assert list(json.loads(output.splitlines()[0])) == [column.name for column in COLUMNS]


def test_what_is_asked_for_is_what_the_arguments_say(printed: Printed) -> None:
    book = ListedBook([row(1, goal="g", task="t", user="u"), row(2)])
    arguments = (
        "--workspace acme --goal g --task t --model gpt-4o --user u --since 2026-01-31 --until 2026-02-01T01:00+01:00"
    )
    status, output, _ = printed("history", "--store", SHARED, "--format", "jsonl", *arguments.split(), book=book)
    assert (status, [json.loads(line)["id"] for line in output.splitlines()]) == (0, [1])
    wanted = {"workspace_id": "acme", "goal_id": "g", "task_id": "t", "model": "gpt-4o", "user_id": "u"}
    assert book.asked[-1] == {**wanted, "since": 1_769_817_600.0, "until": 1_769_904_000.0, "limit": 100}


def test_an_instant_may_be_a_time_ago() -> None:
    now = instant("0s")
    assert abs(now - instant("1d") - 86_400) < 5
    assert instant("2026-01-31T12:00:00Z") == instant("2026-01-31T13:00:00+01:00") == instant("2026-01-31T12:00:00")


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [None, 1, 999, 1_000, 1_001, 2_500, 9_999])
def test_a_long_history_is_read_in_pages_without_what_lands_meanwhile(newest_first: bool, limit: int | None) -> None:
    book = ListedBook([row(number) for number in range(2_500)])
    found = rows(book, {}, limit=limit, newest_first=newest_first)
    read = [next(found)["id"]]
    book.rows += [row(number) for number in range(2_500, 4_000)]
    read += [each["id"] for each in found]
    expected = list(range(2_500))[:: -1 if newest_first else 1][:limit]
    assert read == expected
    assert max(asked["limit"] for asked in book.asked) <= 1_000


def test_no_history_is_no_error(printed: Printed, tmp_path: Path) -> None:
    status, output, _ = printed("history", "--store", SHARED, book=ListedBook())
    assert (status, len(output.splitlines())) == (0, 1)
    status, output, _ = printed("export", "--store", SHARED, str(tmp_path / "x.csv"), book=ListedBook())
    assert (status, output) == (0, f"{tmp_path / 'x.csv'}: 0 rows\n")


# --- export ---


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_an_export_has_the_oldest_row_first(printed: Printed, tmp_path: Path, end: str) -> None:
    if end == "parquet":
        pytest.importorskip("pyarrow")
    book = ListedBook([row(number, workspace="acme" if number % 2 else "other") for number in range(2_500)])
    path = tmp_path / f"history.{end}"
    status, output, errors = printed("export", "--store", SHARED, "--workspace", "acme", str(path), book=book)
    assert (status, output, errors) == (0, f"{path}: 1250 rows\n", "")
    if end == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            ids = [int(line["id"]) for line in csv.DictReader(file)]
    elif end == "jsonl":
        ids = [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        import pyarrow.parquet as parquet

        ids = parquet.read_table(path).column("id").to_pylist()
    assert ids == list(range(1, 2_500, 2))


def test_an_export_that_cannot_be_written_is_status_3(printed: Printed, tmp_path: Path) -> None:
    status, output, errors = printed("export", "--store", SHARED, f"{tmp_path}/none/x.csv", book=ListedBook())
    assert (status, output) == (3, "")
    assert "No such file or directory" in errors


ENDLESS = """
import sys
from listed_book import endless
from llmquota.cli import main

book = endless(lambda: print("page", file=sys.stderr, flush=True))
sys.exit(main(sys.argv[1:], lambda store: book))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_an_export_and_leaves_no_file(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    process = piped("export", "--store", SHARED, "history.csv", environment=environment, folder=tmp_path)
    assert process.stderr is not None
    for _ in range(3):
        assert process.stderr.readline() == "page\n"
    assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (status, False)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_a_long_history_without_a_word(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    process = piped("history", "--store", SHARED, "--limit", "999999", environment=environment, folder=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("at ")
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait(60) == 141
    assert errors.replace("page\n", "") == ""
    process.stderr.close()


def piped(*arguments: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
