"""One backend under uvicorn, in a process of its own, and one fake provider, for all tests of this folder.

Tests keep out of each other's way by workspace: each takes names of its own.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from llmquota.testing import FakeOpenAI

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.append(str(EXAMPLES / "backend"))

from demonstration.backend import free_port, running_backend  # noqa: E402
from demonstration.tenants import BOOKS  # noqa: E402

ADMIN_KEY = "only-for-tests"
LIMITS = """
[defaults]
requests_per_minute = 500
tokens_per_minute = 150_000
"""


@pytest.fixture(scope="session")
def provider() -> Iterator[FakeOpenAI]:
    """It keeps its books by workspace, by goal and by the hold that a call was sent with."""
    with FakeOpenAI(group_by=BOOKS) as fake:
        yield fake


@pytest.fixture(scope="session")
def limits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The limits file that the backend watches."""
    path = tmp_path_factory.mktemp("limits") / "limits.toml"
    path.write_text(LIMITS + "".join(f"[workspaces.{name}]\n{table}\n" for name, table in LIMITED.items()))
    return path


LIMITED = {
    "nothing-a-minute": "requests_per_minute = 0",
    "two-a-minute": "requests_per_minute = 2",
    "two-a-minute-check": "requests_per_minute = 2",
    "two-a-minute-notice": "requests_per_minute = 2",
    "two-a-minute-stream": "requests_per_minute = 2",
    "two-a-minute-socket": "requests_per_minute = 2",
    "two-a-minute-reset": "requests_per_minute = 2",
    "ten-a-minute": "requests_per_minute = 10",
    "one-at-a-time": "max_concurrent = 1",
}
"""Workspaces with limits of their own; each is one test's."""


@pytest.fixture(scope="session")
def backend_url(provider: FakeOpenAI, limits_file: Path) -> Iterator[str]:
    """The URL of the running backend."""
    environment = {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "test",
        "LLMQUOTA_STORE": "memory:",
        "LLMQUOTA_LIMITS": str(limits_file),
        "QUOTA_ADMIN_RESET_KEY": ADMIN_KEY,
    }
    with running_backend(free_port(18_000), environment) as url:
        yield url


@pytest.fixture(scope="session")
def other_backend_url(provider: FakeOpenAI) -> Iterator[str]:
    """A second backend, for what would disturb the tests of the first. It has no key for resets."""
    environment = {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "test",
        "LLMQUOTA_STORE": "memory:",
        "LLMQUOTA_LIMITS": "",
        "QUOTA_ADMIN_RESET_KEY": "",
    }
    with running_backend(free_port(18_100), environment) as url:
        yield url


@pytest.fixture(scope="session")
def admin_key() -> str:
    """The backend's key for resets."""
    return ADMIN_KEY


@pytest.fixture
def http(backend_url: str) -> Iterator[httpx.Client]:
    """A client of the backend."""
    with httpx.Client(base_url=backend_url, timeout=30) as client:
        yield client


@pytest.fixture
def workspace() -> str:
    """A workspace that no other test uses."""
    return f"workspace-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def chat(http: httpx.Client) -> Callable[..., httpx.Response]:
    """Makes one call through ``/api/ai/chat``."""

    def call(workspace_id: str, **fields: object) -> httpx.Response:
        return http.post("/api/ai/chat", json={"workspace_id": workspace_id, "prompt": "Say hello.", **fields})

    return call


@pytest.fixture
def counted(http: httpx.Client) -> Callable[[str], dict[str, float]]:
    """What llmquota has counted for a workspace since the backend started."""

    def read(workspace_id: str) -> dict[str, float]:
        query = {"workspace_id": workspace_id, "period": "total"}
        usage: dict[str, float] = http.get("/api/quota/usage", params=query).json()["data"]["usage"]
        return usage

    return read
