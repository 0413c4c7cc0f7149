"""The WebSocket ``/api/quota/ws``: a workspace's status when it connects, and again whenever it has changed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from llmquota.errors import QuotaInputError
from services.openai_quota_tracker import workspace_quota_manager

router = APIRouter(prefix="/api/quota")

PING_AFTER_SECONDS = 30.0
POLICY_VIOLATION = 1008


@router.websocket("/ws")
async def quota_socket(websocket: WebSocket, workspace_id: str | None = None) -> None:
    """Sends ``quota_initial``, then ``quota_update``; answers ``ping`` and ``request_status``; pings the silent."""
    try:
        tracker = workspace_quota_manager.get_tracker(workspace_id)
    except QuotaInputError as error:
        await websocket.close(POLICY_VIOLATION, str(error)[:100])
        return
    await websocket.accept()
    tracker.add_websocket(websocket)  # from here on the tracker pushes what changes
    try:
        await websocket.send_json({"type": "quota_initial", "data": tracker.get_status_data()})
        while True:
            try:
                text = await asyncio.wait_for(websocket.receive_text(), PING_AFTER_SECONDS)
            except asyncio.TimeoutError:
                await websocket.send_json({"type": "ping"})
                continue
            kind = _message_type(text)
            if kind == "ping":
                await websocket.send_json({"type": "pong"})
            elif kind == "request_status":
                await websocket.send_json({"type": "quota_update", "data": tracker.get_status_data()})
    except WebSocketDisconnect:
        pass
    finally:
        tracker.remove_websocket(websocket)


def _message_type(text: str) -> Any:
    """The ``type`` of a JSON object; ``None`` for anything else, which is ignored."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message.get("type") if isinstance(message, dict) else None
