"""What llmquota raises, and how it reads what a provider's client raised.

The engine's failures become these classes by their code; a refusal becomes :class:`QuotaExceeded`, which
:func:`exceeded` alone makes.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from . import _native

__all__ = [
    "QuotaConfigError",
    "QuotaError",
    "QuotaExceeded",
    "QuotaInputError",
    "QuotaStoreError",
    "describe_failure",
    "exceeded",
    "failed_request_id",
    "nothing_was_sent",
    "refusal_response",
    "retry_after_of",
]


class QuotaError(Exception):
    """Anything that llmquota raises."""

    #: A stable word for machines, such as ``invalid_number``.
    code: str
    #: The argument, setting or table that it is about; ``""`` where there is none.
    field: str

    def __init__(self, message: str, code: str = "error", field: str = "") -> None:
        # By name: next in line may be an error of the SDK's, whose constructor wants a response.
        Exception.__init__(self, message, code, field)
        self.code = code
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class QuotaInputError(QuotaError, ValueError):
    """An argument cannot be: the message has its name, its value and what would be right. Nothing was recorded."""


class QuotaConfigError(QuotaInputError):
    """A setting, a limit or a limits file cannot be read."""


class QuotaStoreError(QuotaError, RuntimeError):
    """The store could not serve the call: it is full, busy or damaged."""


class QuotaExceeded(QuotaError):
    """A call may not go. :func:`exceeded` makes it, an ``openai.RateLimitError`` too where ``openai`` is loaded."""

    #: HTTP's "Too Many Requests".
    status_code: int = 429

    #: The whole answer, as it stands on the wire.
    decision: dict[str, Any]
    #: ``limit``, ``breaker``, ``queue``, ``store_full`` or ``store_busy``.
    reason: str
    #: Seconds until the same call would fit if nobody else comes; ``None`` where nobody knows, or it fits at no time.
    retry_after: float | None
    #: The same as an instant, RFC 3339 in UTC.
    retry_at: str | None
    #: Every enforced limit in the way.
    limits: list[dict[str, Any]]
    #: How many wait before this call.
    queued_ahead: int
    #: The call asks for more than a limit's cap.
    never_fits: bool
    workspace_id: str | None

    def __init__(self, decision: Mapping[str, Any], workspace_id: str | None = None) -> None:
        super().__init__(_sentence(decision, workspace_id), "quota_refused")
        self.decision = dict(decision)
        self.reason = str(decision.get("reason"))
        wait = decision.get("retry_after_ms")
        self.retry_after = None if wait is None else wait / 1_000
        self.retry_at = decision.get("retry_at")
        self.limits = list(decision.get("limits", ()))
        self.queued_ahead = int(decision.get("queued_ahead", 0))
        self.never_fits = bool(decision.get("never_fits", False))
        self.workspace_id = workspace_id

    def localized(self, accept_language: str = "en") -> dict[str, Any]:
        """``title``, ``message`` and ``actions`` (a list) in the language nearest to an ``Accept-Language`` value.

        Beside them ``id``, ``level`` and the ``language`` that it is in.
        """
        return _native.Manager.refusal_text(self.decision, accept_language)

    def __reduce__(self) -> tuple[Any, ...]:
        # By its maker: the class may be one that was made at run time.
        return exceeded, (self.decision, self.workspace_id)


def _sentence(decision: Mapping[str, Any], workspace_id: str | None) -> str:
    """For logs, in English. :meth:`QuotaExceeded.localized` has the texts for people."""
    whose = "" if workspace_id is None else f" for workspace {workspace_id!r}"
    reason = decision.get("reason")
    lines = [
        f"{line['limit']} of {line['scope']} {line['account']!r}: {line['used']} used + {line['held']} held"
        f" + {line['asked']} asked > {line['cap']}"
        for line in decision.get("limits", ())
    ]
    causes = "; ".join(lines) or decision.get("detail") or decision.get("breaker") or reason
    if decision.get("never_fits"):
        when = "it fits at no time"
    elif decision.get("retry_at"):
        when = f"retry at {decision['retry_at']}"
    else:
        when = "retry later"
    return f"refused{whose} ({reason}): {causes}; {when}"


def exceeded(decision: Mapping[str, Any], workspace_id: str | None = None) -> QuotaExceeded:
    """The exception of a refusal: the one place that makes it."""
    base = _openai_error()
    if base is None:
        return QuotaExceeded(decision, workspace_id)
    return _for_openai(base)(decision, workspace_id)


def _openai_error() -> type[Exception] | None:
    """``openai.RateLimitError``, if ``openai`` is loaded (and whole: it may be loading just now)."""
    found = getattr(sys.modules.get("openai"), "RateLimitError", None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


_classes: dict[type[Exception], type[QuotaExceeded]] = {}


def _for_openai(base: type[Exception]) -> type[QuotaExceeded]:
    return _classes.get(base) or _classes.setdefault(base, _made_for(base))


def _made_for(base: type[Exception]) -> type[QuotaExceeded]:
    def set_up(self: Any, decision: Mapping[str, Any], workspace_id: str | None = None) -> None:
        QuotaExceeded.__init__(self, decision, workspace_id)
        # The attributes of the SDK's own errors, set by hand: its constructor wants a response of its HTTP library.
        self.message = str(self)
        self.body = _body_of(self)
        self.type, self.param, self.request_id = "quota_refused", None, None
        self.request, self.response = _exchange(base, self)

    members = {"__init__": set_up, "__module__": __name__, "__doc__": QuotaExceeded.__doc__}
    return type("QuotaExceeded", (QuotaExceeded, base), members)


def _exchange(base: type[Exception], error: QuotaExceeded) -> tuple[Any, Any]:
    """A request and a response of the SDK's HTTP library that say what ``error`` says."""
    module = sys.modules.get(base.__module__.partition(".")[0] + "._exceptions")
    http = getattr(module, "httpx2", None) or getattr(module, "httpx", None)
    if http is None:
        return None, None
    request = http.Request("POST", "https://quota.invalid/")
    return request, refusal_response(http, request, error, error.status_code)


