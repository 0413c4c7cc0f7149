"""Whose call it is: inherited by blocks, tasks and threads, never leaked by generators, listed where nobody says it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llmquota import _native
from llmquota.context import (
    CallSite,
    Context,
    ContextThreadPoolExecutor,
    current,
    quota_context,
    resolve_workspace,
    unattributed,
)

NOBODY = Context()


def workspace() -> str | None:
    return current().workspace_id


def test_blocks_nest_and_inherit_what_they_do_not_set() -> None:
    assert current() == NOBODY
    with quota_context(workspace_id="acme", goal_id="goal-1", model="gpt-4o") as outer:
        assert current() is outer
        with quota_context(task_id="t-7", model="o1"):
            assert current() == Context("acme", "goal-1", "t-7", None, "o1")
        assert current() == Context("acme", "goal-1", None, None, "gpt-4o")
    assert current() == NOBODY


def test_another_workspace_does_not_inherit_the_goal_of_the_first() -> None:
    with quota_context("acme", "goal-1", "t-7", "ann", "gpt-4o"):
        with quota_context("beta"):
            assert current() == Context("beta", model="gpt-4o")
        with quota_context("acme", task_id="t-8"):
            assert current() == Context("acme", "goal-1", "t-8", "ann", "gpt-4o")


def test_a_goal_may_be_known_before_its_workspace() -> None:
    with quota_context(goal_id="goal-1"), quota_context("acme"):
        assert current() == Context("acme", "goal-1")


def test_a_context_cannot_be_changed() -> None:
    with quota_context("acme") as context, pytest.raises(dataclasses.FrozenInstanceError):
        context.workspace_id = "beta"  # type: ignore[misc]


def test_an_exception_leaves_the_block_as_it_is() -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, quota_context("acme"):
        raise error
    assert caught.value is error
    assert current() == NOBODY


def test_one_object_may_be_entered_again_inside_itself() -> None:
    mine = quota_context("acme")
    with mine:
        with quota_context("beta"), mine:
            assert workspace() == "acme"
        assert workspace() == "acme"
    assert current() == NOBODY


async def test_one_object_may_be_entered_by_many_tasks() -> None:
    mine = quota_context("acme")

    async def enter(pauses: int) -> list[str | None]:
        async with mine:
            seen = [workspace()]
            for _ in range(pauses):
                await asyncio.sleep(0)
            seen.append(workspace())
        return [*seen, workspace()]

    for seen in await asyncio.gather(*(enter(pauses) for pauses in (3, 1, 2))):
        assert seen == ["acme", "acme", None]


async def test_tasks_gather_and_threads_inherit() -> None:
    async def inner() -> str | None:
        await asyncio.sleep(0)
        return workspace()

    async with quota_context("acme"):
        task = asyncio.create_task(inner())
        assert await asyncio.gather(inner(), inner()) == ["acme", "acme"]
        assert await asyncio.to_thread(workspace) == "acme"
    assert await task == "acme", "a task keeps what was in force where it was made"
    assert await inner() is None


def test_the_executor_carries_the_context_into_its_threads() -> None:
    with ContextThreadPoolExecutor(2) as executor:
        with quota_context("acme"):
            futures = [executor.submit(workspace) for _ in range(4)]
            assert list(executor.map(lambda _: workspace(), range(4))) == ["acme"] * 4
        assert [future.result() for future in futures] == ["acme"] * 4
        assert executor.submit(workspace).result() is None, "a thread keeps nothing of an earlier call"
        assert executor.submit(lambda *, named: named, named=5).result() == 5


def test_a_bare_thread_inherits_nothing() -> None:
    seen: list[str | None] = []
    with quota_context("acme"):
        thread = threading.Thread(target=lambda: seen.append(workspace()))
        thread.start()
        thread.join()
    # Python 3.14 lets threads inherit where it is told to.
    assert seen in ([None], ["acme"])


@quota_context("acme", goal_id="goal-1")
def plain(a: int, *, b: int = 2) -> tuple[Context, int, int]:
    """Its own words."""
    return current(), a, b


@quota_context("acme")
async def coroutine() -> str | None:
    await asyncio.sleep(0)
    return workspace()


@quota_context("acme")
def generator() -> Iterator[str | None]:
    yield workspace()
    with quota_context("beta"):
        yield workspace()
        yield workspace()
    yield workspace()


@quota_context("acme")
async def async_generator() -> AsyncIterator[str | None]:
    yield workspace()
    async with quota_context("beta"):
        await asyncio.sleep(0)
        yield workspace()
        yield workspace()
    yield workspace()


async def test_as_a_decorator() -> None:
    assert plain(1) == (Context("acme", "goal-1"), 1, 2)
    assert await coroutine() == "acme"
    assert current() == NOBODY
    assert (plain.__name__, plain.__doc__) == ("plain", "Its own words.")
    assert list(inspect.signature(plain).parameters) == ["a", "b"]
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)


async def test_a_generator_keeps_its_context_to_itself() -> None:
    inside, outside = [], []
    with quota_context("reader"):
        for seen in generator():
            inside.append(seen)
            outside.append(workspace())
        async for seen in async_generator():
            inside.append(seen)
            outside.append(workspace())
    assert inside == ["acme", "beta", "beta", "acme"] * 2
    assert outside == ["reader"] * 8


async def test_what_a_reader_does_reaches_the_generator() -> None:
    ends: list[Any] = []

    @quota_context("acme")
    def both_ways() -> Any:
        try:
            got = yield 1
            while True:
                try:
                    got = yield (got, workspace())
                except KeyError as error:
                    got = error
        finally:
            ends.append(workspace())

    reader = both_ways()
    assert next(reader) == 1
    assert reader.send("x") == ("x", "acme")
    thrown = KeyError()
    assert reader.throw(thrown) == (thrown, "acme")
    reader.close()
    assert ends == ["acme"]

    @quota_context("acme")
    def returning() -> Any:
        yield 1
        return workspace()

    def delegating() -> Any:
        return (yield from returning())

    reader = delegating()
    next(reader)
    with pytest.raises(StopIteration) as stop:
        next(reader)
    assert stop.value.value == "acme"

    @quota_context("acme")
    async def both_ways_async() -> Any:
        try:
            got = yield 1
            try:
                yield (got, workspace())
            except KeyError as error:
                yield error
        finally:
            ends.append(workspace())

    async_reader = both_ways_async()
    assert await async_reader.asend(None) == 1
    assert await async_reader.asend("x") == ("x", "acme")
    assert await async_reader.athrow(thrown) is thrown
    await async_reader.aclose()
    assert ends == ["acme", "acme"]


async def test_a_generator_closed_from_another_task_leaves_both_tasks_alone() -> None:
    reader = async_generator()
    assert await anext(reader) == "acme"
    assert await anext(reader) == "beta"

    async def close() -> str | None:
        async with quota_context("closer"):
            await reader.aclose()
            return workspace()

    assert await asyncio.create_task(close()) == "closer"
    assert current() == NOBODY


async def test_a_block_inside_an_undecorated_generator_that_is_closed_elsewhere_raises_nothing() -> None:
    async def careless() -> AsyncIterator[str | None]:
        async with quota_context("acme"):
            yield workspace()

    reader = careless()
    assert await anext(reader) == "acme"

    async def close() -> str | None:
        await reader.aclose()  # type: ignore[attr-defined]
        return workspace()

    # The task copied what the careless generator had left in force, and leaving the block ends it there.
    assert await asyncio.create_task(close()) is None


def test_a_generator_left_in_the_middle_is_collected_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    reader = generator()
    next(reader)
    del reader
    gc.collect()
    assert not recwarn.list
    assert current() == NOBODY


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_calls_of_nobody_are_listed_by_their_place() -> None:
    assert unattributed() == []
    assert resolve_workspace("acme") == "acme"
    with quota_context("beta"):
        assert resolve_workspace() == "beta"
        assert resolve_workspace("acme") == "acme"
    assert unattributed() == []
    for _ in range(3):
        line = here() + 1
        assert resolve_workspace() == "global"
    assert resolve_workspace("") == "global"
    first, second = unattributed()
    assert first == CallSite(__file__, line, "test_calls_of_nobody_are_listed_by_their_place", 3)
    assert second.calls == 1


def test_the_list_of_places_is_bounded() -> None:
    for number in range(1_100):
        code = compile(f"def f{number}(resolve): return resolve()", f"place-{number}.py", "exec")
        namespace: dict[str, Any] = {}
        exec(code, namespace)  # each its own place
        assert namespace[f"f{number}"](resolve_workspace) == "global"
    places = unattributed()
    assert sum(place.calls for place in places) == 1_100
    assert len(places) == 1_001
    assert places[0] == CallSite("", 0, "(elsewhere)", 100)


def test_no_claim_is_open_outside_of_guarded_calls() -> None:
    assert _native.open_claims(0) == 0
