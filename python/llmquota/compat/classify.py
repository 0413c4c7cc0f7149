"""What a provider's failure was: its error code, its HTTP status, and the wait that it asked for.

Read out of an exception, or out of the text that the OpenAI SDK makes of one. Only what the provider itself said
counts; words of a message never do. What follows from a code is for the engine's breaker to say.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmquota.errors import describe_failure

__all__ = ["Failure", "of_exception", "of_report", "of_text"]

#: The longest text that is read; a provider's error body is far shorter.
_MAX_CHARS = 65_536
#: The deepest nesting that is handed to Python's parser, which has a limit of its own.
_MAX_DEPTH = 50
_MAX_CODE_CHARS = 64
_LONGEST_WAIT = 3_600.0

_SDK_TEXT = re.compile(r"Error code: ([1-5][0-9]{2})(?: - (.*))?\Z", re.DOTALL)
_TRY_AGAIN = re.compile(
    r"try again in (?:(?P<h>[0-9]{1,4})h)?(?:(?P<m>[0-9]{1,6})m(?!s))?"
    r"(?:(?P<s>[0-9]{1,6}(?:\.[0-9]{1,6})?)s|(?P<ms>[0-9]{1,9}(?:\.[0-9]{1,6})?)ms)?",
    re.IGNORECASE,
)

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})
RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "requests", "tokens"})
OVERLOADED_CODES = frozenset({"overloaded_error"})


@dataclass(frozen=True)
class Failure:
    """A failed call, as its provider told it."""

    #: The provider's code, such as ``insufficient_quota``.
    code: str | None = None
    #: The HTTP status.
    status: int | None = None
    #: Seconds.
    retry_after: float | None = None

    def __bool__(self) -> bool:
        """False where nobody said why it failed."""
        return self.code is not None or self.status is not None

    @property
    def is_spent_quota(self) -> bool:
        """The provider's quota is spent: trying again does not help."""
        return self.code in QUOTA_CODES

    @property
    def is_rate_limit(self) -> bool:
        """Too fast, or the provider is overloaded: trying again later helps."""
        if self.is_spent_quota:
            return False
        return self.code in RATE_CODES or self.code in OVERLOADED_CODES or self.status in (429, 529)


#: Classes of the SDK that say what happened by their name alone.
_SDK_CLASSES = {
    "RateLimitError": Failure("rate_limit_exceeded", 429),
    "APITimeoutError": Failure("timeout"),
    "APIConnectionError": Failure("connection_error"),
    "InternalServerError": Failure("server_error", 500),
}
#: Codes that stand for themselves where a caller gives one instead of a class name.
_BARE_CODES = QUOTA_CODES | {"rate_limit_exceeded", "rate_limit_error", "overloaded_error", "server_error"}


def of_text(type_name: str, message: str = "") -> Failure:
    """The failure behind ``type(exc).__name__`` and ``str(exc)``.

    The SDK's own text, ``Error code: 429 - {'error': {...}}``, has status and code; since its version 3 it is
    ``Error code: 429 - some words``, without the code. Any other text says nothing, and then the exact name of an SDK
    class counts, or an exact provider code. ``Failure()`` where none of them is there.
    """
    told = _SDK_TEXT.match(message) if len(message) <= _MAX_CHARS else None
    if told is None:
        if type_name in _BARE_CODES:
            return Failure(type_name)
        return _SDK_CLASSES.get(type_name, Failure())
    rest = (told.group(2) or "").strip()
    error = _error_of(_literal(rest)) if rest.startswith("{") else {"message": rest}
    return Failure(_code_of(error), int(told.group(1)), _wait_in(error.get("message")))


def of_report(type_name: str | None, message: str) -> Failure:
    """The failure behind a report by hand of ``type(exc).__name__`` and ``str(exc)``.

    Where that exception is the one being handled just now, as in every caller's ``except``, it says more itself.
    """
    handled = sys.exc_info()[1]
    if handled is not None and type_name in (None, type(handled).__name__) and str(handled) == message:
        return of_exception(handled)
    return of_text(type_name or "", message)


def of_exception(exc: BaseException) -> Failure:
    """The failure behind an exception: its attributes, as the SDK sets them, or else its text."""
    code, status, retry_after = describe_failure(exc)
    if code is None and status is None:
        return of_text(type(exc).__name__, str(exc))
    if retry_after is None:
        retry_after = _wait_in(_error_of(getattr(exc, "body", None)).get("message"))
    return Failure(code, status, retry_after)


def _literal(text: str) -> object:
    """The Python literal that ``text`` is, or ``None``."""
    depth = deepest = 0
    for char in text:
        if char in "{[(":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}])":
            depth -= 1
    if not text or deepest > _MAX_DEPTH:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _error_of(body: object) -> Mapping[str, Any]:
    """What is under ``error``; the body itself where it has no such part."""
    if not isinstance(body, Mapping):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, Mapping) else body


def _code_of(error: Mapping[str, Any]) -> str | None:
    return _code(error.get("code")) or _code(error.get("type"))


def _code(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_CODE_CHARS else None


def _wait_in(message: object) -> float | None:
    """The seconds of a provider's "Please try again in 1m2.5s."; ``None`` where it says nothing of the kind."""
    found = _TRY_AGAIN.search(message[:_MAX_CHARS]) if isinstance(message, str) else None
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds, millis = (float(found.group(name) or 0) for name in ("h", "m", "s", "ms"))
    return min(hours * 3_600 + minutes * 60 + seconds + millis / 1_000, _LONGEST_WAIT)
