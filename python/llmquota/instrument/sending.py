"""One request to a provider: admitted before it leaves, counted once when its answer has ended, however it ends."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeGuard, TypeVar
from urllib.parse import unquote

from llmquota import _native
from llmquota.charging import CHARGED_BESIDE, asked_for, used_beside
from llmquota.context import Context, begin_trail, current
from llmquota.errors import QuotaError, retry_after_of
from llmquota.estimates import Estimate
from llmquota.outcomes import failure_of
from llmquota.terms import Terms
from llmquota.usage import Usage, UsageNumbers, in_numbers

from .asking import asking_for_usage, without_usage_chunk
from .objects import OBJECTS
from .observing import ObservableCall
from .providers import Endpoint, Providers
from .reading import body_of, model_and_estimate
from .traces import named_by_trace

__all__ = ["Sender", "SentCall", "credential_of", "is_name"]

EXTENSION = "llmquota"
"""What a request keeps of its headers: it may be sent again, and its redirects are of the same call."""

HEADERS = {
    b"x-llmquota-workspace": "workspace_id",
    b"x-llmquota-goal": "goal_id",
    b"x-llmquota-task": "task_id",
    b"x-llmquota-user": "user_id",
}
"""Whose call it is, where the context does not say: percent-encoded, and taken out before the request leaves."""

MAX_TERMS = 1_024
MAX_NAME_BYTES = 256
_CREDENTIALS = (b"authorization", b"api-key", b"x-api-key")
_REQUEST_ID = b"x-client-request-id"
_NOTHING: Mapping[Any, Any] = {}
_NO_ESTIMATE = Estimate(0, 0)
_log = logging.getLogger(__name__)
_Call = TypeVar("_Call", bound=ObservableCall)


class Sender:
    """How the requests of this process, or of one transport, are seen to."""

    def __init__(self, manager: Any, providers: Providers, *, observe: bool, include_usage: bool) -> None:
        """``manager``: a ``QuotaManager``, a function that returns one, or ``None`` for the environment's."""
        self._manager = manager
        self._providers = providers
        self.observe = observe
        self._include_usage = include_usage
        self._terms: dict[tuple[Endpoint, str | None], Terms] = {}

    def terms(self, endpoint: Endpoint, credential: str | None) -> Terms:
        """What is the same for all calls of an endpoint with a credential."""
        known = self._terms.get((endpoint, credential))
        if known is None:
            if len(self._terms) >= MAX_TERMS:
                self._terms.clear()
            known = Terms(endpoint.provider, credential, self._manager, False, "normal", None, endpoint.method)
            self._terms[endpoint, credential] = known
        return known

    def recognise(self, verb: str, url: Any) -> Endpoint | None:
        """What a request to ``url`` calls; ``None`` where it is no provider's."""
        return self._providers.recognise(verb, url)

    def admitted(self, make: Callable[[], _Call | None], what: str, whose: str) -> _Call | None:
        """The call that ``make`` returns, admitted; ``None`` where there is none, or it goes without being counted.

        Raises :class:`QuotaError`, and then nothing is to be sent; nothing else. ``what`` and ``whose`` are for logs.
        """
        try:
            call = make()
            if call is not None:
                call.begin()
        except QuotaError as error:
            if not self.observe:
                raise
            _log.warning("%s %s cannot be counted, and goes all the same: %s", what, whose, error)
            return None
        except Exception:
            # What the caller sends is worth more than its count: it goes, and this is told.
            _log.exception("%s %s could not be admitted, and is not counted", what, whose)
            return None
        return call

    def begin(self, library: ModuleType, request: Any) -> SentCall | None:
        """Admits a request of ``library``, and changes its headers; ``None`` for one that is no provider's.

        Raises :class:`QuotaError`, and then nothing is to be sent; nothing else.
        """
        call = self.admitted(lambda: self._call(request), "A request to", request.url.host)
        if call is None:
            return None
        try:
            call.mark(request)
            if self._include_usage:
                call.ask_for_usage(library)
        except Exception:
            _log.exception("A request to %s goes as it is", request.url.host)
        return call

    def _call(self, request: Any) -> SentCall | None:
        endpoint = self.recognise(request.method, request.url)
        if endpoint is None:
            return None
        begin_trail()
        return SentCall(self, endpoint, request)


