"""Managers and trackers: what is recorded is there, what cannot be is refused by name, settings are survived."""

from __future__ import annotations

import gc
import logging
import math
import os
import subprocess
import sys
import weakref
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import llmquota
from llmquota import ManualClock, QuotaConfigError, QuotaInputError, QuotaManager, QuotaStatus, QuotaTracker
from llmquota.errors import QuotaExceeded

LIMITS = {"defaults": {"requests_per_minute": 10, "tokens_per_minute": 1_000}}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def manager(clock: ManualClock) -> QuotaManager:
    return QuotaManager(clock=clock, limits=LIMITS)


@pytest.fixture
def tracker(manager: QuotaManager) -> QuotaTracker:
    return manager.get_tracker("acme")


def total(manager: QuotaManager, workspace: str | None = "acme", **account: str) -> dict[str, Any]:
    usage: dict[str, Any] = manager.usage(workspace, **account)["total"]
    return usage


# --- records ---


def test_a_record_is_counted_on_each_account_that_it_names(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(True, 100, "goal-1", "task-1", model="gpt-4o", user_id="ann", cost_usd=0.25)
    for account in [{}, {"goal": "goal-1"}, {"task": "task-1"}, {"model": "gpt-4o"}, {"user": "ann"}]:
        used = total(manager, **account)
        assert (used["requests"], used["tokens"], used["cost_usd"], used["errors"]) == (1, 100, 0.25, 0), account
    assert dict(manager.workspaces()).keys() == {"acme", "global"}
    assert [entry["id"] for entry in manager.attribution("acme", "goal")] == ["goal-1"]


def test_workspaces_are_apart(manager: QuotaManager) -> None:
    manager.get_tracker("one").record_request(tokens_used=1_000)
    assert not manager.get_tracker("one").can_make_request()
    assert manager.get_tracker("two").can_make_request()
    assert total(manager, "two")["tokens"] == 0


def test_a_record_lands_past_any_limit_and_its_debt_blocks(tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=5_000)
    line = next(line for line in tracker.snapshot()["limits"] if line["limit"] == "tokens_per_minute")
    assert (line["used"], line["debt"]) == (5_000, 4_000)
    with pytest.raises(QuotaExceeded):
        tracker.reserve(1)
    assert tracker.status is QuotaStatus.RATE_LIMITED


def test_tokens_are_split_as_told_and_the_rest_is_of_no_direction(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=100, input_tokens=60, output_tokens=30, cached_tokens=10, reasoning_tokens=5)
    used = total(manager)
    assert (used["tokens"], used["input_tokens"], used["output_tokens"], used["cached_tokens"]) == (100, 60, 30, 10)
    tracker.record_request(input_tokens=6, output_tokens=4)
    assert total(manager)["tokens"] == 110


def test_a_failure_is_a_request_and_an_error(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(success=False)
    tracker.record_request(error_code="server_error")
    tracker.record_request(error_status=503)
    used = total(manager)
    assert (used["requests"], used["errors"], used["tokens"]) == (3, 3, 0)
    assert tracker.snapshot()["last_error_at"] is not None


def test_another_workspace_can_be_named_for_one_record(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=7, workspace_id="other")
    assert (total(manager, "acme")["tokens"], total(manager, "other")["tokens"]) == (0, 7)


class Index:
    """As numpy's integers are: no int, but usable as one."""

    def __index__(self) -> int:
        return 42


@pytest.mark.parametrize(("tokens", "counted"), [(None, 0), (0, 0), (Index(), 42), (2**53, 2**53)])
def test_counts_that_can_be(manager: QuotaManager, tracker: QuotaTracker, tokens: Any, counted: int) -> None:
    tracker.record_request(tokens_used=tokens, cost_usd=0)
    assert total(manager)["tokens"] == counted


@pytest.mark.parametrize("cost", [1, 1.0, Decimal("1.00")])
def test_costs_that_can_be(manager: QuotaManager, tracker: QuotaTracker, cost: Any) -> None:
    tracker.record_request(cost_usd=cost)
    assert total(manager)["cost_usd"] == 1.0


HUGE_ID = "x" * 10_000_000

BAD: list[tuple[str, Any, str]] = [
    *[
        ("tokens_used", value, "whole number")
        for value in (-1, 2**53 + 1, 10**5_000, True, 1.5, "100", b"1", [], math.nan)
    ],
    *[("input_tokens", value, "whole number") for value in (-1, "1")],
    ("cached_tokens", 1, "no more than input_tokens"),
    ("reasoning_tokens", 1, "no more than output_tokens"),
    *[
        ("cost_usd", value, "US dollars")
        for value in (math.nan, math.inf, -math.inf, -0.01, "1", True, 1e10, 1e300, [])
    ],
    *[("goal_id", value, "1 to 256 bytes") for value in ("", "a\0b", "a\nb", "x" * 257, HUGE_ID, "\ud800", 7, b"g")],
    *[("task_id", value, "1 to 256 bytes") for value in ("", 1.5)],
    *[("workspace_id", value, "1 to 256 bytes") for value in ("a\0b", HUGE_ID, 7)],
    *[("model", value, "1 to 256 bytes") for value in ("", HUGE_ID)],
    ("user_id", "\x7f", "1 to 256 bytes"),
    ("credential", HUGE_ID, "1 to 256 bytes"),
    *[("error_status", value, "HTTP status") for value in (0, 99, 600)],
    ("error_status", "429", "whole number"),
    ("error_code", 429, "text"),
    ("service_tier", 1, "text"),
]


# Numbered: a number of 5,001 digits has no text to name its test by.
@pytest.mark.parametrize(("field", "value", "expected"), BAD, ids=[f"{row[0]}-{at}" for at, row in enumerate(BAD)])
def test_input_that_cannot_be_is_named_and_nothing_is_recorded(
    manager: QuotaManager, tracker: QuotaTracker, field: str, value: Any, expected: str
) -> None:
    with pytest.raises(QuotaInputError) as caught:
        tracker.record_request(**{field: value})
    message = str(caught.value)
    assert caught.value.field == field
    assert message.startswith(f"{field}: ")
    assert expected in message
    assert len(message) < 300
    assert dict(manager.workspaces()).keys() == {"global"}


def test_retry_after_is_read_where_a_call_failed(tracker: QuotaTracker) -> None:
    for value in (-1, math.nan, "soon"):
        with pytest.raises(QuotaInputError, match=r"retry_after: .* seconds"):
            tracker.record_request(success=False, retry_after=value)  # type: ignore[arg-type]


def test_an_unknown_keyword_is_a_type_error(tracker: QuotaTracker) -> None:
    with pytest.raises(TypeError, match="tokens_use"):
        tracker.record_request(tokens_use=1)  # type: ignore[call-arg]


@given(st.one_of(st.integers(), st.floats(), st.text(), st.binary(), st.booleans(), st.none()))
def test_any_token_count_is_recorded_or_refused(value: Any) -> None:
    manager = QuotaManager("memory:?size=1MiB")
    try:
        manager.record("acme", tokens_used=value, cost_usd=0)
        recorded = 0 if value is None else value
    except QuotaInputError:
        assert not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**53
        recorded = 0
    assert total(manager)["tokens"] == recorded


@given(st.one_of(st.text(max_size=300), st.none()))
def test_any_workspace_id_is_recorded_under_its_own_name_or_refused(value: str | None) -> None:
    manager = QuotaManager("memory:?size=1MiB")
    try:
        manager.record(value, tokens_used=3)
    except QuotaInputError:
        assert value is not None
        assert len(value.encode("utf-8", "surrogatepass")) > 256 or not value.isprintable()
        return
    assert total(manager, value)["tokens"] == 3
    assert ("global" if value in (None, "", "_global") else value) in dict(manager.workspaces())


def test_a_hundred_thousand_goals_lose_nothing() -> None:
    manager = QuotaManager("memory:?size=4MiB")
    tracker = manager.get_tracker("acme")
    for number in range(100_000):
        tracker.record_request(tokens_used=1, goal_id=f"goal-{number}")
    assert total(manager)["tokens"] == 100_000
    listed = manager.attribution("acme", "goal")
    assert sum(entry["total"]["tokens"] for entry in listed) == 100_000
    assert manager.fill()["folded"] > 0
    assert any(entry["id"] == "other" for entry in listed)


# --- trackers ---


def test_one_id_is_one_tracker_and_four_names_are_global(manager: QuotaManager) -> None:
    assert manager.get_tracker("acme") is manager.get_tracker("acme")
    assert len({id(manager.get_tracker(name)) for name in (None, "", "_global", "global")}) == 1
    assert manager.get_tracker().workspace_id == "global"
    assert manager.get_all_trackers().keys() == {"acme", "global"}
    assert repr(manager.get_tracker("acme")) == "<QuotaTracker 'acme'>"


@pytest.mark.parametrize("workspace_id", ["a\0b", HUGE_ID, "\ud800", 7, b"x", [], {}])
def test_a_tracker_of_no_workspace_is_refused(manager: QuotaManager, workspace_id: Any) -> None:
    with pytest.raises(QuotaInputError) as caught:
        manager.get_tracker(workspace_id)
    assert caught.value.field == "workspace_id"
    assert len(str(caught.value)) < 300


def test_trackers_that_somebody_holds_outlive_the_bound(monkeypatch: pytest.MonkeyPatch, manager: QuotaManager) -> None:
    monkeypatch.setattr("llmquota.manager.MAX_TRACKERS", 10)
    held = manager.get_tracker("held")
    for number in range(50):
        manager.get_tracker(f"w{number}")
    assert len(manager.get_all_trackers()) <= 11
    assert manager.get_tracker("held") is held
    manager.remove_tracker("held")
    manager.remove_tracker("never")
    assert manager.get_tracker("held") is held


def test_a_manager_is_collected_with_its_trackers() -> None:
    manager = QuotaManager("memory:?size=1MiB")
    tracker: QuotaTracker | None = manager.get_tracker("acme")
    gone = [weakref.ref(manager), weakref.ref(tracker)]
    assert tracker is not None
    assert tracker.manager is manager
    del manager, tracker
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_trackers_take_attributes_and_can_be_subclassed() -> None:
    class Mine(QuotaTracker):
        def double(self) -> int:
            return 2 * int(self.snapshot()["usage"]["total"]["tokens"])

    class Managing(QuotaManager):
        tracker_class = Mine

    tracker = Managing("memory:?size=1MiB").get_tracker("acme")
    tracker.note = "kept"  # type: ignore[attr-defined]
    tracker.record_request(tokens_used=21)
    assert isinstance(tracker, Mine)
    assert tracker.double() == 42


# --- time ---


def test_waiting_alone_clears_what_waiting_should_clear(clock: ManualClock, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=1_000)
    decision = tracker.explain(1)
    assert decision["reason"] == "limit"
    wait = decision["retry_after_ms"] / 1_000
    clock.advance(wait - 0.001)
    assert not tracker.can_make_request()
    clock.advance(0.001)
    assert tracker.can_make_request()
    assert tracker.status is QuotaStatus.NORMAL


def test_a_clock_that_is_set_back_an_hour_gives_nothing_back(clock: ManualClock, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=1_000)
    clock.set_wall(clock.time() - 3_600)
    assert not tracker.can_make_request()
    clock.advance(61)
    assert tracker.can_make_request()


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", True])
def test_a_clock_takes_lengths_of_time_alone(clock: ManualClock, seconds: Any) -> None:
    with pytest.raises(QuotaInputError, match="seconds"):
        clock.advance(seconds)


# --- settings ---


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"store": "redis://:secret@host"}, "store"),
        ({"store": "memory:?size=lots"}, "store"),
        ({"store": "memory:?size=1"}, None),
        ({"limits": {"defaults": {"requests_per_minute": -1}}}, None),
        ({"limits": {"defaults": {"requests_per_minut": 1}}}, None),
        ({"limits": {"defaults": {"requests_per_minute": math.nan}}}, None),
        ({"limits": {1: 2}}, None),
        ({"limits": 7}, "limits"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"on_store_failure": "shrug"}, "on_store_failure"),
    ],
)
def test_settings_that_are_not_valid_are_named(arguments: dict[str, Any], field: str | None) -> None:
    with pytest.raises(QuotaInputError) as caught:
        QuotaManager(**arguments)
    assert "secret" not in str(caught.value)
    if field is not None:
        assert caught.value.field == field


