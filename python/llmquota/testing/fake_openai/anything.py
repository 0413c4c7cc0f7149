"""What ``FakeOpenAI(any_path=True)`` says where it knows nothing: enough for the SDK to parse, and it costs nothing.

The last part of the path that ends in ``s`` and has no digit names the kind; what comes after it is an id. So
``GET /v1/files`` is a list, ``GET /v1/files/file-1`` an object ``file``, and ``POST /v1/batches`` an object ``batch``.
"""

from __future__ import annotations

import re
from typing import Any

from .answers import Answer
from .bodies import new_id
from .http1 import Request

__all__ = ["answer_anything"]


def answer_anything(request: Request) -> Answer:
    """A list without entries, or an object with an id."""
    parts = request.api_path.strip("/").split("/")
    kind = max((index for index, part in enumerate(parts) if _is_plural(part)), default=len(parts) - 1)
    ids = parts[kind + 1 :]
    if request.method == "GET" and not ids and _is_plural(parts[kind]):
        return Answer(body={"object": "list", "data": [], "has_more": False})
    name = re.sub("(?<=ch)es$|s$", "", parts[kind])
    body: dict[str, Any] = {"id": ids[0] if ids else new_id(f"{name}_"), "object": name}
    return Answer(body={**body, "deleted": True} if request.method == "DELETE" else body)


def _is_plural(part: str) -> bool:
    return part.endswith("s") and not re.search(r"\d", part)
