"""Follows an answer to its end: a body that is there already, or a stream that somebody reads, or does not."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from .sending import SentCall

__all__ = ["follow"]

_log = logging.getLogger(__name__)


def follow(library: ModuleType, call: SentCall, response: Any, *, is_async: bool) -> None:
    """Has ``call`` end with ``response`` of ``library`` (``httpx`` or ``httpx2``), of a client of this kind."""
    call.hear(response)
    if response.is_closed:
        # It was read, and unpacked, inside the client.
        reader = call.reader(response, "")
        reader.feed(response.content)
        call.answered(response, reader)
        return
    reader = call.reader(response, response.headers.get("content-encoding", ""))
    response.stream = _followed(library, is_async)(response, reader, call)


@functools.cache
def _followed(library: ModuleType, is_async: bool) -> Any:
    """A stream that passes on what it reads, byte for byte, and shows it to a reader."""
    return _asynchronous(library) if is_async else _synchronous(library)


class _Following:
    """Holds no response: nobody would ever collect the two."""

    def __init__(self, response: Any, reader: Any, call: SentCall) -> None:
        self._stream = response.stream
        self._head = _Head(response)
        self._reader = reader
        self._feed: Callable[[bytes], None] = reader.feed
        self._call = call
        # What is packed all the same is passed on as it is.
        self._filter = None if response.headers.get("content-encoding") else call.filter

    def _see(self, piece: bytes) -> Iterable[bytes]:
        """Reads a piece; what the caller gets of it."""
        try:
            self._feed(piece)
        except Exception:
            self._feed = _unreadable(piece)
        # To a filter an empty piece is the end, which comes by itself.
        return (piece,) if self._filter is None or not piece else self._filter(piece)

    def _rest(self) -> Iterable[bytes]:
        """What the caller gets after the last piece."""
        return () if self._filter is None else self._filter(b"")

    def _ended(self) -> None:
        self._call.answered(self._head, self._reader)

    def _broke(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            # What had come until then is seen first: it may have all that matters.
            self._call.answered(self._head, self._reader, broke=error)
        else:
            self._ended()

    def __getattr__(self, name: str) -> Any:
        # Such as the time that it took, which the client asks its own stream for.
        return getattr(object.__getattribute__(self, "_stream"), name)

    def __del__(self) -> None:
        # Nobody reads on, and nobody closed it.
        if "_call" in self.__dict__:
            self._ended()


class _Head:
    """What is kept of a response until its body has ended."""

    __slots__ = ("headers", "status_code")

    def __init__(self, response: Any) -> None:
        self.headers = response.headers
        self.status_code = response.status_code


def _unreadable(piece: object) -> Callable[[object], None]:
    """What reads on after a piece that is no ``bytes``, such as a transport of somebody's own may yield: nothing."""
    _log.warning("A stream yields %s, which cannot be read: its call is counted by what came before", type(piece))
    return lambda _piece: None


def _synchronous(library: ModuleType) -> Any:
    class FollowedStream(_Following, library.SyncByteStream):  # type: ignore[name-defined, misc]
        def __iter__(self) -> Iterator[bytes]:
            try:
                for piece in self._stream:
                    yield from self._see(piece)
                yield from self._rest()
            except BaseException as error:
                self._broke(error)
                raise
            self._ended()

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._ended()

    return FollowedStream


def _asynchronous(library: ModuleType) -> Any:
    class FollowedAsyncStream(_Following, library.AsyncByteStream):  # type: ignore[name-defined, misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._stream:
                    for part in self._see(piece):
                        yield part
                for part in self._rest():
                    yield part
            except BaseException as error:
                self._broke(error)
                raise
            self._ended()

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._ended()

    return FollowedAsyncStream
