"""The patches of docs/migrate.md: they apply to the "before" files, and afterwards every call is counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmquota.testing import FakeOpenAI

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MIGRATION = EXAMPLES / "migration"
PATCHES = sorted((MIGRATION / "patches").glob("*.patch"))
CHANGED = (
    "services/attribution.py",
    "services/ai_provider_abstraction.py",
    "tools/enhanced_document_search.py",
    "ai_agents/conversational_simple.py",
)

pytestmark = pytest.mark.skipif(shutil.which("patch") is None, reason="needs patch")


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    """A copy of the files as they were before."""
    return shutil.copytree(MIGRATION / "before", tmp_path / "backend")


@pytest.fixture
def migrated(backend: Path) -> Path:
    for patch in PATCHES:
        run_patch(backend, patch)
    for name in ("openai_quota_tracker.py", "api_rate_limiter.py"):
        shutil.copy(EXAMPLES / "backend" / "services" / name, backend / "services" / name)
    return backend


def run_patch(backend: Path, patch: Path, *options: str) -> None:
    command = ["patch", "-p1", "--fuzz=0", *options, "-i", str(patch)]
    done = subprocess.run(command, cwd=backend, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_patch_for_each_of_the_three_files() -> None:
    assert [path.name[:2] for path in PATCHES] == ["01", "02", "03"]


def test_the_patched_files_are_those_of_the_example_backend(migrated: Path) -> None:
    for name in CHANGED:
        assert (migrated / name).read_bytes() == (EXAMPLES / "backend" / name).read_bytes(), (
            f"{name}: run examples/migration/make_patches.py"
        )


def test_the_patches_come_off_again(migrated: Path) -> None:
    for patch in reversed(PATCHES):
        run_patch(migrated, patch, "--reverse")
    for name in CHANGED:
        before = MIGRATION / "before" / name
        assert (migrated / name).exists() == before.exists()
        if before.exists():
            assert (migrated / name).read_bytes() == before.read_bytes()


def test_every_call_of_a_migrated_backend_is_counted(migrated: Path) -> None:
    with FakeOpenAI() as provider:
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "test",
            "LLMQUOTA_STORE": "memory:",
            "LLMQUOTA_LIMITS": "",
        }
        script = Path(__file__).with_name("migrated_calls.py")
        done = subprocess.run(
            [sys.executable, str(script)], cwd=migrated, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        counted = json.loads(done.stdout)
        books = provider.served.by("x-workspace-id")["migrated"]
    assert books.requests == 5
    assert (counted["usage"]["requests"], counted["usage"]["tokens"]) == (5, books.total_tokens)
    assert (counted["goal"]["request_count"], counted["goal"]["tokens_used"]) == (5, books.total_tokens)
