"""Workspaces under load at the same time: a limit is met exactly, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import httpx

from llmquota.testing import FakeOpenAI


async def test_a_noisy_workspace_does_not_disturb_others(
    backend_url: str, provider: FakeOpenAI, counted: Callable[[str], dict[str, float]], workspace: str
) -> None:
    noisy, quiet = "ten-a-minute", [f"{workspace}-one", f"{workspace}-two"]
    statuses: dict[str, Counter[int]] = {name: Counter() for name in (noisy, *quiet)}

    async with httpx.AsyncClient(base_url=backend_url, timeout=60) as client:

        async def call(name: str, number: int) -> None:
            body = {"workspace_id": name, "goal_id": f"{name}-{number % 3}"}
            if number % 3 == 0:
                answer = await client.post("/api/ai/chat", json={**body, "prompt": f"Item {number}"})
            elif number % 3 == 1:
                answer = await client.post("/api/ai/stream", json={**body, "message": f"Item {number}"})
            else:
                question = {"question": f"Item {number}", "documents": ["one", "two"]}
                answer = await client.post("/api/ai/search", json={**body, **question})
            statuses[name][answer.status_code] += 1

        calls = [call(noisy, number) for number in range(60)]
        calls += [call(name, number) for name in quiet for number in range(30)]
        await asyncio.gather(*calls)

    assert set(statuses[noisy]) == {200, 429}
    for name in quiet:
        assert statuses[name] == {200: 30}
    books = provider.served.by("x-workspace-id")
    assert books[noisy].requests == 10
    for name in (noisy, *quiet):
        usage = counted(name)
        assert (usage["requests"], usage["tokens"]) == (books[name].requests, books[name].total_tokens)
        assert usage["errors"] == 0
    by_goal = provider.served.by("x-goal-id")
    async with httpx.AsyncClient(base_url=backend_url) as client:
        for name in quiet:
            for goal in (f"{name}-{number}" for number in range(3)):
                answer = await client.get(f"/api/quota/goal/{goal}/usage", params={"workspace_id": name})
                data = answer.json()["data"]
                assert (data["request_count"], data["tokens_used"]) == (
                    by_goal[goal].requests,
                    by_goal[goal].total_tokens,
                )
