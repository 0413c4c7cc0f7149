"""Guarded functions of every kind, around the real SDK: admitted, counted once, attributed, otherwise themselves."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import socket
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from guard_parts import HELLO, HELLO_ESTIMATE, connect, connect_async, counted, eventually, open_holds, served

import llmquota
from llmquota import QuotaExceeded, QuotaManager, _native
from llmquota.context import quota_context, unattributed
from llmquota.guard import current_hold, guarded, settle
from llmquota.testing import FakeOpenAI


@pytest.fixture(autouse=True)
def _no_claim_is_left_open() -> Iterator[None]:
    yield
    assert _native.open_claims(0) == 0


@pytest.fixture
def client(fake_openai: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with connect(fake_openai) as client:
        yield client


def asking(manager: QuotaManager, **options: Any) -> Callable[..., Any]:
    """A guarded function that makes one chat completion."""

    @guarded(manager=manager, **options)
    def ask(client: openai.OpenAI, messages: list[Any], *, workspace_id: str | None = None, **more: Any) -> Any:
        return client.chat.completions.create(model="gpt-4o", messages=messages, **more)

    return ask


# --- counted ---


def test_a_call_is_counted_as_the_provider_counts_it(fake_openai, client, quota_manager) -> None:
    ask = asking(quota_manager)
    answers = [ask(client, HELLO, workspace_id="acme") for _ in range(3)]
    assert [answer.choices[0].message.role for answer in answers] == ["assistant"] * 3
    assert counted(quota_manager) == served(fake_openai) == (3, sum(a.usage.total_tokens for a in answers), 0)


async def test_an_async_call_too(fake_openai, quota_manager) -> None:
    @guarded(manager=quota_manager)
    async def ask(client: openai.AsyncOpenAI, workspace_id: str) -> Any:
        return await client.responses.create(model="gpt-4o", input="Hello")

    async with connect_async(fake_openai) as client:
        await asyncio.gather(*(ask(client, "acme") for _ in range(5)))
    assert counted(quota_manager) == served(fake_openai)
    assert fake_openai.served.requests == 5


async def test_a_plain_function_that_returns_a_coroutine(fake_openai, quota_manager) -> None:
    @guarded(manager=quota_manager)
    def ask(client: openai.AsyncOpenAI, workspace_id: str) -> Any:
        return client.embeddings.create(model="text-embedding-3-small", input="Hello")

    async with connect_async(fake_openai) as client:
        pending = ask(client, "acme")
        assert open_holds(quota_manager) == 1
        await pending
    assert counted(quota_manager) == served(fake_openai)


def test_raw_responses(fake_openai, client, quota_manager) -> None:
    @guarded(manager=quota_manager)
    def ask(workspace_id: str) -> Any:
        return client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)

    assert ask("acme").parse().usage.total_tokens == fake_openai.served.total_tokens
    assert counted(quota_manager) == served(fake_openai)


def test_the_whole_usage_is_told(fake_openai, client, quota_manager) -> None:
    fake_openai.reply("Hi", prompt_tokens=100, completion_tokens=40, cached_tokens=30)
    asking(quota_manager)(client, HELLO, workspace_id="acme")
    total = quota_manager.usage("acme")["total"]
    assert (total["input_tokens"], total["output_tokens"], total["cached_tokens"]) == (100, 40, 30)
    # gpt-4o: 2.50 USD a million in, 1.25 cached, 10 out.
    assert total["cost_usd"] == pytest.approx((70 * 2.5 + 30 * 1.25 + 40 * 10) / 1e6)


def test_threads_are_counted_each(fake_openai, client, quota_manager, assert_no_over_admission) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"requests_per_minute": 20}}})
    ask, refused = asking(quota_manager), []

    def work() -> None:
        for _ in range(10):
            try:
                ask(client, HELLO, workspace_id="acme")
            except QuotaExceeded as error:
                refused.append(error)

    with assert_no_over_admission(quota_manager) as admissions:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(refused) == 20
    assert admissions.grants == 20
    assert counted(quota_manager) == served(fake_openai)


# --- refused ---


def test_a_refused_call_does_not_run(fake_openai, client, quota_manager) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"requests_per_minute": 1}}})
    ask = asking(quota_manager)
    ask(client, HELLO, workspace_id="acme")
    with pytest.raises(QuotaExceeded) as caught:
        ask(client, HELLO, workspace_id="acme")
    assert caught.value.limits[0]["limit"] == "requests_per_minute"
    assert isinstance(caught.value, openai.RateLimitError)
    assert fake_openai.served.requests == 1
    ask(client, HELLO, workspace_id="beta")
    assert counted(quota_manager) == counted(quota_manager, "beta")


@pytest.mark.parametrize(
    ("options", "more", "asked"),
    [
        ({}, {}, HELLO_ESTIMATE),
        ({}, {"max_completion_tokens": 100}, HELLO_ESTIMATE + 100),
        ({"tokens": 50}, {}, 50),
        ({"tokens": lambda client, messages, **more: 10 * len(messages)}, {}, 10),
    ],
)
def test_the_estimate(client, quota_manager, options, more, asked) -> None:
    quota_manager.configure(limits={"workspaces": {"acme": {"tokens_per_minute": asked - 1}}})
    ask = asking(quota_manager, **options)
    with pytest.raises(QuotaExceeded) as caught:
        ask(client, HELLO, workspace_id="acme", **more)
    assert [line["asked"] for line in caught.value.limits] == [asked]
    quota_manager.configure(limits={"workspaces": {"acme": {"tokens_per_minute": asked}}})
    ask(client, HELLO, workspace_id="acme", **more)


def test_waiting_for_capacity(fake_openai, client) -> None:
    manager = QuotaManager(limits={"workspaces": {"acme": {"max_concurrent": 1}}})
    hold = manager.get_tracker("acme").reserve(1)
    ask = asking(manager, wait=10)
    threading.Timer(0.1, hold.release).start()
    ask(client, HELLO, workspace_id="acme")
    assert counted(manager) == served(fake_openai)
    again = manager.get_tracker("acme").reserve(1)
    with pytest.raises(QuotaExceeded):
        asking(manager, wait=0.05)(client, HELLO, workspace_id="acme")
    again.release()


async def test_waiting_in_a_loop_is_for_async_functions(fake_openai) -> None:
    manager = QuotaManager(limits={"workspaces": {"acme": {"max_concurrent": 1}}})

    @guarded(manager=manager, wait=10, priority="high")
    async def ask(client: openai.AsyncOpenAI, workspace_id: str) -> Any:
        return await client.chat.completions.create(model="gpt-4o", messages=HELLO)

    async with connect_async(fake_openai) as client:
        await asyncio.gather(*(ask(client, "acme") for _ in range(4)))
    assert counted(manager) == served(fake_openai)
    with pytest.raises(RuntimeError, match="would block the running event loop"):
        asking(manager, wait=True)(None, HELLO, workspace_id="acme")
    assert open_holds(manager) == 0


# --- failed ---


@pytest.mark.parametrize(
    ("fault", "kind", "tokens"),
    [
        ({"code": "rate_limit_exceeded", "retry_after": 1}, openai.RateLimitError, 0),
        ({"code": "insufficient_quota"}, openai.RateLimitError, 0),
        ({"status": 500}, openai.InternalServerError, 0),
        ({"status": 529}, openai.APIStatusError, 0),
        ({"status": 400}, openai.BadRequestError, 0),
        # The provider charges an answer that it has made, and cannot say so: what was held is counted.
        ({"kind": "timeout"}, openai.APITimeoutError, HELLO_ESTIMATE),
        ({"kind": "drop_before_headers"}, openai.APIConnectionError, HELLO_ESTIMATE),
        ({"kind": "drop_in_body"}, openai.APIConnectionError, HELLO_ESTIMATE),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_providers_failures(fake_openai, quota_manager, fault, kind, tokens, is_async) -> None:
    fake_openai.fail(**fault)
    raised: list[BaseException] = []

    @guarded(manager=quota_manager)
    def ask(client: openai.OpenAI, messages: Any, workspace_id: str) -> Any:
        try:
            return client.chat.completions.create(model="gpt-4o", messages=messages)
        except openai.OpenAIError as error:
            raised.append(error)
            raise

    @guarded(manager=quota_manager)
    async def ask_async(client: openai.AsyncOpenAI, messages: Any, workspace_id: str) -> Any:
        try:
            return await client.chat.completions.create(model="gpt-4o", messages=messages)
        except openai.OpenAIError as error:
            raised.append(error)
            raise

    if is_async:
        async with connect_async(fake_openai, timeout=0.2) as async_client:
            with pytest.raises(kind) as caught:
                await ask_async(async_client, HELLO, "acme")
    else:
        with connect(fake_openai, timeout=0.2) as client, pytest.raises(kind) as caught:
            ask(client, HELLO, "acme")
    assert caught.value is raised[0]
    assert counted(quota_manager) == (1, tokens, 1)
    assert fake_openai.served.requests == 1


@pytest.mark.parametrize(
    ("code", "state"), [("insufficient_quota", "quota_exceeded"), ("rate_limit_exceeded", "rate_limited")]
)
def test_the_code_reaches_the_breaker(fake_openai, client, quota_manager, code, state) -> None:
    fake_openai.fail(code=code, retry_after=30)
    ask = asking(quota_manager, credential="openai/key-1")
    with pytest.raises(openai.RateLimitError):
        ask(client, HELLO, workspace_id="acme")
    with pytest.raises(QuotaExceeded) as caught:
        ask(client, HELLO, workspace_id="beta")
    assert caught.value.reason == "breaker"
    assert fake_openai.served.requests == 1, "another workspace of the same credential was kept from the provider"


def test_a_connection_that_was_refused_is_no_request(quota_manager) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    client = openai.OpenAI(base_url=address, api_key="test", max_retries=0)
    with pytest.raises(openai.APIConnectionError), client:
        asking(quota_manager)(client, HELLO, workspace_id="acme")
    assert counted(quota_manager) == (0, 0, 1)


def test_the_exception_goes_on_as_it_is(quota_manager) -> None:
    error = ValueError("mine")

    def body(workspace_id: str) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        guarded(manager=quota_manager)(body)("acme")
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not hasattr(error, "__notes__")
    frames = traceback.extract_tb(error.__traceback__)
    assert (frames[-1].name, frames[-1].line) == ("body", "raise error")
    assert counted(quota_manager) == (1, 1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_an_interrupted_call_is_charged_as_it_was_held(quota_manager, error) -> None:
    @guarded(manager=quota_manager, tokens=70)
    def body(workspace_id: str) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        body("acme")
    assert caught.value is error
    assert counted(quota_manager) == (1, 70, 0)


async def test_a_cancelled_call_is_charged_as_it_was_held(fake_openai, quota_manager) -> None:
    fake_openai.fail("timeout")

    @guarded(manager=quota_manager, tokens=70)
    async def ask(client: openai.AsyncOpenAI, workspace_id: str) -> Any:
        return await client.chat.completions.create(model="gpt-4o", messages=HELLO)

    async with connect_async(fake_openai) as client:
        task = asyncio.create_task(ask(client, "acme"))
        await asyncio.to_thread(eventually, lambda: fake_openai.served.requests == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert counted(quota_manager) == (1, 70, 0)


def test_a_result_without_usage_is_charged_as_it_was_held(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=70)
    def body(workspace_id: str) -> Any:
        return {"text": "Hi"}

    assert body("acme") == {"text": "Hi"}
    assert counted(quota_manager) == (1, 70, 0)


def test_a_number_that_a_function_answers_is_no_usage(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=70)
    def classify(workspace_id: str) -> int:
        return 3

    assert classify("acme") == 3
    assert counted(quota_manager) == (1, 70, 0)

    @guarded(manager=quota_manager, tokens=70, usage=lambda result: result)
    def count(workspace_id: str) -> int:
        return 3

    count("acme")
    assert counted(quota_manager) == (2, 73, 0)


@pytest.mark.parametrize("usage", [lambda result: result["meta"], lambda result: {"tokens": result["meta"]["tokens"]}])
def test_an_extractor_finds_the_usage(quota_manager, usage) -> None:
    @guarded(manager=quota_manager, usage=usage)
    def body(workspace_id: str) -> Any:
        return {"meta": {"tokens": 12}}

    body("acme")
    assert counted(quota_manager) == (1, 12, 0)


def test_an_extractor_that_raises_costs_no_result(quota_manager, caplog) -> None:
    @guarded(manager=quota_manager, tokens=70, usage=lambda result: result.nothing)
    def body(workspace_id: str) -> str:
        return "Hi"

    assert body("acme") == "Hi"
    assert counted(quota_manager) == (1, 70, 0)
    assert "usage=" in caplog.text


# --- whose call it is ---


def test_names_are_the_functions_own_arguments(quota_manager) -> None:
    @guarded(workspace="tenant", goal="goal", task="job", user="who", model="engine", manager=quota_manager, tokens=5)
    def call(tenant: str, /, goal: str = "goal-1", *rest: int, job: Any = None, who: str = "ann", **more: Any) -> None:
        return None

    call("acme", job=7)
    call("acme", "goal-2", 1, 2, job=uuid.UUID(int=1), engine="gpt-4o")
    assert counted(quota_manager)[:2] == (2, 10)
    assert counted(quota_manager, goal="goal-1")[:2] == (1, 5)
    assert counted(quota_manager, goal="goal-2")[:2] == (1, 5)
    assert counted(quota_manager, task="7")[:2] == (1, 5)
    assert counted(quota_manager, task=str(uuid.UUID(int=1)))[:2] == (1, 5)
    assert counted(quota_manager, user="ann")[:2] == (2, 10)
    assert counted(quota_manager, model="gpt-4o")[:2] == (1, 5)


def test_what_an_argument_does_not_say_the_context_says(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=5)
    def call(workspace_id: str | None = None, goal_id: str | None = None) -> None:
        return None

    with quota_context("acme", goal_id="goal-1", user_id="ann"):
        call()
        call(goal_id="goal-2")
        call("beta")
    assert counted(quota_manager)[0] == 2
    assert counted(quota_manager, goal="goal-1")[0] == 1
    assert counted(quota_manager, goal="goal-2")[0] == 1
    assert counted(quota_manager, user="ann")[0] == 2
    assert counted(quota_manager, "beta") == (1, 5, 0)
    assert counted(quota_manager, "beta", goal="goal-1")[0] == 0
    assert unattributed() == []


def test_a_call_of_nobody_is_counted_for_global_and_listed(quota_manager) -> None:
    @guarded(manager=quota_manager, tokens=5)
    def call(workspace_id: str | None = None) -> str | None:
        hold = current_hold()
        return None if hold is None else str(hold.workspace_id)

    assert call() == "global"
    assert counted(quota_manager, "global") == (1, 5, 0)
    (place,) = unattributed()
    assert Path(place.file) == Path(__file__)
    assert place.function == "test_a_call_of_nobody_is_counted_for_global_and_listed"


def test_the_body_runs_in_the_context_of_its_call(quota_manager) -> None:
    from llmquota.context import Context, current

    @guarded(manager=quota_manager)
    def call(workspace_id: str, goal_id: str) -> Context:
        return current()

    assert call("acme", "goal-1") == Context("acme", "goal-1")
    assert current() == Context()


@pytest.mark.parametrize("bad", ["a\0b", "x" * 257, object(), b"acme", True])
def test_an_id_that_cannot_be_stops_the_call(quota_manager, bad) -> None:
    ran: list[str] = []
    with pytest.raises(ValueError, match="workspace_id"):
        guarded(manager=quota_manager)(lambda workspace_id: ran.append("body"))(bad)
    assert not ran


# --- the function stays itself ---


def test_names_that_the_function_does_not_have(quota_manager) -> None:
    def call(tenant: str, prompt: str) -> None: ...

    with pytest.raises(TypeError, match=r"guarded\(workspace='workspace'\).*call\(\).*tenant, prompt"):
        guarded(workspace="workspace")(call)
    with pytest.raises(TypeError, match=r"guarded\(user='user_id'\)"):
        guarded(user="user_id")(call)
    guarded(workspace="tenant", goal=None)(call)  # those that only the defaults name need not be there
    with pytest.raises(TypeError, match="tokens"):
        guarded(tokens="many")(call)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="decorates a function"):
        guarded(manager=quota_manager)("acme")
    with pytest.raises(TypeError, match="workspace_ids"):
        guarded(workspace_ids="tenant")  # type: ignore[call-overload]


def test_wrong_arguments_are_the_callers_error_and_count_nothing(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def call(workspace_id: str) -> None: ...

    with pytest.raises(TypeError, match="prompt"):
        call("acme", prompt="x")  # type: ignore[call-arg]
    assert counted(quota_manager) == (0, 0, 0)


def test_the_wrapped_function_looks_like_the_function(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def plain(workspace_id: str, x: int = 3) -> int:
        """Its own words."""
        return x

    @guarded
    async def coroutine(workspace_id: str) -> None: ...

    @guarded()
    def generator(workspace_id: str) -> Iterator[int]:
        yield 1

    @guarded()
    async def async_generator(workspace_id: str) -> Any:
        yield 1

    assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Its own words.", __name__)
    assert str(inspect.signature(plain)) == "(workspace_id: 'str', x: 'int' = 3) -> 'int'"
    assert inspect.unwrap(plain) is plain.__wrapped__  # type: ignore[attr-defined]
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert not inspect.iscoroutinefunction(plain)


async def test_methods_of_every_kind(quota_manager) -> None:
    class Provider:
        tenant = "acme"

        @guarded(manager=quota_manager, tokens=1)
        def method(self, workspace_id: str) -> str:
            return self.tenant

        @guarded(manager=quota_manager, tokens=1)
        async def coroutine(self, *, workspace_id: str) -> str:
            return self.tenant

        @guarded(manager=quota_manager, tokens=1)
        @classmethod
        def outside_class(cls, workspace_id: str) -> str:
            return cls.tenant

        @classmethod
        @guarded(manager=quota_manager, tokens=1)
        def inside_class(cls, workspace_id: str) -> str:
            return cls.tenant

        @guarded(manager=quota_manager, tokens=1)
        @staticmethod
        def outside_static(workspace_id: str) -> str:
            return "static"

        @staticmethod
        @guarded(manager=quota_manager, tokens=1)
        def inside_static(workspace_id: str) -> str:
            return "static"

    provider = Provider()
    assert provider.method("acme") == await provider.coroutine(workspace_id="acme") == "acme"
    assert Provider.outside_class("acme") == Provider.inside_class("acme") == provider.inside_class("acme") == "acme"
    assert Provider.outside_static("acme") == provider.inside_static("acme") == "static"
    assert counted(quota_manager) == (7, 7, 0)


def test_partials(quota_manager) -> None:
    def call(a: int, workspace_id: str) -> int:
        return a

    assert guarded(manager=quota_manager, tokens=1)(functools.partial(call, 1))("acme") == 1
    assert counted(quota_manager) == (1, 1, 0)


def test_the_manager_may_be_found_when_it_is_needed(quota_manager) -> None:
    found: list[QuotaManager] = []

    @guarded(manager=lambda: found[0], tokens=1)
    def call(workspace_id: str) -> None: ...

    found.append(quota_manager)
    call("acme")
    assert counted(quota_manager) == (1, 1, 0)


def test_without_a_manager_it_is_the_one_of_the_environment() -> None:
    from llmquota import workspace_quota_manager

    @guarded(tokens=5)
    def call(workspace_id: str) -> None: ...

    call("acme")
    assert counted(workspace_quota_manager) == (1, 5, 0)


def test_the_body_may_settle_by_itself(quota_manager) -> None:
    @guarded(manager=quota_manager)
    def by_hold(workspace_id: str) -> Any:
        hold = current_hold()
        assert hold is not None
        assert hold.state == "started"
        hold.settle(tokens=33)
        return {"usage": {"total_tokens": 99}}

    @guarded(manager=quota_manager)
    def by_function(workspace_id: str) -> Any:
        settle({"total_tokens": 44})
        raise KeyError("afterwards")

    by_hold("acme")
    assert counted(quota_manager) == (1, 33, 0)
    with pytest.raises(KeyError):
        by_function("acme")
    assert counted(quota_manager) == (2, 77, 0)
    assert current_hold() is None
    with pytest.raises(RuntimeError, match="guarded"):
        settle(5)


def test_types_are_kept(tmp_path) -> None:
    source = tmp_path / "user.py"
    source.write_text(
        """
