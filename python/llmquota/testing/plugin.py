"""The pytest plugin: installed with the package, it offers fixtures and keeps tests from counting for each other.

Importing it imports nothing of the package; a fixture does when a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llmquota import QuotaManager
    from llmquota._native import ManualClock

    from .fake_openai import FakeOpenAI
    from .over_admission import Admissions

START = 1_769_860_800.0
"""2026-01-31 12:00:00 UTC: a noon, so that a test does not run into a new day by itself."""


@pytest.fixture(autouse=True)
def _llmquota_clean_store() -> Iterator[None]:
    """Every test begins with a clean store, also of the manager that is made from the environment."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    # Looked up and not imported: a suite that does not use the package must not pay for it.
    module = sys.modules.get("llmquota.manager")
    manager = getattr(module, "workspace_quota_manager", None)
    if manager is not None and manager.is_open:
        manager.restart()
    context = sys.modules.get("llmquota.context")
    if context is not None:
        context.forget_unattributed()


@pytest.fixture
def quota_clock() -> ManualClock:
    """A clock that stands still at 2026-01-31 12:00 UTC until ``advance(seconds)`` or ``set_wall(epoch_seconds)``."""
    from llmquota._native import ManualClock

    return ManualClock(START)


@pytest.fixture
def quota_manager(quota_clock: ManualClock) -> QuotaManager:
    """A clean ``QuotaManager`` on ``quota_clock``, with no limits but the built-in ones."""
    from llmquota import QuotaManager

    return QuotaManager(clock=quota_clock)


@pytest.fixture
def fake_openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    """A running ``FakeOpenAI``. ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` lead clients without arguments to it."""
    from .fake_openai import FakeOpenAI

    with FakeOpenAI() as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield fake


@pytest.fixture
def assert_no_over_admission() -> Callable[[Any], AbstractContextManager[Admissions]]:
    """``with assert_no_over_admission(manager) as admissions:`` fails where anything is granted past a limit."""
    from .over_admission import assert_no_over_admission

    return assert_no_over_admission
