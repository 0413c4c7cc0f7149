"""Answers a call that may not go, in the provider's place.

Not an exception: the SDK would take one raised inside its HTTP client for a broken connection, and try again. The
answer says that it is not to be tried again, and carries the exception that the SDK is to raise.
"""

from __future__ import annotations

import functools
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

from llmquota.errors import QuotaError, QuotaExceeded, QuotaInputError, refusal_response

__all__ = ["answer", "forget_sdk", "teach_sdk"]

EXTENSION = "llmquota"
"""Where a response carries the exception."""

_taught: dict[type[Any], Any] = {}


def answer(library: ModuleType, request: Any, error: QuotaError, *, unread: bool) -> Any:
    """The response of ``library`` (``httpx`` or ``httpx2``) that tells of ``error``; ``unread`` as a stream is."""
    teach_sdk()
    status = 429 if isinstance(error, QuotaExceeded) else 400 if isinstance(error, QuotaInputError) else 503
    response = refusal_response(library, request, error, status)
    if unread:
        body = library.ByteStream(response.content)
        response = library.Response(status, headers=response.headers, stream=body, request=request)
    response.elapsed = timedelta(0)
    response.extensions[EXTENSION] = error
    return response


def teach_sdk() -> None:
    """Has the clients of ``openai``, where it is loaded, raise what a refusal carries."""
    openai = sys.modules.get("openai")
    for name in ("OpenAI", "AsyncOpenAI"):
        client: Any = getattr(openai, name, None)
        original = getattr(client, "__dict__", {}).get("_make_status_error")
        if original is not None and client not in _taught:
            _taught[client] = original
            client._make_status_error = _raising(original)


def forget_sdk() -> None:
    """Takes it back, where nobody else has come between."""
    for client, original in list(_taught.items()):
        if getattr(vars(client)["_make_status_error"], "__wrapped__", None) is original:
            client._make_status_error = original
            _taught.pop(client, None)


def _raising(original: Any) -> Any:
    @functools.wraps(original)
    def make_status_error(self: Any, message: str, *, body: Any, response: Any) -> Any:
        # Taken out: the error will have the response.
        error = response.extensions.pop(EXTENSION, None)
        if error is None:
            return original(self, message, body=body, response=response)
        error.request, error.response = response.request, response
        # As it was made, without the way that it went inside here.
        return error.with_traceback(None)

    return make_status_error
