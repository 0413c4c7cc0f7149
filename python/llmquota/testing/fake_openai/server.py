"""``FakeOpenAI``: the methods that a test calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

from .admin import Admin
from .connection import Connection, GzipMode
from .faults import Fault, FaultKind
from .http1 import Request
from .limits import RateLimit
from .listener import Listener
from .matching import When
from .provider import Provider
from .replies import DEFAULT_TEXT, Reply
from .served import Served

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from 3.11 on

__all__ = ["FakeOpenAI"]


class FakeOpenAI:
    """A provider that speaks OpenAI's HTTP API on loopback, misbehaves on request, and counts what it served.

    Arguments:
        port: the port to listen on; 0 lets the system choose.
        host: the address to listen on.
        seed: of the random numbers behind ``fail(probability=...)``.
        api_keys: the keys that are accepted; ``None`` accepts any, and none.
        requests_per_minute: a real limit for each model, refilled continuously; past it the answer is 429
            ``rate_limit_exceeded``. With a limit, answers carry ``x-ratelimit-*``.
        tokens_per_minute: the same in tokens, prompt and completion.
        group_by: the request headers by whose value ``served`` is split.
        gzip: ``"auto"`` compresses JSON when the request accepts it, ``"always"`` and ``"never"`` do not ask.
        gzip_streams: whether the same goes for server-sent events.
        latency: seconds that every answer takes.
        any_path: whether a path of the API that the fake does not know is answered with an object that has an id
            and is done, or with an empty list, where it is 404 otherwise.
        clock: seconds, for the limits.

    Every method may be called from any thread, started or not. Books, faults and replies outlive :meth:`stop`.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        seed: int = 0,
        api_keys: Collection[str] | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        group_by: Sequence[str] = ("x-workspace-id",),
        gzip: GzipMode = "auto",
        gzip_streams: bool = False,
        latency: float = 0.0,
        any_path: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if gzip not in get_args(GzipMode):
            raise ValueError(f"gzip must be one of {', '.join(get_args(GzipMode))}, not {gzip!r}")
        if not latency >= 0:
            raise ValueError(f"latency must be at least 0 seconds, not {latency!r}")
        if isinstance(group_by, str) or isinstance(api_keys, str):
            raise ValueError("group_by and api_keys are collections of texts, not one text")
        self._host = host
        self._wanted_port = port
        self._gzip: GzipMode = gzip
        self._gzip_streams = gzip_streams
        self._provider = Provider(
            seed=seed,
            api_keys=api_keys,
            limit=RateLimit(requests_per_minute, tokens_per_minute, clock),
            group_by=group_by,
            latency=latency,
            any_path=any_path,
        )
        self._admin = Admin(self._provider)
        self._lifecycle = threading.Lock()
        self._running: Listener | None = None

    def start(self) -> Self:
        """Listens. Does nothing if it already does. Raises ``OSError`` if the port cannot be had."""
        with self._lifecycle:
            if self._running is None:
                self._running = Listener(self._host, self._wanted_port, self._serve)
        return self

    def stop(self) -> None:
        """Closes every connection and the port, and waits for the thread. Does nothing if it is not started."""
        with self._lifecycle:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on. Raises ``RuntimeError`` if it is not started."""
        running = self._running
        if running is None:
            raise RuntimeError("FakeOpenAI is not started: use it in a with block, or call start()")
        return running.port

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, under which ``/__fake__/`` lies: the ``azure_endpoint`` of an Azure client."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """``http://HOST:PORT/v1``, the ``base_url`` of a client."""
        return f"{self.url}/v1"

    @property
    def served(self) -> Served:
        """What it has served so far: a snapshot that later requests do not change."""
        return self._provider.ledger.snapshot()

    @property
    def requests(self) -> list[Request]:
        """The last 1,000 requests, oldest first."""
        return list(self._provider.requests)

    def reply(
        self,
        text: str = DEFAULT_TEXT,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cached_tokens: int = 0,
        reasoning_tokens: int = 0,
        tool_calls: Sequence[Mapping[str, Any]] = (),
        chunk_delay: float = 0.0,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        when: When = None,
    ) -> None:
        """Says what the answers of a model contain.

        With ``times`` it is for the next so many requests, oldest reply first; without, for all that no such reply is
        left for, the newest reply first. ``when`` chooses the requests (see :meth:`fail`).

        A token number that is not given is counted (:mod:`.tokens`). Cached tokens are among the prompt tokens,
        reasoning tokens among the completion tokens. ``tool_calls`` are ``{"name": ..., "arguments": {...}}`` and take
        the place of the text, in chat completions and responses. To an answer that is no text (images, speech), the
        reply gives its numbers alone. ``chunk_delay`` is the seconds between two events of a stream.

        Raises ``ValueError`` for arguments that mean nothing.
        """
        reply = Reply(
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=cached_tokens,
            reasoning_tokens=reasoning_tokens,
            tool_calls=tool_calls,
            chunk_delay=chunk_delay,
            headers=dict(headers or {}),
        )
        self._provider.replies.add(reply, times, when)

    def fail(
        self,
        kind: FaultKind = "error",
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the name of the field
        message: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        after: int = 2,
        times: int | None = 1,
        when: When = None,
        probability: float = 1.0,
    ) -> None:
        """Queues something that goes wrong; :class:`~.faults.Fault` lists the kinds and their fields.

        It happens to the next ``times`` requests (``None``: to all) that it can happen to and that ``when`` chooses: a
        predicate on the :class:`~.http1.Request`, called on the server's thread, or a mapping such as
        ``{"model": "gpt-4o", "endpoint": "/v1/chat/completions", "stream": True, "headers": {"x-workspace-id": "a"}}``.
        Each of those it spares with ``1 - probability``. The oldest fault goes first; a request meets at most one.

        Raises ``ValueError`` for arguments that mean nothing.
        """
        fault = Fault(
            kind=kind,
            status=status,
            code=code,
            type=type,
            message=message,
            param=param,
            retry_after=retry_after,
            headers=dict(headers or {}),
            seconds=seconds,
            after=after,
        )
        self._provider.faults.add(fault, times, when, probability)

    @property
    def open_connections(self) -> int:
        """How many clients are connected, also the idle ones of a client's pool."""
        running = self._running
        return 0 if running is None else running.open_connections

    @property
    def pending_faults(self) -> int:
        """How many faults are queued that have not happened as often as they should."""
        return len(self._provider.faults)

    def reset(self) -> None:
        """As new, at the same address: no faults, no replies, empty books, full limits."""
        self._provider.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self._provider, self._admin, self._gzip, self._gzip_streams, reader, writer)
        await connection.serve()
