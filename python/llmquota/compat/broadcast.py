"""Tells the WebSocket clients of one workspace how it stands.

Each client has its own queue, which is sent on the loop that accepted it, so one that is stuck delays nobody and is
forgotten after :data:`SEND_TIMEOUT`. Changes are found by looking at the status, a few times a second and only while
somebody listens: whoever records, in whatever thread or process, does not know that there are clients.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

__all__ = ["Hub", "WebSocket"]

logger = logging.getLogger(__name__)

SEND_TIMEOUT = 5.0
"""Seconds after which a client that does not take its message is forgotten."""
LOOK_INTERVAL = 0.25
"""Seconds between two looks at the status, so a client gets at most four pushes a second."""
GRACE = 0.2
"""Seconds that a broadcast waits for its clients; what is not sent by then is sent without it."""
MAX_WAITING = 64
"""Messages that may wait for one client; the oldest go first."""
BURST = 4
"""Status messages that a client gets at once before they are paced."""

_VOLATILE = frozenset({"last_updated", "retry_after_seconds", "details"})
"""What changes by itself, and is no reason to push."""


class WebSocket(Protocol):
    """What a client has to offer."""

    async def send_text(self, data: str) -> None:
        """Sends one message."""


@dataclass(eq=False)
class _Message:
    text: str
    #: A later status makes it worthless.
    is_status: bool
    #: Resolved on the client's loop once it is sent, or once it never will be.
    done: asyncio.Future[None] | None = None

    def resolve(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class _Client:
    """One socket: the messages that wait for it, and the one task that sends them."""

    def __init__(self, hub: Hub, socket: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.socket = socket
        self.loop = loop
        self.gone = False
        self._hub = hub
        self._waiting: collections.deque[_Message] = collections.deque()
        self._lock = threading.Lock()
        # Kept, for a loop has only weak references to its tasks.
        self._task: asyncio.Task[None] | None = None
        self._allowance = float(BURST)
        self._paced_at = time.monotonic()
        self._seen: object = None

    def post(self, message: _Message) -> bool:
        """Queues a message, from any thread. False where the client is gone."""
        loop = self.loop
        if loop is None or self.gone:
            return not self.gone
        with self._lock:
            left_out = [each for each in self._waiting if each.is_status] if message.is_status else []
            for older in left_out:
                self._waiting.remove(older)
            self._waiting.append(message)
            while len(self._waiting) > MAX_WAITING:
                left_out.append(self._waiting.popleft())
        for older in left_out:
            self._resolve(older)
        return self._call(self._start)

    def _resolve(self, message: _Message) -> None:
        if message.done is not None:
            self._call(message.resolve)

    def _call(self, step: Callable[[], object]) -> bool:
        """Runs a step on the client's loop, soon, or at once where this is it."""
        assert self.loop is not None
        if _running_loop() is self.loop:
            step()
            return True
        try:
            self.loop.call_soon_threadsafe(step)
        except RuntimeError:
            # The loop is closed, and the socket with it.
            self._hub.drop(self)
            return False
        return True

    def _start(self) -> None:
        if self._task is None and not self.gone:
            assert self.loop is not None
            self._task = self.loop.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._waiting or self.gone:
                        # Under the lock: a message that is posted from here on starts another task.
                        self._task = None
                        return
                    pause = self._pause() if self._waiting[0].is_status else 0.0
                    message = None if pause > 0 else self._waiting.popleft()
                if message is None:
                    await asyncio.sleep(pause)
                elif await self._sent(message.text):
                    message.resolve()
                else:
                    message.resolve()
                    self._hub.drop(self)
        except BaseException:
            self._hub.drop(self)
            raise

    def _pause(self) -> float:
        """Seconds until the next status may go; takes the allowance where that is now."""
        now = time.monotonic()
        self._allowance = min(float(BURST), self._allowance + (now - self._paced_at) / LOOK_INTERVAL)
        self._paced_at = now
        if self._allowance < 1:
            return (1 - self._allowance) * LOOK_INTERVAL
        self._allowance -= 1
        return 0.0

    @property
    def is_paced(self) -> bool:
        """Whether a status would have to wait its turn."""
        since = (time.monotonic() - self._paced_at) / LOOK_INTERVAL
        return self._allowance + since < 1

    async def _sent(self, text: str) -> bool:
        try:
            sending = asyncio.ensure_future(self.socket.send_text(text))
        except Exception:
            return False
        try:
            # Not wait_for, which goes on waiting for a send that does not let itself be cancelled.
            await asyncio.wait({sending}, timeout=SEND_TIMEOUT)
        except asyncio.CancelledError:
            sending.cancel()
            raise
        if not sending.done():
            sending.cancel()
            sending.add_done_callback(_forget)
            return False
        return not sending.cancelled() and sending.exception() is None

    def lose(self) -> None:
        """Lets go of what waits."""
        self.gone = True
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        if self.loop is not None and not self.loop.is_closed():
            for message in waiting:
                self._resolve(message)

    def watch(self) -> None:
        """From here on looks for changes. To be called on the client's loop."""
        try:
            self.knows(self._hub.current())
        except Exception:
            logger.debug("the status could not be read for a new client", exc_info=True)
        self._look_later()

    def knows(self, status: Mapping[str, Any]) -> None:
        """The client has this status, so that only another one is pushed."""
        self._seen = _steady(status)

    def look_now(self) -> None:
        """Looks as soon as the client's loop comes to it."""
        if self.loop is not None and not self.gone:
            self._call(self._look)

    def _look_later(self) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_later(LOOK_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        if not self.gone:
            self._look()
            self._look_later()

    def _look(self) -> None:
        try:
            status = self._hub.current()
            if _steady(status) != self._seen:
                self.knows(status)
                self.post(_Message(self._hub.envelope(status), is_status=True))
        except Exception:
            # A store that is busy for a moment; the next look tells.
            logger.debug("the status could not be read for a push", exc_info=True)


def _steady(status: Mapping[str, Any]) -> dict[str, Any]:
    """What has to differ for a push."""
    return {key: value for key, value in status.items() if key not in _VOLATILE}


def _forget(sending: asyncio.Future[Any]) -> None:
    """Takes the exception of a send that nobody waits for, so that nobody logs it."""
    if not sending.cancelled():
        sending.exception()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Hub:
    """The clients of one workspace. Any thread may call its methods, with or without an event loop."""

    def __init__(self, status: Callable[[], dict[str, Any]], now: Callable[[], datetime]) -> None:
        """``status`` reads what is pushed; ``now`` is the time that messages carry."""
        self.sockets: list[Any] = []
        self._status = status
        self._now = now
        self._clients: dict[int, _Client] = {}
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._read: dict[str, Any] | None = None

    def add(self, socket: Any) -> None:
        """Adds a client, and remembers the loop that runs here, on which its messages are sent."""
        with self._lock:
            if not any(each is socket for each in self.sockets):
                self.sockets.append(socket)
        self._client(socket)

    def remove(self, socket: Any) -> None:
        """Forgets a client; one that is unknown is no error."""
        with self._lock:
            _take_out(self.sockets, socket)
            client = self._clients.pop(id(socket), None)
        if client is not None:
            client.lose()

    def drop(self, client: _Client) -> None:
        """Forgets a client that is gone."""
        with self._lock:
            _take_out(self.sockets, client.socket)
            if self._clients.get(id(client.socket)) is client:
                del self._clients[id(client.socket)]
        client.lose()

    def changed(self) -> None:
        """Something was changed by hand: clients hear of it without waiting for the next look."""
        if self._clients:
            self._read = None
            for client in list(self._clients.values()):
                client.look_now()

    async def broadcast(self, data: Mapping[str, Any]) -> None:
        """Sends ``data`` as a ``quota_update`` to every client.

        Returns once those of this loop have it, or after :data:`GRACE`. Alerts, which say nothing of the status,
        carry it too, for a reader takes its absence to mean that all is well.
        """
        clients = [self._client(socket) for socket in list(self.sockets)]
        if not clients:
            return
        if "type" in data and "status" not in data:
            data = {**self._status(), **data}
        text = self.envelope(data)
        is_status = "type" not in data and "status" in data
        here = asyncio.get_running_loop()
        sent: list[asyncio.Future[None]] = []
        for client in clients:
            waits = client.loop is here and not (is_status and client.is_paced)
            done: asyncio.Future[None] | None = here.create_future() if waits else None
            if is_status:
                client.knows(data)
            if client.post(_Message(text, is_status, done)) and done is not None:
                sent.append(done)
        if sent:
            await asyncio.wait(sent, timeout=GRACE)

    def current(self) -> dict[str, Any]:
        """The status, read once for all clients that look at about the same time."""
        now = time.monotonic()
        if self._read is None or now - self._read_at > LOOK_INTERVAL / 2:
            self._read, self._read_at = self._status(), now
        return self._read

    def _client(self, socket: Any) -> _Client:
        """The client of a socket. One that was added without a loop gets the first that comes by."""
        loop = _running_loop()
        with self._lock:
            client = self._clients.get(id(socket))
            # A loop that is closed takes its sockets with it; what is still listed has found another one.
            is_new = client is None or (loop is not None and (client.loop is None or client.loop.is_closed()))
            if is_new:
                client = self._clients[id(socket)] = _Client(self, socket, loop)
            listed = {id(each) for each in self.sockets}
            strays = [key for key in self._clients if key not in listed]
            stray_clients = [self._clients.pop(key) for key in strays]
        for stray in stray_clients:
            stray.lose()
        assert client is not None
        if is_new and loop is not None:
            client.watch()
        return client

    def renew_locks(self) -> None:
        """In a forked child: its sockets and their loops are the parent's."""
        self._lock = threading.Lock()
        self._clients.clear()
        self.sockets.clear()

    def envelope(self, data: Mapping[str, Any]) -> str:
        """The message of ``data``."""
        envelope = {"type": "quota_update", "data": data, "timestamp": self._now().isoformat()}
        return json.dumps(envelope, default=str)


def _take_out(sockets: list[Any], socket: Any) -> None:
    """By identity, and in place: others may hold this list."""
    for place, each in enumerate(sockets):
        if each is socket:
            del sockets[place]
            return
