"""Drives the tenants through the backend over HTTP, and keeps what the answers say."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx

from .tenants import BROKEN_GOAL, ROGUE_GOAL, Tenant, model_of
from .workers import Workers

DOCUMENTS = [
    "The office is open from nine to five.",
    "Invoices are paid within thirty days.",
    "A team has one owner and any number of members.",
]
TASKS_PER_GOAL = 4


@dataclass
class Seen:
    """What one tenant saw of its own calls."""

    calls: int = 0
    refused: int = 0
    """Answered 429 by the backend."""
    failed: int = 0
    """Answered with another error, or broken off by the provider."""
    lost: int = 0
    """Not answered: the connection broke, for the worker was killed."""
    answered_requests: int = 0
    """Requests to the provider behind the answers that came whole."""
    answered_tokens: int = 0
    """The provider's own token numbers in these answers."""


async def drive(client: httpx.AsyncClient, tenant: Tenant, seconds: float, seen: Seen, workers: Workers) -> None:
    """Calls at the tenant's pace for so many seconds, however late the answers come; then waits for all of them.

    A connection that breaks is an ``httpx.TransportError``, unless a worker was killed: then the call is lost.
    """
    began = monotonic()
    calls: list[asyncio.Task[None]] = []
    try:
        for number in range(math.ceil(seconds * tenant.calls_per_second)):
            await asyncio.sleep(max(0.0, began + number / tenant.calls_per_second - monotonic()))
            calls.append(asyncio.create_task(_call(client, tenant, number, seen, workers)))
        await asyncio.gather(*calls)
    finally:
        for call in calls:
            call.cancel()


async def _call(client: httpx.AsyncClient, tenant: Tenant, number: int, seen: Seen, workers: Workers) -> None:
    kind = tenant.kinds[number % len(tenant.kinds)]
    goal = ROGUE_GOAL if kind == "headline" else tenant.goals[number % len(tenant.goals)]
    body: dict[str, Any] = {
        "workspace_id": tenant.workspace_id,
        "goal_id": goal,
        "task_id": f"{goal}-{number % TASKS_PER_GOAL + 1}",
    }
    if kind == "search":
        path = "/api/ai/search"
        body |= {"question": f"When are invoices paid? ({number})", "documents": DOCUMENTS}
    elif kind == "headline":
        path = "/api/ai/headline"
        body |= {"text": f"Item {number} of the minutes.", "model": model_of(tenant, goal)}
    elif kind == "stream":
        path = "/api/ai/stream"
        body |= {"message": f"What comes next? ({number})", "model": model_of(tenant, goal)}
    else:
        path = "/api/ai/chat"
        body |= {"prompt": f"Write item {number}.", "model": model_of(tenant, goal), "provider_type": kind}
    seen.calls += 1
    try:
        async with client.stream("POST", path, json=body) as answer:
            if kind == "stream" and goal != BROKEN_GOAL:  # whose streams do not last
                workers.begins(answer, tenant.workspace_id)
            await answer.aread()
    except httpx.TransportError:
        if workers.killed is None:
            raise
        seen.lost += 1
        return
    workers.answered(answer)
    _note(seen, kind, answer)


def _note(seen: Seen, kind: str, answer: httpx.Response) -> None:
    if answer.status_code == 429:
        seen.refused += 1
        return
    tokens = _tokens_told(kind, answer) if answer.is_success else None
    if tokens is None:
        seen.failed += 1
        return
    seen.answered_requests += 2 if kind == "search" else 1
    seen.answered_tokens += tokens


def _tokens_told(kind: str, answer: httpx.Response) -> int | None:
    """The provider's number in a whole answer; ``None`` for one that broke off."""
    if kind == "search":
        return int(answer.json()["tokens_used"])
    if kind != "stream":
        return int(answer.json()["usage"]["total_tokens"])
    last = answer.text.strip().rpartition("\n\n")[2]
    if not last.startswith("data: "):
        return None
    usage = json.loads(last.removeprefix("data: ")).get("usage")
    return None if usage is None else int(usage["total_tokens"])
