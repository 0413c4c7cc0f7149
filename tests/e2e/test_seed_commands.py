"""The commands that the seed document names, against the running backend."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demonstration.backend import free_port

BACKEND = Path(__file__).resolve().parents[2] / "examples" / "backend"


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "test_quota_websocket.py", *arguments]
    return subprocess.run(command, cwd=BACKEND, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(backend_url: str) -> None:
    url = f"{backend_url}/api/quota/status?workspace_id=test-workspace"
    done = subprocess.run(["curl", "--silent", "--fail", url], capture_output=True, text=True, timeout=30, check=True)
    body = json.loads(done.stdout)
    assert (body["success"], body["workspace_id"]) == (True, "test-workspace")
    assert body["data"]["status"] == "normal"


def test_the_websocket_script_sees_the_update(backend_url: str) -> None:
    done = run_script("--url", backend_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "initial: normal, 0 of 500 requests" in done.stdout
    assert "update:  normal, 1 of 500 requests" in done.stdout


def test_the_websocket_script_fails_without_a_backend() -> None:
    done = run_script("--url", f"http://127.0.0.1:{free_port(18_200)}")
    assert done.returncode == 1
    assert "FAILED" in done.stderr
