"""Images, through the real SDK: made, edited, streamed."""

from __future__ import annotations

import asyncio
import base64

import openai
import pytest
from fake_clients import connect_async

MODEL = "gpt-image-1"
PICTURE = ("cat.png", b"\x89PNG\r\n--not-a-boundary\r\n\r\n\x00\xff", "image/png")


def test_generation_tells_its_tokens(fake, client):
    made = client.images.generate(model=MODEL, prompt="x" * 9, n=2, quality="low")
    assert [base64.b64decode(image.b64_json)[:4] for image in made.data] == [b"\x89PNG"] * 2
    assert (made.quality, made.size, made.output_format, made.background) == ("low", "1024x1024", "png", "opaque")
    usage = made.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (3, 2 * 272, 3 + 2 * 272)
    assert (usage.input_tokens_details.text_tokens, usage.input_tokens_details.image_tokens) == (3, 0)
    assert usage.model_dump()["output_tokens_details"] == {"image_tokens": 2 * 272, "text_tokens": 0}
    tally = fake.served.by("endpoint")["/v1/images/generations"]
    assert (tally.prompt_tokens, tally.completion_tokens, tally.unreported_requests) == (3, 2 * 272, 0)


def test_edit_counts_the_images_that_come_along(fake, client):
    made = client.images.edit(model=MODEL, prompt="x" * 9, image=[PICTURE, PICTURE], mask=PICTURE, user="acme")
    assert (made.usage.input_tokens, made.usage.output_tokens) == (3 + 3 * 85, 1056)
    assert made.usage.input_tokens_details.image_tokens == 3 * 85
    (request,) = fake.requests
    assert [(file.filename, file.content) for file in request.form.files] == [PICTURE[:2]] * 3
    served = fake.served
    assert served.by("endpoint")["/v1/images/edits"].total_tokens == made.usage.total_tokens
    assert served.by("model")[MODEL].requests == served.by("x-workspace-id")["acme"].requests == 1


def test_reply_fixes_the_numbers(fake, client):
    fake.reply(prompt_tokens=100, completion_tokens=2000, when={"model": MODEL})
    made = client.images.edit(model=MODEL, prompt="x", image=PICTURE, n=2)
    assert len(made.data) == 2
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (100, 2000, 2100)
    assert made.usage.input_tokens_details.text_tokens == 15
    assert fake.served.total_tokens == 2100


@pytest.mark.parametrize(("event", "extra"), [("image_generation", {}), ("image_edit", {"image": PICTURE})])
def test_stream_ends_with_usage(fake, client, event, extra):
    method = client.images.edit if extra else client.images.generate
    *partial, last = method(model=MODEL, prompt="x" * 9, stream=True, partial_images=2, quality="high", **extra)
    assert [one.type for one in partial] == [f"{event}.partial_image"] * 2
    assert [one.partial_image_index for one in partial] == [0, 1]
    assert last.type == f"{event}.completed"
    assert last.usage.output_tokens == 4160 + 2 * 100
    assert last.usage.total_tokens == fake.served.total_tokens
    assert fake.served.unreported_requests == 0


def test_stream_without_usage(fake, client):
    fake.fail("stream_without_usage", when={"stream": True})
    (last,) = client.images.generate(model=MODEL, prompt="x", stream=True)
    assert last.b64_json
    assert last.usage is None
    assert fake.served.unreported_tokens == fake.served.total_tokens == 1 + 1056


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3"])
def test_dall_e_is_not_paid_in_tokens(fake, client, model):
    made = client.images.generate(model=model, prompt="x")
    assert made.data[0].url.endswith(".png")
    assert made.usage is None
    assert client.images.generate(model=model, prompt="x", response_format="b64_json").data[0].b64_json
    assert (fake.served.requests, fake.served.total_tokens) == (2, 0)


def test_bad_requests(fake, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt="")
    assert caught.value.param == "prompt"
    with pytest.raises(openai.BadRequestError):
        client.post("/images/edits", cast_to=object, body={"model": MODEL, "prompt": "x"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt="x", n=2, stream=True)
    assert caught.value.param == "n"
    assert fake.served.total_tokens == 0


def test_async_edit(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            made = await client.images.edit(model=MODEL, prompt="x", image=PICTURE)
            assert made.usage.total_tokens == fake.served.total_tokens

    asyncio.run(run())


@pytest.mark.skipif(openai.__version__ == "1.97.0", reason="its asynchronous streams do not know the events of images")
def test_async_stream(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            events = [event async for event in await client.images.generate(model=MODEL, prompt="x", stream=True)]
            assert events[-1].usage.total_tokens == fake.served.total_tokens

    asyncio.run(run())
    assert fake.served.unreported_requests == 0
