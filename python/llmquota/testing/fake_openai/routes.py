"""The names of the endpoints: the paths that the fake answers, with ``{id}`` for the variable part."""

from __future__ import annotations

from .http1 import Request

__all__ = ["CHAT", "EMBEDDINGS", "MODEL", "MODELS", "MODERATIONS", "OTHER", "RESPONSE", "RESPONSES", "endpoint_of"]

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
RESPONSE = "/v1/responses/{id}"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
MODEL = "/v1/models/{id}"
MODERATIONS = "/v1/moderations"
OTHER = "other"
"""Everything that the fake answers with 404."""

_METHODS = {
    CHAT: "POST",
    RESPONSES: "POST",
    RESPONSE: "GET",
    EMBEDDINGS: "POST",
    MODELS: "GET",
    MODEL: "GET",
    MODERATIONS: "POST",
}


def endpoint_of(request: Request) -> str:
    """The endpoint that a request is for, or ``OTHER``."""
    endpoint = request.path
    for collection, item in ((RESPONSES, RESPONSE), (MODELS, MODEL)):
        rest = request.path.removeprefix(collection + "/")
        if rest != request.path and rest and "/" not in rest:
            endpoint = item
    return endpoint if _METHODS.get(endpoint) == request.method else OTHER
