"""What the fake says: a text or tool calls, and the numbers that go with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .http1 import Request
from .matching import Predicate, When, checked_times, matcher
from .tokens import CHARACTERS_PER_TOKEN, Usage, count_text, truncate

__all__ = ["DEFAULT_TEXT", "QueuedReply", "Reply", "ReplyQueue", "Said"]

DEFAULT_TEXT = (
    "This is the answer of a fake provider. It says the same to everybody, it is long enough to arrive in several "
    "pieces, and it counts its tokens by a rule that a test can repeat."
)
PIECE_TOKENS = 4


@dataclass(frozen=True)
class Said:
    """One answer of a model, before it takes the shape of an API."""

    text: str
    tool_calls: Sequence[tuple[str, str]]
    """Name and arguments (a JSON text) of each call; the text is then empty."""
    usage: Usage
    cut_short: bool
    """``max_tokens`` ended it."""
    chunk_delay: float
    headers: Mapping[str, str]

    def pieces(self) -> list[str]:
        """The text as it is streamed."""
        return in_pieces(self.text)


@dataclass(frozen=True)
class Reply:
    """What ``FakeOpenAI.reply`` was told. A token number that is ``None`` is counted."""

    text: str = DEFAULT_TEXT
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """``{"name": str, "arguments": dict | str}`` each."""
    chunk_delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ValueError(f"text must be a str, not {type(self.text).__name__}")
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}")
        if not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in self.tool_calls):
            raise ValueError("each of tool_calls needs a name")
        if not self.chunk_delay >= 0:
            raise ValueError(f"chunk_delay must be at least 0 seconds, not {self.chunk_delay!r}")

    def say(self, prompt_tokens: int, *, max_tokens: int | None, choices: int = 1, tool: str | None = None) -> Said:
        """The answer to a prompt of ``prompt_tokens``.

        Reasoning comes out of ``max_tokens`` first, as at OpenAI. ``tool`` is a function that the request insists on:
        it is called with ``{}`` unless the reply names calls of its own.
        """
        calls = [(str(call["name"]), _arguments(call.get("arguments", {}))) for call in self.tool_calls]
        if tool is not None and not calls:
            calls = [(tool, "{}")]
        text = "" if calls else self.text
        counted = count_text(text) + sum(count_text(name) + count_text(arguments) for name, arguments in calls)
        wanted = counted + self.reasoning_tokens if self.completion_tokens is None else self.completion_tokens
        allowed = wanted if max_tokens is None else min(wanted, max_tokens)
        reasoning = min(self.reasoning_tokens, allowed)
        if allowed < wanted:
            text = truncate(text, allowed - reasoning)
        prompt = prompt_tokens if self.prompt_tokens is None else self.prompt_tokens
        return Said(
            text=text,
            tool_calls=calls,
            usage=Usage(prompt, allowed * choices, min(self.cached_tokens, prompt), reasoning * choices),
            cut_short=allowed < wanted,
            chunk_delay=self.chunk_delay,
            headers=self.headers,
        )

    def say_text(self, prompt_tokens: int, *, max_tokens: int | None = None, choices: int = 1) -> Said:
        """The same where there are no tools to call, and where usage does not tell cached and reasoning tokens."""
        plain = replace(self, tool_calls=(), cached_tokens=0, reasoning_tokens=0)
        return plain.say(prompt_tokens, max_tokens=max_tokens, choices=choices)

    def charge(self, prompt_tokens: int, completion_tokens: int) -> Usage:
        """What an answer costs that is not made of this text: the reply's numbers, and for those not given these."""
        return Usage(
            prompt_tokens if self.prompt_tokens is None else self.prompt_tokens,
            completion_tokens if self.completion_tokens is None else self.completion_tokens,
        )


class ReplyQueue:
    """The replies to come: those of a limited number of times first, oldest first; then the newest without end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a predicate may queue another
        self.reset()

    def reset(self) -> None:
        """Back to the default reply alone."""
        with self._lock:
            self._limited: list[QueuedReply] = []
            self._standing: list[QueuedReply] = []

    def add(self, reply: Reply, times: int | None, when: When) -> None:
        """Queues a reply. Raises ``ValueError`` for a ``times`` or ``when`` that means nothing."""
        queued = QueuedReply(reply, checked_times(times), matcher(when))
        with self._lock:
            if times is None:
                self._standing.insert(0, queued)
            else:
                self._limited.append(queued)

    def find(self, request: Request) -> QueuedReply:
        """The reply to this request; it is used up by :meth:`use`, once nothing refuses the request any more."""
        with self._lock:
            for queued in (*self._limited, *self._standing):
                if queued.matches(request):
                    return queued
        return QueuedReply(Reply(), None, matcher(None))

    def use(self, queued: QueuedReply) -> None:
        """One time less."""
        with self._lock:
            if queued.times is None:
                return
            queued.times -= 1
            if queued.times == 0 and queued in self._limited:
                self._limited.remove(queued)


@dataclass(eq=False)
class QueuedReply:
    """A reply, how often it is left, and for which requests."""

    reply: Reply
    times: int | None
    matches: Predicate


def in_pieces(text: str) -> list[str]:
    """A text in the pieces of a stream, 4 tokens each."""
    size = PIECE_TOKENS * CHARACTERS_PER_TOKEN
    return [text[start : start + size] for start in range(0, len(text), size)]


def _arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
