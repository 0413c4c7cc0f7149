"""The realtime and the responses WebSocket: each response on them is admitted, counted and attributed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from guard_parts import counted, open_holds
from speaking import Speaker
from websockets.exceptions import ConnectionClosed

import llmquota
from llmquota import QuotaExceeded, QuotaManager, quota_context
from llmquota.instrument.sockets import connections


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    with Speaker() as speaker:
        yield speaker


@pytest.fixture
def instrumented(speaker: Speaker, quota_manager: QuotaManager) -> Iterator[QuotaManager]:
    llmquota.instrument(quota_manager, providers={speaker.base: "openai"})
    yield quota_manager
    llmquota.uninstrument()


def client_of(speaker: Speaker) -> openai.OpenAI:
    return openai.OpenAI(api_key="test", base_url=speaker.base, websocket_base_url=speaker.socket_base)


def realtime(client: Any) -> Any:
    """The connection that this version of the SDK makes."""
    return (client.realtime if hasattr(client, "realtime") else client.beta.realtime).connect(model="gpt-realtime")


def answer(connection: Any, how: str = "usual", **more: Any) -> list[str]:
    """Asks for a response, and reads to its end."""
    connection.response.create(response={"metadata": {"as": how}}, **more)
    return read(connection)


def read(connection: Any) -> list[str]:
    kinds = []
    for event in connection:
        kinds.append(event.type)
        if event.type in ("response.done", "error"):
            break
    return kinds


def test_each_response_is_one_call(instrumented: QuotaManager, speaker: Speaker) -> None:
    with client_of(speaker) as client, realtime(client) as connection:
        for workspace in ("acme", "globex", "acme"):
            with quota_context(workspace, goal_id="goal-1"):
                assert answer(connection)[-1] == "response.done"
    assert (counted(instrumented), counted(instrumented, "globex")) == ((2, 60, 0), (1, 30, 0))
    assert counted(instrumented, "global") == (0, 0, 0), "a connection is no call"
    row = instrumented.history("acme", goal_id="goal-1")[0]
    assert (row["model"], row["input_tokens"], row["cached_tokens"]) == ("gpt-realtime", 20, 4)
    assert row["method"] == "realtime.responses.create"


async def test_the_asynchronous_connection(instrumented: QuotaManager, speaker: Speaker) -> None:
    client = openai.AsyncOpenAI(api_key="test", base_url=speaker.base, websocket_base_url=speaker.socket_base)
    async with client, realtime(client) as connection:
        with quota_context("acme"):
            await connection.response.create(response={})
            async for event in connection:
                if event.type == "response.done":
                    break
    assert counted(instrumented) == (1, 30, 0)


def test_what_does_not_fit_is_not_asked_for_and_the_connection_goes_on(
    instrumented: QuotaManager, speaker: Speaker
) -> None:
    instrumented.set_override("workspace", "", "acme", {"requests_per_minute": 1})
    with client_of(speaker) as client, realtime(client) as connection:
        with quota_context("acme"):
            answer(connection)
            with pytest.raises(QuotaExceeded) as caught:
                connection.response.create(response={})
        assert isinstance(caught.value, openai.RateLimitError)
        assert len(speaker.asked) == 1
        with quota_context("globex"):
            answer(connection)
    assert (counted(instrumented), counted(instrumented, "globex")) == ((1, 30, 0), (1, 30, 0))


def test_what_is_only_observed_is_asked_for(speaker: Speaker, quota_manager: QuotaManager) -> None:
    quota_manager.set_override("workspace", "", "acme", {"requests_per_minute": 1})
    llmquota.instrument(quota_manager, providers={speaker.base: "openai"}, mode="observe")
    try:
        with client_of(speaker) as client, realtime(client) as connection, quota_context("acme"):
            answer(connection)
            answer(connection)
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager) == (2, 60, 0)


def test_what_the_provider_begins_by_itself_is_of_whoever_connected(
    instrumented: QuotaManager, speaker: Speaker
) -> None:
    instrumented.set_override("workspace", "", "acme", {"requests_per_day": 0})
    with client_of(speaker) as client:
        with quota_context("acme"):
            connection = realtime(client).enter()
            connection.recv()
        connection.input_audio_buffer.commit()
        read(connection)
        connection.close()
    # The response, and what was written down once, though it was told twice: the past is forced.
    assert counted(instrumented)[:2] == (2, 30)
    written = [row for row in instrumented.history("acme") if row["model"] == "whisper-1"]
    assert [row["cost_usd"] for row in written] == ["0.006"], "a minute of whisper"


@pytest.mark.parametrize(
    ("how", "errors", "least"),
    [("failed", 1, 100), ("cancelled", 0, 30), ("odd", 0, 100), ("dropped", 0, 100), ("twice", 0, 30)],
)
def test_how_a_response_ends(instrumented: QuotaManager, speaker: Speaker, how: str, errors: int, least: int) -> None:
    with client_of(speaker) as client, realtime(client) as connection, quota_context("acme"):
        connection.response.create(response={"metadata": {"as": how}})
        # Behind the SDK, which parses what it gets.
        messages = iter(connection.recv_bytes, None)
        with contextlib.suppress(ConnectionClosed):
            next(message for message in messages if b'"event_id"' in message and b'"response.done"' in message)
    requests, tokens, failed = counted(instrumented)
    assert (requests, failed) == (1, errors)
    assert tokens >= least
    assert how not in ("cancelled", "twice") or tokens == 30


def test_what_the_provider_refuses_is_one_failure(instrumented: QuotaManager, speaker: Speaker) -> None:
    with client_of(speaker) as client, realtime(client) as connection, quota_context("acme"):
        assert answer(connection, "refused", event_id="mine")[-1] == "error"
        assert answer(connection, "refused")[-1] == "error"
        answer(connection)
    assert counted(instrumented) == (3, 30, 2)


def test_what_is_under_way_when_a_connection_is_closed_is_charged_as_held(
    instrumented: QuotaManager, speaker: Speaker
) -> None:
    with client_of(speaker) as client:
        with quota_context("acme"), realtime(client) as connection:
            connection.response.create(response={"max_output_tokens": 500})
            assert open_holds(instrumented) == 1
        # It is closed, and still there.
        requests, tokens, _ = counted(instrumented)
        assert requests == 1
        assert tokens >= 500
        with quota_context("acme"), pytest.raises(ConnectionClosed):
            connection.send({"type": "response.create"})
        assert counted(instrumented) == (1, tokens, 1), "a failure without a request"


def test_the_responses_socket(instrumented: QuotaManager, speaker: Speaker) -> None:
    with client_of(speaker) as client:
        if not hasattr(client.responses, "connect"):
            pytest.skip(f"openai {openai.__version__} has no responses WebSocket")
        with quota_context("acme"), client.responses.connect() as connection:
            connection.response.create(model="gpt-4o", input="Hello")
            for event in connection:
                if event.type == "response.completed":
                    break
    assert counted(instrumented) == (1, 30, 0)
    assert instrumented.history("acme")[0]["model"] == "gpt-4o"


def test_other_sockets_are_left_alone(speaker: Speaker, quota_manager: QuotaManager) -> None:
    llmquota.instrument(quota_manager)
    try:
        with client_of(speaker) as client, realtime(client) as connection, quota_context("acme"):
            answer(connection)
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager) == (0, 0, 0)


def test_it_is_put_there_once_and_taken_away(speaker: Speaker, quota_manager: QuotaManager) -> None:
    before = [(vars(kind)["send"], vars(kind)["recv"]) for kind, _ in connections()]
    for _twice in range(2):
        llmquota.instrument(quota_manager, providers={speaker.base: "openai"})
    with client_of(speaker) as client, realtime(client) as connection, quota_context("acme"):
        answer(connection)
        llmquota.uninstrument()
        assert [(vars(kind)["send"], vars(kind)["recv"]) for kind, _ in connections()] == before
        answer(connection)
    assert counted(quota_manager) == (1, 30, 0)


async def test_a_reader_that_is_cancelled_ends_nothing(instrumented: QuotaManager, speaker: Speaker) -> None:
    client = openai.AsyncOpenAI(api_key="test", base_url=speaker.base, websocket_base_url=speaker.socket_base)
    async with client, realtime(client) as connection:
        await connection.recv()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.05)
        with quota_context("acme"):
            await connection.response.create(response={})
        while (await connection.recv()).type != "response.done":
            pass
    assert counted(instrumented) == (1, 30, 0)
