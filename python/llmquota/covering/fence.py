"""No way from this process to anywhere but one port of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

__all__ = ["fenced_in"]

HOST = "127.0.0.1"


@contextlib.contextmanager
def fenced_in(port: int) -> Iterator[None]:
    """Connecting elsewhere, and looking up another host, raises ``ConnectionRefusedError``: in all threads."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(address: Any) -> None:
        if address[:2] != (HOST, port):
            raise ConnectionRefusedError(f"llmquota coverage sends to nobody but its own provider: not to {address!r}")

    def connect_inside(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def connect_ex_inside(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    def look_up_inside(host: Any, *args: Any, **kwargs: Any) -> Any:
        check((host, port))
        return look_up(host, *args, **kwargs)

    _set(connect_inside, connect_ex_inside, look_up_inside)
    try:
        yield
    finally:
        _set(connect, connect_ex, look_up)


def _set(connect: Any, connect_ex: Any, look_up: Any) -> None:
    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = look_up
