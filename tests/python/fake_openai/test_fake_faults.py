"""Each fault, seen by the SDK as the exception that the real thing would be."""

from __future__ import annotations

import json
import time

import openai
import pytest
from fake_clients import HELLO, STREAM_BROKE, connect, eventually

from llmquota.testing import FakeOpenAI

USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def chat(client: openai.OpenAI, **more):
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": HELLO, **more})


def collect(stream, chunks: list) -> None:
    for chunk in stream:
        chunks.append(chunk)


@pytest.mark.parametrize(
    ("fault", "exception", "status", "code", "kind"),
    [
        ({"status": 429}, openai.RateLimitError, 429, "rate_limit_exceeded", "requests"),
        ({"code": "rate_limit_exceeded"}, openai.RateLimitError, 429, "rate_limit_exceeded", "requests"),
        ({"code": "insufficient_quota"}, openai.RateLimitError, 429, "insufficient_quota", "insufficient_quota"),
        (
            {"code": "context_length_exceeded"},
            openai.BadRequestError,
            400,
            "context_length_exceeded",
            "invalid_request_error",
        ),
        ({"status": 401}, openai.AuthenticationError, 401, "invalid_api_key", "invalid_request_error"),
        ({"status": 403}, openai.PermissionDeniedError, 403, None, "invalid_request_error"),
        ({"status": 404}, openai.NotFoundError, 404, "model_not_found", "invalid_request_error"),
        ({"status": 500}, openai.InternalServerError, 500, None, "server_error"),
        ({"status": 503}, openai.InternalServerError, 503, None, "server_error"),
        ({"status": 529}, openai.APIStatusError, 529, "overloaded", "overloaded_error"),
        (
            {"status": 418, "code": "tea", "type": "pot", "message": "short"},
            openai.APIStatusError,
            418,
            "tea",
            "pot",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(fake, client, fault, exception, status, code, kind, stream):
    fake.fail(**fault)
    with pytest.raises(exception) as caught:
        chat(client, stream=stream)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (status, code, kind)
    assert caught.value.message
    served = fake.served
    assert (served.requests, served.total_tokens, served.unreported_requests) == (1, 0, 0)
    assert served.by("status")[str(status)].requests == 1
    assert chat(client).usage.total_tokens > 0, "the fault happened once"


def test_retry_after_is_told_in_seconds_and_milliseconds(fake, client):
    fake.fail(status=429, retry_after=1.5)
    with pytest.raises(openai.RateLimitError) as caught:
        chat(client)
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["retry-after-ms"] == "1500"


def test_the_sdk_retries_when_it_is_told_to(fake):
    fake.fail("drop_before_headers")
    fake.fail(status=429, retry_after=0.2)
    fake.fail(status=503, retry_after=0.001)
    with connect(fake, max_retries=3) as client:
        started = time.monotonic()
        assert chat(client).usage.total_tokens > 0
    assert time.monotonic() - started >= 0.2
    assert fake.served.total.statuses == {"429": 1, "503": 1, "dropped": 1, "200": 1}
    assert [request.headers["x-stainless-retry-count"] for request in fake.requests] == ["0", "1", "2", "3"]


def test_the_sdk_gives_up_after_its_retries(fake):
    fake.fail(status=500, times=None, headers={"retry-after-ms": "1"})
    with (
        connect(fake, max_retries=2) as client,
        pytest.raises(openai.InternalServerError),
    ):
        chat(client)
    assert fake.served.requests == 3
    assert fake.pending_faults == 1


def test_timeout_holds_the_answer_and_charges_it(fake, client):
    fake.fail("timeout")
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.1))
    assert fake.served.unreported_tokens == fake.served.total_tokens > 0
    assert eventually(lambda: fake.open_connections == 0), "the held connection was not given up"
    assert fake.served.unreported_requests == 1


def test_timeout_of_some_seconds_answers_those_who_wait(fake, client):
    fake.fail("timeout", seconds=0.15, times=2)
    started = time.monotonic()
    assert chat(client).usage.total_tokens == fake.served.total_tokens
    assert time.monotonic() - started >= 0.15
    assert fake.served.unreported_requests == 0
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.05))
    assert eventually(lambda: fake.open_connections <= 1)
    assert fake.served.unreported_requests == 1


@pytest.mark.parametrize("stream", [False, True])
def test_latency(fake, client, stream):
    fake.fail("latency", seconds=0.1)
    started = time.monotonic()
    answer = chat(client, stream=stream)
    assert time.monotonic() - started >= 0.1
    if stream:
        assert list(answer)
    started = time.monotonic()
    chat(client)
    assert time.monotonic() - started < 0.1


def test_latency_of_every_answer_and_of_an_error():
    with (
        FakeOpenAI(latency=0.05) as fake,
        connect(fake) as client,
    ):
        started = time.monotonic()
        raw = client.models.with_raw_response.list()
        assert time.monotonic() - started >= 0.05
        assert int(raw.headers["openai-processing-ms"]) >= 50
        fake.fail(status=500, seconds=0.1)
        started = time.monotonic()
        with pytest.raises(openai.InternalServerError):
            chat(client)
        assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("kind", ["drop_before_headers", "drop_in_body"])
def test_dropped_connections(fake, client, kind):
    fake.fail(kind)
    with pytest.raises(openai.APIConnectionError) as caught:
        chat(client)
    assert not isinstance(caught.value, openai.APITimeoutError)
    assert fake.served.by("status").keys() == {"dropped" if kind == "drop_before_headers" else "200"}
    assert fake.served.unreported_requests == 1
    assert fake.served.unreported_tokens == fake.served.total_tokens > 0
    assert chat(client).usage.total_tokens > 0
    assert fake.served.unreported_requests == 1


