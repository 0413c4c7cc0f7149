"""The environment: what is accepted, what is named and survived, and how a limits file is watched."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from llmquota import settings as module
from llmquota.settings import EXAMPLE_ADMIN_KEY, VARIABLES, LimitsWatcher, Settings, admin_reset_key, warn_once

ROOT = Path(__file__).resolve().parents[2]
RPM = "OPENAI_RATE_LIMIT_PER_MINUTE"
BUDGET = "OPENAI_MONTHLY_BUDGET_USD"
NAMES = [variable.name for variable in VARIABLES]


def test_an_empty_environment_has_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.problems == ()
    assert settings.limits() == {}


def test_the_table_of_variables_tells_the_defaults_of_the_settings() -> None:
    everything = {variable.name: variable.default for variable in VARIABLES}
    written = Settings.from_env(everything)
    assert written.problems == ()
    for variable in VARIABLES:
        if variable.attribute is not None:
            value = getattr(written, variable.attribute)
            assert value == getattr(Settings(), variable.attribute)
            assert type(value) is type(getattr(Settings(), variable.attribute))


@pytest.mark.parametrize(
    ("text", "value"),
    [("500", 500), (" 500 ", 500), ("0", 0), ("007", 7), ("150_000", 150_000), (str(2**53), 2**53), ("0" * 5000, 0)],
)
def test_a_whole_number_is_accepted(text: str, value: int) -> None:
    settings = Settings.from_env({RPM: text})
    assert settings.requests_per_minute == value
    assert settings.limits() == {"requests_per_minute": str(value)}
    assert settings.problems == ()


BAD_COUNTS = ["abc", "1e3", "-5", "+5", "", "  ", "nan", "inf", "1.0", "0x10", "_5", "5__0", "5_", "5 0", "5\0"]
#: An Arabic digit, a superscript, a byte that is no UTF-8, one too many, and more than int() takes.
ODD_COUNTS = ["\u0665", "\u00b2", "\udcff", str(2**53 + 1), "9" * 10_000_000]


@pytest.mark.parametrize("text", [pytest.param(text, id=ascii(text[:20])) for text in BAD_COUNTS + ODD_COUNTS])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("OPENAI_") and name != BUDGET])
def test_a_bad_number_is_named_and_its_default_holds(name: str, text: str) -> None:
    settings = Settings.from_env({name: text, "OPENAI_MONTHLY_BUDGET_USD": "7"})
    (problem,) = settings.problems
    assert problem.variable == name
    assert f"{name}: " in str(problem)
    assert len(str(problem)) < 300
    str(problem).encode()
    assert settings.limits() == {"budget_usd_per_month": "7"}
    default = next(variable for variable in VARIABLES if variable.name == name)
    assert default.attribute is not None
    assert str(getattr(settings, default.attribute)) == default.default == problem.used


@pytest.mark.parametrize(
    ("text", "value"), [("0", "0"), (" 12.50 ", "12.50"), ("0.000000001", "0.000000001"), ("1_000.5", "1000.5")]
)
def test_a_budget_keeps_its_digits(text: str, value: str) -> None:
    settings = Settings.from_env({BUDGET: text})
    assert (settings.budget_usd_per_month, settings.limits()) == (value, {"budget_usd_per_month": value})


@pytest.mark.parametrize(
    "text", ["abc", "1e3", "-5", "", "nan", "Infinity", "1,5", ".", ".5", "1.", "9223372037", "1" * 99, "1.5_0"]
)
def test_a_bad_budget_is_named_and_its_default_holds(text: str) -> None:
    settings = Settings.from_env({BUDGET: text})
    assert settings.budget_usd_per_month == "100"
    assert [problem.variable for problem in settings.problems] == [BUDGET]


def test_a_message_says_what_was_given_what_would_be_right_and_what_holds() -> None:
    (problem,) = Settings.from_env({RPM: "1e3"}).problems
    assert str(problem) == (
        "OPENAI_RATE_LIMIT_PER_MINUTE: '1e3' is not valid; expected a whole number from 0 (which blocks) to "
        "9007199254740992, written without fraction or exponent; using 500"
    )


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OPENAI_WARNING_THRESHOLD_PERCENT": "97"}, ["OPENAI_WARNING_THRESHOLD_PERCENT"]),
        ({"OPENAI_CRITICAL_THRESHOLD_PERCENT": "70"}, ["OPENAI_CRITICAL_THRESHOLD_PERCENT"]),
        (
            {"OPENAI_WARNING_THRESHOLD_PERCENT": "60", "OPENAI_CRITICAL_THRESHOLD_PERCENT": "50"},
            ["OPENAI_WARNING_THRESHOLD_PERCENT", "OPENAI_CRITICAL_THRESHOLD_PERCENT"],
        ),
        ({"OPENAI_WARNING_THRESHOLD_PERCENT": "0"}, ["OPENAI_WARNING_THRESHOLD_PERCENT"]),
        ({"OPENAI_CRITICAL_THRESHOLD_PERCENT": "101"}, ["OPENAI_CRITICAL_THRESHOLD_PERCENT"]),
    ],
)
def test_thresholds_that_cross_have_their_defaults(environ: dict[str, str], named: list[str]) -> None:
    settings = Settings.from_env(environ)
    assert (settings.near_percent, settings.critical_percent) == (80, 95)
    assert [problem.variable for problem in settings.problems] == named
    assert settings.configured == frozenset()


def test_thresholds_that_do_not_cross_are_accepted() -> None:
    settings = Settings.from_env(
        {"OPENAI_WARNING_THRESHOLD_PERCENT": "100", "OPENAI_CRITICAL_THRESHOLD_PERCENT": "100"}
    )
    assert (settings.near_percent, settings.critical_percent, settings.problems) == (100, 100, ())


@pytest.mark.parametrize(
    "store",
    [
        "memory:",
        "memory:?size=512MB",
        "shared:/var/lib/llmquota",
        "shared:/var/lib/llmquota?size=512MB",
        "redis://:pw@h/0",
        "rediss://h",
        "redis-cluster://h",
    ],
)
def test_a_store_is_accepted(store: str) -> None:
    assert Settings.from_env({"LLMQUOTA_STORE": f" {store} "}).store == store


@pytest.mark.parametrize("store", ["disk:/x", "shared:", "shared:relative/dir", "redis:", "redis://", "memory", "x"])
def test_an_unknown_store_is_named_and_memory_holds(store: str) -> None:
    settings = Settings.from_env({"LLMQUOTA_STORE": store})
    assert settings.store == "memory:"
    assert [problem.used for problem in settings.problems] == ["memory:"]


@pytest.mark.parametrize(
    ("store", "meant"),
    [
        ("shard:/x", "shared:/x"),
        ("Shared:/var/lib/llmquota", "shared:/var/lib/llmquota"),
        ("/var/lib/llmquota", "shared:/var/lib/llmquota"),
        ("shared:relative", "shared:/absolute/path"),
        ("share:/user:hunter2@host", "shared:/absolute/path"),
        ("memory", "memory:"),
        ("rediss:user:hunter2@host", "rediss://..."),
        ("redi://user:hunter2@host", "redis://..."),
        ("postgres://user:hunter2@host", None),
        ("shard:/" + "x" * 10_000_000, "shared:/absolute/path"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_misspelt_store_is_told_what_it_was_meant_to_be(store: str, meant: str | None) -> None:
    (problem,) = Settings.from_env({"LLMQUOTA_STORE": store}).problems
    assert problem.used == "memory:"
    assert "hunter2" not in str(problem)
    assert problem.expected.partition("; did you mean ")[2] == ("" if meant is None else f"'{meant}'?")


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("90", 90), ("36_500", 36_500)])
def test_a_number_of_days_is_accepted(text: str, value: int) -> None:
    settings = Settings.from_env({"LLMQUOTA_HISTORY_DAYS": text})
    assert (settings.history_days, settings.problems, settings.limits()) == (value, (), {})


@pytest.mark.parametrize("text", ["0", "36501", "-1", "1.5", "", "forever"])
def test_a_bad_number_of_days_is_named_and_its_default_holds(text: str) -> None:
    settings = Settings.from_env({"LLMQUOTA_HISTORY_DAYS": text})
    assert settings.history_days == 90
    assert [problem.variable for problem in settings.problems] == ["LLMQUOTA_HISTORY_DAYS"]


def test_only_what_is_set_goes_to_the_engine() -> None:
    # Processes of one store are compared by what they set: a default must not stand against another's setting.
    defaults = Settings.from_env({"LLMQUOTA_STORE": "shared:/x"})
    assert (defaults.limits(), defaults.zone()) == ({}, None)
    environ = {"OPENAI_WARNING_THRESHOLD_PERCENT": "80", "LLMQUOTA_TIMEZONE": "UTC", RPM: "5"}
    told = Settings.from_env(environ)
    assert (told.limits(), told.zone()) == ({"near_percent": "80", "requests_per_minute": "5"}, "UTC")
    assert {module.NAMES[name] for name in (*told.limits(), "timezone")} == set(environ)


def test_no_secret_is_shown() -> None:
    environ = {
        "LLMQUOTA_STORE": "reddis://user:hunter2@host",
        "LLMQUOTA_TOKEN_SECRET": "hunter2\udcff",
        "LLMQUOTA_TIMEZONE": "Europe/Rome",
    }
    settings = Settings.from_env(environ)
    assert [problem.variable for problem in settings.problems] == ["LLMQUOTA_STORE", "LLMQUOTA_TOKEN_SECRET"]
    good = Settings.from_env({"LLMQUOTA_STORE": "redis://:hunter2@h", "LLMQUOTA_TOKEN_SECRET": "hunter2"})
    assert (good.store, good.token_secret) == ("redis://:hunter2@h", "hunter2")
    assert "hunter2" not in repr(settings) + repr(good) + "".join(map(str, settings.problems))
    assert "hunter2" not in str(Settings.from_env({"LLMQUOTA_STORE": "user-hunter2"}).problems)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("No", False)])
def test_a_switch_has_two_positions(text: str, value: bool) -> None:
    settings = Settings.from_env({"LLMQUOTA_REQUIRE_SHARED": text})
    assert (settings.require_shared, settings.problems) == (value, ())


def test_a_switch_in_between_is_named() -> None:
    settings = Settings.from_env({"LLMQUOTA_REQUIRE_SHARED": "maybe", "LLMQUOTA_TIMEZONE": "Rome; DROP"})
    assert [problem.variable for problem in settings.problems] == ["LLMQUOTA_TIMEZONE", "LLMQUOTA_REQUIRE_SHARED"]
    assert (settings.require_shared, settings.timezone) == (False, "UTC")


def test_the_path_of_the_limits_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"LLMQUOTA_LIMITS": "limits.toml"})
    assert settings.limits_path == str(tmp_path / "limits.toml")
    assert Settings.from_env({"LLMQUOTA_LIMITS": ""}).limits_path is None


def test_a_setting_can_be_refused_by_its_user() -> None:
    settings = Settings.from_env({"LLMQUOTA_TIMEZONE": "Mars/Olympus", RPM: "5"})
    assert settings.problems == ()
    refused = settings.reject("LLMQUOTA_TIMEZONE", "Mars/Olympus", "an IANA time zone")
    assert (refused.timezone, refused.requests_per_minute) == ("UTC", 5)
    assert refused.configured == {RPM}
    assert [str(problem) for problem in refused.problems] == [
        "LLMQUOTA_TIMEZONE: 'Mars/Olympus' is not valid; expected an IANA time zone; using UTC"
    ]


def test_the_admin_key_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUOTA_ADMIN_RESET_KEY", raising=False)
    assert admin_reset_key() is None
    for text, key in [("one", "one"), (" two ", " two "), ("", None), ("  ", None), (EXAMPLE_ADMIN_KEY, None)]:
        monkeypatch.setenv("QUOTA_ADMIN_RESET_KEY", text)
        assert admin_reset_key() == key
    assert admin_reset_key({"QUOTA_ADMIN_RESET_KEY": "\udcff"}) is None


def test_all_problems_are_told_in_one_warning_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_warned", {})
    environ = {RPM: "abc", BUDGET: "nan"}
    with caplog.at_level(logging.WARNING, logger="llmquota"):
        warn_once(Settings.from_env({RPM: "5"}))
        assert caplog.messages == []
        warn_once(Settings.from_env(environ))
        warn_once(Settings.from_env(environ))
    (message,) = caplog.messages
    assert RPM in message
    assert BUDGET in message
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_bad_environment_does_not_stop_an_import_that_turns_warnings_into_errors() -> None:
    code = "from llmquota.settings import Settings, warn_once; warn_once(Settings.from_env())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, RPM: "abc", "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert RPM in done.stderr


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(), max_size=80)))
def test_no_environment_raises(environ: dict[str, str]) -> None:
    settings = Settings.from_env(environ)
    assert settings.near_percent <= settings.critical_percent
    assert {problem.variable for problem in settings.problems}.isdisjoint(settings.configured)
    for problem in settings.problems:
        str(problem).encode()
    admin_reset_key(environ)


@given(st.integers(0, 2**53))
def test_every_count_that_fits_is_kept(count: int) -> None:
    assert Settings.from_env({RPM: str(count)}).requests_per_minute == count


@pytest.mark.parametrize("document", [".env.example", "docs/settings.md"])
def test_every_variable_is_documented_and_every_documented_one_is_read(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    pattern = r"^#? ?([A-Z][A-Z0-9_]+)=" if document == ".env.example" else r"^\| `([A-Z][A-Z0-9_]+)` \|"
    documented = re.findall(pattern, text, re.MULTILINE)
    assert sorted(documented) == sorted(NAMES)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    table = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for variable in VARIABLES:
        shown = re.search(rf"^#? ?{variable.name}=(.*)$", example, re.MULTILINE)
        assert shown is not None
        if variable.name == "QUOTA_ADMIN_RESET_KEY":
            assert shown[1] == EXAMPLE_ADMIN_KEY
        if variable.default:
            assert shown[1] == variable.default
            assert f"| `{variable.name}` | `{variable.default}` |" in table
        else:
            assert f"| `{variable.name}` | none |" in table


# --- the limits file ---


def write(path: Path, text: str, mtime: float = 1_000_000_000) -> None:
    """Writes a file that has not changed for long, so that one look at it is enough."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (mtime, mtime))


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    return tmp_path / "limits.toml"


