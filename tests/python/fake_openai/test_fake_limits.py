"""The fake's real rate limit, on a clock of the test's own, and its headers."""

from __future__ import annotations

import time

import openai
import pytest
from fake_clients import HELLO, connect

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.limits import go_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.006, "6ms"),
        (0.999, "999ms"),
        (1, "1s"),
        (1.182, "1.182s"),
        (8.64, "8.64s"),
        (60, "1m0s"),
        (1252.666, "20m52.666s"),
        (3600, "1h0m0s"),
        (86399.9995, "24h0m0s"),
    ],
)
def test_go_durations(seconds, text):
    assert go_duration(seconds) == text


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def chat(client: openai.OpenAI, model: str = "gpt-4o"):
    return client.chat.completions.with_raw_response.create(model=model, messages=HELLO)


def limited(clock: Clock, **limits: int) -> tuple[FakeOpenAI, openai.OpenAI]:
    fake = FakeOpenAI(clock=clock, **limits).start()
    return fake, connect(fake)


def test_without_a_limit_there_are_no_headers(client):
    assert not [name for name in chat(client).headers if name.startswith("x-ratelimit")]


def test_requests_per_minute(clock):
    fake, client = limited(clock, requests_per_minute=3)
    with fake, client:
        remaining = [chat(client).headers["x-ratelimit-remaining-requests"] for _ in range(3)]
        assert remaining == ["2", "1", "0"]
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
        headers = caught.value.response.headers
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("20", "20000")
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"] == "1m0s"
        assert "try again in 20s" in caught.value.message
        assert chat(client, "gpt-4o-mini").status_code == 200, "each model has its own"
        clock.now += 19.999
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
        assert caught.value.response.headers["retry-after-ms"] == "1"
        clock.now += 0.001
        assert chat(client).status_code == 200
        assert fake.served.by("model")["gpt-4o"].statuses == {"200": 4, "429": 2}


def test_tokens_per_minute(clock):
    fake, client = limited(clock, tokens_per_minute=600)
    with fake, client:
        fake.reply(prompt_tokens=300, completion_tokens=100)
        headers = chat(client).headers
        assert headers["x-ratelimit-limit-tokens"] == "600"
        assert headers["x-ratelimit-remaining-tokens"] == "200"
        assert headers["x-ratelimit-reset-tokens"] == "40s"
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
        assert caught.value.type == "tokens"
        assert caught.value.response.headers["retry-after-ms"] == "20000"
        assert fake.served.total_tokens == 400, "a refused request costs nothing"
        clock.now += 20
        assert chat(client).headers["x-ratelimit-remaining-tokens"] == "0"


def test_a_request_that_never_fits_is_told_no_time(clock):
    fake, client = limited(clock, tokens_per_minute=100)
    with fake, client:
        fake.reply(prompt_tokens=101, completion_tokens=0)
        with pytest.raises(openai.RateLimitError, match="too large") as caught:
            chat(client)
        assert "retry-after" not in caught.value.response.headers
        assert caught.value.response.headers["x-ratelimit-remaining-tokens"] == "100"


def test_the_sdk_waits_as_told_and_gets_through():
    with FakeOpenAI(tokens_per_minute=6000) as fake, connect(fake, max_retries=2) as client:
        fake.reply(prompt_tokens=6000, completion_tokens=0, times=1)
        fake.reply(prompt_tokens=20, completion_tokens=0)
        chat(client)
        started = time.monotonic()
        chat(client)
        assert time.monotonic() - started > 0.1
        assert fake.served.total.statuses == {"200": 2, "429": 1}


def test_listing_models_is_not_limited(clock):
    fake, client = limited(clock, requests_per_minute=1)
    with fake, client:
        assert [len(client.models.list().data) > 0 for _ in range(3)] == [True] * 3
        client.moderations.create(model="omni-moderation-latest", input="x")
        with pytest.raises(openai.RateLimitError):
            client.moderations.create(model="omni-moderation-latest", input="x")


@pytest.mark.parametrize(
    "arguments",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"gzip": "sometimes"},
        {"latency": -1},
        {"group_by": "x-workspace-id"},
        {"api_keys": "key"},
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FakeOpenAI(**arguments)
