"""``POST /v1/completions``: the completions of a bare prompt, as they were before chat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .answers import DONE, Answer, Event
from .bodies import asks_for_usage, json_object, new_id, optional_count, required_inputs, required_model
from .http1 import Request
from .replies import Reply, Said
from .tokens import count_input

__all__ = ["create"]


def create(request: Request, reply: Reply) -> Answer:
    """The completion of each prompt, as a document or as a stream. Raises ``ProviderError`` for a bad request.

    Without ``max_tokens`` the reply is said whole: OpenAI's 16 tokens would cut what a test has asked for.
    """
    body = json_object(request)
    model = required_model(body)
    prompts = required_inputs(body, "prompt")
    include_usage = asks_for_usage(body)
    choices = optional_count(body, "n") or 1
    # All that are drawn are charged, also those that best_of throws away.
    drawn = max(choices, optional_count(body, "best_of") or 1)
    said = reply.say_text(
        sum(count_input(prompt) for prompt in prompts),
        max_tokens=optional_count(body, "max_tokens", minimum=0),
        choices=drawn * len(prompts),
    )
    common = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": "fp_fake",
    }
    answer = Answer(usage=said.usage, headers=dict(said.headers), chunk_delay=said.chunk_delay)
    told = choices * len(prompts)
    if request.stream:
        answer.events = list(_events(common, said, told, include_usage))
        return answer
    answer.body = {
        **common,
        "choices": [_choice(index, said.text, _finish_reason(said)) for index in range(told)],
        "usage": said.usage.as_three_numbers(),
    }
    return answer


def _events(common: dict[str, Any], said: Said, choices: int, include_usage: bool) -> Iterator[Event]:
    def chunk(choice: dict[str, Any]) -> Event:
        data = {**common, "choices": [choice]}
        return Event({**data, "usage": None} if include_usage else data)

    for piece in said.pieces():
        for index in range(choices):
            yield chunk(_choice(index, piece, None))
    for index in range(choices):
        yield chunk(_choice(index, "", _finish_reason(said)))
    if include_usage:
        yield Event({**common, "choices": [], "usage": said.usage.as_three_numbers()}, reports_usage=True)
    yield DONE


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(said: Said) -> str:
    return "length" if said.cut_short else "stop"
