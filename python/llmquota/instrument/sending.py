"""One request to a provider: admitted before it leaves, counted once when its answer has ended, however it ends."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from llmquota import _native
from llmquota.admission import GuardedCall, Terms, failure_of
from llmquota.context import Context, begin_trail, current
from llmquota.errors import QuotaError, QuotaExceeded, retry_after_of
from llmquota.estimates import Estimate, estimate_request
from llmquota.usage import UsageNumbers

from .objects import Objects
from .observing import Unheld
from .providers import Endpoint, Providers

__all__ = ["Sender", "SentCall"]

IN_SEND = "llmquota.sending"
"""The extension of a request that is seen to already, by a layer further out."""

HEADERS = {
    "workspace_id": "x-llmquota-workspace",
    "goal_id": "x-llmquota-goal",
    "task_id": "x-llmquota-task",
    "user_id": "x-llmquota-user",
}
"""Whose call it is, where the context does not say: percent-encoded, and taken out before the request leaves."""

MAX_TERMS = 1_024
_CREDENTIALS = ("authorization", "api-key", "x-api-key")
_NO_ESTIMATE = Estimate(0, 0)
_USAGE = frozenset(UsageNumbers.__dataclass_fields__)
_log = logging.getLogger(__name__)


class Sender:
    """How the requests of this process, or of one transport, are seen to."""

    def __init__(self, manager: Any, providers: Providers, *, observe: bool) -> None:
        """``manager``: a ``QuotaManager``, a function that returns one, or ``None`` for the environment's."""
        self._manager = manager
        self._providers = providers
        self.observe = observe
        self.objects = Objects()
        self._terms: dict[tuple[Endpoint, str | None], Terms] = {}

    def terms(self, endpoint: Endpoint, credential: str | None) -> Terms:
        """What is the same for all calls of an endpoint with a credential."""
        known = self._terms.get((endpoint, credential))
        if known is None:
            if len(self._terms) >= MAX_TERMS:
                self._terms.clear()
            known = Terms(endpoint.provider, credential, self._manager, False, None, "normal", None, endpoint.method)
            self._terms[endpoint, credential] = known
        return known

    def begin(self, request: Any) -> SentCall | None:
        """Admits a request, and changes its headers; ``None`` for one that is no provider's, or seen to already.

        Raises :class:`QuotaError`, and then nothing is to be sent; nothing else.
        """
        if IN_SEND in request.extensions:
            return None
        try:
            endpoint = self._providers.recognise(request.method, request.url)
            if endpoint is None:
                return None
            begin_trail()
            call = SentCall(self, endpoint, request)
            call.begin()
        except QuotaError:
            raise
        except Exception:
            # The caller's request is worth more than its count: it goes, and this is told.
            _log.exception("A request to %s could not be admitted, and is not counted", request.url.host)
            return None
        request.extensions[IN_SEND] = call
        call.mark(request)
        return call


