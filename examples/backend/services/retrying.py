"""A bounded retry that stands outside a guard, so that every attempt is admitted and counted.

The SDK's own retries happen inside one call: a guard sees one request where the provider sees three. The clients of
this backend are therefore made with ``max_retries=0``, and ``@retried`` above ``@guarded`` takes their place.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

import openai

from llmquota import QuotaExceeded

ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0

P = ParamSpec("P")
R = TypeVar("R")


def retried(function: Callable[P, R]) -> Callable[P, R]:
    """Calls the function up to three times. It may be sync, async, or an async generator that has not yielded yet."""
    if isasyncgenfunction(function):
        return cast("Callable[P, R]", _retried_stream(function))
    if iscoroutinefunction(function):
        return cast("Callable[P, R]", _retried_async(function))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except openai.APIError as error:
                time.sleep(_wait_before_next(error, attempt))
        return function(*args, **kwargs)

    return call


def _retried_async(function: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> R:
        for attempt in range(1, ATTEMPTS):
            try:
                return await function(*args, **kwargs)
            except openai.APIError as error:
                await asyncio.sleep(_wait_before_next(error, attempt))
        return await function(*args, **kwargs)

    return call


def _retried_stream(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for attempt in range(1, ATTEMPTS + 1):
            items = function(*args, **kwargs)
            try:
                first = await anext(items)
            except StopAsyncIteration:
                return
            except openai.APIError as error:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(_wait_before_next(error, attempt))
                continue
            try:
                yield first
                async for item in items:
                    yield item
            finally:
                await items.aclose()
            return

    return stream


def _wait_before_next(error: openai.APIError, attempt: int) -> float:
    """Seconds to wait. Raises the error itself where another attempt is of no use, or not soon."""
    # A refusal by our own quota is a RateLimitError of the SDK too: it has to be asked about first.
    if isinstance(error, QuotaExceeded) or not isinstance(
        error, (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError)
    ):
        raise error
    if error.code == "insufficient_quota":
        raise error
    wait = _asked_by_provider(error)
    if wait is None:
        wait = FIRST_WAIT_SECONDS * 2 ** (attempt - 1)
    if wait > LONGEST_WAIT_SECONDS:
        raise error
    # Not all at once: those that failed together would fail together again.
    return wait + random.uniform(0, 0.1 * FIRST_WAIT_SECONDS)


def _asked_by_provider(error: openai.APIError) -> float | None:
    if not isinstance(error, openai.APIStatusError):
        return None
    for header, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(error.response.headers[header]) * seconds
        except (KeyError, ValueError):  # absent, or a date
            continue
    return None
