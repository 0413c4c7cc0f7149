"""A listening socket and the thread that serves it, with an event loop of its own. Knows nothing of HTTP.

It accepts by itself, because ``asyncio.start_server`` leaks the connection that it is just accepting when it is closed,
and because a socket that listens before the thread starts has nothing to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Listener", "Serve"]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""Serves one connection, closes it, and closes it at once when it is cancelled."""

BACKLOG = 1024
OUT_OF_DESCRIPTORS_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Listener:
    """Listens from when it is made until :meth:`stop`. Raises ``OSError`` if the port cannot be had."""

    def __init__(self, host: str, port: int, serve: Serve) -> None:
        self._serve = serve
        self._connections: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._stop = asyncio.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        # Not the platform's default: on Windows that one cannot watch a socket.
        self._loop = asyncio.SelectorEventLoop()
        # A daemon, so that a test that forgets to stop it does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="llmquota-fake-openai", daemon=True)
        self._thread.start()

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def stop(self) -> None:
        """Closes the port and every connection, and waits for the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        with self._socket:
            self._loop.add_reader(self._socket, self._accept)
            try:
                await self._stop.wait()
            finally:
                self._loop.remove_reader(self._socket)
        while self._opening:  # noqa: ASYNC110 - two turns of the loop at most: nobody new can come
            await asyncio.sleep(0)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors: a socket that stays readable would turn the loop for nothing
                _log.exception("The fake cannot accept a connection")
                self._loop.remove_reader(self._socket)
                self._loop.call_later(OUT_OF_DESCRIPTORS_SECONDS, self._accept_again)
                return
            self._opening += 1
            task = self._loop.create_task(self._connect(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    def _accept_again(self) -> None:
        if not self._stop.is_set():
            self._loop.add_reader(self._socket, self._accept)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=connection)
        except OSError:
            connection.close()
            return
        finally:
            self._opening -= 1
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer)
