"""Waiting for a turn with other processes: real ones, which are killed, stopped, and let go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from other_processes import Start, starting, told, within
from shared_workers import opened
from waiting_workers import rest, take_turns, wait_in_line

from llmquota import QuotaExceeded, QuotaManager

#: Nothing else: what is built in would end a long test after so many requests.
UNLIMITED = dict.fromkeys(["requests_per_minute", "tokens_per_minute", "requests_per_day"], "unlimited")
ONE_AT_A_TIME = {"defaults": UNLIMITED, "workspaces": {"acme": {"max_concurrent": 1}}}
ONE_FOR_ALL = {"providers": {"openai": {"max_concurrent": 1}}, "workspaces": {"heavy": {"weight": 3}}}


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as begin:
        yield begin


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


class Line:
    """A process in which others wait."""

    def __init__(self, start: Start, store: str, limits: dict[str, Any]) -> None:
        self.process, self._pipe = start(wait_in_line, store, limits)
        self.pid = told(self._pipe)

    def wait(self, name: str, workspace: str = "acme", **keywords: Any) -> None:
        self._pipe.send((name, workspace, keywords))

    def went(self) -> Any:
        return told(self._pipe)

    def anybody(self) -> bool:
        return self._pipe.poll(0)

    def let_go(self, name: str) -> None:
        self._pipe.send(("let go", name))


def queued(manager: QuotaManager, workspace: str = "acme", **keywords: Any) -> int:
    return int(manager.explain(workspace, 1, priority="low", **keywords)["queued_ahead"])


def line_up(manager: QuotaManager, waiters: list[tuple[Line, str, str]], **keywords: Any) -> None:
    """Has them come one by one, each once the one before stands in line."""
    for number, (line, name, workspace) in enumerate(waiters, 1):
        line.wait(name, workspace, **keywords)
        within(20, lambda: queued(manager, workspace="nobody", **keywords) == number)  # noqa: B023 (asked at once)


def turns_of(waiters: list[tuple[Line, str, str]], count: int) -> list[str]:
    """Who goes, one after the other, each as the one before lets go."""
    turns, lines = list[str](), {id(line): line for line, _, _ in waiters}.values()
    for _ in range(count):
        line = within(20, lambda: next((line for line in lines if line.anybody()), None))
        turns.append(line.went())
        line.let_go(turns[-1])
    return turns


def test_those_of_three_processes_go_first_come_first_served(start: Start, store: str) -> None:
    manager = opened(store, ONE_AT_A_TIME)
    open_call = manager.get_tracker("acme").reserve(1)
    lines = [Line(start, store, ONE_AT_A_TIME) for _ in range(3)]
    names = [f"{number}" for number in range(12)]
    for number, name in enumerate(names):
        lines[number * 7 % 3].wait(name)
        within(20, lambda: queued(manager) == number + 1)  # noqa: B023 (asked at once)
    open_call.release()
    assert turns_of([(line, "", "") for line in lines], 12) == names
    assert within(20, lambda: manager.explain("acme", 1)["allowed"]), "nobody is left in the way"


def test_a_noisy_workspace_does_not_starve_the_others_of_any_process(start: Start, store: str) -> None:
    at = {"provider": "openai", "credential": "key"}
    manager = opened(store, ONE_FOR_ALL)
    open_call = manager.get_tracker("other").reserve(1, **at)
    lines = [Line(start, store, ONE_FOR_ALL) for _ in range(2)]
    waiters = [(lines[number % 2], f"noisy {number}", "noisy") for number in range(20)]
    waiters += [(lines[1], f"quiet {number}", "quiet") for number in range(2)]
    waiters += [(lines[0], f"heavy {number}", "heavy") for number in range(6)]
    line_up(manager, waiters, **at)
    open_call.release()
    turns = [name.split()[0] for name in turns_of(waiters, 10)]
    # Two rounds of all three: as limits.toml weighs them, three of one to one of each other.
    assert sorted(turns) == ["heavy"] * 6 + ["noisy"] * 2 + ["quiet"] * 2, turns
    assert all({"noisy", "quiet"} <= set(turns[first : first + 5]) for first in (0, 5)), turns


def test_a_killed_process_stands_in_nobodys_way_and_what_it_had_is_free(start: Start, store: str) -> None:
    manager = opened(store, ONE_AT_A_TIME)
    dead, alive = Line(start, store, ONE_AT_A_TIME), Line(start, store, ONE_AT_A_TIME)
    dead.wait("holds")
    assert dead.went() == "holds"
    for number in range(5):
        dead.wait(f"dead {number}")
    within(20, lambda: queued(manager) == 5)
    alive.wait("alive")
    within(20, lambda: queued(manager) == 6)
    dead.process.kill()
    assert alive.went() == "alive"
    within(20, lambda: queued(manager) == 0)
    alive.let_go("alive")


def test_a_stopped_process_keeps_nobody_back_and_goes_on_in_its_place(start: Start, store: str) -> None:
    manager = opened(store, ONE_AT_A_TIME)
    open_call = manager.get_tracker("acme").reserve(1)
    stopped, goes = Line(start, store, ONE_AT_A_TIME), Line(start, store, ONE_AT_A_TIME)
    for number, (line, name) in enumerate([(stopped, "stopped"), (goes, "goes"), (goes, "later")], 1):
        line.wait(name)
        within(20, lambda: queued(manager) == number)  # noqa: B023 (asked at once)
    os.kill(stopped.pid, signal.SIGSTOP)
    # Long enough that nobody could take it for one that is just slow.
    time.sleep(1)
    open_call.release()
    assert goes.went() == "goes"
    os.kill(stopped.pid, signal.SIGCONT)
    within(20, lambda: queued(manager) == 2)
    time.sleep(1.5)
    goes.let_go("goes")
    assert stopped.went() == "stopped", "it came before the one that waits now"
    stopped.let_go("stopped")
    assert goes.went() == "later"


def test_a_cancelled_wait_of_one_process_lets_another_one_go(start: Start, store: str) -> None:
    manager = opened(store, ONE_AT_A_TIME)
    open_call = manager.get_tracker("acme").reserve(1)
    gives_up, goes = Line(start, store, ONE_AT_A_TIME), Line(start, store, ONE_AT_A_TIME)
    gives_up.wait("gives up", timeout=1.0)
    within(20, lambda: queued(manager) == 1)
    goes.wait("goes")
    within(20, lambda: queued(manager) == 2)
    within(20, lambda: queued(manager) == 1)
    open_call.release()
    assert goes.went() == "goes"


def test_no_two_have_one_place_and_every_process_has_turns(start: Start, store: str) -> None:
    manager = opened(store, ONE_AT_A_TIME)
    workers = [start(take_turns, store, ONE_AT_A_TIME, 2.0) for _ in range(3)]
    pipes = [pipe for _, pipe in workers]
    assert [told(pipe) for pipe in pipes] == ["ready"] * 3
    for pipe in pipes:
        pipe.send("go")
    turns = [told(pipe) for pipe in pipes]
    usage = manager.get_tracker("acme").snapshot()["usage"]["total"]
    assert usage["tokens"] == usage["requests"] == sum(turns)
    assert min(turns) >= max(turns) / 4, f"one of them starved: {turns}"


def test_those_who_wait_in_vain_let_the_machine_rest(start: Start, store: str) -> None:
    open_call = opened(store, ONE_AT_A_TIME).get_tracker("acme").reserve(1)
    (_, first), (_, second) = (start(rest, store, ONE_AT_A_TIME, 3.0) for _ in range(2))
    for pipe in (first, second):
        assert told(pipe) == "ready"
        pipe.send("go")
    # Sixteen threads each, for three seconds: a busy poll would take all of them.
    assert max(told(first), told(second)) < 0.75
    open_call.release()


def test_a_timeout_behind_another_process_says_when(start: Start, store: str) -> None:
    limits = {"workspaces": {"acme": {"tokens_per_minute": 10}}}
    manager = opened(store, limits)
    tracker = manager.get_tracker("acme")
    tracker.record_request(tokens_used=10)
    line = Line(start, store, limits)
    line.wait("first")
    within(20, lambda: queued(manager) == 1)
    with pytest.raises(QuotaExceeded) as caught:
        tracker.acquire_sync(5, timeout=0.2)
    assert (caught.value.reason, caught.value.queued_ahead) == ("queue", 1)
    eta = manager.explain("acme", 5, priority="normal")["retry_at"]
    assert caught.value.decision["retry_at"] is not None
    ahead = datetime.fromisoformat(eta.replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert 50 < ahead.total_seconds() < 62
