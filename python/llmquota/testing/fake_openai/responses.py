"""``/v1/responses``: made, retrieved, cancelled and deleted."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .answers import Answer, Event
from .bodies import json_object, new_id, optional_count, required_model, required_tool
from .errors import ProviderError
from .http1 import Request
from .replies import Reply, Said, in_pieces
from .routes import ids_of
from .tokens import count_response_input

__all__ = ["Responses"]

KEPT = 1_000


class Responses:
    """The endpoint and the responses it keeps for a GET, the newest 1,000.

    A background response is ``queued`` when it is made, ``in_progress`` at the first GET and ``completed`` from the
    second on. Its tokens are charged when it is made, and reported by the first answer that shows them: never, if it is
    cancelled or deleted before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def reset(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._kept.clear()

    def create(self, request: Request, reply: Reply) -> Answer:
        """The response, as a document or as a stream. Raises ``ProviderError`` for a bad request."""
        body = json_object(request)
        model = required_model(body)
        request_input = body.get("input")
        if not isinstance(request_input, (str, list)) or not request_input:
            raise ProviderError(400, "Missing required parameter: 'input'.", param="input")
        said = reply.say(
            count_response_input(request_input, body.get("instructions"), body.get("tools")),
            max_tokens=optional_count(body, "max_output_tokens"),
            tool=required_tool(body),
        )
        finished = _finished(body, model, said)
        background = body.get("background") is True and not request.stream
        answer = Answer(usage=said.usage, headers=dict(said.headers), chunk_delay=said.chunk_delay)
        if request.stream:
            answer.events = list(_events(finished))
        elif background:
            answer.body = _unfinished(finished, "queued")
            answer.reports_usage = False
        else:
            answer.body = finished
        if body.get("store") is not False or background:
            kept = _Kept(finished, answer, polls_left=1 if background else 0)
            with self._lock:
                self._kept[finished["id"]] = kept
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return answer

    def retrieve(self, request: Request) -> Answer:
        """A kept response. Charges nothing: its tokens were charged when it was made."""
        with self._lock:
            kept = self._find(request)
            if kept.polls_left:
                kept.polls_left -= 1
                return Answer(body=_unfinished(kept.finished, "in_progress"), reports_usage=False)
            return kept.answer()

    def cancel(self, request: Request) -> Answer:
        """Stops a background response that is not finished, for which no number is ever told; shows a finished one."""
        with self._lock:
            kept = self._find(request)
            if not kept.finished["background"]:
                raise ProviderError(400, "Cannot cancel a synchronous response.")
            if kept.polls_left:
                kept.polls_left = 0
                kept.finished = _unfinished(kept.finished, "cancelled")
            return kept.answer()

    def delete(self, request: Request) -> Answer:
        """Forgets a kept response."""
        with self._lock:
            response_id = self._find(request).finished["id"]
            del self._kept[response_id]
        return Answer(body={"id": response_id, "object": "response", "deleted": True})

    def _find(self, request: Request) -> _Kept:
        response_id = ids_of(request)[0]
        kept = self._kept.get(response_id)
        if kept is None:
            raise ProviderError(404, f"Response with id '{response_id}' not found.")
        return kept


@dataclass
class _Kept:
    finished: dict[str, Any]
    made_by: Answer
    polls_left: int

    def answer(self) -> Answer:
        """What it has come to. Its number, if it has one, is that of the answer that made it."""
        return Answer(body=self.finished, charge=self.made_by.charge, reports_usage=self.finished["usage"] is not None)


def _finished(body: dict[str, Any], model: str, said: Said) -> dict[str, Any]:
    status = "incomplete" if said.cut_short else "completed"
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": body.get("background") is True,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if said.cut_short else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": model,
        "output": _output(said, status),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": said.usage.as_response(),
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _output(said: Said, status: str) -> list[dict[str, Any]]:
    if said.tool_calls:
        return [
            {
                "id": new_id("fc_"),
                "type": "function_call",
                "status": "completed",
                "call_id": new_id("call_"),
                "name": name,
                "arguments": arguments,
            }
            for name, arguments in said.tool_calls
        ]
    part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    return [{"id": new_id("msg_"), "type": "message", "status": status, "role": "assistant", "content": [part]}]


def _unfinished(finished: dict[str, Any], status: str) -> dict[str, Any]:
    return {**finished, "status": status, "incomplete_details": None, "output": [], "usage": None}


def _events(finished: dict[str, Any]) -> Iterator[Event]:
    """The stream: ``response.created`` ... ``response.completed``. There is no ``[DONE]``."""
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": _unfinished(finished, "in_progress")},
        {"type": "response.in_progress", "response": _unfinished(finished, "in_progress")},
    ]
    for index, item in enumerate(finished["output"]):
        steps += _message_steps(index, item) if item["type"] == "message" else _call_steps(index, item)
    steps.append({"type": f"response.{finished['status']}", "response": finished})
    for number, step in enumerate(steps):
        reports_usage = number == len(steps) - 1
        yield Event({**step, "sequence_number": number}, name=step["type"], reports_usage=reports_usage)


def _message_steps(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = item["content"][0]
    opening = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
    for piece in in_pieces(part["text"]):
        yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": part}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _call_steps(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"item_id": item["id"], "output_index": index}
    arguments = item["arguments"]
    opening = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    for piece in in_pieces(arguments):
        yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **where, "name": item["name"], "arguments": arguments}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
