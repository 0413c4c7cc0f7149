"""Each endpoint, through the real SDK."""

from __future__ import annotations

import asyncio
import json
import math

import openai
import pytest
from fake_clients import HELLO, HELLO_TOKENS, connect

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.replies import DEFAULT_TEXT

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def test_chat_completion_counts_by_the_documented_rule(fake, client):
    completion = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert completion.choices[0].message.content == DEFAULT_TEXT
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "gpt-4o"
    assert completion.usage.prompt_tokens == HELLO_TOKENS
    assert completion.usage.completion_tokens == math.ceil(len(DEFAULT_TEXT) / 4)
    assert completion.usage.total_tokens == HELLO_TOKENS + math.ceil(len(DEFAULT_TEXT) / 4)


def test_content_parts_and_tools_are_counted(client):
    parts = [
        {"type": "text", "text": "x" * 9},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    completion = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": parts}], tools=[TOOL]
    )
    tools = math.ceil(len(json.dumps([TOOL], separators=(",", ":"))) / 4)
    assert completion.usage.prompt_tokens == 3 + 4 + 3 + 85 + tools


def test_reply_fixes_text_and_numbers(fake, client):
    fake.reply("Ciao", prompt_tokens=1000, completion_tokens=50, cached_tokens=800, reasoning_tokens=30)
    usage = client.chat.completions.create(model="o3-mini", messages=HELLO).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 50, 1050)
    assert usage.prompt_tokens_details.cached_tokens == 800
    assert usage.completion_tokens_details.reasoning_tokens == 30
    response = client.responses.create(model="o3-mini", input="Hello")
    assert response.output_text == "Ciao"
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (1000, 50, 1050)
    assert response.usage.input_tokens_details.cached_tokens == 800
    assert response.usage.output_tokens_details.reasoning_tokens == 30


def test_replies_with_times_come_first_in_order_then_the_newest_standing_one(fake, client):
    fake.reply("standing, old")
    fake.reply("standing")
    fake.reply("one", times=1)
    fake.reply("two", times=2)
    fake.reply("mini", when={"model": "gpt-4o-mini"})
    said = [client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content for _ in range(4)]
    assert said == ["one", "two", "two", "standing"]
    mini = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert mini.choices[0].message.content == "mini"


def test_a_refused_request_uses_up_no_reply(fake, client):
    fake.reply("one", times=1)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-4o", messages=[])
    fake.fail(status=500)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content == "one"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(client, name):
    completion = client.chat.completions.create(model="gpt-4o", messages=HELLO, **{name: 5})
    assert completion.choices[0].message.content == DEFAULT_TEXT[:20]
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 5


def test_reasoning_comes_out_of_max_tokens_first(fake, client):
    fake.reply("x" * 400, reasoning_tokens=30)
    completion = client.chat.completions.create(model="o3-mini", messages=HELLO, max_completion_tokens=40)
    assert completion.choices[0].message.content == "x" * 40
    assert completion.usage.completion_tokens == 40
    assert completion.usage.completion_tokens_details.reasoning_tokens == 30
    completion = client.chat.completions.create(model="o3-mini", messages=HELLO, max_completion_tokens=20)
    assert completion.choices[0].message.content == ""
    assert completion.usage.completion_tokens_details.reasoning_tokens == 20


def test_n_choices_multiply_the_completion_tokens(fake, client):
    fake.reply("abcdefgh")
    completion = client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage.completion_tokens == 6
    assert completion.usage.prompt_tokens == HELLO_TOKENS


def test_tool_calls_by_reply_and_by_tool_choice(fake, client):
    forced = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}
    )
    assert forced.choices[0].message.tool_calls[0].function.name == "weather"
    assert forced.choices[0].message.tool_calls[0].function.arguments == "{}"
    fake.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Rome"}}])
    told = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[TOOL])
    assert told.choices[0].finish_reason == "tool_calls"
    assert told.choices[0].message.content is None
    assert json.loads(told.choices[0].message.tool_calls[0].function.arguments) == {"city": "Rome"}
    response = client.responses.create(model="gpt-4o", input="Hello")
    assert response.output[0].type == "function_call"
    assert json.loads(response.output[0].arguments) == {"city": "Rome"}


