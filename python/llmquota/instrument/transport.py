"""For one client alone: ``httpx.Client(transport=QuotaTransport())``, where the whole process is not to be changed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from llmquota.context import keep_trails

from .passing import is_seen_to, passed, passed_async
from .setting_up import sender_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncQuotaTransport", "QuotaTransport", "library_of"]


def library_of(thing: Any) -> ModuleType:
    """``httpx`` or ``httpx2``, whichever ``thing`` is of."""
    return sys.modules[type(thing).__module__.partition(".")[0]]


class _Transport:
    """What both kinds share."""

    def __init__(
        self,
        transport: Any = None,
        *,
        manager: Any = None,
        mode: str = "enforce",
        providers: Mapping[str, str] | None = None,
        include_usage: bool = False,
    ) -> None:
        """See :func:`llmquota.instrument` for the arguments; ``transport`` sends what is admitted."""
        self._transport = transport
        self._sender = sender_of(manager, mode, providers, include_usage)
        keep_trails(True)
        # A client may well be left behind without being closed.
        weakref.finalize(self, keep_trails, False).atexit = False


class QuotaTransport(_Transport):
    """A transport of ``httpx`` or ``httpx2`` that admits and counts what it sends; by default over the library's own.

    Beside ``instrument()`` it counts nothing twice: it leaves what is seen to already alone.
    """

    def handle_request(self, request: Any) -> Any:
        """Sends a request, or answers it in the provider's place."""
        library = library_of(request)
        if self._transport is None:
            self._transport = library.HTTPTransport()
        send = self._transport.handle_request
        return send(request) if is_seen_to() else passed(self._sender, library, request, send, unread=True)

    def close(self) -> None:
        """Closes the transport inside."""
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Self:
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            self._transport.__exit__(kind, error, trace)


class AsyncQuotaTransport(_Transport):
    """The same for an ``AsyncClient``."""

    async def handle_async_request(self, request: Any) -> Any:
        """Sends a request, or answers it in the provider's place."""
        library = library_of(request)
        if self._transport is None:
            self._transport = library.AsyncHTTPTransport()
        send = self._transport.handle_async_request
        if is_seen_to():
            return await send(request)
        return await passed_async(self._sender, library, request, send, unread=True)

    async def aclose(self) -> None:
        """Closes the transport inside."""
        if self._transport is not None:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        if self._transport is not None:
            await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.__aexit__(kind, error, trace)
