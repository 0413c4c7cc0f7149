"""Functions in processes of their own, and what they say."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Start = Callable[..., tuple[Any, Connection]]


@contextlib.contextmanager
def starting() -> Iterator[Start]:
    """Starts a function in a process of its own, with the other end of a pipe as its last argument; ends it."""
    started: list[tuple[Any, Connection]] = []

    def begin(function: Callable[..., None], *arguments: Any, method: str = "spawn") -> tuple[Any, Connection]:
        context = multiprocessing.get_context(method)
        mine, theirs = context.Pipe()
        process = context.Process(target=function, args=(*arguments, theirs))  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        started.append((process, mine))
        return process, mine

    yield begin
    for process, pipe in started:
        process.kill()
        process.join()
        pipe.close()


def told(pipe: Connection) -> Any:
    """What the other process says, in time."""
    assert pipe.poll(60), "it says nothing"
    return pipe.recv()


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    """The first true answer."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.01)
    return answer
