"""Beside the instrumentations of OpenTelemetry: their spans come out right, and our counts do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def traced(name: str, order: str) -> dict[str, Any]:
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        [sys.executable, str(HERE / "traced_calls.py"), name, order],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("order", ["theirs,ours", "ours,theirs"])
@pytest.mark.parametrize("name", ["openai-v2", "openai"])
def test_spans_and_counts_are_both_right(name: str, order: str) -> None:
    told = traced(name, order)
    requests, tokens = told["served"]
    assert told["counted"] == [requests, tokens, 1] == [3, tokens, 1]
    plain, streamed, failed, refused = told["spans"]
    for span in (plain, streamed):
        assert span["gen_ai.request.model"] == "gpt-4o"
        used = span["gen_ai.usage.input_tokens"] + span["gen_ai.usage.output_tokens"]
        assert (used, span["failed"]) == (tokens // 2, False)
    assert (failed["failed"], refused["failed"]) == (True, True)
    assert {span["name"] for span in told["spans"]} == {plain["name"]}
    # Ours taken back: theirs goes on, and nothing is counted.
    assert told["after"] == [3, 1]
