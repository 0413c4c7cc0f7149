"""``fetch_real_usage_data``: resolved late, fetched once, kept for five minutes, and None on any failure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from llmquota import compat
from llmquota.compat import WorkspaceQuotaTracker

BUDGET = {"status": "normal", "monthly_budget": 100.0}
MODELS = {"gpt-4o": {"total_cost": 1.5}}


class UsageClient:
    """The backend's client, as far as it is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def get_today_usage(self) -> Any:
        self.calls.append("today")
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return SimpleNamespace(total_cost=1.5, total_tokens=10, total_requests=2, hourly_breakdown={"10": 1})

    async def check_budget_status(self) -> Any:
        self.calls.append("budget")
        return BUDGET

    async def get_model_comparison(self, days: int) -> Any:
        self.calls.append(f"models {days}")
        return MODELS


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> UsageClient:
    client = UsageClient()
    services = ModuleType("services")
    module = ModuleType("services.openai_usage_api_client")
    module.get_usage_client = lambda: client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "services", services)
    monkeypatch.setitem(sys.modules, "services.openai_usage_api_client", module)
    return client


async def test_three_answers_make_one(tracker: WorkspaceQuotaTracker, client: UsageClient) -> None:
    assert tracker.real_usage_data is None
    assert tracker.usage_client is None
    assert tracker.real_usage_cache_minutes == 5
    data = await tracker.fetch_real_usage_data()
    assert data == {
        "today": {"total_cost": 1.5, "total_tokens": 10, "total_requests": 2, "hourly_breakdown": {"10": 1}},
        "budget": BUDGET,
        "model_comparison": MODELS,
        "last_updated": mock.ANY,
    }
    assert client.calls == ["today", "budget", "models 7"]
    assert tracker.usage_client is client
    assert tracker.get_enhanced_status_data()["real_usage"] == tracker.real_usage_data == data


async def test_an_answer_is_kept_for_five_minutes(tracker: WorkspaceQuotaTracker, client: UsageClient) -> None:
    first = await tracker.fetch_real_usage_data()
    assert await tracker.fetch_real_usage_data() is first
    assert client.calls.count("today") == 1
    tracker.last_real_usage_fetch = datetime.now() - timedelta(minutes=5, seconds=1)
    await tracker.fetch_real_usage_data()
    assert client.calls.count("today") == 2


async def test_callers_that_come_meanwhile_share_the_fetch(tracker: WorkspaceQuotaTracker, client: UsageClient) -> None:
    client.gate = asyncio.Event()
    callers = [asyncio.create_task(tracker.fetch_real_usage_data()) for _ in range(20)]
    await asyncio.sleep(0.01)
    callers[0].cancel()
    from_another_loop = asyncio.create_task(asyncio.to_thread(asyncio.run, tracker.fetch_real_usage_data()))
    await asyncio.sleep(0.05)
    client.gate.set()
    answers = await asyncio.gather(*callers[1:], from_another_loop)
    assert client.calls.count("today") == 1
    assert all(answer is answers[0] for answer in answers)
    assert callers[0].cancelled()


@pytest.mark.parametrize("where", ["client", "import", "getter"])
async def test_any_failure_is_none(
    tracker: WorkspaceQuotaTracker, client: UsageClient, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "client":
        client.error = ConnectionError("no network")
    elif where == "import":
        monkeypatch.setitem(sys.modules, "services.openai_usage_api_client", None)
    else:
        monkeypatch.setattr(compat, "get_usage_client", mock.Mock(side_effect=ValueError("no API key")))
    assert await tracker.fetch_real_usage_data() is None
    assert "real_usage" not in tracker.get_enhanced_status_data()


async def test_a_failure_is_not_kept(tracker: WorkspaceQuotaTracker, client: UsageClient) -> None:
    client.error = ConnectionError("no network")
    assert await tracker.fetch_real_usage_data() is None
    client.error = None
    assert await tracker.fetch_real_usage_data() is not None


@pytest.fixture
def legacy_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("services.openai_quota_tracker")
    module.get_usage_client = compat.get_usage_client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "services.openai_quota_tracker", module)
    return module


@pytest.mark.parametrize("place", ["llmquota.compat", "services.openai_quota_tracker"])
async def test_the_getter_can_be_patched_where_it_is_exported(
    tracker: WorkspaceQuotaTracker,
    client: UsageClient,
    legacy_module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    other = UsageClient()
    getter: Callable[[], UsageClient] = lambda: other  # noqa: E731
    monkeypatch.setattr(sys.modules[place], "get_usage_client", getter)
    await tracker.fetch_real_usage_data()
    assert tracker.usage_client is other
    assert client.calls == []


def test_the_fetch_of_a_loop_that_ends_holds_nobody_up(tracker: WorkspaceQuotaTracker, client: UsageClient) -> None:
    async def leave() -> None:
        client.gate = asyncio.Event()
        fetching = asyncio.ensure_future(tracker.fetch_real_usage_data())
        await asyncio.sleep(0.01)
        fetching.cancel()

    asyncio.run(leave())
    client.gate = None
    assert asyncio.run(tracker.fetch_real_usage_data()) is not None
