from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from fake_clients import connect

from llmquota.testing import FakeOpenAI


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with connect(fake) as client:
        yield client
