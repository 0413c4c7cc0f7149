"""Whose the calls of an agent's run are: the context, then the metadata of its trace, then a client's headers."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import openai
import pytest
from guard_parts import connect_async, counted

from llmquota import QuotaManager, quota_context
from llmquota.testing import FakeOpenAI

MODELS = ["OpenAIChatCompletionsModel", "OpenAIResponsesModel"]


@pytest.fixture(autouse=True)
def _nothing_is_exported() -> None:
    agents.set_trace_processors([])


def agent_of(client: openai.AsyncOpenAI, model: str = MODELS[0]) -> Any:
    return agents.Agent(name="a", model=getattr(agents, model)(model="gpt-4o", openai_client=client))


def traced(workspace: str, **more: str) -> Any:
    return agents.RunConfig(trace_metadata={"workspace_id": workspace, **more})


@pytest.mark.parametrize("model", MODELS)
async def test_a_run_is_whose_its_trace_says(
    model: str, instrumented: QuotaManager, async_client: openai.AsyncOpenAI
) -> None:
    await agents.Runner.run(agent_of(async_client, model), "Hello", run_config=traced("acme", goal_id="g"))
    assert counted(instrumented)[0] == counted(instrumented, goal="g")[0] == 1
    assert counted(instrumented, "global")[0] == 0


async def test_a_streamed_run_is_its_beginners_wherever_it_is_read(
    instrumented: QuotaManager, async_client: openai.AsyncOpenAI
) -> None:
    async def read(run: Any) -> None:
        async for _ in run.stream_events():
            pass

    with quota_context("acme"):
        begun = agents.Runner.run_streamed(agent_of(async_client), "Hello")
    with quota_context("globex"):
        await asyncio.create_task(read(begun))
    await read(agents.Runner.run_streamed(agent_of(async_client), "Hello", run_config=traced("acme")))
    assert [counted(instrumented, name)[0] for name in ("acme", "globex", "global")] == [2, 0, 0]


async def test_runs_at_once_do_not_meet(instrumented: QuotaManager, async_client: openai.AsyncOpenAI) -> None:
    agent = agent_of(async_client)
    names = [f"w{number}" for number in range(6)]
    await asyncio.gather(*(agents.Runner.run(agent, "Hello", run_config=traced(name)) for name in names))
    assert [counted(instrumented, name)[0] for name in names] == [1] * 6


async def test_the_context_goes_before_the_trace_and_that_before_headers(
    instrumented: QuotaManager, fake_openai: FakeOpenAI
) -> None:
    async with connect_async(fake_openai, default_headers={"X-LLMQuota-Workspace": "initech"}) as client:
        await agents.Runner.run(agent_of(client), "Hello", run_config=traced("globex"))
        with quota_context("acme"):
            await agents.Runner.run(agent_of(client), "Hello", run_config=traced("globex"))
    assert [counted(instrumented, name)[0] for name in ("acme", "globex", "initech")] == [1, 1, 0]
