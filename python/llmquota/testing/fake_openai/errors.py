"""OpenAI's error bodies: what each code means, and the JSON around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BY_CODE", "BY_STATUS", "ErrorKind", "ProviderError", "error_body"]


@dataclass(frozen=True)
class ErrorKind:
    """What OpenAI says with one error code."""

    status: int
    type: str
    message: str
    param: str | None = None


BY_CODE: dict[str, ErrorKind] = {
    "rate_limit_exceeded": ErrorKind(
        429, "requests", "Rate limit reached for requests. Visit https://platform.openai.com/account/rate-limits."
    ),
    "insufficient_quota": ErrorKind(
        429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."
    ),
    "context_length_exceeded": ErrorKind(
        400,
        "invalid_request_error",
        "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
        "messages",
    ),
    "invalid_api_key": ErrorKind(
        401,
        "invalid_request_error",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "model_not_found": ErrorKind(
        404, "invalid_request_error", "The model does not exist or you do not have access to it."
    ),
    "server_error": ErrorKind(
        500, "server_error", "The server had an error while processing your request. Sorry about that!"
    ),
    "service_unavailable": ErrorKind(
        503, "server_error", "The engine is currently overloaded, please try again later."
    ),
    "overloaded": ErrorKind(529, "overloaded_error", "Overloaded"),
}
"""The codes that ``FakeOpenAI.fail`` knows: each brings its status, type and message."""

BY_STATUS: dict[int, str | None] = {
    400: None,
    401: "invalid_api_key",
    403: None,
    404: "model_not_found",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "service_unavailable",
    529: "overloaded",
}
"""The code that a bare status stands for."""


class ProviderError(Exception):
    """An error answer: an endpoint raises it, the provider sends it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the name of the field
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, type=type, param=param, code=code)
        self.headers = headers or {}


def error_body(
    message: str,
    *,
    type: str = "invalid_request_error",  # noqa: A002 - the name of the field
    param: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
