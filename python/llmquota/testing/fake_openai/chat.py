"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .answers import DONE, Answer, Event
from .bodies import asks_for_usage, json_object, new_id, optional_count, required_model, required_tool
from .errors import ProviderError
from .http1 import Request
from .replies import Reply, Said
from .tokens import count_messages

__all__ = ["create"]


def create(request: Request, reply: Reply) -> Answer:
    """The completion, as a document or as a stream. Raises ``ProviderError`` for a bad request."""
    body = json_object(request)
    model = required_model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ProviderError(400, "Missing required parameter: 'messages'.", param="messages")
    include_usage = asks_for_usage(body)
    choices = optional_count(body, "n") or 1
    said = reply.say(
        count_messages(messages, body.get("tools")),
        max_tokens=optional_count(body, "max_completion_tokens", "max_tokens"),
        choices=choices,
        tool=required_tool(body),
    )
    common = {
        "id": new_id("chatcmpl-"),
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    answer = Answer(usage=said.usage, headers=dict(said.headers), chunk_delay=said.chunk_delay)
    if request.stream:
        answer.events = list(_events(common, said, choices, include_usage))
        return answer
    answer.body = {
        **common,
        "object": "chat.completion",
        "choices": [
            {"index": index, "message": _message(said), "logprobs": None, "finish_reason": _finish_reason(said)}
            for index in range(choices)
        ],
        "usage": said.usage.as_chat(),
    }
    return answer


def _events(common: dict[str, Any], said: Said, choices: int, include_usage: bool) -> Iterator[Event]:
    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        data = {**common, "object": "chat.completion.chunk", "choices": [choice]}
        # OpenAI has the key in every chunk if usage was asked for, and in none if not.
        return Event({**data, "usage": None} if include_usage else data)

    for index in range(choices):
        content = None if said.tool_calls else ""
        yield chunk(index, {"role": "assistant", "content": content, "refusal": None})
    for piece in said.pieces():
        for index in range(choices):
            yield chunk(index, {"content": piece})
    for index in range(choices):
        for position, call in enumerate(_tool_calls(said)):
            arguments = call["function"]["arguments"]
            opening = {**call, "index": position, "function": {**call["function"], "arguments": ""}}
            yield chunk(index, {"tool_calls": [opening]})
            yield chunk(index, {"tool_calls": [{"index": position, "function": {"arguments": arguments}}]})
    for index in range(choices):
        yield chunk(index, {}, _finish_reason(said))
    if include_usage:
        data = {**common, "object": "chat.completion.chunk", "choices": [], "usage": said.usage.as_chat()}
        yield Event(data, reports_usage=True)
    yield DONE


def _message(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    if said.tool_calls:
        message |= {"content": None, "tool_calls": _tool_calls(said)}
    return message


def _tool_calls(said: Said) -> list[dict[str, Any]]:
    return [
        {"id": new_id("call_"), "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in said.tool_calls
    ]


def _finish_reason(said: Said) -> str:
    if said.cut_short:
        return "length"
    return "tool_calls" if said.tool_calls else "stop"
