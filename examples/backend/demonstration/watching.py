"""What the backend says about a workspace while it works: the REST routes asked, the WebSocket listened to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

POLL_SECONDS = 0.5
MOST_ROWS = 100_000


@dataclass
class View:
    """A workspace, as the routes under ``/api/quota`` show it."""

    workspace_id: str
    status: str = "normal"
    requests: int = 0
    tokens: int = 0
    errors: int = 0
    cost_usd: float = 0.0
    goals: list[dict[str, Any]] = field(default_factory=list)
    """Most tokens first: ``goal_id``, ``tokens_used``, ``request_count``."""
    pushes: int = 0
    """Messages that came over the WebSocket."""

    def take_status(self, data: dict[str, Any]) -> None:
        """From ``/status`` or a push."""
        self.status = data["status"]
        self.goals = data["goal_usage"]

    async def refresh(self, client: httpx.AsyncClient) -> None:
        """Asks the REST routes."""
        query = {"workspace_id": self.workspace_id}
        status = await client.get("/api/quota/status", params=query)
        usage = await client.get("/api/quota/usage", params={**query, "period": "total"})
        self.take_status(status.raise_for_status().json()["data"])
        total = usage.raise_for_status().json()["data"]["usage"]
        self.requests, self.tokens, self.errors = total["requests"], total["tokens"], total["errors"]
        self.cost_usd = total["cost_usd"]


async def history(client: httpx.AsyncClient, workspace_id: str) -> list[dict[str, Any]]:
    """The rows of a workspace, the newest first."""
    query = {"workspace_id": workspace_id, "limit": MOST_ROWS}
    answer = await client.get("/api/quota/history", params=query)
    rows: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return rows


async def poll(client: httpx.AsyncClient, view: View) -> None:
    """Refreshes a view until it is cancelled."""
    while True:
        with contextlib.suppress(httpx.TransportError):  # the worker that was asked was killed: another knows the same
            await view.refresh(client)
        await asyncio.sleep(POLL_SECONDS)


async def listen(base_url: str, view: View) -> None:
    """Takes pushes into a view until it is cancelled; connects again where a worker goes, as a browser does."""
    url = f"ws{base_url.removeprefix('http')}/api/quota/ws?workspace_id={view.workspace_id}"
    async for socket in connect(url):
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                said = json.loads(message)
                if said["type"] in ("quota_initial", "quota_update"):
                    view.pushes += 1
                    view.take_status(said["data"])
