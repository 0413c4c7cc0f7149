"""The books: equal to what was sent, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from fake_clients import HELLO, HELLO_TOKENS, connect

from llmquota.testing import FakeOpenAI

PARALLEL = 200


def test_two_hundred_parallel_requests_are_all_counted(fake):
    workspaces = ("acme", "bolt", "cola", "dune")
    fake.reply("x" * 40, completion_tokens=10)
    # Every tenth request of acme is refused, every tenth of bolt is dropped.
    fake.fail(status=429, times=PARALLEL // 40, when={"headers": {"x-workspace-id": "acme"}})
    fake.fail("drop_before_headers", times=PARALLEL // 40, when={"headers": {"x-workspace-id": "bolt"}})
    told = dict.fromkeys(workspaces, 0)
    failed = dict.fromkeys(workspaces, 0)

    async def one(client: openai.AsyncOpenAI, number: int) -> None:
        workspace = workspaces[number % 4]
        headers = {"x-workspace-id": workspace, "x-client-request-id": f"call-{number}"}
        try:
            if number % 3 == 0:
                stream = await client.chat.completions.create(
                    model="gpt-4o",
                    messages=HELLO,
                    extra_headers=headers,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                usage = [chunk.usage async for chunk in stream][-1]
            else:
                completion = await client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers=headers)
                usage = completion.usage
        except (openai.RateLimitError, openai.APIConnectionError):
            failed[workspace] += 1
        else:
            told[workspace] += usage.total_tokens

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="test", max_retries=0, timeout=30) as client:
            await asyncio.gather(*(one(client, number) for number in range(PARALLEL)))

    asyncio.run(run())
    served = fake.served
    assert served.requests == PARALLEL
    assert failed == {"acme": 5, "bolt": 5, "cola": 0, "dune": 0}
    for workspace in workspaces:
        tally = served.by("x-workspace-id")[workspace]
        assert tally.requests == PARALLEL // 4
        assert tally.reported_tokens == told[workspace]
    assert served.by("x-workspace-id")["acme"].statuses == {"429": 5, "200": 45}
    assert served.by("x-workspace-id")["bolt"].statuses == {"dropped": 5, "200": 45}
    assert served.by("x-workspace-id")["bolt"].unreported_requests == served.unreported_requests == 5
    assert served.unreported_tokens == 5 * (HELLO_TOKENS + 10)
    assert served.total_tokens == (PARALLEL - 5) * (HELLO_TOKENS + 10)
    assert sorted(served.client_request_ids) == sorted(f"call-{number}" for number in range(PARALLEL))


def test_splits_add_up_and_name_every_dimension(fake, client):
    fake.reply("abcd", cached_tokens=4, reasoning_tokens=2)
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    client.chat.completions.create(model="o3-mini", messages=HELLO)
    client.responses.create(model="o3-mini", input="Hello, world")
    client.embeddings.create(model="text-embedding-3-small", input="x")
    client.models.list()
    served = fake.served
    assert {value: tally.requests for value, tally in served.by("endpoint").items()} == {
        "/v1/chat/completions": 2,
        "/v1/responses": 1,
        "/v1/embeddings": 1,
        "/v1/models": 1,
    }
    assert {value: tally.requests for value, tally in served.by("model").items()} == {
        "gpt-4o": 1,
        "o3-mini": 2,
        "text-embedding-3-small": 1,
        "": 1,
    }
    assert served.by("status")["200"].requests == 5
    total = served.total
    assert (total.prompt_tokens, total.completion_tokens) == (3 * HELLO_TOKENS + 1, 3 * 3)
    assert (total.cached_tokens, total.reasoning_tokens) == (3 * 4, 3 * 2)
    assert (total.requests, total.charged_requests) == (5, 4)
    for group in ("endpoint", "model", "status", "x-workspace-id"):
        assert sum(tally.total_tokens for tally in served.by(group).values()) == served.total_tokens


def test_the_header_goes_before_the_user_field(fake, client):
    client.chat.completions.create(model="gpt-4o", messages=HELLO, user="acme")
    client.chat.completions.create(
        model="gpt-4o", messages=HELLO, user="somebody", extra_headers={"X-Workspace-Id": "acme"}
    )
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    by = fake.served.by("X-Workspace-Id")
    assert {value: tally.requests for value, tally in by.items()} == {"acme": 2, "": 1}


def test_other_headers_can_be_the_split():
    with (
        FakeOpenAI(group_by=["X-Tenant", "x-team"]) as fake,
        connect(fake) as client,
    ):
        client.models.list(extra_headers={"x-tenant": "acme", "x-team": "blue"})
        assert fake.served.by("x-tenant")["acme"].requests == 1
        assert fake.served.by("x-team")["blue"].requests == 1
        with pytest.raises(KeyError, match="x-workspace-id"):
            fake.served.by("x-workspace-id")


def test_a_snapshot_stands_still_and_is_json(fake, client):
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    before = fake.served
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert before.requests == before.by("model")["gpt-4o"].requests == before.total.statuses["200"] == 1
    as_dict = json.loads(json.dumps(fake.served.as_dict()))
    assert as_dict["requests"] == 2
    assert as_dict["by"]["model"]["gpt-4o"]["total_tokens"] == as_dict["total_tokens"] == fake.served.total_tokens
    assert as_dict["unreported_tokens"] == 0


def test_reset_empties_the_books_and_an_old_answer_does_not_reach_the_new(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    fake.reply(chunk_delay=0.02)
    stream = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    fake.reset()
    assert list(stream)[-1].usage.total_tokens > 0
    assert fake.served.as_dict()["requests"] == 0
    assert fake.served.unreported_requests == fake.served.unreported_tokens == 0
    assert fake.requests == []
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_requests_show_what_was_sent(fake, client):
    client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers={"x-workspace-id": "acme"})
    (request,) = fake.requests
    assert (request.method, request.path, request.model, request.stream) == (
        "POST",
        "/v1/chat/completions",
        "gpt-4o",
        False,
    )
    assert request.headers["x-workspace-id"] == "acme"
    assert request.json["messages"] == HELLO
