"""A backend of four workers, one of which is killed again and again: only the calls that it had open differ."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demonstration.backend import FOLDER, answering, free_port, running_backend
from demonstration.books import reconcile_when_settled
from demonstration.tenants import BOOKS, NOISY, TENANTS, set_up_provider
from demonstration.traffic import Seen, drive
from demonstration.watching import View, listen
from demonstration.workers import Killed, Workers
from llmquota import QuotaManager
from llmquota.testing import FakeOpenAI

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stores are shared on Linux alone")

WORKERS = 4
KILLS = (0.2, 0.5, 0.9, 1.4)
"""Seconds into a round; each round has a provider whose answers take their time in another way."""
ROUND_SECONDS = 2.5


@pytest.fixture
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(group_by=BOOKS, latency=0.05) as fake:
        set_up_provider(fake)
        yield fake


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"shared:{tmp_path / 'store'}?size=64MB"


@pytest.fixture
def backend(provider: FakeOpenAI, store: str) -> Iterator[str]:
    environment = {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "test",
        "LLMQUOTA_STORE": store,
        "LLMQUOTA_LIMITS": str(FOLDER / "limits.toml"),
    }
    with running_backend(free_port(18_400), environment, WORKERS) as url:
        yield url


@pytest.mark.timeout(240)
async def test_only_the_open_calls_of_killed_workers_differ(backend: str, provider: FakeOpenAI, store: str) -> None:
    views = [View(tenant.workspace_id) for tenant in TENANTS]
    seen = {tenant.workspace_id: Seen() for tenant in TENANTS}
    killed: list[Killed] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=backend, timeout=60, limits=limits) as client:
        listeners = [asyncio.create_task(listen(backend, view)) for view in views]
        for number, kill_after in enumerate(KILLS):
            provider.reply("An answer of its own length. " * (number + 1), chunk_delay=0.03 * (number + 1))
            workers = Workers(kill_after, killed.append)
            workers.start()
            rounds = [drive(client, each, ROUND_SECONDS, seen[each.workspace_id], workers) for each in TENANTS]
            await asyncio.gather(*rounds)
            assert len(workers.answers) > 1
            await asyncio.to_thread(until_all_answer, backend, {each.pid for each in killed})
        result = await reconcile_when_settled(client, provider, views, seen)
        pushes = [view.pushes for view in views]
        await asyncio.gather(*(drive(client, each, 1, seen[each.workspace_id], Workers()) for each in TENANTS))
        await asyncio.sleep(1)
        for listener in listeners:
            listener.cancel()
    assert len({each.pid for each in killed}) == len(KILLS)
    assert result.holds, result
    assert result.matched > 50
    assert 1 <= len(result.orphans) <= sum(each.lost for each in seen.values())
    assert all(orphan.held_requests == 1 for orphan in result.orphans)
    assert [before < view.pushes for before, view in zip(pushes, views, strict=True) if view.workspace_id != NOISY] == [
        True,
        True,
    ], "whoever was connected to a worker that was killed is told by another"
    assert QuotaManager(store).verify() == []


def until_all_answer(backend: str, without: set[int]) -> None:
    found: set[int] = set()
    deadline = time.monotonic() + 60
    while len(found - without) < WORKERS:
        assert time.monotonic() < deadline, f"only {found - without} answer"
        found |= answering(backend, WORKERS)
