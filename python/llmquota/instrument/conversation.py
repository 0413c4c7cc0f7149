"""The calls of one WebSocket to a provider: begun by what the client sends, or by the provider; ended by what it sends.

A connection is no call: each response on it is one. What is said is read, and but for a request's name not changed.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmquota.context import Context, begin_trail, current
from llmquota.estimates import estimate_request
from llmquota.usage import UsageNumbers, read_usage

from .observing import ObservableCall
from .providers import Endpoint
from .sending import Sender, is_name

__all__ = ["Conversation"]

_CREATE = "response.create"
_CREATED = "response.created"
_ENDS = frozenset({"response.done", "response.completed", "response.incomplete", "response.failed"})
_SESSIONS = frozenset({"session.created", "session.updated", "transcription_session.updated"})
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_TEXTS = frozenset(
    {
        "response.text.delta",
        "response.output_text.delta",
        "response.audio_transcript.delta",
        "response.output_audio_transcript.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "response.refusal.delta",
    }
)
_READ = _ENDS | _SESSIONS | _TEXTS | {_CREATED, _TRANSCRIBED, "error"}
# Not anchored: an event's type may stand after others of its parts, which have types themselves.
_TYPE = re.compile(r'"type"\s*:\s*"([a-z_.]+)"')
MOST_ITEMS = 10_000
"""Objects whose end was told that one connection remembers: where it is told again, it is soon."""

_log = logging.getLogger(__name__)


class _Response(ObservableCall):
    """One response, from its asking to its end."""

    LEAST = 1

    def __init__(self, conversation: Conversation, body: Mapping[str, Any], names: Context) -> None:
        model = body.get("model") or conversation.model
        if is_name(model):
            names = replace(names, model=model)
        observe = conversation.sender.observe
        super().__init__(conversation.terms, names, estimate_request(body), None, observe=observe)
        #: By what an error event names the client's event that it is about.
        self.event_id: Any = None

    def heard(self, text: Any) -> None:
        """A piece of what is answered."""
        if isinstance(text, str):
            self._characters += len(text)

    def answered(self, response: Mapping[str, Any]) -> None:
        """Its end has come, with what it used. Never raises."""
        usage = read_usage(response)
        failure = None
        if response.get("status") == "failed":
            details = response.get("status_details")
            error = response.get("error") or (details.get("error") if isinstance(details, Mapping) else None)
            # It had begun: what came of it is charged, also where nobody says how much that was.
            failure = {**_failure(error if isinstance(error, Mapping) else {}), "unknown": True}
        self._end(usage, failure=failure, whole=True)

    def refused(self, error: Mapping[str, Any]) -> None:
        """The provider does not begin it."""
        self._end(None, failure=_failure(error))

    def not_sent(self) -> None:
        """There was no connection any more: a failure without a request."""
        self._end(None, failure={"success": False, "requests": 0, "unknown": False})

    def broke_off(self, error: Mapping[str, Any]) -> None:
        """The provider gives it up."""
        self._end(None, failure={**_failure(error), "unknown": True})

    def transcribed(self, usage: UsageNumbers) -> None:
        """What was heard has been written down."""
        self._end(usage, whole=True)


def _failure(error: Mapping[str, Any]) -> dict[str, Any]:
    code = error.get("code") or error.get("type")
    return {"success": False, "error_code": code if isinstance(code, str) else None, "requests": 1, "unknown": False}


class Conversation:
    """One connection. Any thread may send while another receives."""

    def __init__(
        self, sender: Sender, endpoint: Endpoint, credential: str | None, model: str | None, named: Context
    ) -> None:
        """``named``: whose it is by the headers of the connection, where the context leaves that open."""
        self.sender = sender
        self._named = named
        self.terms = sender.terms(endpoint, credential)
        self.model = model
        self._endpoint = endpoint
        self._transcriber: str | None = None
        # Whose it is that the provider begins: of whoever connected.
        self._context = current().within(named)
        self._lock = threading.RLock()
        self._asked: deque[_Response] = deque()
        self._running: dict[str, _Response] = {}
        # Each provider's object is charged once, though its end may be told again.
        self._done: dict[Any, None] = {}
        self._warned = False

    # --- what the client says ---

    def about_to_send(self, message: Any) -> tuple[_Response | None, Any]:
        """Admits the response that a message asks for, and says what to send.

        That is the message, with a name where it had none, by which the provider says that it refuses it. Raises
        ``QuotaExceeded``: then it must not be sent.
        """
        event = self._event(message, only=_CREATE)
        if event is None or event.get("type") != _CREATE:
            return None, message
        call = self.sender.admitted(lambda: self._asked_by(event), "A response of", self._whose)
        if call is None:
            return None, message
        call.event_id = event.get("event_id")
        if call.event_id is None and self._is_realtime and call.hold.id is not None:
            call.event_id = call.hold.id
            message = json.dumps({**event, "event_id": call.event_id})
        with self._lock:
            self._asked.append(call)
        return call, message

    def _asked_by(self, event: Mapping[str, Any]) -> _Response:
        body = event.get("response")
        begin_trail()
        return _Response(self, body if isinstance(body, Mapping) else event, current().within(self._named))

    def was_not_sent(self, call: _Response, error: BaseException, *, is_closed: bool) -> None:
        """Sending failed."""
        with self._lock:
            if call in self._asked:
                self._asked.remove(call)
        if is_closed:
            call.not_sent()
        else:
            call.failed(error)

    # --- what the provider says ---

    def received(self, message: Any) -> None:
        """A message has come. Never raises: it is the caller's, whatever it holds."""
        try:
            event = self._event(message)
            if event is not None:
                self._hear(str(event.get("type")), event)
        except Exception:
            _log.exception("An event of %s could not be read", self._whose)

    def _hear(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == _CREATED or kind in _ENDS:
            response = event.get("response")
            name = response.get("id") if isinstance(response, Mapping) else None
            # One without a name cannot be told from the others: what it was asked for is charged as held.
            if not isinstance(response, Mapping) or not isinstance(name, str):
                return
            if kind == _CREATED:
                self._created(name, response)
            elif not self._is_done(name):
                self._ending(name).answered(response)
        elif kind in _TEXTS:
            with self._lock:
                call = self._running.get(str(event.get("response_id"))) or next(iter(self._running.values()), None)
            if call is not None:
                call.heard(event.get("delta"))
        elif kind in _SESSIONS:
            self._configured(event.get("session"))
        elif kind == _TRANSCRIBED:
            self._wrote_down(event)
        elif kind == "error":
            self._erred(event)

    def _created(self, name: str, response: Mapping[str, Any]) -> None:
        with self._lock:
            call = self._asked.popleft() if self._asked else None
            if call is None:
                # By itself, for it heard the speaker end.
                call = _Response(self, response, self._context)
                call.has_begun()
            self._running[name] = call

    def _ending(self, name: str) -> _Response:
        with self._lock:
            call = self._running.pop(name, None)
            if call is None and self._asked:
                # Its beginning was not told.
                call = self._asked.popleft()
            if call is None:
                call = _Response(self, {}, self._context)
                call.has_begun()
            return call

    def _configured(self, session: Any) -> None:
        if not isinstance(session, Mapping):
            return
        if is_name(session.get("model")):
            self.model = session["model"]
        audio = session.get("audio")
        heard = audio.get("input") if isinstance(audio, Mapping) else None
        for holder in (session.get("input_audio_transcription"), _part(heard, "transcription")):
            if isinstance(holder, Mapping) and is_name(holder.get("model")):
                self._transcriber = holder["model"]

    def _wrote_down(self, event: Mapping[str, Any]) -> None:
        usage = read_usage({"usage": event.get("usage"), "model": self._transcriber})
        if usage is None or self._is_done((event.get("item_id"), event.get("content_index"))):
            return
        call = _Response(self, {"model": self._transcriber}, self._context)
        call.method = "realtime.transcription"
        call.has_begun()
        call.transcribed(usage)

    def _erred(self, event: Mapping[str, Any]) -> None:
        error = event.get("error")
        error = error if isinstance(error, Mapping) else event
        about = error.get("event_id")
        with self._lock:
            call = next((call for call in self._asked if about is not None and call.event_id == about), None)
            begun = None
            # On a connection for responses nothing else than one of them can fail.
            if call is None and about is None and not self._is_realtime:
                begun = next(iter(self._running), None)
                call = self._running.pop(begun) if begun is not None else next(iter(self._asked), None)
            if call is not None and call in self._asked:
                self._asked.remove(call)
        if call is not None:
            call.refused(error) if begun is None else call.broke_off(error)

    # --- the end ---

    def ended(self) -> None:
        """The connection is gone: what was under way is charged as it was held. Never raises."""
        with self._lock:
            left = [*self._asked, *self._running.values()]
            self._asked.clear()
            self._running.clear()
        for call in left:
            call.closed()

    def __del__(self) -> None:
        self.ended()

    def _is_done(self, name: Any) -> bool:
        """Whether the end of this object was told before."""
        with self._lock:
            if name in self._done:
                return True
            if len(self._done) >= MOST_ITEMS:
                self._done.pop(next(iter(self._done)))
            self._done[name] = None
            return False

    @property
    def _whose(self) -> str:
        return self._endpoint.provider

    @property
    def _is_realtime(self) -> bool:
        return self._endpoint.method != "responses.create"

    def _event(self, message: Any, only: str | None = None) -> Mapping[str, Any] | None:
        try:
            return _event(message, only)
        except ValueError:
            if not self._warned:
                self._warned = True
                _log.warning("An event of %s is no JSON, and is passed on as it is", self._whose)
            return None


def _part(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else None


def _event(message: Any, only: str | None = None) -> Mapping[str, Any] | None:
    """The event of a message that says something of a call (``only``: of this type); ``None`` for all others.

    Sound is most of what passes, and is not parsed. Raises ``ValueError`` for what is no JSON.
    """
    if isinstance(message, (bytes, bytearray, memoryview)):
        try:
            message = str(message, "utf-8")
        except UnicodeDecodeError:
            return None
    if not isinstance(message, str):
        return None
    kinds = set(_TYPE.findall(message))
    if only not in kinds if only is not None else not kinds & _READ:
        return None
    try:
        event = json.loads(message)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return event if isinstance(event, dict) else None
