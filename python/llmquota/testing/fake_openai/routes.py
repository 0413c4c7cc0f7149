"""The names of the endpoints: the paths that the fake answers, with ``{id}`` for the variable parts."""

from __future__ import annotations

from .http1 import Request

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "EMBEDDINGS",
    "IMAGES",
    "IMAGE_EDITS",
    "MESSAGES",
    "MODEL",
    "MODELS",
    "MODERATIONS",
    "OTHER",
    "RESPONSE",
    "RESPONSES",
    "RESPONSE_CANCEL",
    "RUN",
    "RUNS",
    "SPEECH",
    "THREADS",
    "THREAD_AND_RUN",
    "TRANSCRIPTIONS",
    "TRANSLATIONS",
    "endpoint_of",
    "ids_of",
]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
RESPONSE = "/v1/responses/{id}"
RESPONSE_CANCEL = "/v1/responses/{id}/cancel"
THREADS = "/v1/threads"
THREAD_AND_RUN = "/v1/threads/runs"
MESSAGES = "/v1/threads/{id}/messages"
RUNS = "/v1/threads/{id}/runs"
RUN = "/v1/threads/{id}/runs/{id}"
EMBEDDINGS = "/v1/embeddings"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
IMAGES = "/v1/images/generations"
IMAGE_EDITS = "/v1/images/edits"
MODELS = "/v1/models"
MODEL = "/v1/models/{id}"
MODERATIONS = "/v1/moderations"
OTHER = "other"
"""Everything else: answered with 404, or with ``any_path`` by an object that says nothing."""

_METHODS: dict[str, tuple[str, ...]] = {
    CHAT: ("POST",),
    COMPLETIONS: ("POST",),
    RESPONSES: ("POST",),
    RESPONSE: ("GET", "DELETE"),
    RESPONSE_CANCEL: ("POST",),
    THREADS: ("POST",),
    THREAD_AND_RUN: ("POST",),
    MESSAGES: ("GET", "POST"),
    RUNS: ("POST",),
    RUN: ("GET",),
    EMBEDDINGS: ("POST",),
    SPEECH: ("POST",),
    TRANSCRIPTIONS: ("POST",),
    TRANSLATIONS: ("POST",),
    IMAGES: ("POST",),
    IMAGE_EDITS: ("POST",),
    MODELS: ("GET",),
    MODEL: ("GET",),
    MODERATIONS: ("POST",),
}
_PARTS = {endpoint: endpoint.split("/") for endpoint in _METHODS}


def endpoint_of(request: Request) -> str:
    """The endpoint that a request is for, or ``OTHER``."""
    parts = request.api_path.split("/")
    for endpoint, methods in _METHODS.items():
        if request.method in methods and _fits(parts, _PARTS[endpoint]):
            return endpoint
    return OTHER


def ids_of(request: Request) -> list[str]:
    """What stands for each ``{id}`` in the path."""
    named = _PARTS.get(endpoint_of(request), [])
    return [part for part, name in zip(request.api_path.split("/"), named, strict=False) if name == "{id}"]


def _fits(parts: list[str], named: list[str]) -> bool:
    return len(parts) == len(named) and all(
        part == name or (name == "{id}" and bool(part)) for part, name in zip(parts, named, strict=True)
    )
