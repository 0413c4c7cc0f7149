"""What a call of OpenAI's API says, where a value of the right type alone would be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .methods import Method

__all__ = ["FILE", "WEBHOOK_SECRET", "known_of"]

FILE = "coverage.txt"
WEBHOOK_SECRET = "coverage"

# By the beginning of a method's name: the first that fits.
_MODELS = {
    "audio.speech": "gpt-4o-mini-tts",
    "audio.transcriptions": "gpt-4o-transcribe",
    "audio.translations": "whisper-1",
    "completions": "gpt-3.5-turbo-instruct",
    "embeddings": "text-embedding-3-small",
    "images": "gpt-image-1",
    "": "gpt-4o",
}
_COMMON: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello"}],
    "input": "Hello",
    "prompt": "Hello",
    "voice": "alloy",
    # Of whatever waits for something to be done.
    "poll_interval": 0.001,
    "poll_interval_ms": 1,
}


def known_of(method: Method, things: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The arguments of a method, by name. ``things``: what is there. ``folder``: where a file lies, :data:`FILE`."""
    name = method.name
    known = {**_COMMON, "model": next(model for start, model in _MODELS.items() if name.startswith(start))}
    if not name.endswith(".delete"):
        # What is there is needed again.
        known.update(things)
    if method.resource == "client":
        known.update(path="/models", cast_to=object)
    elif method.resource == "webhooks":
        known.update(_webhook())
    elif name.startswith("beta.agents.environments.files."):
        known.update(path=f"/workspace/{FILE}", files={f"/workspace/{FILE}": folder / FILE})
        known.update(root=folder, include=[FILE], destination="/workspace/coverage")
    return known


def _webhook() -> dict[str, Any]:
    """A webhook as OpenAI signs it."""
    payload = '{"id": "evt-1", "object": "event", "type": "response.completed", "data": {"id": "resp-1"}}'
    at = str(int(time.time()))
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"wh-1.{at}.{payload}".encode(), hashlib.sha256).digest()
    headers = {
        "webhook-id": "wh-1",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    return {"payload": payload, "headers": headers, "secret": WEBHOOK_SECRET}
