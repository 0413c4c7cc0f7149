"""HTTP/1.1 on one connection: reads requests, frames bodies, notices that the client has left. No OpenAI here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .azure import openai_path
from .forms import Form, read_form

__all__ = ["BadRequest", "Channel", "Request", "accepts_gzip", "head", "last_chunk", "to_chunk"]

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
READ_BYTES = 64 * 1024


class BadRequest(Exception):
    """The bytes are not HTTP/1.x that this server reads; the connection cannot go on."""


@dataclass(frozen=True)
class Request:
    """One request as it came in. Predicates of ``fail`` and ``reply`` get it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; of a repeated header, the values joined by a comma."""
    body: bytes = b""
    version: str = "HTTP/1.1"

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body, if it is a JSON object, else an empty one."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):  # not JSON, not Unicode, too deep
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def form(self) -> Form:
        """The body, if it is a multipart form, else an empty one."""
        return read_form(self.headers.get("content-type", ""), self.body)

    @property
    def api_path(self) -> str:
        """The path as OpenAI has it, also where the client speaks to Azure."""
        return openai_path(self.path)[0]

    @property
    def deployment(self) -> str:
        """The deployment in a path of Azure's, or ``""``."""
        return openai_path(self.path)[1]

    @property
    def model(self) -> str:
        """The ``model`` of the body, or the deployment, or ``""``."""
        return self._text("model") or self.deployment

    @property
    def user(self) -> str:
        """The ``user`` of the body, or ``""``."""
        return self._text("user")

    @property
    def stream(self) -> bool:
        """Whether the body asks for server-sent events."""
        return (
            self.json.get("stream") is True
            or self.json.get("stream_format") == "sse"  # the word for it where the answer is sound
            or self.form.fields.get("stream") == "true"
        )

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants to send another request on this connection."""
        connection = self.headers.get("connection", "").lower()
        return "keep-alive" in connection if self.version == "HTTP/1.0" else "close" not in connection

    def _text(self, key: str) -> str:
        value = self.json.get(key, self.form.fields.get(key))
        return value if isinstance(value, str) else ""


class Channel:
    """The reading half of a connection.

    It keeps its own buffer, because the server reads on while it answers: that is how it learns that the client has
    gone, and what came instead of the end belongs to the next request.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._eof = False

    async def read_request(self) -> Request | None:
        """The next request, or ``None`` if the client closed the connection between two. Raises ``BadRequest``."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequest("the request's head is too large")
            if not await self._fill():
                return None
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        try:
            method, target, version = lines[0].split(" ")
            url = urlsplit(target)
        except ValueError as error:
            raise BadRequest("the request line is malformed") from error
        if version not in ("HTTP/1.0", "HTTP/1.1"):
            raise BadRequest(f"{version[:16]} is not spoken here")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequest("a header line is malformed")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        body = await self._read_body(headers)
        return Request(method, unquote(url.path), dict(parse_qsl(url.query)), headers, body, version)

    async def client_left(self, within: float | None) -> bool:
        """Waits ``within`` seconds (``None``: without end); returns ``True`` as soon as the client has gone."""
        try:
            await asyncio.wait_for(self._until_eof(), within)
        except asyncio.TimeoutError:
            return False
        return True

    async def _until_eof(self) -> None:
        # A client that sends megabytes ahead is left to wait by TCP; its end is then noticed at the next write.
        while len(self._buffer) <= MAX_HEAD_BYTES:
            if not await self._fill():
                return
        await asyncio.get_running_loop().create_future()

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "0")
        if headers.get("expect", "").lower() == "100-continue" and not self._buffer:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if chunked:
            return await self._read_chunked()
        if not (length.isascii() and length.isdigit()):
            raise BadRequest("the content-length is not a number")
        return await self._take(int(length))

    async def _read_chunked(self) -> bytes:
        body = bytearray()
        while True:
            line = (await self._take_line()).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError as error:
                raise BadRequest("a chunk's size is malformed") from error
            if size < 0 or len(body) + size > MAX_BODY_BYTES:
                raise BadRequest("the request's body is too large")
            if size == 0:
                while await self._take_line():  # trailers
                    pass
                return bytes(body)
            body += await self._take(size)
            await self._take_line()

    async def _take(self, size: int) -> bytes:
        if size > MAX_BODY_BYTES:
            raise BadRequest("the request's body is too large")
        while len(self._buffer) < size:
            if not await self._fill():
                raise BadRequest("the request's body was cut off")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _take_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES or not await self._fill():
                raise BadRequest("a line was cut off")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _fill(self) -> bool:
        if not self._eof:
            data = await self._reader.read(READ_BYTES)
            self._buffer += data
            self._eof = not data
        return not self._eof


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """The status line and headers of an answer. Characters that would break out of a header become spaces."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 529 has no registered name
        reason = "Overloaded" if status == 529 else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}".replace("\r", " ").replace("\n", " ") for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def to_chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


last_chunk = b"0\r\n\r\n"


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an ``Accept-Encoding`` value allows gzip."""
    allowed: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.partition(";")
        name, _, weight = parameters.strip().partition("=")
        try:
            allowed[coding.strip()] = name.strip() != "q" or float(weight) > 0
        except ValueError:
            allowed[coding.strip()] = False
    return allowed.get("gzip", allowed.get("*", False))
