"""The fake in a process of its own, and its endpoint ``/__fake__/``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_clients import HELLO

import llmquota

PYTHON = Path(llmquota.__file__).parents[1]


def call(url: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def run(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(PYTHON), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "llmquota.testing.fake_openai", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with run("--api-key", "right", "--requests-per-minute", "1000", "--group-by", "x-team") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 0
        assert stderr == ""


def test_faults_replies_and_books_of_another_process(base_url):
    admin = base_url.removesuffix("/v1") + "/__fake__"
    assert call(f"{admin}/reset") == (200, {"reset": True})
    faults = [{"status": 429, "retry_after": 1.5, "when": {"model": "gpt-4o"}}, {"kind": "drop_before_headers"}]
    assert call(f"{admin}/faults", faults) == (200, {"queued": 2})
    assert call(f"{admin}/replies", {"text": "Hi", "prompt_tokens": 9, "times": 1}) == (200, {"added": 1})
    with openai.OpenAI(base_url=base_url, api_key="right", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.response.headers["retry-after-ms"] == "1500"
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
        completion = client.chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers={"x-team": "blue", "x-client-request-id": "one"}
        )
        assert completion.choices[0].message.content == "Hi"
    with (
        openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    status, served = call(f"{admin}/served", method="GET")
    assert status == 200
    assert served["statuses"] == {"429": 1, "dropped": 1, "200": 1, "401": 1}
    assert served["by"]["x-team"]["blue"]["total_tokens"] == served["total_tokens"] == completion.usage.total_tokens
    assert served["client_request_ids"] == ["one"]
    call(f"{admin}/reset")
    assert call(f"{admin}/served", method="GET")[1]["requests"] == 0


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("faults", {"status": 200}, "from 400 to 599"),
        ("faults", {"stauts": 500}, "stauts"),
        ("faults", [{"status": 500}, {"status": 500, "times": 0}], "times"),
        ("faults", [5], "JSON object"),
        ("faults", {"status": 500, "when": "gpt-4o"}, "when"),
        ("replies", {"prompt_tokens": -1}, "prompt_tokens"),
        ("replies", [{"text": "fine"}, {"text": None}], "text"),
    ],
)
def test_what_means_nothing_is_400_and_changes_nothing(fake, client, path, body, says):
    status, answer = call(f"{fake.url}/__fake__/{path}", body)
    assert status == 400
    assert says in answer["error"]["message"]
    assert fake.pending_faults == 0
    assert "fake provider" in client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content


def test_the_admin_endpoint_is_not_counted(fake):
    assert call(f"{fake.url}/__fake__/nothing")[0] == 404
    assert call(f"{fake.url}/__fake__/served", method="GET")[0] == 200
    assert call(f"{fake.url}/__fake__/faults", None)[0] == 400
    assert fake.served.requests == 0
    assert fake.requests == []


def test_a_port_that_is_taken_is_told_and_exits_1(fake):
    with run("--port", str(fake.port)) as process:
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 1
        assert stderr.startswith(f"cannot listen on 127.0.0.1:{fake.port}: ")


def test_importing_it_loads_neither_the_native_module_nor_any_other_package():
    code = (
        "import sys; import llmquota.testing.fake_openai;"
        "print([n for n in sys.modules if n.split('.')[0] in ('openai', 'httpx', 'httpx2', 'aiohttp', 'anyio')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
    )
    assert done.stdout.strip() == "[]"
