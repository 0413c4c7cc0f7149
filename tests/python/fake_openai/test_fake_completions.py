"""Legacy completions, through the real SDK."""

from __future__ import annotations

import asyncio
import math

import openai
import pytest
from fake_clients import connect_async

from llmquota.testing.fake_openai.replies import DEFAULT_TEXT

MODEL = "gpt-3.5-turbo-instruct"
TEXT_TOKENS = math.ceil(len(DEFAULT_TEXT) / 4)


def test_completion_counts_its_prompt(fake, client):
    completion = client.completions.create(model=MODEL, prompt="x" * 9)
    assert completion.object == "text_completion"
    assert completion.choices[0].text == DEFAULT_TEXT
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, TEXT_TOKENS)
    tally = fake.served.by("endpoint")["/v1/completions"]
    assert tally.total_tokens == completion.usage.total_tokens == 3 + TEXT_TOKENS
    assert tally.unreported_requests == 0


def test_every_prompt_has_its_choices_and_best_of_is_charged(fake, client):
    fake.reply("abcd")
    completion = client.completions.create(model=MODEL, prompt=["x" * 9, "y"], n=2, best_of=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3 + 1, 3 * 2)
    assert client.completions.create(model=MODEL, prompt=[1, 2, 3]).usage.prompt_tokens == 3
    assert fake.served.total_tokens == 10 + 4


def test_max_tokens_cuts_it(client):
    completion = client.completions.create(model=MODEL, prompt="x", max_tokens=2)
    assert completion.choices[0].text == DEFAULT_TEXT[:8]
    assert completion.choices[0].finish_reason == "length"


def test_stream_tells_usage_only_if_it_is_asked_for(fake, client):
    chunks = list(client.completions.create(model=MODEL, prompt="Hello", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == DEFAULT_TEXT
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert fake.served.unreported_requests == 1
    *chunks, last = client.completions.create(
        model=MODEL, prompt="Hello", stream=True, stream_options={"include_usage": True}
    )
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.total_tokens == 2 + TEXT_TOKENS == fake.served.unreported_tokens
    assert fake.served.unreported_requests == 1


def test_faults_reach_it(fake, client):
    fake.fail("stream_without_usage")
    chunks = list(
        client.completions.create(model=MODEL, prompt="Hello", stream=True, stream_options={"include_usage": True})
    )
    assert all(chunk.choices for chunk in chunks)
    assert fake.served.unreported_requests == 1
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=None)
    assert caught.value.param == "prompt"


def test_async_stream(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            stream = await client.completions.create(
                model=MODEL, prompt="Hello", stream=True, stream_options={"include_usage": True}
            )
            assert [chunk async for chunk in stream][-1].usage.total_tokens == fake.served.total_tokens

    asyncio.run(run())
    assert fake.served.unreported_requests == 0
