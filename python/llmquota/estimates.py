"""Says about how many tokens a call will take, before it is made, and how many a stream without numbers has brought.

Characters / 4, as the provider itself estimates before it has counted, until calls of the same workspace and model have
told more (`src/usage/learning.rs`). An estimate, never a bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .usage import Usage

__all__ = ["Estimate", "delta_characters", "estimate_request", "foreseen", "learn", "tokens_of"]

MOST_TOKENS = 10**9
"""More than any model answers: what asks for more is not to be priced by it."""

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
_MAX_OUTPUT = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_CONTENT = ("content", "text", "input", "arguments", "output", "refusal")
_DEPTH = 6


@dataclass(frozen=True)
class Estimate:
    """Tokens of a request that is about to be sent."""

    prompt: int
    max_output: int
    open_choices: int = 0
    """Answers that were asked for without a maximum; what was learned stands in for it."""

    @property
    def tokens(self) -> int:
        """Prompt and answer together, at least 1: a call that takes nothing would pass a limit that is used up."""
        return min(max(1, self.prompt + self.max_output), MOST_TOKENS)


def tokens_of(characters: int) -> int:
    """Tokens of a text of so many characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def estimate_request(arguments: Mapping[str, Any], ignored: Iterable[str] = ()) -> Estimate:
    """Estimates a request from a function's arguments by name.

    Texts, and lists of texts or of chat messages, count as the prompt, except those named in ``ignored`` (whose call it
    is). ``max_tokens``, ``max_completion_tokens`` or ``max_output_tokens``, times ``n``, is the answer; without any of
    them it is open.
    """
    left_out = {*ignored, *_MAX_OUTPUT, "model", "self", "cls"}
    characters = messages = 0
    for name, value in arguments.items():
        if name not in left_out:
            more_characters, more_messages = _prompt(value, _DEPTH)
            characters += more_characters
            messages += more_messages
    answer = next((count for name in _MAX_OUTPUT if (count := _positive(arguments.get(name)))), 0)
    choices = _positive(arguments.get("n")) or 1
    prompt = tokens_of(characters) + messages * TOKENS_PER_MESSAGE
    return Estimate(prompt, answer * choices, 0 if answer else choices)


def foreseen(manager: Any, workspace_id: str, model: str | None, guess: Estimate) -> Estimate:
    """``guess`` as far as nothing is known, and else by what calls of this workspace and model have used."""
    if not isinstance(model, str) or not (guess.prompt or guess.open_choices):
        return guess
    prompt, output = manager.foresee(workspace_id, model, guess.prompt)
    return Estimate(prompt, guess.max_output + guess.open_choices * (output or 0), guess.open_choices)


def learn(manager: Any, workspace_id: str, model: str | None, guess: Estimate, usage: Usage) -> None:
    """Takes what a call that was guessed to take ``guess`` has used, where that is told in full."""
    if not isinstance(model, str) or usage.requests != 1 or usage.input_tokens is None or usage.output_tokens is None:
        return
    manager.observe(workspace_id, model, guess.prompt, usage.input_tokens, guess.open_choices, usage.output_tokens)


def delta_characters(item: Any) -> int:
    """How many characters of generated text ``item`` of a stream brings: a chunk, an event, a text or a dictionary."""
    try:
        return _delta(item, 3)
    except Exception:  # an item of another SDK's, whose attributes run code
        return 0


def _prompt(value: Any, depth: int) -> tuple[int, int]:
    """Characters and messages."""
    if isinstance(value, str):
        return len(value), 0
    if depth == 0:
        return 0, 0
    if isinstance(value, Mapping):
        # Named keys only: the data of an image is megabytes of text that nobody charges as text.
        characters = sum(_prompt(value[key], depth - 1)[0] for key in _CONTENT if key in value)
        return characters, int("role" in value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, int) for item in value):
            return len(value) * CHARACTERS_PER_TOKEN, 0  # token ids, as embeddings take them
        parts = [_prompt(item, depth - 1) for item in value]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)
    return 0, 0


def _delta(item: Any, depth: int) -> int:
    if isinstance(item, str):
        return len(item)
    if depth == 0 or item is None or isinstance(item, (bytes, int, float)):
        return 0
    choices = _get(item, "choices")
    if isinstance(choices, (list, tuple)):
        return sum(_choice(choice) for choice in choices)
    kind, delta = _get(item, "type"), _get(item, "delta")
    if isinstance(delta, str):
        # Sound and pictures come as text too.
        return 0 if isinstance(kind, str) and ("audio.delta" in kind or "image" in kind) else len(delta)
    if delta is not None:
        return _length(_get(delta, "text")) + _length(_get(delta, "partial_json"))
    return _delta(_get(item, "data"), depth - 1) if kind == "raw_response_event" else 0


def _choice(choice: Any) -> int:
    delta = _get(choice, "delta")
    if delta is None:
        return _length(_get(choice, "text"))
    length = sum(_length(_get(delta, name)) for name in ("content", "refusal", "reasoning_content"))
    calls = _get(delta, "tool_calls")
    functions = [_get(call, "function") for call in calls] if isinstance(calls, (list, tuple)) else []
    functions.append(_get(delta, "function_call"))
    return length + sum(_length(_get(each, "name")) + _length(_get(each, "arguments")) for each in functions)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


def _positive(value: Any) -> int:
    return min(value, MOST_TOKENS) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
