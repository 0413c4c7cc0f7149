"""The endpoints that cost nothing: ``GET /v1/models``, ``GET /v1/models/{id}``, ``POST /v1/moderations``."""

from __future__ import annotations

from typing import Any

from .answers import Answer
from .bodies import json_object, new_id
from .errors import ProviderError
from .http1 import Request
from .routes import ids_of

__all__ = ["FLAGGED", "list_models", "moderate", "retrieve_model"]

MODELS = (
    "gpt-3.5-turbo-instruct",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "gpt-image-1",
    "o3-mini",
    "omni-moderation-latest",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "tts-1",
    "whisper-1",
)
"""What the list names. Any other model is answered too: use ``fail(code="model_not_found", when=...)`` for one that is
not there."""

FLAGGED = "FLAGGED"
"""A moderation input with this word in it is flagged, as violence."""

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def list_models() -> Answer:
    """All models."""
    return Answer(body={"object": "list", "data": [_model(name) for name in MODELS]})


def retrieve_model(request: Request) -> Answer:
    """One of them. Raises ``ProviderError`` (404) for another."""
    name = ids_of(request)[0]
    if name not in MODELS:
        raise ProviderError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return Answer(body=_model(name))


def moderate(request: Request) -> Answer:
    """A verdict for each input: a text, a list of texts, or a list of parts that is one input."""
    body = json_object(request)
    value = body.get("input")
    if not isinstance(value, (str, list)) or not value:
        raise ProviderError(400, "Missing required parameter: 'input'.", param="input")
    inputs: list[Any] = [value] if isinstance(value, str) or isinstance(value[0], dict) else value
    model = body.get("model") or "omni-moderation-latest"
    return Answer(body={"id": new_id("modr-"), "model": model, "results": [_verdict(item) for item in inputs]})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"}


def _verdict(item: Any) -> dict[str, Any]:
    parts = item if isinstance(item, list) else [{"type": "text", "text": item}]
    flagged = any(FLAGGED in str(part.get("text", "")) for part in parts if isinstance(part, dict))
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == "violence" for name in CATEGORIES},
        "category_scores": {name: 0.99 if flagged and name == "violence" else 0.0001 for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
