"""Wraps generators so that something happens around each of their steps, and once when they end, however they end.

What a reader does with a wrapped generator reaches the generator inside: ``send``, ``throw``, ``close``, its value.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ["Watcher", "wrap_async_generator", "wrap_generator"]


class Watcher(Protocol):
    """What happens around one generator."""

    @property
    def inside(self) -> AbstractContextManager[None]:
        """Entered for each step and left after it; one object for all steps."""

    def begin(self) -> None:
        """Before the first step. May raise: then there is none."""

    async def begin_async(self) -> None:
        """The same of an async generator."""

    def saw(self, item: Any) -> None:
        """The generator yielded ``item``."""

    def ended(self, value: Any) -> None:
        """It returned ``value`` (an async one: ``None``)."""

    def failed(self, error: BaseException) -> None:
        """It raised ``error``, which goes on to the reader."""

    def closed(self) -> None:
        """It was closed, or left behind, before its end."""


Prepare = Callable[[tuple[Any, ...], dict[str, Any]], Watcher]


def wrap_generator(function: Callable[..., Generator[Any, Any, Any]], prepare: Prepare) -> Callable[..., Any]:
    """``function`` as a generator function, each of whose generators is watched by what ``prepare`` makes."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        watcher = prepare(args, kwargs)
        watcher.begin()
        return (yield from _drive(function, args, kwargs, watcher))

    return wrapper


def _drive(
    function: Callable[..., Generator[Any, Any, Any]], args: Any, kwargs: Any, watcher: Watcher
) -> Generator[Any, Any, Any]:
    generator: Generator[Any, Any, Any] | None = None
    step: Callable[[Any], Any] | None = None
    argument: Any = None
    while True:
        try:
            with watcher.inside:
                if generator is None or step is None:
                    generator = function(*args, **kwargs)
                    step = generator.send
                item = step(argument)
        except StopIteration as stop:
            watcher.ended(stop.value)
            return stop.value
        except BaseException as error:
            watcher.failed(error)
            raise
        watcher.saw(item)
        try:
            argument = yield item
            step = generator.send
        except GeneratorExit:
            _close(generator, watcher)
            raise
        except BaseException as error:
            # Thrown in below, out of this clause: what the generator raises in turn must not get it as its context.
            step, argument = generator.throw, error


def _close(generator: Generator[Any, Any, Any], watcher: Watcher) -> None:
    try:
        with watcher.inside:
            generator.close()
    finally:
        watcher.closed()


def wrap_async_generator(function: Callable[..., AsyncGenerator[Any, Any]], prepare: Prepare) -> Callable[..., Any]:
    """``function`` as an async generator function, each of whose generators is watched by what ``prepare`` makes."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # One frame for all: an async generator cannot delegate to another and pass on what is sent to it.
        watcher = prepare(args, kwargs)
        await watcher.begin_async()
        generator: AsyncGenerator[Any, Any] | None = None
        step: Callable[[Any], Any] | None = None
        argument: Any = None
        while True:
            try:
                with watcher.inside:
                    if generator is None or step is None:
                        generator = function(*args, **kwargs)
                        step = generator.asend
                    item = await step(argument)
            except StopAsyncIteration:
                watcher.ended(None)
                return
            except BaseException as error:
                watcher.failed(error)
                raise
            watcher.saw(item)
            try:
                argument = yield item
                step = generator.asend
            except GeneratorExit:
                try:
                    with watcher.inside:
                        await generator.aclose()
                finally:
                    watcher.closed()
                raise
            except BaseException as error:
                step, argument = generator.athrow, error

    return wrapper
