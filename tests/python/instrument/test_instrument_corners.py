"""What HTTP clients and providers may do besides: ids that come again, requests that are sent again, odd streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from guard_parts import calls, counted, open_holds

import llmquota
from llmquota import QuotaManager, QuotaTransport, quota_context

BASE = "http://provider.test/v1"
CHAT = f"{BASE}/chat/completions"
CALL = {"model": "gpt-4o", "messages": [], "max_tokens": 50}
TOLD = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
RUN = f"{BASE}/threads/thread_1/runs"


@pytest.fixture
def manager(quota_manager: QuotaManager) -> Iterator[QuotaManager]:
    """One that counts what goes to a provider that is only thought."""
    llmquota.instrument(quota_manager, providers={BASE: "openai"})
    yield quota_manager
    llmquota.uninstrument()


def client_of(answer: Any, **options: Any) -> httpx.Client:
    """A client whose requests are answered by a function, or all with this JSON."""
    handler: Callable[..., Any] = answer if callable(answer) else lambda _request: httpx.Response(200, json=answer)
    return httpx.Client(transport=httpx.MockTransport(handler), **options)


def test_an_id_that_comes_again_is_another_call(manager: QuotaManager) -> None:
    with client_of(TOLD) as client:
        for workspace in ("acme", "acme", "globex"):
            with quota_context(workspace):
                client.post(CHAT, json=CALL)
    assert counted(manager) == (2, 240, 0)
    assert counted(manager, "globex") == (1, 120, 0)


def test_an_object_that_tells_of_its_failure_is_no_failure_of_whoever_asks(manager: QuotaManager) -> None:
    failed = {"id": "resp_1", "status": "failed", "output": [], "error": {"code": "insufficient_quota"}}
    with client_of(failed) as client, quota_context("acme"):
        client.get(f"{BASE}/responses/resp_1")
    assert counted(manager) == (1, 0, 0)
    with client_of(TOLD) as client, quota_context("globex"):
        assert client.post(CHAT, json=CALL).status_code == 200


def test_a_record_of_another_providers_call_is_not_taken(manager: QuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    with client_of(TOLD) as client, quota_context("acme"):
        client.get(f"{BASE}/models")
        client.post(CHAT, json=CALL)
        for _ in range(3):
            tracker.record_request(tokens_used=10, provider="bedrock")
        tracker.record_request(tokens_used=120)
    assert counted(manager) == (5, 150, 0)


def test_a_record_of_a_success_is_not_of_the_attempt_that_failed(manager: QuotaManager) -> None:
    tracker = manager.get_tracker("acme")
    answers = iter([httpx.Response(500, json={}), httpx.Response(200, json=TOLD)])
    with client_of(lambda _request: next(answers)) as client, quota_context("acme"):
        client.post(CHAT, json=CALL)
        client.post(CHAT, json=CALL)
        tracker.record_request(tokens_used=120)
        assert counted(manager) == (2, 120, 1)
        tracker.record_request(tokens_used=7)
    assert counted(manager) == (3, 127, 1)


ODD = [{"model": "m" * 3_000}, {"model": "a\nb"}, {"model": 7}]


@pytest.mark.parametrize("odd", ODD)
def test_a_model_that_is_no_name_is_the_providers_to_refuse(odd: dict[str, Any], manager: QuotaManager) -> None:
    with client_of(TOLD) as client, quota_context("acme"):
        assert client.post(CHAT, json={**CALL, **odd}).status_code == 200
    assert counted(manager) == (1, 120, 0)


@pytest.mark.parametrize("odd", [*ODD, {"max_tokens": 2**70}])
def test_to_observe_refuses_nothing_whatever_is_asked(odd: dict[str, Any], manager: QuotaManager) -> None:
    manager.configure(limits={"defaults": {"tokens_per_minute": 10}})
    llmquota.instrument(manager, mode="observe", providers={BASE: "openai"})
    with client_of(TOLD) as client, quota_context("acme"):
        assert client.post(CHAT, json={**CALL, **odd}).status_code == 200
    assert counted(manager) == (1, 120, 0)


def test_to_observe_lets_a_call_go_that_nobody_can_count(manager: QuotaManager) -> None:
    llmquota.instrument(manager, mode="observe", providers={BASE: "openai"})
    with client_of(TOLD) as client, quota_context("x" * 2_000):
        assert client.post(CHAT, json=CALL).status_code == 200


def test_a_hook_that_replaces_the_extensions(manager: QuotaManager) -> None:
    def replace(request: httpx.Request) -> None:
        request.extensions = {}

    with client_of(TOLD, event_hooks={"request": [replace]}) as client, quota_context("acme"):
        assert client.post(CHAT, json=CALL).json() == TOLD
    assert counted(manager) == (1, 120, 0)


def test_a_redirect_that_is_followed_by_hand(manager: QuotaManager) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.query:
            return httpx.Response(200, json=TOLD)
        return httpx.Response(307, headers={"location": f"{CHAT}?further=1"})

    with client_of(answer) as client, quota_context("acme"):
        redirect = client.post(CHAT, json=CALL)
        assert redirect.next_request is not None
        client.send(redirect.next_request)
    assert calls(manager)[-1]["tokens"] == 120
    assert counted(manager)[0] == 2


def test_a_request_that_is_sent_again_keeps_its_workspace(manager: QuotaManager) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.headers))
        return httpx.Response(200, json=TOLD)

    with client_of(answer) as client:
        headers = {"X-LLMQuota-Workspace": "acme", "X-LLMQuota-Goal": "café".encode()}
        request = client.build_request("POST", CHAT, json=CALL, headers=headers)
        threads = [threading.Thread(target=client.send, args=(request,)) for _ in range(2)]
        client.send(request)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counted(manager) == (3, 360, 0)
    assert {row["goal"] for row in calls(manager)} == {"café"}
    assert seen[0]["x-client-request-id"] != seen[-1]["x-client-request-id"]
    assert not any(name.startswith("x-llmquota") for headers in seen for name in headers)


@pytest.mark.parametrize("path", ["/chat/completions/", "//chat/completions", "/chat//completions"])
def test_a_path_that_is_written_otherwise_is_the_same(path: str, manager: QuotaManager) -> None:
    with client_of(TOLD) as client, quota_context("acme"):
        client.post(f"{BASE}{path}", json=CALL)
    assert counted(manager) == (1, 120, 0)


class Pieces(httpx.SyncByteStream):
    """A stream of somebody's own, whose pieces are no bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield bytearray(b'{"a": 1}')  # type: ignore[misc]


