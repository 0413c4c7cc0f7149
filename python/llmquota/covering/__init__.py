"""Whether every method of the installed SDK is counted: each is called, and what it sent compared with the books.

``methods`` and ``ways`` ask the SDK what there is to call, ``values`` and ``knowledge`` say with what, ``stage`` sets
up a provider and books for it alone, ``fence`` lets nothing go anywhere else, ``driving`` calls, ``judging`` compares.
Nothing of it reaches a provider, or the books of the process.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any

from .driving import drive, drive_async
from .judging import Call, Coverage, Judged, judged
from .knowledge import FILE, known_of
from .methods import Method, methods_of
from .stage import Stage, staged
from .ways import Way, ways_of

__all__ = ["Call", "Coverage", "Judged", "Method", "cover"]

SECONDS = 20.0
"""For one call of an asynchronous client."""


def cover() -> Coverage:
    """Calls every method in every way, at an ``OpenAI`` and at an ``AsyncOpenAI``. Not from inside of an event loop.

    Raises :class:`~llmquota.errors.QuotaInputError` where the SDK is not installed, or this process is instrumented.
    """
    calls: dict[Method, list[Call]] = {}
    with staged() as stage:
        # What the calls leave in the context is nobody's.
        contextvars.copy_context().run(_cover_blocking, stage, calls)
        asyncio.run(_cover_async(stage, calls))
        driven = [Judged(method, made) for method, made in calls.items() if not method.is_websocket]
        return Coverage(
            stage.sdk.__version__,
            sending=[each for each in driven if each.sends],
            silent=[each for each in driven if not each.sends],
            websockets=[method for method in calls if method.is_websocket],
        )


def _cover_blocking(stage: Stage, calls: dict[Method, list[Call]]) -> None:
    with stage.connect() as client:
        stage.furnish(client)
        for method, way in _all(stage, client, calls):
            with judged(stage, client, method, way, calls[method]) as own:
                drive(own, method, way)


async def _cover_async(stage: Stage, calls: dict[Method, list[Call]]) -> None:
    async with stage.connect_async() as client:
        for method, way in _all(stage, client, calls):
            with judged(stage, client, method, way, calls[method]) as own:
                await asyncio.wait_for(drive_async(own, method, way), SECONDS)


def _all(stage: Stage, client: Any, calls: dict[Method, list[Call]]) -> Iterator[tuple[Method, Way]]:
    """What is to be called at a client. Each method has a list in ``calls`` from then on."""
    stream = stage.sdk.Stream if isinstance(client, stage.sdk.OpenAI) else stage.sdk.AsyncStream
    things = {**stage.objects, "stream_cls": stream[object]}
    for method in methods_of(client):
        calls.setdefault(method, [])
        if method.is_websocket:
            continue
        try:
            ways = ways_of(client, method, known_of(method, things, stage.folder), stage.folder / FILE)
        except Exception as error:
            # Of an SDK that nobody here has seen yet.
            calls[method].append(Call.of_none(client, error))
            continue
        for way in ways:
            yield method, way
