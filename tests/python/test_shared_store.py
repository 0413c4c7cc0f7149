"""A store that processes share, with real processes: that it is one count, that it outlives them, and who has died."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from other_processes import Start, starting, told, within
from shared_workers import (
    SIZE,
    count_with,
    fork_in_a_hold,
    hold_on,
    open_as_nobody,
    opened,
    take_all,
    troubles,
    use,
)

from llmquota import QuotaConfigError, QuotaExceeded, QuotaManager, QuotaStatus, QuotaStoreError

LIMITS = {"workspaces": {"acme": {"requests_per_day": 400}}}


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as begin:
        yield begin


def total(manager: QuotaManager, workspace: str = "acme", **inside: str) -> dict[str, Any]:
    return dict(manager.usage(workspace, **inside)["total"])


# --- one count ---


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_four_processes_meet_a_limit_exactly(directory: str, start: Start, method: str) -> None:
    manager = opened(directory, LIMITS)
    barrier = multiprocessing.get_context(method).Barrier(4)
    # A forked child goes on with its parent's manager, as the workers of a preloading server do.
    inherited = manager if method == "fork" else None
    answers = [start(take_all, directory, LIMITS, barrier, inherited, method=method)[1] for _ in range(4)]
    granted = [told(answer) for answer in answers]
    assert sum(granted) == 400
    assert total(manager) == {**total(manager), "requests": 400, "tokens": 4_000}
    with pytest.raises(QuotaExceeded):
        manager.reserve("acme")
    rows = manager.history("acme", kinds=["settle"])
    assert (len(rows), len({row["hold"] for row in rows})) == (400, 400)
    assert manager.verify() == []


def test_a_restart_remembers(directory: str) -> None:
    limits = {"workspaces": {"acme": {"tokens_per_day": 100}}}
    before = opened(directory, limits)
    before.record("acme", tokens_used=60, goal_id="goal-1", task_id="task-1", model="gpt-4o", cost_usd=0.25)
    before.get_tracker("broken").record_request(error_code="insufficient_quota")
    before.set_override("workspace", "", "other", {"requests_per_day": 0})
    before.close()
    del before
    after = opened(directory, limits)
    used = after.get_tracker("acme").snapshot()["usage"]
    assert [used[span]["tokens"] for span in ("minute", "day", "month", "total")] == [60] * 4
    for inside in ({"goal": "goal-1"}, {"task": "task-1"}, {"model": "gpt-4o"}):
        assert total(after, **inside) == {**total(after, **inside), "tokens": 60, "cost_usd": 0.25}
    assert not after.get_tracker("acme").explain(41)["allowed"]
    assert after.get_tracker("broken").status is QuotaStatus.QUOTA_EXCEEDED
    assert not after.can_make_request("other")
    after.restart()
    assert total(after)["tokens"] == 60, "only memory forgets"


# --- who has died ---


def test_what_a_killed_process_held_is_free_within_a_second(directory: str, start: Start) -> None:
    limits = {"workspaces": {"acme": {"max_concurrent": 2}}}
    manager = opened(directory, limits)
    process, answer = start(hold_on, directory, limits)
    pid, sent, kept = told(answer)
    with pytest.raises(QuotaExceeded):
        manager.reserve("acme")
    os.kill(pid, signal.SIGKILL)
    process.join()
    within(1, lambda: manager.can_make_request("acme"))
    manager.reserve("acme").release()
    rows = {row["hold"]: row for row in manager.history("acme")}
    charged = {"kind": "orphan", "goal": "goal-1", "requests": 1, "tokens": 100, "certainty": "estimated"}
    assert rows[sent] == {**rows[sent], **charged}
    assert rows[kept] == {**rows[kept], "kind": "release", "requests": 0, "tokens": 0}
    assert (total(manager)["tokens"], manager.doctor()["open_holds"], manager.verify()) == (100, 0, [])


def test_a_child_outlives_the_parent_that_was_killed_in_the_middle_of_a_hold(directory: str, start: Start) -> None:
    limits = {"workspaces": {"acme": {"max_concurrent": 1}}}
    manager = opened(directory, limits)
    process, pipe = start(fork_in_a_hold, directory, limits)
    parent, child, hold = told(pipe)
    try:
        os.kill(parent, signal.SIGKILL)
        process.join()
        within(1, lambda: manager.can_make_request("acme"))
        assert [row["hold"] for row in manager.history("acme", kinds=["orphan"])] == [hold]
        pipe.send("go on")
        assert told(pipe) is False, "the hold was the parent's"
        assert told(pipe) == total(manager)["tokens"] == 103
        living = {each["pid"] for each in manager.doctor()["processes"]}
        assert living == {os.getpid(), child}
        assert manager.verify() == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_ends_has_written_all_of_its_history(directory: str, start: Start) -> None:
    process, pipe = start(count_with, {"LLMQUOTA_STORE": f"shared:{directory}{SIZE}"})
    told(pipe)
    pipe.send("end")
    process.join(60)
    assert process.exitcode == 0
    with contextlib.closing(sqlite3.connect(f"file:{directory}/history.db?mode=ro", uri=True)) as history:
        assert history.execute("SELECT count(*), sum(tokens) FROM history").fetchone() == (1, 1)


# --- several configurations ---


def test_of_two_environments_the_lower_holds_and_doctor_names_both(directory: str, start: Start) -> None:
    store = {"LLMQUOTA_STORE": f"shared:{directory}{SIZE}"}
    high = QuotaManager.from_environment({**store, "OPENAI_RATE_LIMIT_PER_MINUTE": "90", "LLMQUOTA_TIMEZONE": "UTC"})
    assert high.terms("acme")["limits"]["requests_per_minute"]["cap"] == 90
    process, pipe = start(count_with, {**store, "OPENAI_RATE_LIMIT_PER_MINUTE": "7"})
    low = told(pipe)
    within(1, lambda: high.terms("acme")["limits"]["requests_per_minute"]["cap"] == 7)
    pipe.send("terms")
    assert told(pipe)["requests_per_minute"] == {"cap": 7, "mode": "enforce", "source": "environment"}
    (warning,) = troubles(high.doctor())
    assert f"process {os.getpid()} has OPENAI_RATE_LIMIT_PER_MINUTE=90" in warning
    assert f"process {low} has OPENAI_RATE_LIMIT_PER_MINUTE=7" in warning
    assert warning.endswith("; 7, the lowest, holds for all")
    os.kill(low, signal.SIGKILL)
    process.join()
    within(1, lambda: troubles(high.doctor()) == [])


def test_the_newer_of_two_limits_files_holds_and_one_that_breaks_changes_nothing(
    directory: str, tmp_path: Path
) -> None:
    def written(name: str, text: str, changed: int) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (changed, changed))
        return path

    def cap(manager: QuotaManager) -> Any:
        return manager.terms("acme")["limits"]["tokens_per_day"]["cap"]

    old = written("old.toml", "[defaults]\ntokens_per_day = 10\n", 1_700_000_000)
    new = written("new.toml", "[defaults]\ntokens_per_day = 20\n", 1_700_000_001)
    store = {"LLMQUOTA_STORE": f"shared:{directory}{SIZE}"}
    second = QuotaManager.from_environment({**store, "LLMQUOTA_LIMITS": str(new)})
    assert cap(second) == 20
    first = QuotaManager.from_environment({**store, "LLMQUOTA_LIMITS": str(old)})
    assert cap(first) == 20, "also where it comes last"
    assert any("new.toml" in warning and "the newest" in warning for warning in first.doctor()["warnings"])
    os.utime(old, (1_700_000_000, 1_700_000_000.5))
    touched = QuotaManager.from_environment({**store, "LLMQUOTA_LIMITS": str(old)})
    (warning,) = (warning for warning in troubles(touched.doctor()) if warning.startswith("limits: "))
    assert warning.count("old.toml") == 1, "one that was touched is the same file"
    touched.close()
    del touched
    written("new.toml", "[defaults", 1_700_000_002)
    third = QuotaManager.from_environment({**store, "LLMQUOTA_LIMITS": str(new)})
    assert cap(third) == 20
    assert "line 1" in third.problems[0]
    written("old.toml", "[defaults]\ntokens_per_day = 30\n", 1_700_000_003)
    within(5, lambda: (first.can_make_request("acme"), cap(second) == 30)[1])


# --- stores that cannot be opened ---


def test_a_directory_that_may_not_be_written_to_is_told_and_does_not_become_memory(
    tmp_path: Path, start: Start
) -> None:
    for folder in (*reversed(tmp_path.parents[:2]), tmp_path):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.joinpath("store").mkdir(0o555)
    _, pipe = start(open_as_nobody, str(tmp_path / "store"), method="fork")
    kind, message, is_open = told(pipe)
    assert (kind, is_open) == ("QuotaConfigError", False)
    assert message.startswith(
        f"the directory of LLMQUOTA_STORE, {tmp_path}/store, cannot be read and written to by user"
    )
    assert list(tmp_path.joinpath("store").iterdir()) == []


def test_a_file_that_is_not_ours_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.joinpath("region").write_bytes(b"somebody's work" * 1_000)
    manager = QuotaManager.from_environment({"LLMQUOTA_STORE": f"shared:{tmp_path}"})
    for _ in range(2):
        with pytest.raises(QuotaStoreError, match="is no store of llmquota: it was left as it is") as caught:
            manager.record("acme")
        assert str(tmp_path / "region") in str(caught.value)
    assert tmp_path.joinpath("region").read_bytes() == b"somebody's work" * 1_000
    tmp_path.joinpath("region").unlink()
    manager.record("acme", tokens_used=3)
    assert total(manager)["tokens"] == 3, "each use tries again"


@pytest.mark.parametrize("options", ["?size=lots", "?sise=16MB"])
def test_options_of_a_shared_store_that_cannot_be_are_told(tmp_path: Path, options: str) -> None:
    manager = QuotaManager.from_environment({"LLMQUOTA_STORE": f"shared:{tmp_path}/store{options}"})
    with pytest.raises(QuotaConfigError) as caught:
        manager.record("acme")
    assert caught.value.field == "store"
    assert not manager.is_open


@pytest.mark.parametrize(("mode", "expected"), [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660)])
def test_who_may_write_to_the_directory_may_use_the_files_and_nobody_else(
    tmp_path: Path, mode: int, expected: int
) -> None:
    tmp_path.chmod(mode)
    before = os.umask(0o022)
    try:
        manager = opened(str(tmp_path))
        manager.record("acme")
        manager.flush()
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found.keys() >= {"region", "history.db", "history.db-wal", "history.db-shm", "lock", "limits.json"}
    assert set(found.values()) == {expected}, {name: oct(mode) for name, mode in found.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_root_makes_anew_is_the_backends(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    manager = opened(str(tmp_path))
    manager.record("acme")
    manager.flush()
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {65534}


# --- what docs/shared-store.md tells an operator to do ---


@pytest.fixture
def used(directory: str, start: Start) -> str:
    """The directory of a store that a process has used, and left in the middle of a call."""
    process, _ = start(use, directory)
    process.join(60)
    assert process.exitcode == 0
    return directory


def test_a_copy_of_the_directory_goes_on_where_it_was(used: str, tmp_path: Path) -> None:
    copy = shutil.copytree(used, tmp_path / "copy")
    manager = opened(str(copy))
    assert total(manager, goal="goal-1")["tokens"] == 60
    assert any("it is a copy of another store's file" in warning for warning in manager.doctor()["warnings"])
    assert (manager.verify(), total(opened(used), goal="goal-1")["tokens"]) == ([], 60)


def test_a_backup_beside_the_running_backend_is_restored(directory: str, tmp_path: Path) -> None:
    backend = opened(directory)
    backend.record("acme", tokens_used=60)
    backend.flush()
    copying = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
    copy = tmp_path / "restored" / "history.db"
    copy.parent.mkdir()
    subprocess.run([sys.executable, "-c", copying, f"{directory}/history.db", copy], check=True, timeout=60)
    restored = opened(str(copy.parent))
    assert (total(restored)["tokens"], len(restored.history("acme")), restored.verify()) == (60, 1, [])


def test_the_size_is_changed_by_moving_the_region_away(used: str) -> None:
    larger = QuotaManager(f"shared:{used}?size=32MB")
    assert any("keeps the size of 16000000 bytes" in warning for warning in larger.doctor()["warnings"])
    bound = larger.doctor()["accounts_bound"]
    larger.close()
    os.rename(f"{used}/region", f"{used}/region.old")
    larger = QuotaManager(f"shared:{used}?size=32MB")
    assert (total(larger, goal="goal-1")["tokens"], troubles(larger.doctor())) == (60, [])
    assert larger.doctor()["accounts_bound"] > bound
    assert larger.verify() == []


def test_without_its_history_a_store_goes_on_counting(used: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{used}/history.db{end}").unlink(missing_ok=True)
    manager = opened(used)
    manager.record("acme", tokens_used=1, goal_id="goal-1")
    assert total(manager, goal="goal-1")["tokens"] == 61
    within(5, lambda: manager.history("acme", kinds=["overflow"]))
    assert [line["tokens"] for line in manager.rollups("total", "acme", goal_id="goal-1")] == [61]
    assert manager.verify() == []
