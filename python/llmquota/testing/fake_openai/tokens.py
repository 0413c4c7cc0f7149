"""How the fake counts tokens: by a rule that a test can do in its head.

- a text: ``ceil(characters / 4)``;
- a chat prompt: 3, plus for each message 4 and its text, plus 85 for each image, plus the JSON of its tools as a text;
- the ``input`` of the Responses API: the same (a plain string is one message); ``instructions`` are one more message;
- an embedding input, or the prompt of a legacy completion: its text, or the length of a list of token ids;
- an image that is made: 272, 1056 or 4160 for the quality ``low``, ``medium`` or ``high`` (``auto`` is medium), and 100
  for each partial image on the way; its prompt: its text, plus 85 for each image or mask to edit;
- sound that is heard: 10 for each second, of which a file has its bytes / 16,000, rounded up; sound that is spoken: 5
  for each token of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "AUDIO_TOKENS_PER_SECOND",
    "CHARACTERS_PER_TOKEN",
    "IMAGE_TOKENS",
    "MADE_IMAGE_TOKENS",
    "PARTIAL_IMAGE_TOKENS",
    "SPEECH_TOKENS_PER_TOKEN",
    "Usage",
    "count_input",
    "count_messages",
    "count_response_input",
    "count_seconds",
    "count_text",
    "truncate",
]

CHARACTERS_PER_TOKEN = 4
PROMPT_TOKENS = 3
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 85
MADE_IMAGE_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
PARTIAL_IMAGE_TOKENS = 100
AUDIO_BYTES_PER_SECOND = 16_000
AUDIO_TOKENS_PER_SECOND = 10
SPEECH_TOKENS_PER_TOKEN = 5


@dataclass(frozen=True)
class Usage:
    """What one answer charges: tokens, or seconds of sound.

    ``cached_tokens`` are among the ``prompt_tokens``, ``reasoning_tokens`` among the ``completion_tokens``.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_seconds: int = 0
    """Of a model that is paid by the second; it charges no tokens."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def as_chat(self) -> dict[str, Any]:
        """The ``usage`` object of Chat Completions."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def as_response(self) -> dict[str, Any]:
        """The ``usage`` object of the Responses API."""
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": self.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.total_tokens,
        }

    def as_embedding(self) -> dict[str, Any]:
        """The ``usage`` object of the Embeddings API."""
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": self.total_tokens}

    def as_three_numbers(self) -> dict[str, Any]:
        """The ``usage`` object of the older APIs: legacy completions, runs and their steps."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    def as_image(self, image_tokens: int) -> dict[str, Any]:
        """The ``usage`` object of the Images API; ``image_tokens`` of the prompt are for images, the rest for text."""
        image_tokens = min(image_tokens, self.prompt_tokens)
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"image_tokens": image_tokens, "text_tokens": self.prompt_tokens - image_tokens},
            "output_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    def as_transcription(self, text_tokens: int) -> dict[str, Any]:
        """The ``usage`` object of a transcription; ``text_tokens`` of the prompt are for text, the rest for sound."""
        text_tokens = min(text_tokens, self.prompt_tokens)
        details = {"text_tokens": text_tokens, "audio_tokens": self.prompt_tokens - text_tokens}
        return {"type": "tokens", "input_token_details": details, **self.as_speech()}

    def as_speech(self) -> dict[str, Any]:
        """The ``usage`` object of speech."""
        return {
            "input_tokens": self.prompt_tokens,
            "output_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


def count_text(text: str) -> int:
    """Tokens of a text: its characters / 4, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def count_seconds(sound: bytes) -> int:
    """Seconds of a file of sound: its bytes / 16,000, rounded up."""
    return -(-len(sound) // AUDIO_BYTES_PER_SECOND)


def truncate(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` that has at most ``tokens`` tokens."""
    return text[: max(tokens, 0) * CHARACTERS_PER_TOKEN]


def count_messages(messages: Iterable[Any], tools: Any = None) -> int:
    """Tokens of the ``messages`` and ``tools`` of a Chat Completions request."""
    return PROMPT_TOKENS + sum(_message(message) for message in messages) + _tools(tools)


def count_response_input(request_input: Any, instructions: Any = None, tools: Any = None) -> int:
    """Tokens of the ``input``, ``instructions`` and ``tools`` of a Responses request."""
    messages: list[Any] = list(request_input) if isinstance(request_input, list) else [request_input]
    if instructions:
        messages.append(instructions)
    return count_messages(messages, tools)


def count_input(item: str | list[int]) -> int:
    """Tokens of one embedding input or prompt, a text or a list of token ids."""
    return count_text(item) if isinstance(item, str) else len(item)


def _message(message: Any) -> int:
    if isinstance(message, str):
        return MESSAGE_TOKENS + count_text(message)
    if not isinstance(message, dict):
        return MESSAGE_TOKENS
    tokens = MESSAGE_TOKENS + _content(message.get("content"))
    # What a model called before and what came of it are part of the prompt too.
    for key in ("tool_calls", "arguments", "output"):
        if message.get(key):
            value = message[key]
            tokens += count_text(value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))
    return tokens


def _content(content: Any) -> int:
    if isinstance(content, str):
        return count_text(content)
    if not isinstance(content, list):
        return 0
    tokens = 0
    for part in content:
        if isinstance(part, dict):
            text = part.get("text")
            tokens += count_text(text) if isinstance(text, str) else IMAGE_TOKENS
    return tokens


def _tools(tools: Any) -> int:
    return count_text(json.dumps(tools, separators=(",", ":"))) if tools else 0
