"""Calls one method in one way, and reads all that it answers, as a backend would."""

from __future__ import annotations

import inspect
from typing import Any

from .methods import Method, at
from .ways import Way

__all__ = ["drive", "drive_async"]


def drive(client: Any, method: Method, way: Way) -> None:
    """Of a client whose calls block. Raises what the SDK raises."""
    answer = at(client, method.name, way.prefix)(**way.arguments)
    if way.prefix == "with_streaming_response":
        with answer as response:
            if way.is_stream:
                _read(response.parse())
            else:
                response.read()
    elif way.prefix == "with_raw_response":
        _read(answer.parse())
    elif hasattr(answer, "__enter__"):
        with answer as opened:
            _read(opened)
    else:
        _read(answer)


async def drive_async(client: Any, method: Method, way: Way) -> None:
    """The same of an asynchronous client."""
    answer = at(client, method.name, way.prefix)(**way.arguments)
    if inspect.isawaitable(answer) and not hasattr(answer, "__aiter__"):
        answer = await answer
    if way.prefix == "with_streaming_response":
        async with answer as response:
            if way.is_stream:
                await _read_async(await response.parse())
            else:
                await response.read()
    elif way.prefix == "with_raw_response":
        await _read_async(answer.parse())
    elif hasattr(answer, "__aenter__"):
        async with answer as opened:
            await _read_async(opened)
    else:
        await _read_async(answer)


def _read(thing: Any) -> None:
    """A stream to its end, and a list through all of its pages."""
    if hasattr(thing, "__next__") or hasattr(thing, "get_next_page"):
        for _ in thing:
            pass


async def _read_async(thing: Any) -> None:
    if hasattr(thing, "__aiter__"):
        async for _ in thing:
            pass
