"""What a provider says of its own limits is heeded: nothing is sent while it has nothing left."""

from __future__ import annotations

import gc
import logging
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from guard_parts import HELLO, counted, eventually, open_holds
from instrumented_worker import call_as_told
from other_processes import starting, told

import llmquota
from llmquota import QuotaExceeded, QuotaManager, QuotaTransport, quota_context
from llmquota.testing import FakeOpenAI


def tokens(remaining: object, reset: str) -> dict[str, str]:
    """The headers that say what is left of the tokens."""
    return {
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": str(remaining),
        "x-ratelimit-reset-tokens": reset,
    }


def chat(client: Any, workspace: str = "acme", model: str = "gpt-4o", **more: Any) -> Any:
    with quota_context(workspace):
        return client.chat.completions.create(model=model, messages=HELLO, **more)


def refused(client: Any, fake: FakeOpenAI, workspace: str = "acme") -> QuotaExceeded:
    """The refusal of a call that is not sent."""
    before = fake.served.total.requests
    with pytest.raises(QuotaExceeded) as caught:
        chat(client, workspace)
    assert fake.served.total.requests == before
    return caught.value


def test_nothing_is_sent_until_something_is_left_and_nothing_failed(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI, quota_clock: Any
) -> None:
    fake_openai.reply(headers=tokens(0, "20m52.666s"), times=1)
    chat(client)
    for workspace in ("acme", "bolt"):
        error = refused(client, fake_openai, workspace)
        assert error.retry_after == pytest.approx(1252.666, abs=0.001)
        assert (error.reason, error.decision["breaker"]) == ("breaker", "no_tokens_left")
        assert "no tokens left for 'gpt-4o'" in str(error)
    chat(client, model="gpt-4o-mini")
    assert instrumented.snapshot("acme")["status"] == "rate_limited"
    assert instrumented.snapshot("bolt")["status"] == "normal"
    assert [line["cause"] for line in instrumented.snapshot("bolt")["provider_state"].values()] == ["no_tokens_left"]
    assert instrumented.snapshot("acme")["last_error_at"] is None
    quota_clock.advance(1252.6)
    refused(client, fake_openai)
    quota_clock.advance(0.066)
    chat(client)
    chat(client, "bolt")
    assert counted(instrumented)[2] == counted(instrumented, "bolt")[2] == 0
    assert instrumented.snapshot("acme")["status"] == "normal"


