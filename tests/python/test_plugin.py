"""The pytest plugin as its users have it: run by pytest on suites of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib.metadata import entry_points
from typing import Any

import pytest

from llmquota import QuotaManager, QuotaTracker
from llmquota.testing import FakeOpenAI
from llmquota.testing.over_admission import assert_no_over_admission as watch

pytest_plugins = ["pytester"]

INI = """
[pytest]
addopts = -p no:cacheprovider -p no:asyncio
filterwarnings = error
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def run(suite: pytest.Pytester, source: str, *args: str) -> pytest.RunResult:
    suite.makepyfile(source)
    # Loaded by its entry point, as its users have it; a checkout that is not installed names it.
    by_name = [] if entry_points(group="pytest11", name="llmquota") else ["-p", "llmquota.testing.plugin"]
    return suite.runpytest_inprocess(*by_name, *args)


def test_the_fixtures(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import os

        def test_the_clock_is_the_managers(quota_clock, quota_manager):
            assert quota_manager.now() == quota_clock.time() == 1769860800
            tracker = quota_manager.get_tracker("acme")
            tracker.record_request(tokens_used=5)
            quota_clock.advance(61)
            usage = quota_manager.usage("acme")
            assert (usage["minute"]["requests"], usage["day"]["requests"]) == (0, 1)

        def test_the_next_manager_is_clean(quota_manager):
            assert quota_manager.usage("acme")["total"]["requests"] == 0

        def test_clients_find_the_fake_by_the_environment(fake_openai):
            import openai

            assert os.environ["OPENAI_BASE_URL"] == fake_openai.base_url
            with openai.OpenAI() as client:
                assert client.models.list().data
            assert fake_openai.served.requests == 1

        def test_the_environment_is_put_back():
            assert "OPENAI_BASE_URL" not in os.environ

        def test_the_check(quota_manager, assert_no_over_admission):
            with assert_no_over_admission(quota_manager) as admissions:
                quota_manager.get_tracker("acme").reserve(1).release()
            assert admissions.grants == 1
        """,
    ).assert_outcomes(passed=5)


def test_the_manager_of_the_environment_is_clean_in_each_test(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest
        from llmquota import record_request, workspace_quota_manager
        from llmquota.context import unattributed

        kept = workspace_quota_manager.get_tracker("acme")

        @pytest.mark.parametrize("turn", range(3))
        def test_it(turn):
            assert kept.snapshot()["usage"]["total"]["requests"] == 0
            assert unattributed() == []
            record_request(tokens_used=5, workspace_id="acme")
            record_request(tokens_used=5)
            assert kept.snapshot()["usage"]["total"]["requests"] == 1
            assert len(unattributed()) == 1

        @pytest.mark.parametrize("limit", [1, 2])
        def test_it_reads_the_environment_again(limit, monkeypatch):
            monkeypatch.setenv("OPENAI_RATE_LIMIT_PER_MINUTE", str(limit))
            assert [line["cap"] for line in workspace_quota_manager.limits("acme") if
                    line["limit"] == "requests_per_minute"] == [limit]
        """,
    ).assert_outcomes(passed=5)