from collections.abc import AsyncIterator
from llmquota.guard import guarded

@guarded(workspace="tenant")
def plain(tenant: str, n: int = 1) -> list[int]: return [n]
@guarded
async def bare(workspace_id: str) -> bytes: return b""
@guarded()
async def stream(workspace_id: str) -> AsyncIterator[str]: yield ""

class P:
    @guarded()
    def method(self, workspace_id: str) -> int: return 1
    @classmethod
    @guarded()
    def made(cls, workspace_id: str) -> "P": return cls()
    @guarded()
    @staticmethod
    def static(workspace_id: str) -> str: return ""

reveal_type(plain)
reveal_type(bare)
reveal_type(stream)
reveal_type(P().method("a"))
reveal_type(P.made("a"))
reveal_type(P.static("a"))
plain(5)
plain("a", m=1)
guarded(goal=5)
"""
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir", str(tmp_path), str(source)]
    environment = {**os.environ, "MYPYPATH": str(Path(llmquota.__file__).parents[1])}
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False).stdout
    for expected in [
        'Revealed type is "def (tenant: str, n: int =) -> list[int]"',
        'Revealed type is "def (workspace_id: str) -> typing.Coroutine[Any, Any, bytes]"',
        'Revealed type is "def (workspace_id: str) -> typing.AsyncIterator[str]"',
        'Argument 1 to "plain" has incompatible type "int"; expected "str"',
        'Unexpected keyword argument "m" for "plain"',
        "No overload variant",
    ]:
        assert expected in found.replace("builtins.", "").replace("collections.abc.", "typing."), found
    for kind in ("int", "user.P", "str"):
        assert f'Revealed type is "{kind}"' in found.replace("builtins.", ""), found
