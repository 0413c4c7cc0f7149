"""One entry for AI calls, whichever of OpenAI's interfaces answers them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from openai import AsyncOpenAI

PROVIDER_TYPES = ["chat", "responses"]
try:
    from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner
except ImportError:
    pass
else:
    PROVIDER_TYPES.append("agents")


class AIProviderManager:
    """Calls an agent, a mapping with ``model``, ``instructions`` and ``name``, by one of three interfaces.

    ``provider_type`` is ``"chat"`` (Chat Completions), ``"responses"`` or, where the Agents SDK is installed,
    ``"agents"``. The answer is ``{"success", "content", "model", "usage"}``.
    """

    def __init__(self, client: AsyncOpenAI | None = None) -> None:
        self._given_client = client

    @cached_property
    def _client(self) -> AsyncOpenAI:
        return self._given_client or AsyncOpenAI()

    async def call_ai(self, provider_type: str, agent: Mapping[str, Any], prompt: str) -> dict[str, Any]:
        """Sends the prompt. Raises ``ValueError`` for an unknown ``provider_type`` and the SDK's own errors."""
        if provider_type not in PROVIDER_TYPES:
            raise ValueError(f"unknown provider type {provider_type!r}")
        if provider_type == "agents":
            return await self._agents(agent, prompt)
        if provider_type == "responses":
            return await self._responses(agent, prompt)
        return await self._chat(agent, prompt)

    async def _chat(self, agent: Mapping[str, Any], prompt: str) -> dict[str, Any]:
        messages: list[Any] = [
            {"role": "system", "content": agent["instructions"]},
            {"role": "user", "content": prompt},
        ]
        completion = await self._client.chat.completions.create(model=agent["model"], messages=messages)
        return _answer(completion.choices[0].message.content, agent, completion.usage)

    async def _responses(self, agent: Mapping[str, Any], prompt: str) -> dict[str, Any]:
        response = await self._client.responses.create(
            model=agent["model"], instructions=agent["instructions"], input=prompt
        )
        return _answer(response.output_text, agent, response.usage)

    async def _agents(self, agent: Mapping[str, Any], prompt: str) -> dict[str, Any]:
        model = OpenAIChatCompletionsModel(model=agent["model"], openai_client=self._client)
        runnable = Agent(name=agent["name"], instructions=agent["instructions"], model=model)
        result = await Runner.run(runnable, prompt, run_config=RunConfig(tracing_disabled=True))
        return _answer(result.final_output, agent, result.context_wrapper.usage)


def _answer(content: str | None, agent: Mapping[str, Any], usage: Any) -> dict[str, Any]:
    return {"success": True, "content": content or "", "model": agent["model"], "usage": usage}


ai_provider_manager = AIProviderManager()
