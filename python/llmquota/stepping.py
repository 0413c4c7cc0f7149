"""Wraps generators so that something happens around each of their steps, and once when they end, however they end.

What a reader does with a wrapped generator reaches the generator inside: ``send``, ``throw``, ``close``, its value.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .retry import Plan, attempted, attempted_here

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

    def is_to_stop(self) -> bool:
        """Whether it is to be closed, and its reader told that it has ended."""


Prepare = Callable[[tuple[Any, ...], dict[str, Any]], Watcher]


def wrap_generator(
    function: Callable[..., Generator[Any, Any, Any]], prepare: Prepare, plan: Plan | None = None
) -> Callable[..., Any]:
    """``function`` as a generator function, each of whose generators is watched by what ``prepare`` makes.

    One that fails before its first item is begun again, watched anew, as ``plan`` says.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        begun = attempted_here(lambda: _begun(function, args, kwargs, prepare), plan)
        return (yield from _drive(*begun))

    return wrapper


_Begun = tuple[Any, Watcher, Any]
"""A generator, who watches it, and its first item; no generator where it has ended, with its value."""


def _begun(
    function: Callable[..., Generator[Any, Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any], prepare: Prepare
) -> _Begun:
    watcher = prepare(args, kwargs)
    watcher.begin()
    try:
        with watcher.inside:
            generator = function(*args, **kwargs)
            return generator, watcher, next(generator)
    except StopIteration as stop:
        watcher.ended(stop.value)
        return None, watcher, stop.value
    except BaseException as error:
        watcher.failed(error)
        raise


def _drive(generator: Generator[Any, Any, Any] | None, watcher: Watcher, item: Any) -> Generator[Any, Any, Any]:
    if generator is None:
        return item
    while True:
        watcher.saw(item)
        step: Callable[[Any], Any] = generator.send
        try:
            argument = yield item
        except GeneratorExit:
            _close(generator, watcher)
            raise
        except BaseException as error:
            # Thrown in below, out of this clause: what the generator raises in turn must not get it as its context.
            step, argument = generator.throw, error
        if watcher.is_to_stop():
            _close(generator, watcher)
            return None
        try:
            with watcher.inside:
                item = step(argument)
        except StopIteration as stop:
            watcher.ended(stop.value)
            return stop.value
        except BaseException as error:
            watcher.failed(error)
            raise


def _close(generator: Generator[Any, Any, Any], watcher: Watcher) -> None:
    try:
        with watcher.inside:
            generator.close()
    finally:
        watcher.closed()


def wrap_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], prepare: Prepare, plan: Plan | None = None
) -> Callable[..., Any]:
    """``function`` as an async generator function, each of whose generators is watched by what ``prepare`` makes.

    One that fails before its first item is begun again, watched anew, as ``plan`` says.
    """

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # One frame for all: an async generator cannot delegate to another and pass on what is sent to it.
        generator, watcher, item = await attempted(lambda: _begun_async(function, args, kwargs, prepare), plan)
        while generator is not None:
            watcher.saw(item)
            step: Callable[[Any], Any] = generator.asend
            try:
                argument = yield item
            except GeneratorExit:
                await _close_async(generator, watcher)
                raise
            except BaseException as error:
                step, argument = generator.athrow, error
            if watcher.is_to_stop():
                await _close_async(generator, watcher)
                return
            try:
                with watcher.inside:
                    item = await step(argument)
            except StopAsyncIteration:
                watcher.ended(None)
                return
            except BaseException as error:
                watcher.failed(error)
                raise

    return wrapper


async def _begun_async(
    function: Callable[..., AsyncGenerator[Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any], prepare: Prepare
) -> _Begun:
    watcher = prepare(args, kwargs)
    await watcher.begin_async()
    try:
        with watcher.inside:
            generator = function(*args, **kwargs)
            return generator, watcher, await anext(generator)
    except StopAsyncIteration:
        watcher.ended(None)
        return None, watcher, None
    except BaseException as error:
        watcher.failed(error)
        raise


async def _close_async(generator: AsyncGenerator[Any, Any], watcher: Watcher) -> None:
    try:
        with watcher.inside:
            await generator.aclose()
    finally:
        watcher.closed()
