"""A conversation with one model, streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import cached_property
from typing import Any

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

MODEL = "gpt-4o-mini"
INSTRUCTIONS = "You help the members of a project team. Answer briefly."


class SimpleConversationalAgent:
    """Answers a message with the chunks of the SDK's stream."""

    def __init__(self, client: AsyncOpenAI | None = None) -> None:
        self._given_client = client

    @cached_property
    def _client(self) -> AsyncOpenAI:
        return self._given_client or AsyncOpenAI()

    async def stream_reply(
        self, message: str, history: Sequence[dict[str, Any]] = (), model: str = MODEL
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        """The answer as it is written. ``history`` are earlier messages, oldest first. Raises the SDK's own errors."""
        messages: list[Any] = [
            {"role": "system", "content": INSTRUCTIONS},
            *history,
            {"role": "user", "content": message},
        ]
        stream = await self._client.chat.completions.create(model=model, messages=messages, stream=True)
        async with stream:
            async for chunk in stream:
                yield chunk


conversational_agent = SimpleConversationalAgent()
