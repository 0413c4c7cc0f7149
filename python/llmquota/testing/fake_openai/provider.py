"""The path of a request through the fake: key, fault, endpoint, limit, books. Here it is decided, not sent."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Sequence

from .answers import Answer, Cut
from .anything import answer_anything
from .bodies import new_id
from .endpoints import Endpoints
from .errors import ProviderError, error_body
from .faults import FaultQueue
from .http1 import Request
from .limits import RateLimit
from .replies import ReplyQueue
from .routes import endpoint_of
from .served import Ledger

__all__ = ["Provider"]

REQUESTS_KEPT = 1_000
_log = logging.getLogger(__name__)


class Provider:
    """Answers requests. :meth:`answer` is for one thread, the rest for any."""

    def __init__(
        self,
        *,
        seed: int,
        api_keys: Collection[str] | None,
        limit: RateLimit,
        group_by: Sequence[str],
        latency: float,
        any_path: bool,
    ) -> None:
        self.faults = FaultQueue(seed)
        self.replies = ReplyQueue()
        self.ledger = Ledger(group_by)
        self.requests: deque[Request] = deque(maxlen=REQUESTS_KEPT)
        self._api_keys = None if api_keys is None else frozenset(api_keys)
        self._limit = limit
        self._latency = latency
        self._any_path = any_path
        self._endpoints = Endpoints()

    def reset(self) -> None:
        """As new: no faults, no replies, empty books, full buckets."""
        self.faults.reset()
        self.replies.reset()
        self.ledger.reset()
        self._limit.reset()
        self._endpoints.reset()
        self.requests.clear()

    def answer(self, request: Request) -> Answer:
        """Decides what the request gets and writes it into the books. Never raises."""
        started = time.perf_counter()
        self.requests.append(request)
        endpoint = endpoint_of(request)
        try:
            answer = self._decide(request, endpoint)
        except ProviderError as error:
            answer = Answer(body=error.body, status=error.status, headers=error.headers)
        except Exception as error:  # a predicate of the user's, or a defect of the fake: said, and the server lives on
            _log.exception("The fake could not answer %s %s", request.method, request.path)
            body = error_body(f"The fake could not answer: {error!r}", type="fake_internal_error")
            answer = Answer(body=body, status=500)
        status = "dropped" if answer.cut is Cut.BEFORE_HEADERS else str(answer.status)
        model = request.model or answer.model
        charge = self.ledger.count(request, endpoint=endpoint, model=model, status=status, usage=answer.usage)
        if answer.charge is None:
            answer.charge = charge
        if answer.delay is not None:
            answer.delay += self._latency
        milliseconds = (time.perf_counter() - started + (answer.delay or 0.0)) * 1000
        answer.headers = {
            "x-request-id": new_id("req_"),
            "openai-processing-ms": str(max(1, round(milliseconds))),
            "openai-version": "2020-10-01",
            "openai-organization": "org-fake",
            **answer.headers,
        }
        return answer

    def _decide(self, request: Request, endpoint: str) -> Answer:
        self._check_key(request)
        fault = self.faults.take(request)
        if fault is not None and fault.kind == "error":
            return fault.error()
        answer = self._serve(request, endpoint)
        return answer if fault is None else fault.spoil(answer)

    def _serve(self, request: Request, endpoint: str) -> Answer:
        route = (request.method, endpoint)
        if (speak := self._endpoints.with_reply.get(route)) is not None:
            queued = self.replies.find(request)
            answer = speak(request, queued.reply)
            self._admit(request, answer)
            self.replies.use(queued)
            return answer
        serve = self._endpoints.without_reply.get(route)
        if serve is None and self._any_path and request.api_path.startswith("/v1/"):
            serve = answer_anything
        if serve is not None:
            answer = serve(request)
            if request.method == "POST":
                self._admit(request, answer)
            return answer
        raise ProviderError(404, f"Invalid URL ({request.method} {request.path})")

    def _admit(self, request: Request, answer: Answer) -> None:
        limits = self._limit.admit(request.model or answer.model, answer.usage.total_tokens)
        answer.headers = {**limits, **answer.headers}
        if answer.on_admission is not None:
            answer.on_admission()

    def _check_key(self, request: Request) -> None:
        if self._api_keys is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = request.headers.get("api-key", "")  # Azure's header
        if not key.strip():
            raise ProviderError(401, "You didn't provide an API key.", code=None)
        if key.strip() not in self._api_keys:
            raise ProviderError(401, "Incorrect API key provided.", code="invalid_api_key")