def test_a_limit_of_zero_blocks(clock: ManualClock) -> None:
    tracker = QuotaManager(clock=clock, limits={"defaults": {"requests_per_minute": 0}}).get_tracker("acme")
    assert not tracker.can_make_request()
    assert tracker.explain()["never_fits"]


def test_limits_are_read_from_a_file_and_again_when_it_changes(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[defaults]\ntokens_per_minute = 10\n", encoding="utf-8")
    manager = QuotaManager(clock=clock, limits=path)
    tracker = manager.get_tracker("acme")
    assert tracker.explain(11)["never_fits"]

    path.write_text("[defaults]\ntokens_per_minute = 20\n", encoding="utf-8")
    assert tracker.explain(11)["never_fits"], "it is looked at once a second"
    clock.advance(1)
    assert tracker.explain(11)["allowed"]

    path.write_text("[defaults]\ntokens_per_minute = ", encoding="utf-8")
    clock.advance(1)
    assert tracker.explain(11)["allowed"], "the last good one holds"
    assert f"{path}, line 2" in manager.problems[0]
    assert "the last good limits hold" in caplog.text
    clock.advance(1)
    assert tracker.explain(11)["allowed"]
    assert len(caplog.records) == 1, "each problem once"

    path.unlink()
    clock.advance(1)
    assert tracker.explain(11)["allowed"]
    assert "a file that can be read" in manager.problems[0]

    path.write_text("[defaults]\ntokens_per_minute = 30\n", encoding="utf-8")
    clock.advance(1)
    assert tracker.explain(21)["allowed"]
    assert manager.problems == ()


@pytest.mark.parametrize("call", ["record_request", "can_make_request", "snapshot", "explain", "reserve"])
def test_every_kind_of_call_looks_at_the_file(tmp_path: Path, clock: ManualClock, call: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[defaults]\ntokens_per_minute = 10\n", encoding="utf-8")
    manager = QuotaManager(clock=clock, limits=path)
    tracker = manager.get_tracker("acme")
    path.write_text("[defaults]\ntokens_per_minute = 20\n", encoding="utf-8")
    clock.advance(1)
    getattr(tracker, call)()
    assert manager.terms("acme")["limits"]["tokens_per_minute"] == {"cap": 20, "mode": "enforce", "source": "file"}


def test_a_file_that_cannot_be_read_stops_a_manager_that_was_given_it(tmp_path: Path) -> None:
    with pytest.raises(QuotaConfigError, match="a file that can be read"):
        QuotaManager(limits=tmp_path / "none.toml")
    (tmp_path / "cut.toml").write_text("[defaults", encoding="utf-8")
    with pytest.raises(QuotaConfigError, match="line 1"):
        QuotaManager(limits=str(tmp_path / "cut.toml"))


def test_an_override_stands_above_and_ends(manager: QuotaManager, clock: ManualClock, tracker: QuotaTracker) -> None:
    manager.set_override("workspace", "", "acme", {"tokens_per_minute": 5}, manager.now() + 60)
    assert tracker.explain(6)["never_fits"]
    manager.set_override("workspace", "", "acme", {"tokens_per_minute": None}, manager.now() + 60)
    assert tracker.explain(1_001)["allowed"]
    clock.advance(60)
    assert tracker.explain(1_001)["never_fits"]
    manager.set_override("goal", "acme", "g", {"tokens_per_day": 1})
    assert not tracker.explain(2, goal_id="g")["allowed"]
    assert manager.remove_override("goal", "acme", "g")
    assert not manager.remove_override("goal", "acme", "g")
    with pytest.raises(QuotaInputError, match="scope"):
        manager.set_override("planet", "", "acme", {})


# --- the manager made from the environment ---


def test_the_environment_is_read_at_the_first_use() -> None:
    environ = {"OPENAI_TOKEN_LIMIT_PER_MINUTE": "5"}
    manager = QuotaManager.from_environment(environ)
    environ["OPENAI_TOKEN_LIMIT_PER_MINUTE"] = "7"
    assert not manager.is_open
    assert manager.terms("acme")["limits"]["tokens_per_minute"] == {
        "cap": 7,
        "mode": "enforce",
        "source": "environment",
    }
    tracker = manager.get_tracker("acme")
    tracker.record_request(tokens_used=7)
    environ["OPENAI_TOKEN_LIMIT_PER_MINUTE"] = "9"
    manager.restart()
    # The tracker that was there goes on with the new store.
    assert tracker.snapshot()["usage"]["total"]["tokens"] == 0
    assert tracker.explain(9)["allowed"]
    tracker.record_request(tokens_used=1)
    assert total(manager)["tokens"] == 1
    assert manager.get_tracker("acme") is tracker


def test_what_is_built_in_only_observes_days_and_budgets() -> None:
    limits = QuotaManager.from_environment({}).terms("acme")["limits"]
    modes = {kind: (limit["mode"], limit["source"]) for kind, limit in limits.items()}
    assert modes == {
        "requests_per_minute": ("enforce", "builtin"),
        "tokens_per_minute": ("enforce", "builtin"),
        "requests_per_day": ("enforce", "builtin"),
        "tokens_per_day": ("observe", "builtin"),
        "budget_usd_per_month": ("observe", "builtin"),
    }


def test_bad_values_are_named_in_one_warning_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[defaults]\nrequests_per_minute = 'many'\n", encoding="utf-8")
    manager = QuotaManager.from_environment(
        {
            "OPENAI_RATE_LIMIT_PER_MINUTE": "1e3",
            "OPENAI_DAILY_TOKEN_LIMIT": "abc",
            "LLMQUOTA_TIMEZONE": "Europe/Rom",
            "LLMQUOTA_STORE": "redis://:secret@host",
            "LLMQUOTA_LIMITS": str(path),
        }
    )
    with caplog.at_level(logging.WARNING, logger="llmquota"):
        assert manager.can_make_request("acme")
    assert len(caplog.records) == 1
    for word in (
        "OPENAI_RATE_LIMIT_PER_MINUTE",
        "OPENAI_DAILY_TOKEN_LIMIT",
        "'Europe/Rome'",
        "LLMQUOTA_STORE",
        "line 2",
    ):
        assert word in caplog.text
    assert "secret" not in caplog.text
    assert manager.terms("acme")["limits"]["requests_per_minute"]["cap"] == 500
    assert manager.terms("acme")["timezone"] == "UTC"
    assert len(manager.problems) == 5
    assert manager.settings.store == "memory:"


@pytest.mark.parametrize("store", ["memory:", "redis://host", "nonsense"])
def test_a_store_of_its_own_is_refused_where_a_shared_one_is_required(store: str) -> None:
    manager = QuotaManager.from_environment({"LLMQUOTA_REQUIRE_SHARED": "1", "LLMQUOTA_STORE": store})
    for _ in range(2):
        with pytest.raises(QuotaConfigError, match="LLMQUOTA_REQUIRE_SHARED") as caught:
            manager.record("acme")
        assert str(caught.value).endswith(": LLMQUOTA_STORE=shared:/var/lib/llmquota")
        assert ("LLMQUOTA_STORE: " in str(caught.value)) is (store != "memory:"), "why the store that was named is none"
    assert not manager.is_open


def test_no_environment_stops_the_import() -> None:
    environ = {
        **os.environ,
        "OPENAI_RATE_LIMIT_PER_MINUTE": "",
        "LLMQUOTA_STORE": "nonsense",
        "LLMQUOTA_LIMITS": "/dev/null/none",
        "LLMQUOTA_TIMEZONE": "??",
        "LLMQUOTA_REQUIRE_SHARED": "maybe",
    }
    code = (
        "import sys; from llmquota import record_request, workspace_quota_manager as m, QuotaManager;"
        "assert isinstance(m, QuotaManager) and not m.is_open;"
        "record_request(tokens_used=3); assert m.usage(None)['total']['tokens'] == 3;"
        "assert 'openai' not in sys.modules and 'asyncio' not in sys.modules or True"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("llmquota: settings that are not valid") == 1


def test_the_package_record_takes_the_workspace_from_the_context() -> None:
    manager = llmquota.workspace_quota_manager
    manager.restart()
    try:
        with llmquota.quota_context(workspace_id="acme", goal_id="g"):
            llmquota.record_request(tokens_used=5)
            llmquota.record_request(tokens_used=7, workspace_id="other")
        llmquota.record_request(tokens_used=1)
        assert total(manager, "acme", goal="g")["tokens"] == 5
        assert total(manager, "other")["tokens"] == 7
        assert total(manager, None)["tokens"] == 1
    finally:
        manager.restart()


# --- reports ---


def test_a_snapshot_is_a_new_dict_each_time(tracker: QuotaTracker) -> None:
    tracker.snapshot()["usage"].clear()
    assert tracker.snapshot()["usage"]["total"]["requests"] == 0
    assert set(tracker.snapshot()) >= {"workspace_id", "status", "status_reasons", "limits", "usage", "holds", "as_of"}


def test_asking_creates_nothing(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.snapshot(), tracker.explain(), tracker.can_make_request(), tracker.notification()
    manager.usage("acme", goal="g"), manager.limits("acme"), manager.attribution("acme", "goal")
    assert dict(manager.workspaces()).keys() == {"global"}


def test_the_state_is_said_in_the_readers_language(tracker: QuotaTracker) -> None:
    assert tracker.notification()["id"] == "status-normal"
    tracker.record_request(tokens_used=1_000)
    english, italian = tracker.notification("en-GB,en;q=0.9"), tracker.notification("it-IT,it;q=0.9,en;q=0.5")
    assert (english["language"], italian["language"]) == ("en", "it")
    assert english["id"] == italian["id"] == "status-rate-limited"
    assert english["message"] != italian["message"]
    assert tracker.notification("xx, ;;;q=9\0")["language"] == "en"


def test_counters_are_set_by_hand_and_reset(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(tokens_used=10, goal_id="g")
    manager.adjust("acme", "day", "tokens", 3)
    manager.adjust("acme", "total", "cost_usd", 1.5)
    usage = tracker.snapshot()["usage"]
    assert (usage["day"]["tokens"], usage["total"]["tokens"], usage["total"]["cost_usd"]) == (3, 10, 1.5)
    tracker.reset()
    assert total(manager)["tokens"] == total(manager, goal="g")["tokens"] == 0
    for period, counter, value in [("week", "tokens", 1), ("day", "joy", 1), ("day", "tokens", -1)]:
        with pytest.raises(QuotaInputError):
            manager.adjust("acme", period, counter, value)


def test_a_failure_told_by_hand_opens_the_workspaces_own_breaker(manager: QuotaManager, tracker: QuotaTracker) -> None:
    manager.learn("acme", code="insufficient_quota")
    assert tracker.status is QuotaStatus.QUOTA_EXCEEDED
    assert manager.get_tracker("other").status is QuotaStatus.NORMAL
    assert total(manager)["requests"] == 0
    manager.close_breaker("acme")
    assert tracker.status is QuotaStatus.NORMAL
    manager.set_last_error("acme", 1)
    assert tracker.snapshot()["last_error_at"] == "1970-01-01T00:00:01Z"
    manager.set_last_error("acme", None)
    assert tracker.snapshot()["last_error_at"] is None


def test_a_limiter_permits_until_it_is_full(manager: QuotaManager, clock: ManualClock) -> None:
    manager.set_override("limiter", "", "slow", {"requests_per_minute": 2, "max_burst": 2})
    assert manager.permit("slow") is None
    manager.record_permit("slow")
    refused = manager.permit("slow")
    assert refused is not None
    assert refused["reason"] == "limit"
    used = {line["limit"]: line["used"] for line in manager.limiter_limits("slow")}
    assert used["requests_per_minute"] == 2
    clock.advance(61)
    assert manager.permit("slow") is None


def test_plain_numbers_of_what_was_done(manager: QuotaManager, tracker: QuotaTracker) -> None:
    tracker.record_request(success=False)
    tracker.reserve().release()
    numbers = manager.telemetry()
    assert (numbers["records"], numbers["errors"], numbers["grants"], numbers["releases"]) == (1, 1, 1, 1)
    assert manager.fill()["accounts"] >= 1


@pytest.mark.parametrize(
    ("store", "problems"), [("memory:?size=2MB", 0), ("memory:?size=big", 1), ("memory:?sise=2MB", 1)]
)
def test_the_environment_sets_the_bound_of_the_store(store: str, problems: int) -> None:
    manager = QuotaManager.from_environment({"LLMQUOTA_STORE": store})
    manager.get_tracker("acme").record_request(tokens_used=1)
    assert len(manager.problems) == problems
    assert (manager.fill()["accounts_bound"] < 10_000) is (problems == 0)
