"""What goes wrong, on purpose: errors, delays, dropped connections, broken bodies, streams that end too early."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from .answers import Answer, Cut, Event
from .errors import BY_CODE, BY_STATUS, ErrorKind, error_body
from .http1 import Request
from .limits import retry_headers
from .matching import Predicate, When, checked_times, matcher

__all__ = ["Fault", "FaultKind", "FaultQueue"]

FaultKind = Literal[
    "error",
    "latency",
    "timeout",
    "drop_before_headers",
    "drop_in_body",
    "drop_in_stream",
    "malformed_json",
    "error_in_stream",
    "stream_without_usage",
    "stream_without_done",
]
_ONLY_STREAMS = {"drop_in_stream", "error_in_stream", "stream_without_usage", "stream_without_done"}
_ONLY_DOCUMENTS = {"drop_in_body"}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    ==========================  ========================================================================================
    kind                        what happens
    ==========================  ========================================================================================
    ``error``                   the answer is an error of ``status``, ``code``, ``type``, ``message``, ``retry_after``;
                                of status and code, one is enough; nothing is charged
    ``latency``                 the answer comes ``seconds`` late
    ``timeout``                 the answer is held for ``seconds``, or until the fake stops
    ``drop_before_headers``     the connection is closed without an answer
    ``drop_in_body``            the connection is closed in the middle of the document
    ``drop_in_stream``          the connection is closed after ``after`` events of the stream
    ``malformed_json``          the document is cut off, though whole for HTTP; in a stream, the event after ``after``
    ``error_in_stream``         after ``after`` events the stream says an error of that status and code, and ends
    ``stream_without_usage``    no usage in the stream, even if it was asked for
    ``stream_without_done``     the last event (``[DONE]``, ``response.completed``) does not come; the body ends well
    ==========================  ========================================================================================

    All but ``error`` charge the tokens of the answer. Any kind may also come ``seconds`` late.
    """

    kind: FaultKind = "error"
    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str | None = None
    param: str | None = None
    retry_after: float | None = None
    """Seconds; sent as ``retry-after`` (whole seconds, rounded up) and ``retry-after-ms``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    after: int = 2

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"there is no fault {self.kind!r}; there are {', '.join(get_args(FaultKind))}")
        if self.status is not None and not (isinstance(self.status, int) and 400 <= self.status <= 599):
            raise ValueError(f"the status of an error is from 400 to 599, not {self.status!r}")
        for name in ("seconds", "retry_after"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a number of at least 0, not {value!r}")
        if self.status is None and self.code is not None and self.code not in BY_CODE:
            raise ValueError(f"the code {self.code!r} needs a status; known without are {', '.join(BY_CODE)}")
        if self.kind == "latency" and self.seconds is None:
            raise ValueError("latency needs seconds")
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 0:
            raise ValueError(f"after must be a whole number of at least 0, not {self.after!r}")

    def fits(self, request: Request) -> bool:
        """Whether it can happen to this request: a stream cannot break where there is none."""
        return not (self.kind in _ONLY_DOCUMENTS if request.stream else self.kind in _ONLY_STREAMS)

    def error(self) -> Answer:
        """The answer of kind ``error``."""
        status, body = self._error()
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers |= retry_headers(self.retry_after)
        return Answer(body=body, status=status, headers=headers, delay=self.seconds or 0.0)

    def spoil(self, answer: Answer) -> Answer:
        """What becomes of a good answer."""
        answer.headers |= dict(self.headers)
        answer.delay = None if self.kind == "timeout" and self.seconds is None else (self.seconds or 0.0)
        if self.kind == "drop_before_headers":
            answer.cut = Cut.BEFORE_HEADERS
        elif self.kind in ("drop_in_body", "drop_in_stream"):
            answer.cut = Cut.IN_BODY
        elif self.kind == "malformed_json":
            answer.garbled = True
        if answer.events is not None:
            answer.events = self._spoil_events(answer.events)
        return answer

    def _spoil_events(self, events: list[Event]) -> list[Event]:
        if self.kind == "drop_in_stream":
            return events[: self.after]
        if self.kind == "malformed_json":
            return [*events[: self.after], Event('{"id": "cut')]
        if self.kind == "error_in_stream":
            return [*events[: self.after], Event(self._error()[1], name="error")]
        if self.kind == "stream_without_usage":
            return [told for event in events if (told := _without_usage(event)) is not None]
        if self.kind == "stream_without_done":
            return events[:-1]
        return events

    def _error(self) -> tuple[int, dict[str, Any]]:
        status = self.status
        code = self.code
        if code is None:
            code = BY_STATUS.get(500 if status is None else status)
        known = BY_CODE.get(code or "", ErrorKind(500, "server_error", "The fake was told to fail."))
        if status is None:
            status = known.status
        fallback = "invalid_request_error" if status < 500 and code not in BY_CODE else known.type
        # OpenAI names no code with a plain 5xx.
        sent_code = self.code if status >= 500 and status != 529 else code
        body = error_body(
            self.message or known.message,
            type=self.type or fallback,
            param=self.param or known.param,
            code=sent_code,
        )
        return status, body


class FaultQueue:
    """The faults to come, oldest first. A request meets at most one: the first that is for it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.RLock()  # a predicate may queue another
        self.reset()

    def reset(self) -> None:
        """No faults; the random numbers start again."""
        with self._lock:
            self._queue: list[_Queued] = []
            self._random = random.Random(self._seed)

    def add(self, fault: Fault, times: int | None, when: When, probability: float) -> None:
        """Queues a fault. Raises ``ValueError`` for arguments that mean nothing."""
        if not (isinstance(probability, (int, float)) and 0 < probability <= 1):
            raise ValueError(f"probability must be above 0 and at most 1, not {probability!r}")
        queued = _Queued(fault, checked_times(times), matcher(when), probability)
        with self._lock:
            self._queue.append(queued)

    def take(self, request: Request) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            for queued in list(self._queue):
                if not (queued.fault.fits(request) and queued.matches(request)):
                    continue
                if queued.probability < 1 and self._random.random() >= queued.probability:
                    continue
                if queued.times is not None:
                    queued.times -= 1
                    if queued.times == 0:
                        self._queue.remove(queued)
                return queued.fault
        return None

    def __len__(self) -> int:
        """How many are queued that have not happened as often as they should."""
        with self._lock:
            return len(self._queue)


@dataclass(eq=False)
class _Queued:
    fault: Fault
    times: int | None
    matches: Predicate
    probability: float


def _without_usage(event: Event) -> Event | None:
    if not event.reports_usage:
        return event
    data = event.data
    if not isinstance(data, dict) or data.get("choices") == []:
        return None  # the chunk of completions that carries nothing else
    told = {"response": {**data["response"], "usage": None}} if "response" in data else {"usage": None}
    return replace(event, data={**data, **told}, reports_usage=False)