class SentCall(ObservableCall):
    """A request on its way. The innermost claim on its call: what a guard around it holds is given back first."""

    def __init__(self, sender: Sender, endpoint: Endpoint, request: Any) -> None:
        #: What is to be sent.
        self.request = request
        #: Of a stream that was asked for more than the caller asked: takes that out again.
        self.filter: Callable[[bytes], Iterator[bytes]] | None = None
        self._endpoint = endpoint
        # Of what makes nothing, and of what was charged before, it is known that it costs nothing.
        self._is_free = not endpoint.makes
        # A list of models is nothing that anybody records by hand.
        self.may_be_recorded = endpoint.makes
        # Looked through once: the library's own look-up goes through all of them each time.
        headers = {name.lower(): value for name, value in request.headers.raw}
        self._request_id = headers.get(_REQUEST_ID)
        said = request.extensions.get(EXTENSION, _NOTHING)
        for header, name in HEADERS.items():
            if header in headers:
                said = {**said, name: unquote(_text(headers[header]))}
                del request.headers[header.decode()]
        if said:
            request.extensions[EXTENSION] = said
        self._sent_before = said.get(_REQUEST_ID)
        self._content_type = headers.get(b"content-type", b"")
        body = body_of(request, self._content_type) if endpoint.method in CHARGED_BESIDE else _NOTHING
        self._asked_for = asked_for(endpoint.method, body)
        model, estimate = model_and_estimate(request, self._content_type)
        if not endpoint.makes:
            estimate = _NO_ESTIMATE
        model = model or endpoint.deployment
        names = Context(model=model if is_name(model) else None)
        # The context says whose call it is; the trace of an agent's run, then a client's headers, what it leaves open.
        trace, whose = named_by_trace(), {name: said[name] for name in HEADERS.values() if name in said}
        if trace is not None or whose:
            names = names.within(current()).within(trace or Context()).within(Context(**whose))
        terms = sender.terms(endpoint, credential_of(endpoint.provider, headers))
        super().__init__(terms, names, estimate, None if endpoint.makes else 0, observe=sender.observe)

    def _ask(self) -> dict[str, Any]:
        ask, units = super()._ask(), self._asked_for.units
        if units:
            nanos, is_guess = self._price(UsageNumbers(0, 0, **units))
            # Of a model whose pictures or speech are tokens this is no price.
            ask |= {} if is_guess else {"cost_usd": nanos / 1e9}
        return ask

    def mark(self, request: Any) -> None:
        """Sends the hold's id along, in place of none, of a guard's that is given back, or of an earlier sending's."""
        hold_id = self.hold.id
        if not hold_id or (self._request_id is not None and not self._is_ours(self._request_id)):
            return
        request.headers["X-Client-Request-Id"] = hold_id
        request.extensions[EXTENSION] = {**request.extensions.get(EXTENSION, _NOTHING), _REQUEST_ID: hold_id}

    def _is_ours(self, request_id: bytes) -> bool:
        guard = getattr(getattr(self.outer, "hold", None), "id", None)
        return request_id.decode("ascii", "replace") in (guard, self._sent_before)

    def ask_for_usage(self, library: ModuleType) -> None:
        """Has a chat stream say what it used."""
        asking = asking_for_usage(library, self.request, self._endpoint, self._content_type)
        if asking is not None:
            self.request, self.filter = asking, without_usage_chunk()

    def reader(self, response: Any, encoding: str) -> _native.AnswerReader:
        """Reads the answer's bytes, which are still packed as ``encoding`` says."""
        # What was sent is not kept for as long as its answer, or what that began, may last.
        self.request = None
        return _native.AnswerReader(response.headers.get("content-type", ""), encoding)

    def hear(self, response: Any) -> None:
        """Takes what the head of the answer says is left of the provider's own limits. Never raises."""
        status = response.status_code
        if status == 429:
            # How long that is for is said with its failure, by ``retry-after`` before all else.
            return
        try:
            problems = self.hold.hear(response.headers.raw, status < 400)
        except Exception:
            _log.exception("What is left of the limits of %s could not be noted", self._endpoint.provider)
            return
        if problems:
            _log.debug("Of what %s says of its limits is ignored: %s", self._endpoint.provider, "; ".join(problems))

    def answered(self, response: Any, reader: _native.AnswerReader, broke: Exception | None = None) -> None:
        """The answer has ended, or nobody reads on, or it ``broke`` off. The first time counts. Never raises."""
        request_id = response.headers.get("x-request-id")
        told = reader.finish(request_id)
        if told is None:
            return
        try:
            usage, failure = self._read(response, told, request_id)
        except Exception:
            _log.exception("An answer of %s could not be read, and is counted as it was held", self._endpoint.provider)
            usage, failure = None, None
        if broke is None:
            self._end(usage, failure=failure, whole=told["is_whole"])
        else:
            # What had come of it counts, with the failure.
            self._end(usage, failure=failure_of(broke))

    def _read(
        self, response: Any, told: dict[str, Any], request_id: str | None
    ) -> tuple[Usage | None, dict[str, Any] | None]:
        for problem in told.get("problems", ()):
            _log.warning("An answer of %s to %s: %s", self._endpoint.provider, self._endpoint.method, problem)
        self._characters = told["characters"]
        usage = self._charged(told, request_id)
        status = response.status_code
        error = told.get("error")
        if status < 400 and (error is None or not self._endpoint.makes):
            # An object that is fetched tells of its own failure, which was another call's.
            return usage, None
        code, kind = error or (None, None)
        failure = {
            "success": False,
            "error_code": code or kind,
            # An error inside an answer that began well has the status of none.
            "error_status": status if 400 <= status <= 599 else None,
            "retry_after": retry_after_of(response.headers),
            "requests": 1,
            "request_id": request_id,
            "unknown": not 400 <= status <= 599,
        }
        return (usage if status < 400 else None), failure

    def _charged(self, told: dict[str, Any], request_id: str | None) -> Usage | None:
        """What this call is charged: nothing where it only shows what another was charged, or makes nothing."""
        beside = used_beside(self._asked_for, told)
        usage: Usage | None = told.get("usage")
        if beside:
            tokens = UsageNumbers(0, 0, request_id=request_id) if usage is None else in_numbers(usage)
            usage = replace(tokens, **beside)
        name = told.get("response_id")
        if name is not None:
            self._see_object(name, usage, failed=told.get("error") is not None)
        return UsageNumbers(input_tokens=0, output_tokens=0, request_id=request_id) if self._is_free else usage

    def _see_object(self, name: str, usage: Usage | None, *, failed: bool) -> None:
        endpoint = self._endpoint
        # Where something new is made an id that was seen before says nothing: not every provider's ids are its own.
        if not endpoint.makes or endpoint.continues:
            is_known = OBJECTS.knows(endpoint.provider, name)
            if usage is not None:
                OBJECTS.shown(endpoint.provider, name, usage)
            self._is_free |= is_known
        elif endpoint.lasts and usage is not None:
            OBJECTS.charged(endpoint.provider, name)
        elif endpoint.lasts and not failed:
            OBJECTS.began(endpoint.provider, name, self._amend_usage)

    def _amend_usage(self, usage: Usage) -> None:
        if self._charged_as_held:
            self._charged_as_held = False
            self.hold.settle(usage, **{"requests": usage.requests, **self._beside({})})

    def _beside(self, record: Mapping[str, Any]) -> dict[str, Any]:
        beside = super()._beside(record)
        return {**beside, "cost_usd": 0} if self._is_free else beside


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def is_name(model: object) -> TypeGuard[str]:
    """Whether it can name an account; what else a request has there is the provider's to refuse."""
    return isinstance(model, str) and model.isprintable() and 0 < len(model.encode()) <= MAX_NAME_BYTES


def credential_of(provider: str, headers: Mapping[bytes, bytes]) -> str | None:
    """The account of the credential that a request's headers have; ``None`` where they have none."""
    secret = next((value for name in _CREDENTIALS if (value := headers.get(name))), None)
    # A signed token is another every hour, of one and the same credential.
    return None if secret is None or secret[:10].lower() == b"bearer eyj" else _fingerprint(provider, secret)


@functools.lru_cache(maxsize=1_024)
def _fingerprint(provider: str, secret: bytes) -> str:
    """Names a credential without telling it."""
    return f"{provider}/{hashlib.sha256(secret).hexdigest()[:8]}"
