"""What the tests of the legacy names share."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

BACKEND = Path(__file__).resolve().parents[3] / "examples" / "backend"

#: 2026-03-14, 10:30:15 UTC: far from every midnight and from every change of clocks.
START = datetime(2026, 3, 14, 10, 30, 15, tzinfo=timezone.utc).timestamp()


class Client:
    """A WebSocket client: what it was sent, parsed."""

    def __init__(self, delay: float = 0.0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.delay = delay

    async def send_text(self, data: str) -> None:
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
        await asyncio.Event().wait()