def test_response_is_kept_and_retrieved_without_another_charge(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello, world", instructions="Short")
    assert made.status == "completed"
    assert made.usage.input_tokens == HELLO_TOKENS + 4 + 2
    found = client.responses.retrieve(made.id)
    assert found.output_text == made.output_text == DEFAULT_TEXT
    assert found.usage.total_tokens == made.usage.total_tokens
    assert fake.served.requests == 2
    assert fake.served.total_tokens == made.usage.total_tokens


def test_response_not_stored_is_not_found(client):
    made = client.responses.create(model="gpt-4o", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_response_cut_by_max_output_tokens_is_incomplete(client):
    made = client.responses.create(model="gpt-4o", input="Hello", max_output_tokens=5)
    assert made.status == "incomplete"
    assert made.incomplete_details.reason == "max_output_tokens"
    assert made.output_text == DEFAULT_TEXT[:20]
    assert made.usage.output_tokens == 5


def test_background_response_is_charged_when_made_and_reported_when_shown(fake, client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    assert made.status == "queued"
    assert made.usage is None
    charged = fake.served
    assert charged.unreported_requests == 1
    assert charged.unreported_tokens == charged.total_tokens > 0
    assert client.responses.retrieve(made.id).status == "in_progress"
    assert fake.served.unreported_requests == 1
    for _ in range(2):
        found = client.responses.retrieve(made.id)
        assert found.status == "completed"
        assert found.usage.total_tokens == fake.served.total_tokens == charged.total_tokens
        assert fake.served.unreported_requests == fake.served.unreported_tokens == 0


def test_embeddings_are_the_same_in_floats_and_in_base64(fake, client):
    texts = ["x" * 9, "y"]
    by_base64 = client.embeddings.create(model="text-embedding-3-small", input=texts)
    assert fake.requests[-1].json["encoding_format"] == "base64"
    by_float = client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    assert by_base64.usage.prompt_tokens == by_base64.usage.total_tokens == 3 + 1
    for one, other in zip(by_base64.data, by_float.data, strict=True):
        assert len(one.embedding) == 1536
        assert list(one.embedding) == pytest.approx(other.embedding, abs=1e-6)
        assert math.fsum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-5)
    assert by_float.data[0].embedding != by_float.data[1].embedding


def test_embeddings_of_token_ids_and_dimensions(client):
    embedded = client.embeddings.create(
        model="text-embedding-3-large", input=[[1, 2, 3], [4]], dimensions=256, encoding_format="float"
    )
    assert [len(item.embedding) for item in embedded.data] == [256, 256]
    assert embedded.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="text-embedding-3-large", input="")


def test_models(client):
    assert "gpt-4o" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-0")
    assert caught.value.code == "model_not_found"


def test_moderations_cost_nothing(fake, client):
    results = client.moderations.create(model="omni-moderation-latest", input=["fine", "this is FLAGGED"]).results
    assert [result.flagged for result in results] == [False, True]
    assert results[1].categories.violence
    assert not results[0].categories.violence
    assert (fake.served.requests, fake.served.total_tokens) == (1, 0)


def test_unknown_url_is_404_in_the_shape_of_openai(fake, client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/nowhere", cast_to=object, body={})
    assert caught.value.body["message"] == "Invalid URL (POST /v1/nowhere)"
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        client.get("/chat/completions", cast_to=object)
    assert fake.served.by("endpoint")["other"].statuses == {"404": 2}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HELLO}, None),
        ({"model": "gpt-4o"}, "messages"),
        ({"model": "gpt-4o", "messages": HELLO, "max_tokens": "ten"}, "max_tokens"),
        ({"model": "gpt-4o", "messages": HELLO, "n": 0}, "n"),
        ({"model": "gpt-4o", "messages": HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        ([1], None),
    ],
)
def test_bad_requests_are_400_and_cost_nothing(fake, client, body, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body=body)
    assert caught.value.param == param
    assert (fake.served.requests, fake.served.total_tokens) == (1, 0)


def test_api_keys():
    with FakeOpenAI(api_keys=["right"]) as fake:
        with connect(fake, api_key="right") as client:
            assert client.models.list().data
        with connect(fake, api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
            assert caught.value.code == "invalid_api_key"


def test_async_client_and_raw_responses(fake):
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="test", max_retries=0) as client:
            completion = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert completion.usage.prompt_tokens == HELLO_TOKENS
            response = await client.responses.create(model="gpt-4o", input="Hello")
            assert response.output_text == DEFAULT_TEXT
            raw = await client.embeddings.with_raw_response.create(model="text-embedding-3-small", input="x")
            assert raw.headers["x-request-id"].startswith("req_")
            assert int(raw.headers["openai-processing-ms"]) >= 1
            assert raw.parse().usage.total_tokens == 1
            async with client.chat.completions.with_streaming_response.create(
                model="gpt-4o", messages=HELLO
            ) as streamed:
                assert (await streamed.json())["usage"]["prompt_tokens"] == HELLO_TOKENS

    asyncio.run(run())
    assert fake.served.requests == 4
    assert fake.served.unreported_requests == 0


def test_no_two_answers_share_an_id(client):
    with FakeOpenAI() as other, connect(other) as second:
        ids = {
            each.chat.completions.create(model="gpt-4o", messages=HELLO).id for each in (client, client, second, second)
        }
    assert len(ids) == 4
