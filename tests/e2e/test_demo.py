"""``make demo``'s script: five seconds of it end with books that agree."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "backend" / "demo.py"


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if name not in ("KEEP", "DEMO_PROVIDER", "OPENAI_API_KEY")
    }
    return subprocess.run(
        [sys.executable, str(DEMO), *arguments],
        env={**clean, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
    )


def test_the_books_agree(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        done = run_demo("--seconds", "5", "--save-svg", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Port 8000 is taken" in done.stdout
    refused = dict(re.findall(r"│ (\S+) +│ \w+ +│ +\d+ │ +(\d+) │", done.stdout))
    assert (refused["acme"], refused["globex"]) == ("0", "0")
    assert int(refused["noisy-corp"]) > 0
    assert re.search(r"Apart: noisy-corp / live-captions: [1-9]", done.stdout)
    assert done.stdout.count("equal") == 3
    assert done.stdout.rstrip().endswith("The books agree.")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stdout), "no control characters without a terminal"
    assert picture.read_text("utf-8").startswith("<svg")


def test_the_real_provider_needs_a_key() -> None:
    done = run_demo(DEMO_PROVIDER="openai")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stdout


def test_keep_stays_up_until_it_is_told_to_stop() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", str(DEMO), "--seconds", "1"],
        env={**os.environ, "KEEP": "1", "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if "reset" in line:
            break
    urls = re.findall(r"http://\S+(?=/docs)", said)
    assert httpx.get(f"{urls[0]}/api/quota/status", params={"workspace_id": "acme"}).json()["success"]
    demo.terminate()
    assert demo.wait(30) == 128 + signal.SIGTERM
    demo.stdout.close()
    with pytest.raises(httpx.ConnectError):  # the backend was stopped with it
        httpx.get(f"{urls[0]}/api/quota/status")