def test_a_suite_that_does_not_use_it_pays_nothing(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import sys

        def test_nothing_is_loaded_or_started():
            from llmquota import workspace_quota_manager
            assert not workspace_quota_manager.is_open
        """,
    ).assert_outcomes(passed=1)
    source = """
import sys, threading
import pytest
before, threads = set(sys.modules), threading.active_count()
import llmquota.testing.plugin
loaded = set(sys.modules) - before
assert threading.active_count() == threads
heavy = {name.partition(".")[0] for name in loaded} & {"openai", "fastapi", "starlette", "httpx", "httpx2", "unittest"}
assert not heavy, heavy
assert "llmquota.testing.fake_openai" not in loaded
assert not llmquota.workspace_quota_manager.is_open
"""
    subprocess.run([sys.executable, "-c", source], check=True)


# --- what assert_no_over_admission proves ---


def manager(**limits: Any) -> QuotaManager:
    return QuotaManager(limits={"workspaces": {"acme": limits}})


LIMITS = [{"requests_per_minute": 5}, {"tokens_per_day": 50}, {"max_concurrent": 5}, {"budget_usd_per_month": 0.0005}]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_manager_that_keeps_its_limits_passes(limits: dict[str, Any]) -> None:
    kept = manager(**limits)
    tracker = kept.get_tracker("acme")
    holds: list[Any] = []
    with watch(kept) as admissions:

        def work() -> None:
            for _ in range(5):
                try:
                    holds.append(tracker.reserve(10))
                except Exception:
                    continue

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert admissions.grants == len(holds) == 5
    assert admissions.violations == []


def test_facts_may_pass_a_limit(quota_clock: Any) -> None:
    kept = QuotaManager(
        limits={"workspaces": {"acme": {"requests_per_minute": 5, "tokens_per_minute": 100}}}, clock=quota_clock
    )
    tracker = kept.get_tracker("acme")
    with watch(tracker) as admissions:
        hold = tracker.reserve(10)
        hold.settle(tokens=500)
        for _ in range(20):
            tracker.record_request(tokens_used=50)
        quota_clock.advance(61)
        with tracker.reserve(10) as again:
            again.settle(tokens=5)
        tracker.reserve(90).release()
        tracker.reserve(90)
        tracker.reset()
        tracker.reserve(5)
    assert admissions.grants == 5


def reserve_without_limits(self: QuotaTracker, *args: Any, **kwargs: Any) -> Any:
    """A manager that is broken: it lets a call pass by looking away."""
    nothing = dict.fromkeys(
        ["requests_per_minute", "tokens_per_day", "max_concurrent", "budget_usd_per_month", "tokens_per_minute"]
    )
    self.manager.set_override("workspace", "", self.workspace_id, nothing)
    try:
        return super(QuotaTracker, self).reserve(*args, **kwargs)
    finally:
        self.manager.remove_override("workspace", "", self.workspace_id)


@pytest.mark.parametrize("limits", LIMITS)
def test_a_manager_that_looks_away_fails(limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuotaTracker, "reserve", reserve_without_limits)
    broken = manager(**limits)
    tracker = broken.get_tracker("acme")
    with watch(broken):
        holds = [tracker.reserve(10) for _ in range(5)]
    with pytest.raises(AssertionError, match=f"workspace acme, {next(iter(limits))}: "), watch(broken):
        holds.append(tracker.reserve(10))


class Forgetful(QuotaTracker):
    """A manager that is broken in another way: what it says of itself is in order, and wrong."""

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        QuotaManager.adjust.__wrapped__(self.manager, self.workspace_id, "minute", "requests", 0)  # type: ignore[attr-defined]
        return super().reserve(*args, **kwargs)


def test_a_manager_that_forgets_fails() -> None:
    broken = manager(requests_per_minute=3)
    broken.tracker_class = Forgetful
    tracker = broken.get_tracker("acme")

    def watched() -> None:
        with watch(broken):
            for _ in range(4):
                with tracker.reserve(1) as hold:
                    hold.settle(tokens=1)

    with pytest.raises(AssertionError, match="4 grants and 0 facts make at least 4 > cap 3"):
        watched()


def test_a_ledger_counts_facts_too() -> None:
    broken = manager(requests_per_minute=3)
    broken.tracker_class = Forgetful
    tracker = broken.get_tracker("acme")

    def watched() -> None:
        with watch(broken):
            for _ in range(3):
                tracker.record_request(tokens_used=1)
            tracker.reserve(1)

    with pytest.raises(AssertionError, match="1 grants and 3 facts make at least 4 > cap 3"):
        watched()


async def test_waiters_are_watched() -> None:
    kept = QuotaManager(limits={"workspaces": {"acme": {"max_concurrent": 1}}})
    tracker = kept.get_tracker("acme")
    with watch(kept) as admissions:
        async with await tracker.acquire(1):
            pass
        async with await tracker.acquire(1, timeout=1):
            pass
        tracker.acquire_sync(1).release()
        kept.reserve("acme", 1).release()
    assert admissions.grants == 4


def test_guards_are_watched_and_other_managers_are_not(fake_openai: FakeOpenAI) -> None:
    from llmquota import guarded

    kept, other = manager(requests_per_minute=2), manager(requests_per_minute=2)

    @guarded(manager=lambda: kept)
    def call(workspace_id: str) -> dict[str, int]:
        return {"total_tokens": 5}

    with watch(kept) as admissions:
        call("acme")
        other.get_tracker("acme").reserve(1)
        call("acme")
    assert admissions.grants == 2


def test_the_classes_are_as_before() -> None:
    before = {name: QuotaTracker.__dict__.get(name) for name in ("reserve", "acquire", "record_request")}

    def watched() -> None:
        with watch(manager()):
            assert QuotaTracker.__dict__.get("reserve") is not before["reserve"]
            raise KeyError

    with pytest.raises(KeyError):
        watched()
    assert {name: QuotaTracker.__dict__.get(name) for name in before} == before
