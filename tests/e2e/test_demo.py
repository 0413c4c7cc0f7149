"""``make demo``'s script: six seconds of it end with books that agree, but for a killed worker's open calls."""

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


def test_the_books_agree_though_a_worker_was_killed(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    (tmp_path / "stores").mkdir()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        done = run_demo("--seconds", "6", "--save-svg", str(picture), TMPDIR=str(tmp_path / "stores"))
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "Port 8000 is taken" in said
    refused = dict(re.findall(r"│ (\S+) +│ \w+ +│ +\d+ │ +(\d+) │", said))
    assert (refused["acme"], refused["globex"]) == ("0", "0")
    assert int(refused["noisy-corp"]) > 0
    assert re.search(r"Apart: noisy-corp / live-captions: [1-9]", said)
    assert said.count("equal │") == 3
    assert re.search(r"[1-9]\d* of them, with [1-9]\d* tokens, were made by a module with a bare OpenAI\(\)", said)
    assert said.rstrip().endswith("The books agree.")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said), "no control characters without a terminal"
    assert picture.read_text("utf-8").startswith("<svg")
    if sys.platform != "linux":
        assert "one worker on memory:" in said
        return
    assert f"Store shared:{tmp_path / 'stores'}" in said
    assert list((tmp_path / "stores").iterdir()) == [], "the store is removed at the end"
    killed = re.findall(r"Worker (\d+) was killed \(SIGKILL\) after \d\.\d s", said)
    assert len(killed) == 2, "told when it happens, and at the end"
    assert len(set(killed)) == 1
    assert f"by {killed[0]} (killed)" in said
    orphans = re.findall(r"│ (hold-\w+) │ [\w-]+ +│ +[\d,]+ │ +[\d,]+ │ (broke off|left whole|never asked) +│", said)
    assert 1 <= len(orphans) <= len(dict(orphans)), "each is listed once"
    assert "llmquota verify: every counter is what history adds up to." in said


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
    stores = re.findall(r"(?<=shared:)[^,\s]+", said)
    assert all(Path(store).is_dir() for store in stores)
    assert httpx.get(f"{urls[0]}/api/quota/status", params={"workspace_id": "acme"}).json()["success"]
    demo.terminate()
    assert demo.wait(30) == 128 + signal.SIGTERM
    demo.stdout.close()
    with pytest.raises(httpx.ConnectError):  # the backend was stopped with it
        httpx.get(f"{urls[0]}/api/quota/status")
    assert not any(Path(store).exists() for store in stores)
