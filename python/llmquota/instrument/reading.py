"""What the body of a request says of its call before it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmquota import _native
from llmquota.estimates import Estimate, estimate_request

__all__ = ["body_of", "model_and_estimate"]

_NOTHING: Mapping[str, Any] = {}


def model_and_estimate(request: Any, content_type: bytes) -> tuple[object, Estimate]:
    """What a request names as its model, whatever that is, and how many tokens it will take."""
    content = _json(request, content_type)
    read = None if content is None else _native.read_request(content)
    if read is None:
        # A form, what only Python's own parser reads, or nothing.
        body = body_of(request, content_type)
        return body.get("model"), estimate_request(body)
    model, prompt, max_output, open_choices = read
    return model, Estimate(prompt, max_output, open_choices)


def body_of(request: Any, content_type: bytes) -> Mapping[str, Any]:
    """The object of a request's JSON, or the texts of its form; empty for everything else."""
    if content_type.startswith(b"multipart/form-data"):
        return _form(request)
    content = _json(request, content_type)
    try:
        body = None if content is None else json.loads(content)
    except Exception:
        # It is no JSON, which the provider will say.
        return _NOTHING
    return body if isinstance(body, dict) else _NOTHING


def _form(request: Any) -> Mapping[str, Any]:
    # By its fields: its bytes nobody has yet, and with its files they are many.
    try:
        texts = {field.name: getattr(field, "value", None) for field in request.stream.fields}
    except Exception:
        # It is written as it is sent.
        return _NOTHING
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _json(request: Any, content_type: bytes) -> bytes | None:
    if not content_type.startswith(b"application/json"):
        return None
    try:
        content: bytes = request.content
    except Exception:
        # It is written as it is sent: nobody has it yet.
        return None
    return content
