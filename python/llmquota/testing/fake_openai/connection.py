"""One connection of a client: reads its requests, sends the answers, drops it where an answer says so."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .admin import Admin
from .answers import Answer, Cut
from .errors import error_body
from .http1 import BadRequest, Channel, Request, accepts_gzip, head, last_chunk, to_chunk
from .provider import Provider

__all__ = ["Connection", "GzipMode"]

GzipMode = Literal["auto", "always", "never"]


class _Gone(Exception):
    """The connection is over: the client has left, or the answer was to be cut."""


@dataclass
class Connection:
    """Serves one client until one of the two hangs up."""

    provider: Provider
    admin: Admin
    gzip_mode: GzipMode
    gzip_streams: bool
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def serve(self) -> None:
        """Returns when the connection is closed. Cancelling it closes the connection without a word."""
        channel = Channel(self.reader, self.writer)
        try:
            await self._serve(channel)
        except (_Gone, ConnectionError):
            pass
        except BadRequest as error:
            with contextlib.suppress(ConnectionError):
                await self._send_error(error)
        except asyncio.CancelledError:
            self.writer.transport.abort()
            raise
        finally:
            await self._close()

    async def _close(self) -> None:
        self.writer.close()  # sends what is written, then closes
        try:
            await self.writer.wait_closed()
        except OSError:
            pass
        except asyncio.CancelledError:  # the client does not read, and the fake stops
            self.writer.transport.abort()
            raise

    async def _serve(self, channel: Channel) -> None:
        while (request := await channel.read_request()) is not None:
            if request.path.startswith("/__fake__/"):
                status, body = self.admin.answer(request)
                await self._send_document(request, Answer(body=body, status=status))
            else:
                await self._send(channel, request, self.provider.answer(request))
            if not request.keep_alive:
                return

    async def _send(self, channel: Channel, request: Request, answer: Answer) -> None:
        await _pause(channel, answer.delay)
        if answer.cut is Cut.BEFORE_HEADERS:
            raise _Gone
        if answer.events is None:
            await self._send_document(request, answer)
        else:
            await self._send_stream(channel, request, answer)

    async def _send_document(self, request: Request, answer: Answer) -> None:
        body = answer.document()
        headers = [("content-type", answer.content_type), *answer.headers.items()]
        if self._gzips(request):
            body = gzip.compress(body, compresslevel=1)
            headers.append(("content-encoding", "gzip"))
        headers += [("content-length", str(len(body))), *_connection(request)]
        if answer.cut is Cut.IN_BODY:
            self.writer.write(head(answer.status, headers) + body[: len(body) // 2])
            await self.writer.drain()
            raise _Gone
        if answer.charge is not None and answer.reports_usage and not answer.garbled:
            answer.charge.report()
        self.writer.write(head(answer.status, headers) + (b"" if request.method == "HEAD" else body))
        await self.writer.drain()

    async def _send_stream(self, channel: Channel, request: Request, answer: Answer) -> None:
        encode, end = self._stream_encoding(request)
        headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        headers += answer.headers.items()
        if self._gzips(request) and self.gzip_streams:
            headers.append(("content-encoding", "gzip"))
        # HTTP/1.0 knows no chunks: there the body ends with the connection.
        chunked = request.version != "HTTP/1.0"
        headers += [("transfer-encoding", "chunked"), *_connection(request)] if chunked else [("connection", "close")]
        self.writer.write(head(answer.status, headers))
        for number, event in enumerate(answer.events or ()):
            if number:
                await _pause(channel, answer.chunk_delay)
            if event.reports_usage and answer.charge is not None:
                answer.charge.report()
            data = encode(event.encode())
            self.writer.write(to_chunk(data) if chunked else data)
            await self.writer.drain()
        if answer.cut is Cut.IN_BODY:
            raise _Gone
        self.writer.write(to_chunk(end()) + last_chunk if chunked else end())
        await self.writer.drain()
        if not chunked:
            raise _Gone

    async def _send_error(self, error: BadRequest) -> None:
        body = json.dumps(error_body(f"Bad request: {error}")).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        self.writer.write(head(400, headers) + body)
        await self.writer.drain()

    def _gzips(self, request: Request) -> bool:
        if self.gzip_mode == "auto":
            return accepts_gzip(request.headers.get("accept-encoding", ""))
        return self.gzip_mode == "always"

    def _stream_encoding(self, request: Request) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
        """How each event, and the end, of a stream is encoded. Each event can be decoded when it arrives."""
        if not (self.gzip_streams and self._gzips(request)):
            return lambda data: data, lambda: b""
        compressor = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)  # with gzip's header and trailer
        return lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH), compressor.flush


async def _pause(channel: Channel, seconds: float | None) -> None:
    if seconds == 0:
        return
    if await channel.client_left(within=seconds):
        raise _Gone


def _connection(request: Request) -> list[tuple[str, str]]:
    if not request.keep_alive:
        return [("connection", "close")]
    return [("connection", "keep-alive")] if request.version == "HTTP/1.0" else []
