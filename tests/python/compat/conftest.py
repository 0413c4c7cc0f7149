from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from llmquota._native import ManualClock
from llmquota.compat import MultiWorkspaceQuotaManager, WorkspaceQuotaTracker

BACKEND = Path(__file__).resolve().parents[3] / "examples" / "backend"

#: 2026-03-14, 10:30:15 UTC: far from every midnight and from every change of clocks.
START = datetime(2026, 3, 14, 10, 30, 15, tzinfo=timezone.utc).timestamp()


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
        import os

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


class Client:
    """A WebSocket client: what it was sent, parsed."""

    def __init__(self, delay: float = 0.0) -> None:
        self.messages: list[dict] = []
        self.delay = delay

    async def send_text(self, data: str) -> None:
        import asyncio

        if self.delay:
            await asyncio.sleep(self.delay)
        self.messages.append(json.loads(data))

    @property
    def statuses(self) -> list[str]:
        return [message["data"]["status"] for message in self.messages]


class Broken(Client):
    """One that has gone away."""

    async def send_text(self, data: str) -> None:
        raise RuntimeError("websocket is closed")


class Stuck(Client):
    """One that never takes what it is sent."""

    async def send_text(self, data: str) -> None:
        import asyncio

        await asyncio.Event().wait()