def test_a_file_is_given_once_and_again_when_it_changes(limits: Path) -> None:
    write(limits, "a = 1\n")
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) == "a = 1\n"
    assert watcher.poll(1.0) is None
    write(limits, "a = 2\n", mtime=1_000_000_001)
    assert watcher.poll(2.0) == "a = 2\n"
    assert watcher.poll(3.0) is None
    assert watcher.problem is None


def test_a_file_is_looked_at_once_an_interval(limits: Path) -> None:
    watcher = LimitsWatcher(limits)
    assert watcher.poll(10.0) is None
    write(limits, "a = 1\n")
    assert not watcher.due(10.999)
    assert watcher.poll(10.999) is None
    assert watcher.due(11.0)
    assert watcher.poll(11.0) == "a = 1\n"
    # A clock that went back does not stop the looking.
    assert watcher.due(5.0)


def test_a_file_that_is_replaced_is_seen_though_its_time_and_size_are_the_same(limits: Path) -> None:
    write(limits, "a = 1\n")
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) == "a = 1\n"
    other = limits.with_suffix(".new")
    write(other, "a = 2\n")
    other.replace(limits)
    assert watcher.poll(1.0) == "a = 2\n"


def test_a_file_that_changes_within_one_tick_of_its_clock_is_seen(limits: Path) -> None:
    limits.write_text("a = 1\n", encoding="utf-8")
    status = limits.stat()
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) == "a = 1\n"
    with limits.open("r+", encoding="utf-8") as file:
        file.write("a = 2\n")
    os.utime(limits, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert watcher.poll(1.0) == "a = 2\n"
    assert watcher.poll(2.0) is None


def test_a_touch_is_no_change(limits: Path) -> None:
    write(limits, "a = 1\n")
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) == "a = 1\n"
    write(limits, "a = 1\n", mtime=1_000_000_005)
    assert watcher.poll(1.0) is None


