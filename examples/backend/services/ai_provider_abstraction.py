"""One entry for AI calls, whichever of OpenAI's interfaces answers them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from openai import AsyncOpenAI

from llmquota import guarded
from llmquota.retry import Retry
from services.attribution import attribution_headers

RETRY = Retry(deadline=10)  # a person waits for the answer
PROVIDER_TYPES = ["chat", "responses"]
try:
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner
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
        # The guard cannot see retries inside the SDK, and makes them itself.
        return self._given_client or AsyncOpenAI(max_retries=0)

    async def call_ai(
        self,
        provider_type: str,
        agent: Mapping[str, Any],
        prompt: str,
        *,
        workspace_id: str,
        goal_id: str | None = None,
        task_id: str | None = None,
    ) -> dict[str, Any]:
        """Sends the prompt for a workspace.

        Raises ``ValueError`` for an unknown ``provider_type``, ``QuotaExceeded`` where a limit is in the way, and the
        SDK's own errors.
        """
        if provider_type not in PROVIDER_TYPES:  # asked here: inside the guard it would count as a failed request
            raise ValueError(f"unknown provider type {provider_type!r}")
        return await self._call(
            provider_type, agent, prompt, agent["model"], workspace_id=workspace_id, goal_id=goal_id, task_id=task_id
        )

    @guarded(workspace="workspace_id", goal="goal_id", task="task_id", model="model", retry=RETRY)
    async def _call(
        self,
        provider_type: str,
        agent: Mapping[str, Any],
        prompt: str,
        model: str,
        *,
        workspace_id: str,
        goal_id: str | None,
        task_id: str | None,
    ) -> dict[str, Any]:
        headers = attribution_headers(workspace_id, goal_id)
        if provider_type == "agents":
            return await self._agents(agent, prompt, headers)
        if provider_type == "responses":
            return await self._responses(agent, prompt, headers)
        return await self._chat(agent, prompt, headers)

    async def _chat(self, agent: Mapping[str, Any], prompt: str, headers: dict[str, str]) -> dict[str, Any]:
        messages: list[Any] = [
            {"role": "system", "content": agent["instructions"]},
            {"role": "user", "content": prompt},
        ]
        completion = await self._client.chat.completions.create(
            model=agent["model"], messages=messages, extra_headers=headers
        )
        return _answer(completion.choices[0].message.content, agent, completion.usage)

    async def _responses(self, agent: Mapping[str, Any], prompt: str, headers: dict[str, str]) -> dict[str, Any]:
        response = await self._client.responses.create(
            model=agent["model"], instructions=agent["instructions"], input=prompt, extra_headers=headers
        )
        return _answer(response.output_text, agent, response.usage)

    async def _agents(self, agent: Mapping[str, Any], prompt: str, headers: dict[str, str]) -> dict[str, Any]:
        model = OpenAIChatCompletionsModel(model=agent["model"], openai_client=self._client)
        runnable = Agent(
            name=agent["name"],
            instructions=agent["instructions"],
            model=model,
            model_settings=ModelSettings(extra_headers=headers),
        )
        result = await Runner.run(runnable, prompt, run_config=RunConfig(tracing_disabled=True))
        return _answer(result.final_output, agent, result.context_wrapper.usage)


def _answer(content: str | None, agent: Mapping[str, Any], usage: Any) -> dict[str, Any]:
    return {"success": True, "content": content or "", "model": agent["model"], "usage": usage}


ai_provider_manager = AIProviderManager()
