"""What the processes of ``instrument/test_instrument_limits.py`` do.

A module of its own, so that a spawned process can import it.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

import openai
from guard_parts import HELLO

import llmquota
from llmquota import QuotaExceeded, QuotaManager, quota_context


def call_as_told(store: str, base_url: str, workspace: str, pipe: Connection) -> None:
    """Makes a call, or waits for its turn, each time it is told to, and says what came of it."""
    manager = QuotaManager(store)
    llmquota.instrument(manager, providers={base_url: "openai"})
    client = openai.OpenAI(api_key="test", base_url=base_url, max_retries=0, timeout=10)
    pipe.send("ready")
    while (told := pipe.recv()) is not None:
        if told == "call":
            pipe.send(_called(client, workspace))
        else:
            began = time.monotonic()
            with manager.get_tracker(workspace).acquire_sync(1, timeout=20, **told):
                pipe.send(time.monotonic() - began)


def _called(client: Any, workspace: str) -> dict[str, Any] | None:
    """The decision, where it was refused."""
    try:
        with quota_context(workspace):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    except QuotaExceeded as error:
        return dict(error.decision)
    return None
