"""A conversation with one model, streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import cached_property
from typing import Any

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from llmquota import guarded
from llmquota.retry import Retry
from services.attribution import attribution_headers

MODEL = "gpt-4o-mini"
RETRY = Retry(deadline=10)  # a person waits for the answer
INSTRUCTIONS = "You help the members of a project team. Answer briefly."


class SimpleConversationalAgent:
    """Answers a message with the chunks of the SDK's stream."""

    def __init__(self, client: AsyncOpenAI | None = None) -> None:
        self._given_client = client

    @cached_property
    def _client(self) -> AsyncOpenAI:
        # The guard cannot see retries inside the SDK, and makes them itself.
        return self._given_client or AsyncOpenAI(max_retries=0)

    @guarded(workspace="workspace_id", goal="goal_id", task="task_id", model="model", retry=RETRY)
    async def stream_reply(
        self,
        message: str,
        history: Sequence[dict[str, Any]] = (),
        model: str = MODEL,
        *,
        workspace_id: str,
        goal_id: str | None = None,
        task_id: str | None = None,
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        """The answer as it is written, for a workspace. ``history`` are earlier messages, oldest first.

        The last chunk carries the usage, and no text. Raises ``QuotaExceeded`` at the first step where a limit is in
        the way, and the SDK's own errors.
        """
        messages: list[Any] = [
            {"role": "system", "content": INSTRUCTIONS},
            *history,
            {"role": "user", "content": message},
        ]
        stream = await self._client.chat.completions.create(
            model=model,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},  # without it a stream says no number
            extra_headers=attribution_headers(workspace_id, goal_id),
        )
        async with stream:
            async for chunk in stream:
                yield chunk


conversational_agent = SimpleConversationalAgent()