def refusal_response(http: Any, request: Any, error: QuotaError, status: int) -> Any:
    """What a provider would answer that refused ``request`` as ``error`` does: a response of ``http``, httpx or httpx2.

    It says that it is not to be tried again, in the header that the SDKs heed.
    """
    headers = {"x-should-retry": "false"}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["retry-after"] = str(math.ceil(retry_after))
        headers["retry-after-ms"] = str(round(retry_after * 1_000))
    return http.Response(status, headers=headers, json={"error": _body_of(error)}, request=request)


def _body_of(error: QuotaError) -> dict[str, Any]:
    kind = "quota_refused" if isinstance(error, QuotaExceeded) else "quota_error"
    return {"message": str(error), "type": kind, "param": error.field or None, "code": error.code}


# --- what a provider's client raised ---

_TIMEOUTS = {"TimeoutError", "APITimeoutError", "Timeout", "TimeoutException", "ReadTimeout", "WriteTimeout"}
_CONNECTIONS = {"ConnectionError", "APIConnectionError", "ClientConnectionError", "NetworkError", "RemoteProtocolError"}
#: They end a call before its first byte.
_UNSENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ConnectionRefusedError",
    "ClientConnectorError",
    "gaierror",
}


def describe_failure(error: BaseException) -> tuple[str | None, int | None, float | None]:
    """The provider's error code, the HTTP status and the provider's own wait in seconds; each ``None`` where unknown.

    Reads attributes that the provider's SDK sets (``code``, ``status_code``, ``body``, ``response.headers``), imports
    nothing, believes no free text, and never raises. A timeout has the code ``timeout`` and a connection that broke
    ``connection_error``. A refusal of llmquota's own is no failure of a provider.
    """
    if isinstance(error, QuotaError):
        return None, None, None
    try:
        status = _status(error)
        code = _code(error)
        if code is None and status is None:
            code = _broken(error)
        return code, status, _retry_after(error)
    except Exception:
        # An attribute that runs code of its own.
        return None, None, None


def failed_request_id(error: BaseException) -> str | None:
    """The provider's name for the request that failed, as its SDK keeps it; ``None`` where unknown. Never raises."""
    try:
        name = getattr(error, "request_id", None)
        if isinstance(name, str) and name and not isinstance(error, QuotaError):
            name.encode()
            return name
    except Exception:
        # An attribute that runs code of its own, or a text that is no Unicode.
        return None
    return None


def nothing_was_sent(error: BaseException) -> bool:
    """Whether the call ended before its first byte could leave: no connection was had. Such a call is no request."""
    return any(_is_called(cause, _UNSENT) for cause in _causes(error))


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    for status in (getattr(error, "status_code", None), getattr(response, "status_code", None)):
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return status
    return None


def _code(error: BaseException) -> str | None:
    body = getattr(error, "body", None)
    inner = body.get("error") if isinstance(body, Mapping) else None
    mappings = [each for each in (body, inner) if isinstance(each, Mapping)]
    # The type after every code: OpenAI's errors have both, Anthropic's have the type alone.
    given = [getattr(error, "code", None), *(each.get("code") for each in mappings)]
    types = [each.get("type") for each in mappings if each.get("type") != "error"]
    return next((code for code in [*given, *types] if isinstance(code, str) and code), None)


def _broken(error: BaseException) -> str | None:
    # The error itself before its causes: a timeout may be caused by a connection that broke, and not the other way.
    if _is_called(error, _TIMEOUTS):
        return "timeout"
    causes = list(_causes(error))
    if any(_is_called(cause, _UNSENT | _CONNECTIONS) for cause in causes):
        return "timeout" if any(_is_called(cause, _TIMEOUTS) for cause in causes) else "connection_error"
    return None


def _is_called(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from. Bounded: a chain of causes can be made to go round."""
    cause: BaseException | None = error
    for _ in range(16):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _retry_after(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return None if headers is None else retry_after_of(headers)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that a provider asks to wait; ``None`` where its answer does not say.

    The first of ``retry-after-ms``, ``retry-after`` (a date too), and the time that ``x-ratelimit-reset-*`` or
    ``anthropic-ratelimit-*-reset`` gives for what nothing is left of.
    """
    millis = _seconds(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1_000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is None and isinstance(value, str):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return _native.none_left_for(headers.items()) if seconds is None else seconds


def _seconds(value: object) -> float | None:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # what is no number is caught
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
