"""Responses after they were made: in the background, cancelled, deleted."""

from __future__ import annotations

import asyncio

import openai
import pytest
from fake_clients import connect_async


def until_finished(client: openai.OpenAI, response_id: str):
    while (found := client.responses.retrieve(response_id)).status in ("queued", "in_progress"):
        assert found.usage is None
    return found


def test_background_response_tells_its_usage_once_it_is_complete(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    assert (made.status, made.usage, made.background) == ("queued", None, True)
    found = until_finished(client, made.id)
    assert found.status == "completed"
    assert found.usage.total_tokens == fake.served.total_tokens
    assert fake.served.unreported_requests == 0
    assert client.responses.cancel(made.id).usage.total_tokens == fake.served.total_tokens, "too late to cancel"


def test_cancelled_response_never_tells_what_it_cost(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    for shown in (client.responses.cancel(made.id), client.responses.retrieve(made.id)):
        assert (shown.id, shown.status, shown.usage, shown.output) == (made.id, "cancelled", None, [])
    served = fake.served
    assert served.unreported_tokens == served.total_tokens > 0
    assert served.by("endpoint")["/v1/responses/{id}/cancel"].total_tokens == 0


def test_only_a_background_response_can_be_cancelled(client):
    made = client.responses.create(model="gpt-4o", input="Hello")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_unknown")


def test_deleted_response_is_gone_and_its_charge_stays(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello")
    client.responses.delete(made.id)
    for method in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            method(made.id)
    served = fake.served
    assert served.total_tokens == made.usage.total_tokens
    assert served.by("endpoint")["/v1/responses/{id}"].statuses == {"200": 1, "404": 2}


def test_async(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            made = await client.responses.create(model="gpt-4o", input="Hello", background=True)
            assert (await client.responses.retrieve(made.id)).status == "in_progress"
            assert (await client.responses.retrieve(made.id)).usage.total_tokens == fake.served.total_tokens
            assert (await client.responses.cancel(made.id)).status == "completed"
            await client.responses.delete(made.id)

    asyncio.run(run())
    assert fake.served.unreported_requests == 0
