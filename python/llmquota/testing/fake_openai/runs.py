"""The objects of a run on a thread: the run, its step, its message, and the events that tell of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .answers import Event
from .bodies import new_id
from .replies import Said, in_pieces

__all__ = ["message_of", "run_events", "run_of", "unfinished_run"]

DONE = Event("[DONE]", name="done")
EXPIRES_AFTER = 600


def run_of(body: dict[str, Any], thread_id: str, model: str, said: Said) -> dict[str, Any]:
    """The run when it is finished."""
    now = int(time.time())
    return {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": now,
        "assistant_id": body["assistant_id"],
        "thread_id": thread_id,
        "status": "incomplete" if said.cut_short else "completed",
        "started_at": now,
        "expires_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": now,
        "required_action": None,
        "last_error": None,
        "model": model,
        "instructions": body.get("instructions") or "",
        "tools": body.get("tools") or [],
        "metadata": body.get("metadata") or {},
        "incomplete_details": {"reason": "max_completion_tokens"} if said.cut_short else None,
        "usage": said.usage.as_three_numbers(),
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "max_prompt_tokens": body.get("max_prompt_tokens"),
        "max_completion_tokens": body.get("max_completion_tokens"),
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": body.get("response_format") or "auto",
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
    }


def unfinished_run(run: dict[str, Any], status: str) -> dict[str, Any]:
    """The same before it is finished: without usage."""
    started_at = run["started_at"] if status == "in_progress" else None
    return {
        **run,
        "status": status,
        "started_at": started_at,
        "expires_at": run["created_at"] + EXPIRES_AFTER,
        "completed_at": None,
        "incomplete_details": None,
        "usage": None,
    }


def message_of(thread_id: str, role: str, content: Any, *, run: dict[str, Any] | None = None) -> dict[str, Any]:
    """A message of a thread; ``content`` is a text or a list of parts, and of the assistant's the run's answer."""
    now = int(time.time())
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    incomplete = run is not None and run["status"] == "incomplete"
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": now,
        "thread_id": thread_id,
        "status": "incomplete" if incomplete else "completed",
        "incomplete_details": {"reason": "max_tokens"} if incomplete else None,
        "completed_at": None if incomplete else now,
        "incomplete_at": now if incomplete else None,
        "role": role,
        "content": [_block(part) for part in parts],
        "assistant_id": None if run is None else run["assistant_id"],
        "run_id": None if run is None else run["id"],
        "attachments": [],
        "metadata": {},
    }


def run_events(run: dict[str, Any], message: dict[str, Any], thread: dict[str, Any] | None) -> Iterator[Event]:
    """The stream of a run, and of the thread if it is a new one: usage is in the last two objects."""
    if thread is not None:
        yield Event(thread, name="thread.created")
    for status in ("created", "queued", "in_progress"):
        yield Event(unfinished_run(run, status if status == "in_progress" else "queued"), name=f"thread.run.{status}")
    step = _step(run, message)
    opening = {**step, "status": "in_progress", "completed_at": None, "usage": None}
    yield Event(opening, name="thread.run.step.created")
    yield Event(opening, name="thread.run.step.in_progress")
    blank: dict[str, Any] = {"status": "in_progress", "content": [], "incomplete_details": None, "completed_at": None}
    for status in ("created", "in_progress"):
        yield Event({**message, **blank, "incomplete_at": None}, name=f"thread.message.{status}")
    for piece in in_pieces(message["content"][0]["text"]["value"]):
        delta = {"content": [{"index": 0, "type": "text", "text": {"value": piece}}]}
        data = {"id": message["id"], "object": "thread.message.delta", "delta": delta}
        yield Event(data, name="thread.message.delta")
    yield Event(message, name=f"thread.message.{message['status']}")
    yield Event(step, name="thread.run.step.completed", reports_usage=True)
    yield Event(run, name=f"thread.run.{run['status']}", reports_usage=True)
    yield DONE


def _step(run: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("step_"),
        "object": "thread.run.step",
        "created_at": run["created_at"],
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": "message_creation",
        "status": "completed",
        "cancelled_at": None,
        "completed_at": run["completed_at"],
        "expires_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": {"type": "message_creation", "message_creation": {"message_id": message["id"]}},
        "usage": run["usage"],
    }


def _block(part: Any) -> Any:
    """A part of a message as it is shown: a text has its annotations beside it."""
    if isinstance(part, dict) and part.get("type") == "text":
        return {"type": "text", "text": {"value": part.get("text"), "annotations": []}}
    return part