def test_a_stream_of_other_pieces_goes_through(manager: QuotaManager) -> None:
    client = client_of(lambda _request: httpx.Response(200, stream=Pieces()))
    with client, quota_context("acme"), client.stream("POST", CHAT, json=CALL) as response:
        assert response.read() == b'{"a": 1}'
    requests, tokens, _ = counted(manager)
    assert (requests, tokens) == (1, 50)


def test_a_transport_over_one_whose_streams_are_of_both_kinds(quota_manager: QuotaManager) -> None:
    inside = httpx.MockTransport(lambda _request: httpx.Response(200, json=TOLD))
    transport: Any = QuotaTransport(inside, manager=quota_manager, providers={BASE: "openai"})
    with httpx.Client(transport=transport) as client, quota_context("acme"):
        assert client.post(CHAT, json=CALL).json() == TOLD
    assert counted(quota_manager) == (1, 120, 0)


def test_a_refusal_can_be_read_as_any_answer(manager: QuotaManager) -> None:
    manager.set_override("workspace", "", "acme", {"requests_per_minute": 0})
    with client_of(TOLD) as client, quota_context("acme"):
        refused = client.post(CHAT, json=CALL)
        assert refused.elapsed.total_seconds() == 0
        assert refused.json()["error"]["code"] == "quota_refused"
        with client.stream("POST", CHAT, json=CALL) as response:
            assert b"quota_refused" in b"".join(response.iter_raw())
    assert counted(manager) == (0, 0, 0)


def test_a_run_that_is_continued_is_charged_once(manager: QuotaManager) -> None:
    begun: dict[str, Any] = {"id": "run_1", "object": "thread.run", "status": "requires_action", "usage": None}
    ended = {**begun, "status": "completed", "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
    with quota_context("acme"):
        with client_of(begun) as client:
            client.post(RUN, json={"max_completion_tokens": 300})
            client.post(f"{RUN}/run_1/submit_tool_outputs", json={"tool_outputs": []})
        # Another call of it takes nothing away.
        llmquota.instrument(manager, providers={BASE: "openai"})
        with client_of(ended) as client:
            for _ in range(3):
                client.get(f"{RUN}/run_1")
    assert counted(manager) == (5, 120, 0)
    assert open_holds(manager) == 0


def test_a_status_that_is_none_is_counted(manager: QuotaManager) -> None:
    with client_of(lambda _request: httpx.Response(999, json={})) as client, quota_context("acme"):
        client.post(CHAT, json=CALL)
    requests, _, errors = counted(manager)
    assert (requests, errors) == (1, 1)
