"""Azure's paths and its key, through the SDK's client for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fake_clients import HELLO, HELLO_TOKENS, connect, httpx

from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai.azure import openai_path


@pytest.fixture
def azure(fake: FakeOpenAI) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(**options(fake), http_client=httpx.Client(verify=False)) as client:
        yield client


def options(fake: FakeOpenAI, **more: Any) -> dict[str, Any]:
    return {"azure_endpoint": fake.url, "api_version": "2024-10-21", "api_key": "test", "max_retries": 0, **more}


def test_a_deployment_is_counted_as_the_model_that_it_serves(fake, azure):
    completion = azure.chat.completions.create(model="my-gpt", messages=HELLO)
    assert completion.usage.prompt_tokens == HELLO_TOKENS
    (request,) = fake.requests
    assert (request.path, request.api_path) == (
        "/openai/deployments/my-gpt/chat/completions",
        "/v1/chat/completions",
    )
    assert request.query == {"api-version": "2024-10-21"}
    served = fake.served
    assert served.by("endpoint")["/v1/chat/completions"].total_tokens == completion.usage.total_tokens
    assert served.by("model")["my-gpt"].total_tokens == served.total_tokens


def test_the_deployment_is_the_model_where_the_body_has_none(fake):
    with connect(fake, base_url=f"{fake.url}/openai/deployments/my-gpt") as client:
        completion = client.post("/chat/completions", cast_to=dict[str, Any], body={"messages": HELLO})
        assert completion["model"] == "my-gpt"
        files = {"file": ("hello.mp3", b"\x00")}
        headers = {"Content-Type": "multipart/form-data"}
        client.post(
            "/audio/transcriptions", cast_to=object, body={"language": "en"}, files=files, options={"headers": headers}
        )
    fake.fail(status=429, when={"model": "my-gpt", "endpoint": "/v1/chat/completions"})
    assert fake.served.by("model")["my-gpt"].requests == 2
    assert fake.pending_faults == 1


def test_what_else_goes_by_deployment(fake, azure):
    sound = ("hello.mp3", b"\x00")
    embedded = azure.embeddings.create(model="my-vectors", input="x")
    made = azure.images.edit(model="gpt-image-1", prompt="x", image=("cat.png", b"\x89PNG"))
    heard = azure.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound)
    assert {request.path for request in fake.requests} == {
        "/openai/deployments/my-vectors/embeddings",
        "/openai/deployments/gpt-image-1/images/edits",
        "/openai/deployments/gpt-4o-transcribe/audio/transcriptions",
    }
    told = embedded.usage.total_tokens + made.usage.total_tokens + heard.usage.total_tokens
    assert fake.served.total_tokens == told
    assert fake.served.unreported_requests == 0


def test_what_needs_no_deployment(fake, azure):
    made = azure.responses.create(model="my-gpt", input="Hello", background=True)
    azure.responses.retrieve(made.id)
    assert azure.responses.retrieve(made.id).usage.total_tokens == fake.served.total_tokens
    assert fake.requests[-1].path == f"/openai/responses/{made.id}"
    assert azure.models.list().data


def test_the_newer_paths(fake):
    with connect(fake, base_url=f"{fake.url}/openai/v1/") as client:
        completion = client.chat.completions.create(model="my-gpt", messages=HELLO)
    assert fake.served.by("endpoint")["/v1/chat/completions"].total_tokens == completion.usage.total_tokens


def test_its_key_is_accepted_and_checked():
    with FakeOpenAI(api_keys=["right"]) as fake:
        for key in ("right", "wrong"):
            with openai.AzureOpenAI(**options(fake, api_key=key), http_client=httpx.Client(verify=False)) as client:
                assert client.api_key == key
                if key == "right":
                    assert client.models.list().data
                else:
                    with pytest.raises(openai.AuthenticationError):
                        client.models.list()
        assert [request.headers.get("api-key") for request in fake.requests] == ["right", "wrong"]


def test_async_stream(fake):
    async def run() -> None:
        async with openai.AsyncAzureOpenAI(**options(fake, azure_deployment="my-gpt")) as client:
            stream = await client.chat.completions.create(
                model="my-gpt", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            assert [chunk async for chunk in stream][-1].usage.total_tokens == fake.served.total_tokens

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("/v1/models", ("/v1/models", "")),
        ("/openai/models", ("/v1/models", "")),
        ("/openai/v1/models", ("/v1/models", "")),
        ("/openai/deployments/a-b/embeddings", ("/v1/embeddings", "a-b")),
        ("/openai/deployments/a", ("/v1/", "a")),
        ("/openai", ("/openai", "")),
    ],
)
def test_paths(path, same):
    assert openai_path(path) == same
