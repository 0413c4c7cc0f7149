"""``/v1/threads``: threads, their messages and runs on them, the smallest part of the Assistants API that has usage."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from .answers import Answer
from .bodies import json_object, new_id, optional_count, required_text
from .errors import ProviderError
from .http1 import Request
from .replies import Reply
from .routes import ids_of
from .runs import message_of, run_events, run_of, unfinished_run
from .tokens import count_messages

__all__ = ["Threads"]

KEPT = 1_000
MODEL = "gpt-4o"
"""Of a run that names none: the fake knows no assistants that would."""


class Threads:
    """The endpoints and what they keep, the newest 1,000 threads.

    A run is ``queued`` when it is made and ``completed`` at the first GET. Its tokens are charged when it is made, and
    reported by the first answer that shows them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Thread] = OrderedDict()

    def reset(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._kept.clear()

    def create(self, request: Request) -> Answer:
        """A thread with the messages it begins with."""
        return Answer(body=self._new(json_object(request)).document)

    def add_message(self, request: Request) -> Answer:
        """One message more. Raises ``ProviderError`` if there is no such thread."""
        thread = self._find(request)
        thread.add(_messages({"messages": [json_object(request)]}, "messages"))
        return Answer(body=thread.messages[-1])

    def list_messages(self, request: Request) -> Answer:
        """The messages, newest first, all on one page. Raises ``ProviderError`` if there is no such thread."""
        data = self._find(request).messages[::-1]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return Answer(body={"object": "list", "data": data, **ends, "has_more": False})

    def create_run(self, request: Request, reply: Reply) -> Answer:
        """A run, as a document or as a stream. Raises ``ProviderError`` for a bad request."""
        return self._run(request, reply, json_object(request), self._find(request))

    def create_with_run(self, request: Request, reply: Reply) -> Answer:
        """A thread and a run on it. Raises ``ProviderError`` for a bad request."""
        body = json_object(request)
        first = body.get("thread")
        return self._run(request, reply, body, self._new(first if isinstance(first, dict) else {}), is_new=True)

    def retrieve_run(self, request: Request) -> Answer:
        """A finished run. Charges nothing: its tokens were charged when it was made."""
        run_id = ids_of(request)[1]
        made = self._find(request).runs.get(run_id)
        if made is None:
            raise ProviderError(404, f"No run found with id '{run_id}'.")
        run, made_by = made
        return Answer(body=run, charge=made_by.charge)

    def _run(
        self, request: Request, reply: Reply, body: dict[str, Any], thread: _Thread, *, is_new: bool = False
    ) -> Answer:
        required_text(body, "assistant_id")
        max_tokens = optional_count(body, "max_completion_tokens")
        more = _messages(body, "additional_messages")
        told = [body[key] for key in ("instructions", "additional_instructions") if body.get(key)]
        prompt = count_messages([*thread.sent, *more, *told], body.get("tools"))
        said = reply.say_text(prompt, max_tokens=max_tokens)
        model = body.get("model") or MODEL
        run = run_of(body, thread.id, model, said)
        answer = Answer(usage=said.usage, model=model, headers=dict(said.headers), chunk_delay=said.chunk_delay)
        message = message_of(thread.id, "assistant", said.text, run=run)

        def keep() -> None:
            thread.add(more)
            thread.sent.append({"role": "assistant", "content": said.text})
            thread.messages.append(message)
            thread.runs[run["id"]] = (run, answer)

        answer.on_admission = keep
        if request.stream:
            answer.events = list(run_events(run, message, thread.document if is_new else None))
        else:
            answer.body = unfinished_run(run, "queued")
            answer.reports_usage = False
        return answer

    def _new(self, body: dict[str, Any]) -> _Thread:
        thread = _Thread()
        thread.add(_messages(body, "messages"))
        with self._lock:
            self._kept[thread.id] = thread
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return thread

    def _find(self, request: Request) -> _Thread:
        thread_id = ids_of(request)[0]
        with self._lock:
            thread = self._kept.get(thread_id)
        if thread is None:
            raise ProviderError(404, f"No thread found with id '{thread_id}'.")
        return thread


@dataclass
class _Thread:
    id: str = field(default_factory=lambda: new_id("thread_"))
    created_at: int = field(default_factory=lambda: int(time.time()))
    sent: list[Any] = field(default_factory=list)
    """The messages as they came, to be counted."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The messages as they are shown."""
    runs: dict[str, tuple[dict[str, Any], Answer]] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "thread",
            "created_at": self.created_at,
            "metadata": {},
            "tool_resources": {},
        }

    def add(self, messages: list[dict[str, Any]]) -> None:
        self.sent += messages
        self.messages += [message_of(self.id, message.get("role", "user"), message["content"]) for message in messages]


def _messages(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """``name``, if it is there. Raises ``ProviderError`` for what is no message."""
    messages = body.get(name) or []
    if not isinstance(messages, list) or not all(isinstance(item, dict) and item.get("content") for item in messages):
        raise ProviderError(400, f"Invalid '{name}': each message needs 'content'.", param=name)
    return messages
