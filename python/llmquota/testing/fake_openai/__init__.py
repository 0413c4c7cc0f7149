"""A fake provider to test a backend with: a real HTTP server on loopback that speaks OpenAI's API.

    with FakeOpenAI() as fake:
        client = openai.OpenAI(base_url=fake.base_url, api_key="test")
        fake.reply("Hello", prompt_tokens=100, completion_tokens=20)
        fake.fail(status=429, retry_after=1.5)
        ...
        assert fake.served.by("x-workspace-id")["acme"].total_tokens == 120

It answers chat completions, responses (also in the background), legacy completions, embeddings, images, audio, runs on
threads, models and moderations, under OpenAI's paths and Azure's, with server-sent events, gzip and rate limit headers;
it fails as it is told; and it keeps its own books of every request and token, so that a test can compare them with what
the code under test believes. In another process: ``python -m llmquota.testing.fake_openai --port 9000``.
"""

from __future__ import annotations

from .faults import FaultKind
from .http1 import Request
from .served import Served, Tally
from .server import FakeOpenAI
from .tokens import Usage

__all__ = ["FakeOpenAI", "FaultKind", "Request", "Served", "Tally", "Usage"]
