"""What ``FakeOpenAI(any_path=True)`` says where it knows nothing: enough for the SDK to parse, and it costs nothing.

Whatever is asked for has come to its end, so that nobody waits for it.

The last part of the path that ends in ``s`` and has no digit names the kind; what comes after it is an id, and what is
done with it. So ``GET /v1/files`` is a list, ``GET /v1/files/file-1`` an object ``file``, and ``POST /v1/batches`` an
object ``batch``.
"""

from __future__ import annotations

import re
from typing import Any

from .answers import Answer
from .bodies import new_id
from .http1 import Request

__all__ = ["answer_anything"]

_DONE: dict[str, dict[str, Any]] = {
    "v1/files": {"status": "processed"},
    "agents/sessions": {"status": "idle"},
    "file_batches": {"status": "completed", "file_counts": {"in_progress": 0, "completed": 1, "total": 1}},
}
"""How a kind says that it is done, where it does not just say ``completed``; the longer name first."""


def answer_anything(request: Request) -> Answer:
    """A list without entries, or an object with an id."""
    parts = request.api_path.strip("/").split("/")
    kind = max((index for index, part in enumerate(parts) if _is_plural(part)), default=len(parts) - 1)
    ids = parts[kind + 1 :]
    if request.method == "GET" and not ids and _is_plural(parts[kind]):
        return Answer(body={"object": "list", "data": [], "has_more": False})
    name = re.sub("(?<=ch)es$|s$", "", parts[kind])
    body: dict[str, Any] = {"id": ids[0] if ids else new_id(f"{name}_"), "object": name}
    if request.method == "DELETE":
        return Answer(body={**body, "deleted": True})
    done = _DONE.get("/".join(parts[max(kind - 1, 0) : kind + 1])) or _DONE.get(parts[kind])
    return Answer(body={**body, **(done or {"status": "completed"})})


def _is_plural(part: str) -> bool:
    # To submit something is done with what stands before it.
    return part.endswith("s") and not part.startswith("submit_") and not re.search(r"\d", part)
