from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from compat_clients import BACKEND, START

from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, WorkspaceQuotaTracker


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def manager(clock: ManualClock) -> MultiWorkspaceQuotaManager:
    return MultiWorkspaceQuotaManager(clock=clock)


@pytest.fixture
def tracker(manager: MultiWorkspaceQuotaManager) -> WorkspaceQuotaTracker:
    return manager.get_tracker("acme")


@pytest.fixture
def limited(clock: ManualClock) -> Callable[..., WorkspaceQuotaTracker]:
    """Makes a tracker whose workspace has the given limits and those built in."""

    def make(**limits: object) -> WorkspaceQuotaTracker:
        limits_of_all = {"defaults": limits}
        return MultiWorkspaceQuotaManager(clock=clock, limits=limits_of_all).get_tracker("acme")

    return make


@pytest.fixture
def in_backend() -> Callable[..., str]:
    """Runs code as a script of the example backend, in a fresh process; gives what it printed."""

    def run(code: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=BACKEND,
            env={**{k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LLMQUOTA_"))}, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
