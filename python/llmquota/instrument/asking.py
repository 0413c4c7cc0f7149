"""Asks a chat stream what it used, which it says to nobody who does not ask, and keeps the extra answer to itself.

The provider then sends one more chunk, without choices: code that reads ``chunk.choices[0]`` would stumble over it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .providers import Endpoint
from .reading import body_of

__all__ = ["asking_for_usage", "without_usage_chunk"]

_END = re.compile(rb"\r?\n\r?\n")
MAX_EVENT_BYTES = 1 << 20
"""What is held of an event that has not ended; a longer one is passed on as it comes, with all that follows."""


def asking_for_usage(library: ModuleType, request: Any, endpoint: Endpoint, content_type: bytes) -> Any:
    """The request that asks as well, in place of ``request``; ``None`` where it asks already, or is no chat stream."""
    if endpoint.method != "chat.completions.create":
        return None
    body = body_of(request, content_type)
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if body.get("stream") is not True or "include_usage" in options:
        return None
    content = json.dumps({**body, "stream_options": {**options, "include_usage": True}}, ensure_ascii=False).encode()
    headers = request.headers.copy()
    headers["content-length"] = str(len(content))
    # What is packed could not be looked through on its way.
    headers["accept-encoding"] = "identity"
    return library.Request(request.method, request.url, headers=headers, content=content, extensions=request.extensions)


def without_usage_chunk() -> Callable[[bytes], Iterator[bytes]]:
    """A filter of one stream's pieces, ``b""`` at its end: yields what it was given, but for the chunk of usage."""
    held = b""
    is_over = False

    def through(piece: bytes) -> Iterator[bytes]:
        nonlocal held, is_over
        if is_over:
            if piece:
                yield piece
            return
        held += piece
        kept, first = [], 0
        for end in _END.finditer(held):
            event = held[first : end.end()]
            first = end.end()
            if not _is_usage_alone(event):
                kept.append(event)
        held = held[first:]
        is_over = not piece or len(held) > MAX_EVENT_BYTES
        if is_over and not _is_usage_alone(held):
            kept.append(held)
        if out := b"".join(kept):
            yield out

    return through


def _is_usage_alone(event: bytes) -> bool:
    if not event.startswith(b"data:") or b'"usage"' not in event:
        return False
    try:
        chunk = json.loads(event[len(b"data:") :])
    except ValueError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
