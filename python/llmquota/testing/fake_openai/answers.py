"""What the provider has decided to send: a document or server-sent events, and what goes wrong on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .served import Charge
from .tokens import Usage

__all__ = ["DONE", "Answer", "Cut", "Event"]


class Cut(Enum):
    """Where the connection is dropped."""

    NOWHERE = "nowhere"
    BEFORE_HEADERS = "before headers"
    IN_BODY = "in body"
    """In the middle of a document; after the last event of ``Answer.events`` in a stream."""


@dataclass(frozen=True)
class Event:
    """One server-sent event. ``data`` is JSON, or a text that is sent as it is."""

    data: dict[str, Any] | str
    name: str | None = None
    reports_usage: bool = False

    def encode(self) -> bytes:
        """The bytes on the wire, with the empty line that ends the event."""
        data = self.data if isinstance(self.data, str) else json.dumps(self.data, separators=(",", ":"))
        name = f"event: {self.name}\n" if self.name else ""
        return f"{name}data: {data}\n\n".encode()


DONE = Event("[DONE]")


@dataclass
class Answer:
    """One answer. An endpoint makes it, a fault may spoil it, a connection sends it."""

    body: dict[str, Any] | None = None
    events: list[Event] | None = None
    """Not ``None`` for a stream; ``body`` is then unused."""
    content: bytes | None = None
    """A document that is not JSON; ``body`` is then unused."""
    content_type: str = "application/json"
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    """The model that served, where the request names none."""
    reports_usage: bool = True
    """Whether the document tells its usage. A stream says it event by event."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float | None = 0.0
    """Seconds before the first byte; ``None`` until the fake stops."""
    chunk_delay: float = 0.0
    """Seconds between two events."""
    cut: Cut = Cut.NOWHERE
    garbled: bool = False
    """The document is sent cut off: as JSON that cannot be parsed."""
    on_admission: Callable[[], None] | None = None
    """Keeps what the answer has changed, once no limit refuses it any more."""
    charge: Charge | None = None
    """The line of the books that these bytes report; by default the one of this request."""

    def document(self) -> bytes:
        """The bytes of the document."""
        data = json.dumps(self.body).encode() if self.content is None else self.content
        return data[: len(data) * 2 // 3] if self.garbled else data
