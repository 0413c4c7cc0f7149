"""Paths that the fake does not know."""

from __future__ import annotations

import urllib.error
import urllib.request

import openai
import pytest
from fake_clients import HELLO, connect

from llmquota.testing import FakeOpenAI


@pytest.fixture
def fake():
    with FakeOpenAI(any_path=True) as fake:
        yield fake


def test_objects_and_lists_of_resources_that_are_none(fake, client):
    uploaded = client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    assert uploaded.object == "file"
    assert uploaded.id
    assert client.files.retrieve("file-1").id == "file-1"
    assert client.files.delete("file-1").deleted
    assert list(client.files.list()) == list(client.chat.completions.list()) == []
    made = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (made.object, client.batches.cancel("batch_1").id) == ("batch", "batch_1")
    assert client.vector_stores.files.list("vs_1").data == []
    served = fake.served
    assert served.by("endpoint")["other"].statuses == {"200": 8}
    assert served.total_tokens == 0


def test_what_is_waited_for_is_done(fake, client):
    assert client.files.wait_for_processing("file-1").status == "processed"
    assert client.vector_stores.files.poll("file-1", vector_store_id="vs_1").status == "completed"
    assert client.vector_stores.file_batches.poll("vsfb_1", vector_store_id="vs_1").file_counts.completed == 1
    assert client.batches.retrieve("batch_1").status == "completed"
    assert fake.served.requests == 4


def test_what_is_done_with_an_object_answers_with_it(fake, client):
    submitted = client.post("/threads/thread_1/runs/run_1/submit_tool_outputs", body={}, cast_to=object)
    assert submitted == {"id": "run_1", "object": "run", "status": "completed"}


def test_what_it_knows_stays_as_it_is(fake, client):
    assert client.chat.completions.create(model="gpt-4o", messages=HELLO).usage.total_tokens > 0
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-0")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_0")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{fake.url}/elsewhere", timeout=10)
    caught.value.close()
    assert caught.value.code == 404


def test_faults_reach_it(fake, client):
    fake.fail(status=503)
    with pytest.raises(openai.InternalServerError):
        client.files.list()


def test_by_default_it_is_404():
    with FakeOpenAI() as fake, connect(fake) as client, pytest.raises(openai.NotFoundError):
        client.files.list()
