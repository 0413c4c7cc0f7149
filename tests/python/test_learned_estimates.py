"""What calls really used sizes the holds of those to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from guard_parts import HELLO, HELLO_ESTIMATE, connect

import llmquota
from llmquota import QuotaManager, guarded, quota_context
from llmquota.guard import current_hold
from llmquota.testing import FakeOpenAI

ENOUGH = 8
"""Calls before a statistic is believed."""
ANSWER = 700
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO}


@pytest.fixture
def client(fake_openai: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with connect(fake_openai) as client:
        yield client


def answer(output: int, model: str = "gpt-4o") -> dict[str, Any]:
    return {"model": model, "usage": {"prompt_tokens": HELLO_ESTIMATE, "completion_tokens": output}}


def held(manager: QuotaManager, workspace: str = "acme", **arguments: Any) -> int:
    """What a guarded call of these arguments holds."""

    @guarded(manager=manager)
    def call(messages: Any, workspace_id: str, model: str = "gpt-4o", **_options: Any) -> Any:
        hold = current_hold()
        assert hold is not None
        seen.append(manager.snapshot(workspace)["holds"]["tokens"])
        return arguments.get("answer")

    seen: list[int] = []
    options = {name: value for name, value in arguments.items() if name != "answer"}
    call(HELLO, workspace_id=workspace, **options)
    return seen[0]


def test_a_hold_learns_what_answers_without_a_maximum_come_to(quota_manager: QuotaManager) -> None:
    for _ in range(ENOUGH):
        assert held(quota_manager, answer=answer(ANSWER)) == HELLO_ESTIMATE
    assert held(quota_manager) == HELLO_ESTIMATE + ANSWER
    assert held(quota_manager, n=3) == HELLO_ESTIMATE + 3 * ANSWER
    # A maximum that the request has is believed.
    assert held(quota_manager, max_tokens=50) == HELLO_ESTIMATE + 50
    # A new workspace begins with what the model is known for; another model with nothing.
    assert held(quota_manager, workspace="new") == HELLO_ESTIMATE + ANSWER
    assert held(quota_manager, model="gpt-4o-mini") == HELLO_ESTIMATE


def test_one_absurd_answer_changes_nothing(quota_manager: QuotaManager) -> None:
    for _ in range(ENOUGH):
        held(quota_manager, answer=answer(ANSWER))
    # Not by a call: it would use up every limit.
    quota_manager.observe("acme", "gpt-4o", HELLO_ESTIMATE, HELLO_ESTIMATE, 1, 2**53)
    assert HELLO_ESTIMATE + ANSWER <= held(quota_manager) <= HELLO_ESTIMATE + ANSWER * 9 // 8


def test_what_was_guessed_teaches_nothing(quota_manager: QuotaManager) -> None:
    for _ in range(2 * ENOUGH):
        held(quota_manager, answer="a text without a usage")
        held(quota_manager, answer={"usage": {"total_tokens": 5_000}})
    assert held(quota_manager) == HELLO_ESTIMATE


@pytest.mark.parametrize("is_stream", [False, True])
def test_instrumented_calls_teach_those_to_come(
    is_stream: bool, quota_manager: QuotaManager, fake_openai: FakeOpenAI, client: openai.OpenAI
) -> None:
    long = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 400}]}
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    try:
        with quota_context("acme"):
            for _ in range(ENOUGH):
                reply = client.chat.completions.create(**long, **options)  # type: ignore[call-overload]
                usage = [chunk.usage for chunk in reply][-1] if is_stream else reply.usage
    finally:
        llmquota.uninstrument()
    prompt, output = quota_manager.foresee("acme", "gpt-4o", 2_000 // 4 + 4)
    assert output == usage.completion_tokens
    assert usage.prompt_tokens <= prompt <= usage.prompt_tokens * 9 // 8 + 8