@pytest.mark.parametrize("after", [0, 3])
def test_drop_in_stream(fake, client, after):
    fake.fail("drop_in_stream", after=after)
    chunks = []
    with pytest.raises(STREAM_BROKE):
        collect(chat(client, **USAGE), chunks)
    assert len(chunks) == after
    assert fake.served.unreported_requests == 1
    assert fake.served.unreported_tokens == fake.served.total_tokens > 0


def test_malformed_json(fake, client):
    fake.fail("malformed_json", times=2)
    with pytest.raises(json.JSONDecodeError):
        chat(client)
    chunks = []
    with pytest.raises(json.JSONDecodeError):
        collect(chat(client, **USAGE), chunks)
    assert len(chunks) == 2
    assert fake.served.unreported_requests == 2


def test_error_in_stream(fake, client):
    fake.fail("error_in_stream", code="rate_limit_exceeded", message="Too fast", after=1)
    chunks = []
    with pytest.raises(openai.APIError, match="Too fast") as caught:
        collect(chat(client, **USAGE), chunks)
    assert caught.value.code == "rate_limit_exceeded"
    assert len(chunks) == 1
    assert fake.served.unreported_requests == 1


def test_stream_without_usage(fake, client):
    fake.fail("stream_without_usage", times=2)
    assert all(chunk.usage is None for chunk in chat(client, **USAGE))
    *_, last = client.responses.create(model="gpt-4o", input="Hello", stream=True)
    assert last.type == "response.completed"
    assert last.response.usage is None
    assert fake.served.unreported_requests == 2


def test_stream_without_done(fake, client):
    fake.fail("stream_without_done", times=2)
    with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO, **USAGE) as raw:
        lines = [line for line in raw.iter_lines() if line]
    assert json.loads(lines[-1].removeprefix("data: "))["usage"]["total_tokens"] == fake.served.total_tokens
    kinds = [event.type for event in client.responses.create(model="gpt-4o", input="Hello", stream=True)]
    assert kinds[-1] == "response.output_item.done"
    assert fake.served.unreported_requests == 1, "the chat's usage came before the end, the response's in it"


def test_a_fault_waits_for_a_request_that_it_can_happen_to(fake, client):
    fake.fail("drop_in_stream")
    fake.fail("drop_in_body")
    assert eventually(lambda: fake.pending_faults == 2)
    with pytest.raises(openai.APIConnectionError):
        chat(client)
    assert fake.pending_faults == 1
    with pytest.raises(STREAM_BROKE):
        list(chat(client, stream=True))
    assert fake.pending_faults == 0


def test_faults_are_chosen_by_a_predicate_or_a_mapping(fake, client):
    fake.fail(status=429, when=lambda request: len(request.json["messages"]) > 1)
    fake.fail(status=500, when={"model": "gpt-4o-mini"}, times=None)
    fake.fail(status=503, when={"endpoint": "/v1/embeddings", "headers": {"X-Workspace-Id": "acme"}})
    assert chat(client).usage
    with pytest.raises(openai.RateLimitError):
        chat(client, messages=HELLO * 2)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            chat(client, model="gpt-4o-mini")
    assert client.embeddings.create(model="e", input="x", extra_headers={"x-workspace-id": "other"}).data
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model="e", input="x", extra_headers={"x-workspace-id": "acme"})
    assert caught.value.status_code == 503


def test_a_predicate_that_raises_is_an_error_answer_that_names_it(fake, client):
    fake.fail(status=429, when=lambda request: request.json["nothing"])
    with pytest.raises(openai.InternalServerError, match="KeyError"):
        chat(client)
    fake.reset()
    assert chat(client).usage


def test_probable_faults_repeat_with_the_seed():
    def outcome(seed: int) -> list[bool]:
        with (
            FakeOpenAI(seed=seed) as fake,
            connect(fake) as client,
        ):
            fake.fail(status=500, probability=0.5, times=None)
            failed = []
            for _ in range(30):
                try:
                    client.models.list()
                    failed.append(False)
                except openai.InternalServerError:
                    failed.append(True)
            assert fake.served.total.statuses == {"500": sum(failed), "200": 30 - sum(failed)}
            return failed

    first = outcome(1)
    assert first == outcome(1)
    assert first != outcome(2)
    assert 5 < sum(first) < 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "nothing"}, "no fault 'nothing'"),
        ({"status": 200}, "400 to 599"),
        ({"status": "500"}, "400 to 599"),
        ({"kind": "latency"}, "seconds"),
        ({"kind": "timeout", "seconds": -1}, "seconds"),
        ({"status": 429, "retry_after": float("nan")}, "retry_after"),
        ({"status": 500, "times": 0}, "times"),
        ({"status": 500, "times": 1.5}, "times"),
        ({"status": 500, "probability": 0}, "probability"),
        ({"status": 500, "when": {"modle": "gpt-4o"}}, "modle"),
        ({"status": 500, "when": "gpt-4o"}, "predicate"),
        ({"code": "unheard_of"}, "needs a status"),
        ({"kind": "drop_in_stream", "after": -1}, "after"),
    ],
)
def test_faults_that_mean_nothing_are_refused(fake, arguments, says):
    with pytest.raises(ValueError, match=says):
        fake.fail(**arguments)
    assert fake.pending_faults == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": 5}, "text"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"completion_tokens": 1.5}, "completion_tokens"),
        ({"tool_calls": [{"arguments": {}}]}, "name"),
        ({"chunk_delay": -1}, "chunk_delay"),
        ({"times": 0}, "times"),
    ],
)
def test_replies_that_mean_nothing_are_refused(fake, arguments, says):
    with pytest.raises(ValueError, match=says):
        fake.reply(**arguments)