def test_a_missing_file_is_a_problem_until_it_is_there(limits: Path) -> None:
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) is None
    assert watcher.problem is not None
    assert watcher.problem.used == "no limits file"
    assert "a file that can be read" in str(watcher.problem)
    write(limits, "a = 1\n")
    assert watcher.poll(1.0) == "a = 1\n"
    assert watcher.problem is None
    limits.unlink()
    assert watcher.poll(2.0) is None
    assert watcher.problem is not None
    assert watcher.problem.used == "the last good limits"
    write(limits, "a = 1\n")
    assert watcher.poll(3.0) is None, "it is what was read before"
    assert watcher.problem is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
def test_a_pipe_is_a_problem_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    watcher = LimitsWatcher(tmp_path / "pipe")
    assert watcher.poll(0.0) is None
    assert "a regular file" in str(watcher.problem)


def test_what_is_no_text_file_is_a_problem(tmp_path: Path, limits: Path) -> None:
    limits.write_bytes(b"a = '\xff'\n")
    for path, reason in [
        (tmp_path, "a regular file"),
        (limits, "byte 5"),
        (tmp_path / "a\0b", "a file that can be read"),
        (tmp_path / ("x" * 300), "a file that can be read"),
    ]:
        watcher = LimitsWatcher(path)
        assert watcher.poll(0.0) is None
        assert reason in str(watcher.problem)


def test_a_file_that_is_too_large_is_a_problem(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitsWatcher, "MAX_BYTES", 4)
    write(limits, "12345")
    watcher = LimitsWatcher(limits)
    assert watcher.poll(0.0) is None
    assert "at most 4 bytes" in str(watcher.problem)
    write(limits, "1234")
    assert watcher.poll(1.0) == "1234"


def test_a_byte_order_mark_is_no_text(limits: Path) -> None:
    limits.write_bytes("\ufeffa = 1\n".encode())
    assert LimitsWatcher(limits).poll(0.0) == "a = 1\n"