async def test_it_is_heard_of_by_an_asynchronous_client(
    instrumented: QuotaManager, async_client: openai.AsyncOpenAI, fake_openai: FakeOpenAI, quota_clock: Any
) -> None:
    fake_openai.reply(headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7"}, times=1)
    with quota_context("acme"):
        await async_client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(QuotaExceeded) as caught:
            await async_client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.retry_after == pytest.approx(7, abs=0.001)
        assert caught.value.decision["breaker"] == "no_requests_left"
        quota_clock.advance(7)
        await async_client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert counted(instrumented)[2] == 0


def test_a_stream_tells_at_its_head_and_not_at_its_end(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply(headers=tokens(0, "7s"), times=1)
    stream = chat(client, stream=True)
    next(iter(stream))
    assert open_holds(instrumented) == 1
    assert refused(client, fake_openai).retry_after == pytest.approx(7, abs=0.001)
    for _ in stream:
        pass
    refused(client, fake_openai)
    assert counted(instrumented)[2] == 0


def test_a_transport_hears_of_it_too(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    transport = QuotaTransport(manager=quota_manager, providers={fake_openai.base_url: "openai"})
    fake_openai.reply(headers=tokens(0, "7s"))
    with httpx.Client(transport=transport) as client, quota_context("acme"):
        body = {"model": "gpt-4o", "messages": HELLO}
        url, headers = f"{fake_openai.base_url}/chat/completions", {"authorization": "Bearer test"}
        assert [client.post(url, json=body, headers=headers).status_code for _ in range(2)] == [200, 429]
    assert fake_openai.served.total.requests == 1
    # Calls are watched for as long as there is a transport, which the next tests would see.
    del client, transport
    gc.collect()


def test_an_instant_is_one_of_the_managers_clock(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instrumented.now() + 90))
    headers = {"anthropic-ratelimit-tokens-limit": "80000", "anthropic-ratelimit-tokens-remaining": "0"}
    fake_openai.reply(headers={**headers, "anthropic-ratelimit-tokens-reset": at}, times=1)
    chat(client)
    retry_at = refused(client, fake_openai).retry_at
    assert retry_at is not None
    assert retry_at.replace(".000", "")[:19] == at[:19]


BAD: list[dict[str, str]] = [
    {"retry-after": "soon", **tokens(0, "-1")},
    tokens(0, "soon"),
    tokens(0, ""),
    tokens(0, "0s"),
    tokens(-1, "60s"),
    tokens("none", "60s"),
    tokens("0" * 5_000, "1" * 5_000),
    {"x-ratelimit-remaining-tokens": "0"},
    {"x-ratelimit-reset-tokens": "60s"},
    {"x-ratelimit-remaining-tokens": "\x80\xff", "x-ratelimit-reset-tokens": "\xe9"},
    {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-02-30T00:00:00Z"},
    {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "1999-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("headers", BAD, ids=lambda headers: ascii(list(headers.values()))[:40])
def test_what_cannot_be_says_nothing_and_costs_a_line_of_the_log(
    headers: dict[str, str],
    instrumented: QuotaManager,
    client: openai.OpenAI,
    fake_openai: FakeOpenAI,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_openai.reply(headers=headers, times=1)
    with caplog.at_level(logging.DEBUG, "llmquota"):
        chat(client)
    records = [record for record in caplog.records if record.name.startswith("llmquota")]
    assert len(records) <= 1
    assert all(record.levelno == logging.DEBUG and len(record.getMessage()) < 500 for record in records)
    chat(client)
    assert counted(instrumented)[2] == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9", **tokens(0, "20m52s")}, 1.5),
        ({"retry-after": "9", **tokens(0, "20m52s")}, 9),
        (tokens(0, "20m52s"), 1252),
        ({"retry-after": "soon", **tokens(0, "20m52s")}, 1252),
        ({**tokens(0, "3s"), "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8s"}, 8),
        ({**tokens(900, "20m52s"), "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8s"}, 8),
        (tokens(900, "20m52s"), 60),
        ({"retry-after": "soon", **tokens(0, "-1")}, 60),
    ],
)
def test_a_429_waits_as_it_says_first_and_else_until_something_is_left(
    headers: dict[str, str],
    seconds: float,
    instrumented: QuotaManager,
    client: openai.OpenAI,
    fake_openai: FakeOpenAI,
    quota_clock: Any,
) -> None:
    fake_openai.fail(code="rate_limit_exceeded", headers=headers)
    with pytest.raises(openai.RateLimitError):
        chat(client)
    error = refused(client, fake_openai, "bolt")
    assert error.decision["breaker"] == "rate_limit_exceeded"
    assert error.retry_after == pytest.approx(seconds, abs=0.001)
    quota_clock.advance(seconds)
    chat(client)
    assert counted(instrumented)[2] == 1


def test_an_error_tells_of_it_as_well(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI
) -> None:
    fake_openai.fail(status=400, headers=tokens(0, "7s"))
    with pytest.raises(openai.BadRequestError):
        chat(client)
    assert refused(client, fake_openai).retry_after == pytest.approx(7, abs=0.001)


def test_an_answer_to_a_call_that_began_before_the_news_changes_nothing(
    instrumented: QuotaManager, client: openai.OpenAI, fake_openai: FakeOpenAI, quota_clock: Any
) -> None:
    when = {"headers": {"x-slow": "yes"}}
    fake_openai.fail(kind="latency", seconds=1, headers=tokens(5_000, "60s"), when=when)
    slow = threading.Thread(target=chat, args=(client, "bolt"), kwargs={"extra_headers": when["headers"]})
    slow.start()
    eventually(lambda: open_holds(instrumented, "bolt") == 1)
    # What is held is started at once.
    time.sleep(0.05)
    quota_clock.advance(1)
    fake_openai.reply(headers=tokens(0, "60s"), times=1)
    chat(client)
    assert slow.is_alive()
    slow.join()
    assert counted(instrumented, "bolt")[0] == 1
    refused(client, fake_openai)


def test_who_only_watches_tells_the_others_and_what_begins_later_wins(
    fake_openai: FakeOpenAI, quota_manager: QuotaManager, client: openai.OpenAI, quota_clock: Any
) -> None:
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"}, mode="observe")
    try:
        for remaining, allowed in [(0, False), (0, False), (5_000, True), (0, False)]:
            fake_openai.reply(headers=tokens(remaining, "60s"), times=1)
            chat(client)
            assert (quota_manager.snapshot("bolt")["provider_state"] == {}) is allowed
            # A call began so many seconds of the real clock ago.
            quota_clock.advance(5)
        assert counted(quota_manager)[0] == 4
    finally:
        llmquota.uninstrument()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"shared:{tmp_path}/store?size=16MB"


def test_what_one_process_is_told_holds_for_all_of_the_store(store: str, fake_openai: FakeOpenAI) -> None:
    with starting() as start:
        _, first = start(call_as_told, store, fake_openai.base_url, "acme")
        _, second = start(call_as_told, store, fake_openai.base_url, "bolt")
        assert (told(first), told(second)) == ("ready", "ready")
        second.send("call")
        assert told(second) is None
        fake_openai.reply(headers=tokens(0, "1.5s"), times=1)
        first.send("call")
        assert told(first) is None
        since = time.monotonic()
        second.send("call")
        decision = told(second)
        assert decision["breaker"] == "no_tokens_left"
        assert 0 < decision["retry_after_ms"] <= 1_500
        assert fake_openai.served.total.requests == 2
        (name,) = QuotaManager(store).snapshot("bolt")["provider_state"]
        provider, credential, model = name.split("/")
        second.send({"provider": provider, "credential": credential, "model": model})
        told(second)
        assert 1.2 < time.monotonic() - since < 6, "it waits until then, and goes"
        second.send("call")
        assert told(second) is None
        assert fake_openai.served.total.requests == 3
        first.send(None)
        second.send(None)
