"""A call that does not fit makes no request, is not tried again, and raises what the code around it catches already."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import openai
import pytest
from guard_parts import HELLO, calls, connect, connect_async, counted, open_holds, served

import llmquota
from llmquota import QuotaExceeded, QuotaInputError, QuotaManager, quota_context
from llmquota.testing import FakeOpenAI


@pytest.fixture
def manager(fake_openai: FakeOpenAI, instrumented: QuotaManager) -> QuotaManager:
    """With room for two requests of a workspace a minute."""
    instrumented.set_override("workspace", "", "acme", {"requests_per_minute": 2})
    return instrumented


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **more)


WAYS = {
    "created": chat,
    "streamed": lambda client: chat(client, stream=True),
    "raw": lambda client: client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO),
    "embedded": lambda client: client.embeddings.create(model="text-embedding-3-small", input="Hello"),
    "listed": lambda client: client.models.list(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_call_sends_nothing_and_is_caught_as_ever(
    way: str, manager: QuotaManager, fake_openai: FakeOpenAI
) -> None:
    with connect(fake_openai, max_retries=5) as client, quota_context("acme"):
        chat(client)
        chat(client)
        with pytest.raises(openai.RateLimitError) as caught:
            WAYS[way](client)
    error = caught.value
    assert isinstance(error, QuotaExceeded)
    assert (error.workspace_id, error.limits[0]["limit"], error.status_code) == ("acme", "requests_per_minute", 429)
    assert error.retry_after is not None
    assert 59 < error.retry_after <= 61
    assert error.response.json()["error"]["code"] == "quota_refused"
    assert error.request.url.host == "127.0.0.1"
    assert pickle.loads(pickle.dumps(error)).decision == error.decision
    assert fake_openai.served.total.requests == 2
    assert counted(manager) == served(fake_openai)


def test_a_streaming_response_is_refused_when_it_is_entered(manager: QuotaManager, fake_openai: FakeOpenAI) -> None:
    with connect(fake_openai) as client, quota_context("acme"):
        chat(client)
        chat(client)
        with (
            pytest.raises(QuotaExceeded),
            client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO),
        ):
            pass
    assert fake_openai.served.total.requests == 2


async def test_asynchronous_calls_are_refused(manager: QuotaManager, fake_openai: FakeOpenAI) -> None:
    async with connect_async(fake_openai, max_retries=5) as client:
        with quota_context("acme"):
            for _ in range(2):
                await client.chat.completions.create(model="gpt-4o", messages=HELLO)
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert isinstance(caught.value, QuotaExceeded)
    assert fake_openai.served.total.requests == 2


def test_the_window_slides_and_the_call_goes(
    manager: QuotaManager, fake_openai: FakeOpenAI, quota_clock: llmquota.ManualClock
) -> None:
    with connect(fake_openai) as client, quota_context("acme"):
        chat(client)
        chat(client)
        with pytest.raises(QuotaExceeded) as caught:
            chat(client)
        assert caught.value.retry_after is not None
        quota_clock.advance(caught.value.retry_after - 0.001)
        with pytest.raises(QuotaExceeded):
            chat(client)
        quota_clock.advance(0.001)
        chat(client)


def test_whoever_uses_the_http_client_itself_gets_a_response(manager: QuotaManager, fake_openai: FakeOpenAI) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    with httpx.Client(verify=False) as client, quota_context("acme"):
        answers = [client.post(f"{fake_openai.base_url}/chat/completions", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    headers = answers[-1].headers
    assert headers["x-should-retry"] == "false"
    assert 60 <= int(headers["retry-after"]) <= 61
    assert json.loads(answers[-1].read())["error"]["type"] == "quota_refused"
    assert counted(manager) == served(fake_openai)


def test_what_is_asked_for_is_held_while_the_call_is_under_way(
    instrumented: QuotaManager, fake_openai: FakeOpenAI
) -> None:
    instrumented.set_override("workspace", "", "acme", {"tokens_per_minute": 150})
    with connect(fake_openai) as client, quota_context("acme"):
        stream = chat(client, stream=True, max_tokens=100)
        assert open_holds(instrumented) == 1
        with pytest.raises(QuotaExceeded) as caught:
            chat(client, max_tokens=100)
        assert caught.value.limits[0]["held"] == 100 + 3 + 4
        stream.close()
    assert open_holds(instrumented) == 0


def test_to_observe_refuses_nothing_and_counts_everything(manager: QuotaManager, fake_openai: FakeOpenAI) -> None:
    llmquota.instrument(manager, mode="observe", providers={fake_openai.base_url: "openai"})
    with connect(fake_openai) as client, quota_context("acme", goal_id="g"):
        for _ in range(4):
            chat(client)
        for _ in chat(client, stream=True):
            pass
        fake_openai.fail(status=500)
        with pytest.raises(openai.InternalServerError):
            chat(client)
    requests, tokens, errors = counted(manager)
    assert (requests, errors) == (6, 1)
    assert tokens > fake_openai.served.total.reported_tokens
    assert {row["goal"] for row in calls(manager)} == {"g"}


def test_a_name_that_cannot_be_is_told_and_nothing_is_sent(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    client = connect(fake_openai, max_retries=3)
    with client, quota_context("x" * 2_000), pytest.raises(QuotaInputError, match="workspace"):
        chat(client)
    assert fake_openai.served.total.requests == 0


def test_the_breaker_that_one_call_opened_refuses_the_next(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    fake_openai.fail(status=429, code="insufficient_quota", times=None)
    with connect(fake_openai) as client:
        with quota_context("acme"), pytest.raises(openai.RateLimitError):
            chat(client)
        with quota_context("globex"), pytest.raises(QuotaExceeded) as caught:
            chat(client)
    assert caught.value.reason == "breaker"
    assert fake_openai.served.total.requests == 1