class SentCall(GuardedCall):
    """A request on its way. The innermost claim on its call: what a guard around it holds is given back first."""

    def __init__(self, sender: Sender, endpoint: Endpoint, request: Any) -> None:
        self._endpoint = endpoint
        self._observe = sender.observe
        self._objects = sender.objects
        # Of what makes nothing, and of what was charged before, it is known that it costs nothing.
        self._is_free = not endpoint.makes
        headers = request.headers
        said = {name: unquote(value) for name, header in HEADERS.items() if (value := headers.pop(header, None))}
        body = _body(request)
        estimate = estimate_request(body) if endpoint.makes else _NO_ESTIMATE
        # The context says whose call it is; the headers of a client what it leaves open.
        names = current().within(Context(**said)) if said else current()
        model = body.get("model") or endpoint.deployment
        if isinstance(model, str):
            names = replace(names, model=model)
        terms = sender.terms(endpoint, _credential(endpoint.provider, headers))
        super().__init__(terms, names, estimate, None if endpoint.makes else 0)

    def begin(self) -> None:
        """Admits it. Raises ``QuotaExceeded``, unless calls are only observed."""
        try:
            super().begin()
        except QuotaExceeded:
            if not self._observe:
                raise
            self._started(Unheld(self._record, self._asked))

    def mark(self, request: Any) -> None:
        """Sends the hold's id along, in place of none or of a guard's that is given back."""
        name = request.headers.get("x-client-request-id")
        guard = getattr(self.outer, "hold", None)
        if self.hold.id and (name is None or name == getattr(guard, "id", None)):
            request.headers["X-Client-Request-Id"] = self.hold.id

    def reader(self, response: Any, encoding: str) -> _native.AnswerReader:
        """Reads the answer's bytes, which are still packed as ``encoding`` says."""
        return _native.AnswerReader(response.headers.get("content-type", ""), encoding)

    def answered(self, response: Any, reader: _native.AnswerReader) -> None:
        """The answer has ended, or nobody reads on. The first time counts. Never raises."""
        told = reader.finish()
        if told is None:
            return
        try:
            usage, failure = self._read(response, told)
        except Exception:
            _log.exception("An answer of %s could not be read, and is counted as it was held", self._endpoint.provider)
            usage, failure = None, None
        self._end(usage, failure=failure, whole=told["is_whole"])

    def broke(self, response: Any, reader: _native.AnswerReader, error: Exception) -> None:
        """The answer broke off. What had come of it counts, with the failure. Never raises."""
        told = reader.finish()
        if told is not None:
            usage, _ = self._read(response, told)
            self._end(usage, failure=failure_of(error))

    def _read(self, response: Any, told: dict[str, Any]) -> tuple[UsageNumbers | None, dict[str, Any] | None]:
        for problem in told.get("problems", ()):
            _log.warning("An answer of %s to %s: %s", self._endpoint.provider, self._endpoint.method, problem)
        self._characters = told["characters"]
        request_id = response.headers.get("x-request-id")
        usage = self._charged(told, request_id)
        status = response.status_code
        error = told.get("error")
        if status < 400 and error is None:
            return usage, None
        code, kind = error or (None, None)
        failure = {
            "success": False,
            "error_code": code or kind,
            # An error inside an answer that began well has the status of none.
            "error_status": status if status >= 400 else None,
            "retry_after": retry_after_of(response.headers),
            "requests": 1,
            "request_id": request_id,
            "unknown": status < 400,
        }
        return (usage if status < 400 else None), failure

    def _charged(self, told: dict[str, Any], request_id: str | None) -> UsageNumbers | None:
        """What this call is charged: nothing where it only shows what another was charged, or makes nothing."""
        usage = None
        if "total_tokens" in told:
            fields = {name: value for name, value in told.items() if name in _USAGE and name != "problems"}
            usage = UsageNumbers(**fields, request_id=request_id)
        provider, name = self._endpoint.provider, told.get("response_id")
        if name is not None:
            if usage is not None and self._objects.shown(provider, name, usage):
                self._is_free = True
            elif self._endpoint.makes and usage is not None:
                self._objects.charged(provider, name)
            elif self._endpoint.makes and told.get("error") is None:
                self._objects.began(provider, name, self._amend_usage)
        return UsageNumbers(input_tokens=0, output_tokens=0, request_id=request_id) if self._is_free else usage

    def _amend_usage(self, usage: UsageNumbers) -> None:
        if self._charged_as_held:
            self._charged_as_held = False
            self.hold.settle(usage, **{"requests": usage.requests, **self._beside({})})

    def _beside(self, record: Mapping[str, Any]) -> dict[str, Any]:
        beside = super()._beside(record)
        return {**beside, "cost_usd": 0} if self._is_free else beside


def _credential(provider: str, headers: Any) -> str | None:
    secret = next((value for name in _CREDENTIALS if (value := headers.get(name))), None)
    # A signed token is another every hour, of one and the same credential.
    return None if secret is None or "eyJ" in secret else _fingerprint(provider, secret)


@functools.lru_cache(maxsize=1_024)
def _fingerprint(provider: str, secret: str) -> str:
    """Names a credential without telling it."""
    return f"{provider}/{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


def _body(request: Any) -> Mapping[str, Any]:
    """The request's JSON, where it has an object; empty for everything else."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return {}
    try:
        body = json.loads(request.content)
    except Exception:
        # It is written as it is sent (nobody has it yet), or it is no JSON, which the provider will say.
        return {}
    return body if isinstance(body, dict) else {}
