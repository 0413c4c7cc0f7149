"""Whose the calls of LangChain's models are, by the callback handler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from guard_parts import counted, httpx, served
from langchain_openai import ChatOpenAI

from llmquota import QuotaManager
from llmquota.context import current
from llmquota.langchain import QuotaCallbackHandler
from llmquota.testing import FakeOpenAI


@pytest.fixture
async def model(fake_openai: FakeOpenAI) -> AsyncIterator[ChatOpenAI]:
    """A model of the fake, without retries."""
    with httpx.Client(verify=False) as client:
        async with httpx.AsyncClient(verify=False) as async_client:
            yield ChatOpenAI(
                model="gpt-4o",
                api_key="test",  # type: ignore[arg-type]
                base_url=fake_openai.base_url,
                max_retries=0,
                stream_usage=True,
                http_client=client,
                http_async_client=async_client,
            )


def config(workspace: str = "acme", **metadata: str) -> Any:
    return {"callbacks": [QuotaCallbackHandler(workspace, goal_id="g")], "metadata": metadata}


def test_an_invoked_model_is_the_handlers(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    model.invoke("Hello", config=config())
    assert counted(instrumented) == counted(instrumented, goal="g") == served(fake_openai)
    assert current().workspace_id is None


async def test_so_is_one_that_is_awaited(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    await model.ainvoke("Hello", config=config())
    assert counted(instrumented) == counted(instrumented, goal="g") == served(fake_openai)
    assert current().workspace_id is None


def test_so_is_a_stream_and_not_its_readers_own_calls(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    seen = {current().workspace_id for _ in model.stream("Hello", config=config())}
    assert seen == {None}
    assert counted(instrumented) == served(fake_openai)


async def test_so_is_an_asynchronous_stream(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    seen = {current().workspace_id async for _ in model.astream("Hello", config=config())}
    assert seen == {None}
    assert counted(instrumented) == served(fake_openai)


def test_a_batch_may_be_of_two_workspaces(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    model.batch(["Hello"] * 6, config=[config("acme"), config("globex")] * 3)
    assert [counted(instrumented, name)[0] for name in ("acme", "globex", "global")] == [3, 3, 0]


async def test_so_may_one_that_is_awaited(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    await model.abatch(["Hello"] * 6, config=[config("acme"), config("globex")] * 3)
    assert [counted(instrumented, name)[0] for name in ("acme", "globex", "global")] == [3, 3, 0]


def test_metadata_go_before_the_handlers_names(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    model.invoke("Hello", config=config(workspace_id="globex"))
    model.invoke("Hello", config=config(goal_id="h"))
    assert [counted(instrumented, name)[0] for name in ("acme", "globex")] == [1, 1]
    assert counted(instrumented, goal="h")[0] == 1
    assert counted(instrumented, "globex", goal="g")[0] == 0


def test_a_failed_call_leaves_nothing_in_force(
    instrumented: QuotaManager, model: ChatOpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(status=500, times=1)
    with pytest.raises(Exception, match="500"):
        model.invoke("Hello", config=config())
    assert counted(instrumented) == (1, 0, 1)
    assert current().workspace_id is None


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_package_imports_neither_integration() -> None:
    code = "import sys, llmquota; print([name for name in ('langchain_core', 'agents') if name in sys.modules])"
    assert run(code).stdout == "[]\n"


def test_without_langchain_it_says_what_to_install() -> None:
    finished = run("import sys; sys.modules['langchain_core'] = None; import llmquota.langchain")
    assert "ImportError: llmquota.langchain needs langchain-core: pip install langchain-core" in finished.stderr
