"""The routes under /api/ai: every request that the provider served is counted, whatever became of it."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable

import httpx
import pytest

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai import Tally

Chat = Callable[..., httpx.Response]
Counted = Callable[[str], dict[str, float]]


def served(provider: FakeOpenAI, workspace: str) -> Tally:
    return provider.served.by("x-workspace-id").get(workspace, Tally())


def assert_equal_books(provider: FakeOpenAI, counted: Counted, workspace: str) -> None:
    books, usage = served(provider, workspace), counted(workspace)
    assert (usage["requests"], usage["tokens"]) == (books.requests, books.total_tokens)
    assert (usage["input_tokens"], usage["output_tokens"]) == (books.prompt_tokens, books.completion_tokens)


def events_of(answer: httpx.Response) -> list[dict[str, object]]:
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


PROVIDER_TYPES = ["chat", "responses"] + (["agents"] if importlib.util.find_spec("agents") else [])


@pytest.mark.parametrize("provider_type", PROVIDER_TYPES)
def test_chat(provider: FakeOpenAI, chat: Chat, counted: Counted, workspace: str, provider_type: str) -> None:
    answer = chat(workspace, provider_type=provider_type)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["success"], body["model"]) == (True, "gpt-4o-mini")
    assert body["content"]
    assert served(provider, workspace).requests == 1
    assert_equal_books(provider, counted, workspace)
    assert counted(workspace)["cost_usd"] > 0


def test_search_is_two_requests(http: httpx.Client, provider: FakeOpenAI, counted: Counted, workspace: str) -> None:
    documents = ["Invoices are paid within thirty days.", "The office opens at nine."]
    answer = http.post(
        "/api/ai/search", json={"workspace_id": workspace, "question": documents[1], "documents": documents}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["documents"][0] == documents[1]  # the same text has the same vector
    books = served(provider, workspace)
    assert (books.requests, answer.json()["tokens_used"]) == (2, books.total_tokens)
    assert_equal_books(provider, counted, workspace)


def test_stream(http: httpx.Client, provider: FakeOpenAI, counted: Counted, workspace: str) -> None:
    answer = http.post("/api/ai/stream", json={"workspace_id": workspace, "message": "Go on.", "goal_id": "talk"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer)
    assert "".join(str(event["text"]) for event in events)
    usage = events[-1]["usage"]
    assert isinstance(usage, dict)
    assert usage["total_tokens"] == served(provider, workspace).total_tokens
    assert_equal_books(provider, counted, workspace)


def test_a_refused_stream_is_a_429_and_not_an_event(http: httpx.Client) -> None:
    body = {"workspace_id": "two-a-minute-stream", "message": "Go on."}
    statuses = [http.post("/api/ai/stream", json=body).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_server_error_is_tried_again_and_counted(
    provider: FakeOpenAI, chat: Chat, counted: Counted, workspace: str
) -> None:
    provider.fail(status=500, times=2, when={"headers": {"x-workspace-id": workspace}})
    assert chat(workspace).status_code == 200
    usage = counted(workspace)
    assert (usage["requests"], usage["errors"]) == (3, 2)
    assert_equal_books(provider, counted, workspace)


def test_a_server_error_that_stays_is_told(provider: FakeOpenAI, chat: Chat, counted: Counted, workspace: str) -> None:
    provider.fail(status=500, times=3, when={"headers": {"x-workspace-id": workspace}})
    answer = chat(workspace, model="gpt-4.1-nano")
    assert answer.status_code == 502
    assert answer.json()["provider_status"] == 500
    assert counted(workspace)["errors"] == 3
    assert_equal_books(provider, counted, workspace)


def test_the_providers_rate_limit_is_waited_for(
    provider: FakeOpenAI, chat: Chat, counted: Counted, workspace: str
) -> None:
    provider.fail(code="rate_limit_exceeded", retry_after=0.3, when={"headers": {"x-workspace-id": workspace}})
    began = time.monotonic()
    assert chat(workspace, model="gpt-4-turbo").status_code == 200
    assert time.monotonic() - began >= 0.3
    assert_equal_books(provider, counted, workspace)


def test_streams_and_blocking_calls_are_tried_again_too(
    http: httpx.Client, provider: FakeOpenAI, counted: Counted, workspace: str
) -> None:
    for path, body in (
        ("/api/ai/stream", {"message": "Go on."}),
        ("/api/ai/search", {"question": "Which?", "documents": ["one", "two"]}),
    ):
        provider.fail(status=500, when={"headers": {"x-workspace-id": workspace}})
        assert http.post(path, json={"workspace_id": workspace, **body}).status_code == 200
    assert counted(workspace)["requests"] == 2 + 3
    assert_equal_books(provider, counted, workspace)


def test_a_long_wait_is_left_to_the_caller(provider: FakeOpenAI, chat: Chat, counted: Counted, workspace: str) -> None:
    provider.fail(code="rate_limit_exceeded", retry_after=20, when={"headers": {"x-workspace-id": workspace}})
    began = time.monotonic()
    assert chat(workspace, model="gpt-4-0613").status_code == 502
    assert time.monotonic() - began < 5
    assert_equal_books(provider, counted, workspace)
    # Its breaker is open for everybody's calls to this model, and for no other.
    refused = chat(f"{workspace}-other", model="gpt-4-0613")
    assert (refused.status_code, refused.json()["decision"]["reason"]) == (429, "breaker")
    assert 10 < int(refused.headers["Retry-After"]) <= 20
    assert chat(f"{workspace}-other").status_code == 200


def test_a_spent_quota_of_the_provider_is_not_tried_again(
    other_backend_url: str, provider: FakeOpenAI, workspace: str
) -> None:
    provider.fail(code="insufficient_quota", when={"headers": {"x-workspace-id": workspace}})
    with httpx.Client(base_url=other_backend_url, timeout=30) as http:
        body = {"workspace_id": workspace, "prompt": "Say hello."}
        answer = http.post("/api/ai/chat", json=body)
        assert answer.status_code == 502
        assert (answer.json()["code"], answer.json()["provider_status"]) == ("insufficient_quota", 429)
        # The account is everybody's: until it is probed nobody's calls are sent.
        refused = http.post("/api/ai/chat", json={**body, "workspace_id": f"{workspace}-other"})
        assert refused.status_code == 429
        decision = refused.json()["decision"]
        assert (decision["reason"], decision["breaker"]) == ("breaker", "insufficient_quota")
        assert served(provider, workspace).requests == 1
        usage = http.get("/api/quota/usage", params={"workspace_id": workspace, "period": "total"}).json()["data"]
        assert (usage["usage"]["requests"], usage["usage"]["errors"]) == (1, 1)


def test_a_stream_that_breaks_off_is_counted_and_estimated(
    http: httpx.Client, provider: FakeOpenAI, counted: Counted, workspace: str
) -> None:
    provider.fail("drop_in_stream", after=3, when={"headers": {"x-workspace-id": workspace}})
    answer = http.post("/api/ai/stream", json={"workspace_id": workspace, "message": "Go on."})
    assert answer.status_code == 200
    assert "event: error" in answer.text
    assert served(provider, workspace).unreported_requests == 1
    usage = counted(workspace)
    assert usage["requests"] == 1
    assert usage["tokens"] > 0


def test_a_reader_who_leaves_ends_the_call(http: httpx.Client, provider: FakeOpenAI, counted: Counted) -> None:
    name = "one-at-a-time"
    provider.reply("word " * 400, chunk_delay=0.05, when={"headers": {"x-workspace-id": name}})
    body = {"workspace_id": name, "message": "Go on."}
    with http.stream("POST", "/api/ai/stream", json=body) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()  # kept: httpx hangs up when it is let go of
        assert next(pieces)
        assert http.post("/api/ai/stream", json=body).status_code == 429
    provider.reply("Short.", times=1, when={"headers": {"x-workspace-id": name}})
    deadline = time.monotonic() + 5
    while (status := http.post("/api/ai/stream", json=body).status_code) == 429 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200
    assert counted(name)["requests"] == 2


@pytest.mark.parametrize("body", [{}, {"workspace_id": "", "prompt": "x"}, {"workspace_id": "w", "prompt": ""}])
def test_bad_bodies(http: httpx.Client, body: dict[str, str]) -> None:
    assert http.post("/api/ai/chat", json=body).status_code == 422


def test_an_impossible_workspace_is_never_sent(chat: Chat, provider: FakeOpenAI) -> None:
    before = provider.served.requests
    assert chat("a\x00b").status_code == 400
    assert provider.served.requests == before
