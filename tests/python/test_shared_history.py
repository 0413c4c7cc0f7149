"""What a shared store tells of what it keeps: through the public API, and through the command as its own process."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import openai
import pytest
from shared_workers import SIZE, troubles

from llmquota import ManualClock, QuotaError, QuotaInputError, QuotaManager, guarded
from llmquota.compat import MultiWorkspaceQuotaManager
from llmquota.history import COLUMNS
from llmquota.testing import FakeOpenAI

#: 2026-01-31, 10:00 UTC.
START = 1_769_853_600.0
HOUR = 3_600
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def manager(directory: str, clock: ManualClock) -> QuotaManager:
    return QuotaManager(f"shared:{directory}{SIZE}", clock=clock)


@pytest.fixture
def told(manager: QuotaManager, clock: ManualClock) -> QuotaManager:
    """Two workspaces that used the same goal over three hours and two months."""
    for number, workspace in enumerate(["acme", "other", "acme"]):
        for tokens in (10, 20):
            manager.record(workspace, tokens_used=tokens * (number + 1), goal_id="goal", model="gpt-4o", cost_usd=0.1)
        clock.advance(8 * HOUR)
    return manager


TAMPERING = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as history:
    assert history.execute("UPDATE periods SET n_tokens = n_tokens + 5 WHERE span = 2").rowcount > 0
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(directory: str) -> Command:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}

    def run(*arguments: str, status: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "llmquota", *arguments],
            env={**kept, "LLMQUOTA_STORE": f"shared:{directory}{SIZE}", **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert status in (None, done.returncode), done.stdout + done.stderr
        return done

    return run


# --- rows ---


def test_a_row_has_every_column_and_what_the_call_told(manager: QuotaManager) -> None:
    manager.record(
        "acme",
        tokens_used=30,
        goal_id="goal",
        task_id="task",
        model="gpt-4o",
        user_id="user",
        credential="openai/ab12",
        input_tokens=20,
        output_tokens=10,
        cached_tokens=5,
        reasoning_tokens=2,
        cost_usd=0.5,
        error_code="server_error",
        request_id="req_1",
        latency_ms=1_500,
        method="chat.completions.create",
    )
    (row,) = manager.history()
    assert set(row) == {column.name for column in COLUMNS}
    assert row == {
        **dict.fromkeys(row),
        "id": row["id"],
        "kind": "record",
        "at": "2026-01-31T10:00:00Z",
        "workspace": "acme",
        "goal": "goal",
        "task": "task",
        "model": "gpt-4o",
        "user": "user",
        "credential": "openai/ab12",
        "requests": 1,
        "errors": 1,
        "tokens": 30,
        "input_tokens": 20,
        "output_tokens": 10,
        "cached_tokens": 5,
        "reasoning_tokens": 2,
        "cost_usd": row["cost_usd"],
        "certainty": "exact",
        "outcome": "server",
        "method": "chat.completions.create",
        "request_id": "req_1",
        "latency_ms": 1_500,
        "replaced": False,
    }
    assert float(row["cost_usd"]) == 0.5


def test_a_hold_tells_how_long_it_took_and_the_providers_names(manager: QuotaManager, clock: ManualClock) -> None:
    with manager.reserve("acme", 10) as hold:
        clock.advance(1.25)
        answer = {"id": "chatcmpl-1", "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "model": "gpt-4o"}
        hold.settle(answer)
    own = manager.reserve("acme")
    own.settle(tokens=1, request_id="req_2", latency_ms=7, method="responses.create")
    second, first = manager.history("acme", kinds=["settle"])
    assert (first["request_id"], first["latency_ms"], first["tokens"]) == ("chatcmpl-1", 1_250, 7)
    assert (first["hold"], first["granted_at"]) == (hold.id, "2026-01-31T10:00:00Z")
    assert (second["request_id"], second["latency_ms"], second["method"]) == ("req_2", 7, "responses.create")


def test_a_guarded_call_is_a_row_with_the_providers_request_id(directory: str) -> None:
    manager = MultiWorkspaceQuotaManager(f"shared:{directory}{SIZE}")

    @guarded(manager=manager, method="chat.completions.create")
    def call(client: openai.OpenAI, *, workspace_id: str, stream: bool = False) -> Any:
        options: Any = {"stream_options": {"include_usage": True}} if stream else {}
        return client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=stream, **options)

    @guarded(manager=manager)
    def legacy(client: openai.OpenAI, *, workspace_id: str) -> Any:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        tracker = manager.get_tracker(workspace_id)
        tracker.record_request(True, 140)
        tracker.record_enhanced_usage(True, 140, "gpt-4o", "chat.completions.legacy")
        return answer

    with FakeOpenAI() as fake, openai.OpenAI(base_url=fake.base_url, api_key="x", max_retries=0) as client:
        whole = call(client, workspace_id="acme")
        chunks = list(call(client, workspace_id="acme", stream=True))
        last = legacy(client, workspace_id="acme")
    found = [(row["request_id"], row["method"], row["tokens"]) for row in manager.history("acme", newest_first=False)]
    assert found[0] == (whole._request_id, "chat.completions.create", whole.usage.total_tokens)
    assert found[1][:2] == (chunks[0].id, "chat.completions.create")
    assert found[2] == (last._request_id, "chat.completions.legacy", last.usage.total_tokens)
    assert len(found) == 3
    assert all(row["latency_ms"] is not None for row in manager.history("acme"))


def test_rows_are_found_by_whose_they_are_and_when(told: QuotaManager) -> None:
    def tokens(*arguments: Any, **filters: Any) -> list[int]:
        return [row["tokens"] for row in told.history(*arguments, newest_first=False, **filters)]

    assert tokens() == [10, 20, 20, 40, 30, 60]
    assert tokens("acme") == [10, 20, 30, 60]
    assert tokens(goal_id="goal", model="gpt-4o") == tokens()
    assert tokens("acme", goal_id="none") == tokens("none") == tokens(user_id="u") == tokens(kinds=["orphan"]) == []
    middle = datetime.fromtimestamp(START + 8 * HOUR, timezone.utc)
    assert tokens(since=middle) == tokens(since=middle.timestamp()) == [20, 40, 30, 60]
    # A datetime without a zone is in UTC, whatever the machine's is.
    assert tokens(until=middle.replace(tzinfo=None)) == [10, 20]
    assert tokens(since=middle, until=middle + timedelta(seconds=1)) == [20, 40]
    assert [row["tokens"] for row in told.history(limit=2)] == [60, 30]


def test_pages_follow_each_other(told: QuotaManager) -> None:
    for newest_first in (True, False):
        pages, after = [], None
        while page := told.history(limit=4, after=after, newest_first=newest_first):
            pages.append([row["tokens"] for row in page])
            after = page[-1]["id"]
        expected = [10, 20, 20, 40, 30, 60][:: -1 if newest_first else 1]
        assert pages == [expected[:4], expected[4:]]


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"limit": 100_001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"after": "x"}, "after"),
        ({"since": "yesterday"}, "since"),
        ({"until": float("nan")}, "until"),
        ({"kinds": ["recrod"]}, "kinds"),
        ({"workspace_id": 7}, "workspace_id"),
        ({"goal_id": b"g"}, "goal_id"),
    ],
)
def test_a_question_that_cannot_be_is_named(manager: QuotaManager, question: dict[str, Any], field: str) -> None:
    with pytest.raises(QuotaInputError) as caught:
        manager.history(**question)
    assert caught.value.field == field


def test_on_memory_history_is_what_happened_last(clock: ManualClock) -> None:
    manager = QuotaManager("memory:?size=1MiB", clock=clock)
    for tokens in range(1, 4):
        manager.record("acme", tokens_used=tokens)
    assert [row["tokens"] for row in manager.history("acme")] == [3, 2, 1]
    assert (manager.verify(), manager.doctor()["directory"]) == ([], None)
    manager.flush()
    with pytest.raises(QuotaError, match="LLMQUOTA_STORE=shared:"):
        manager.rollups("day")


# --- sums ---


def test_sums_of_hours_days_and_months(told: QuotaManager) -> None:
    def sums(period: str, *arguments: Any, **filters: Any) -> list[tuple[Any, ...]]:
        found = told.rollups(period, *arguments, newest_first=False, **filters)
        return [(line["name"], line["start"], line["requests"], line["tokens"], line["cost_usd"]) for line in found]

    ten, eighteen, two = ("2026-01-31T10:00:00Z", "2026-01-31T18:00:00Z", "2026-02-01T02:00:00Z")
    assert [line[:4] for line in sums("hour", "acme")] == [("acme", ten, 2, 30), ("acme", two, 2, 90)]
    assert [line[:4] for line in sums("day")] == [
        ("acme", "2026-01-31T00:00:00Z", 2, 30),
        ("other", "2026-01-31T00:00:00Z", 2, 60),
        ("acme", "2026-02-01T00:00:00Z", 2, 90),
    ]
    assert [line[1:4] for line in sums("month", "acme", goal_id="goal")] == [
        ("2026-01-01T00:00:00Z", 2, 30),
        ("2026-02-01T00:00:00Z", 2, 90),
    ]
    assert [(*line[:4], float(line[4])) for line in sums("total", "acme")] == [("acme", None, 4, 120, 0.4)]
    assert [line[1] for line in sums("hour", since=START + 1, until=START + 16 * HOUR)] == [eighteen]
    (goal,) = told.rollups("total", "other", goal_id="goal")
    assert (goal["scope"], goal["owner"], goal["span"], goal["errors"]) == ("goal", "other", "total", 0)
    with pytest.raises(QuotaInputError, match="one of total, hour, day, month"):
        told.rollups("week")


# --- the command ---


def test_the_command_finds_what_the_manager_does(told: QuotaManager, command: Command, tmp_path: Path) -> None:
    printed = command("history", "--workspace", "acme", "--format", "jsonl").stdout
    assert [json.loads(line) for line in printed.splitlines()] == told.history("acme")
    path = tmp_path / "history.csv"
    assert command("export", str(path), "--goal", "goal").stdout == f"{path}: 6 rows\n"
    with path.open(encoding="utf-8", newline="") as file:
        assert [int(line["tokens"]) for line in csv.DictReader(file)] == [10, 20, 20, 40, 30, 60]
    mine = tmp_path / "mine.csv"
    assert told.export(mine, goal_id="goal") == 6
    assert mine.read_bytes() == path.read_bytes()


def test_an_export_takes_the_same_filters_and_the_same_formats(told: QuotaManager, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "history.parquet"
    assert told.export(path, "acme", since=START + HOUR, limit=1) == 1
    (row,) = parquet.read_table(path).to_pylist()
    assert (row["tokens"], row["workspace"]) == (30, "acme")
    with pytest.raises(QuotaInputError, match=r"\.csv, \.jsonl or \.parquet"):
        told.export(tmp_path / "history.xlsx")


def test_verify_says_which_sum_was_tampered_with_and_mends_it(
    told: QuotaManager, command: Command, directory: str
) -> None:
    assert command("verify").stdout == "ok: every counter is what history adds up to\n"
    told.flush()
    # By another process: with a second SQLite in this one, closing its file would drop the locks of the first.
    subprocess.run([sys.executable, "-c", TAMPERING, f"{directory}/history.db"], check=True, timeout=60)
    lines = command("verify", status=1).stdout.splitlines()
    assert any(
        "'acme', day 2026-01-31T00:00:00Z, tokens: summed up 35, history adds up to 30 (+5)" in line for line in lines
    )
    assert {difference["counter"] for difference in told.verify()} >= {"history"}
    assert command("verify", "--repair").stdout.splitlines()[-1].startswith("ok: ")
    assert (command("verify").returncode, told.verify()) == (0, [])


def test_doctor_names_the_processes_and_publishes_no_limits(directory: str, command: Command) -> None:
    backend = QuotaManager.from_environment({"LLMQUOTA_STORE": f"shared:{directory}{SIZE}"})
    backend.record("acme")
    # It is 1 where the test's own disk is one to warn of.
    report = json.loads(command("doctor", "--json", status=None, OPENAI_RATE_LIMIT_PER_MINUTE="1").stdout)
    others = [process["pid"] for process in report["processes"] if not process["is_self"]]
    assert (troubles(report), others, len(report["processes"])) == ([], [os.getpid()], 2)
    facts = report["facts"]
    assert (facts["directory"], facts["version"]) == (directory, report["processes"][0]["version"])
    limits = backend.terms("acme")["limits"]
    assert limits["requests_per_minute"] == {"cap": 500, "mode": "enforce", "source": "builtin"}
    told = command("doctor", status=None).stdout.splitlines()
    assert f"process: {os.getpid()}, version {facts['version']}" in told
    assert sum(line.endswith(", this command") for line in told) == 1


def test_doctor_of_a_manager_names_what_is_wrong_and_no_secret(directory: str) -> None:
    manager = QuotaManager.from_environment(
        {
            "LLMQUOTA_STORE": f"shared:{directory}{SIZE}",
            "LLMQUOTA_TOKEN_SECRET": "hunter2",
            "OPENAI_RATE_LIMIT_PER_MINUTE": "1e3",
        }
    )
    report = manager.doctor()
    assert report["store"] == f"shared:{directory}{SIZE}"
    assert [setting.partition(":")[0] for setting in report["settings"]] == ["OPENAI_RATE_LIMIT_PER_MINUTE"]
    assert "hunter2" not in json.dumps(report)


def test_rows_outlive_their_days_as_sums(directory: str, clock: ManualClock) -> None:
    manager = QuotaManager(f"shared:{directory}{SIZE}", clock=clock, history_days=1)
    manager.record("acme", tokens_used=7)
    manager.flush()
    clock.advance(3 * 24 * HOUR)
    until = time.monotonic() + 30
    while manager.history("acme"):
        assert time.monotonic() < until, "its row is still there"
        time.sleep(0.2)
    assert [line["tokens"] for line in manager.rollups("day", "acme")] == [7]
    assert manager.verify() == []
