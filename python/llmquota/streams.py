"""Follows what a guarded function returned to its end: a generator, a coroutine, an SDK's stream."""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from .admission import GuardedCall
from .stepping import wrap_async_generator, wrap_generator

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from 3.11 on

__all__ = ["followed"]


def followed(result: Any, call: GuardedCall) -> Any:
    """``result``, or what stands for it until it has ended, and with it ``call``.

    A result that is whole ends the call at once. A stream of an SDK is replaced by an object that is an instance of the
    same class and passes everything on.
    """
    if inspect.isgenerator(result):
        generator: Generator[Any, Any, Any] = result
        return wrap_generator(lambda: generator, lambda args, kwargs: call)()
    if inspect.isasyncgen(result):
        async_generator: AsyncGenerator[Any, Any] = result
        return wrap_async_generator(lambda: async_generator, lambda args, kwargs: call)()
    if inspect.isawaitable(result):
        return _awaited(result, call)
    if hasattr(result, "__anext__") and _closes(result):
        return _AsyncStream(result, call)
    if hasattr(result, "__next__") and _closes(result) and not isinstance(result, io.IOBase):
        return _Stream(result, call)
    call.ended(result)
    return result


def _closes(result: Any) -> bool:
    return hasattr(result, "close") or hasattr(result, "aclose")


async def _awaited(awaitable: Awaitable[Any], call: GuardedCall) -> Any:
    try:
        with call.inside:
            result = await awaitable
    except BaseException as error:
        call.failed(error)
        raise
    return followed(result, call)


class _Following:
    """Stands for a stream: its class, its attributes, its truth are the stream's."""

    def __init__(self, stream: Any, call: GuardedCall) -> None:
        self._llmquota_stream = stream
        self._llmquota_call = call

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # isinstance() asks for it.
        return type(self._llmquota_stream)

    def __getattr__(self, name: str) -> Any:
        value = getattr(object.__getattribute__(self, "_llmquota_stream"), name)
        # Not methods of this class: it has only those that the stream has.
        return self._llmquota_closing(value) if name in ("close", "aclose") else value

    _llmquota_closing: Callable[[Callable[..., Any]], Callable[..., Any]]

    def __repr__(self) -> str:
        return repr(self._llmquota_stream)

    def __del__(self) -> None:
        # Nobody will read on. An exception here would have nobody to go to: the call raises none.
        call = self.__dict__.get("_llmquota_call")
        if call is not None:
            call.closed()


class _Stream(_Following):
    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        call = self._llmquota_call
        if call.is_to_stop():
            self.close()
            raise StopIteration
        try:
            item = next(self._llmquota_stream)
        except StopIteration:
            call.ended(None)
            raise
        except BaseException as error:
            call.failed(error)
            raise
        call.saw(item)
        return item

    def __enter__(self) -> Self:
        self._llmquota_stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        try:
            return self._llmquota_stream.__exit__(*error)
        finally:
            self._llmquota_call.closed()

    def _llmquota_closing(self, close: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(close)
        def closing(*args: Any, **kwargs: Any) -> Any:
            try:
                return close(*args, **kwargs)
            finally:
                self._llmquota_call.closed()

        return closing


class _AsyncStream(_Following):
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        call = self._llmquota_call
        if call.is_to_stop():
            await (self.close if hasattr(self, "close") else self.aclose)()
            raise StopAsyncIteration
        try:
            item = await anext(self._llmquota_stream)
        except StopAsyncIteration:
            call.ended(None)
            raise
        except BaseException as error:
            call.failed(error)
            raise
        call.saw(item)
        return item

    async def __aenter__(self) -> Self:
        await self._llmquota_stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        try:
            return await self._llmquota_stream.__aexit__(*error)
        finally:
            self._llmquota_call.closed()

    def _llmquota_closing(self, close: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(close)
        async def closing(*args: Any, **kwargs: Any) -> Any:
            try:
                return await close(*args, **kwargs)
            finally:
                self._llmquota_call.closed()

        return closing
