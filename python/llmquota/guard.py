"""``@guarded``: a function whose calls are admitted, counted and attributed.

    @guarded(workspace="workspace_id", goal="goal_id")
    async def answer(client, messages, *, workspace_id, goal_id=None):
        return await client.chat.completions.create(model="gpt-4o", messages=messages)

Guard the function that makes the provider's call. Where guarded functions call each other the innermost counts.
"""

from __future__ import annotations

import functools
import inspect
import math
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from .admission import GuardedCall
from .context import Context, current_claim
from .estimates import Estimate, estimate_request
from .retry import Retry, attempted, attempted_here, plan_of
from .stepping import wrap_async_generator, wrap_generator
from .streams import followed
from .terms import Terms

if TYPE_CHECKING:
    from ._native import Hold

__all__ = ["current_hold", "guarded", "settle"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _Default(str):
    """A name that is looked for, and need not be there."""

    __slots__ = ()


_ON_BUDGET = ("go on", "stop")
_WORKSPACE, _GOAL, _TASK, _MODEL = (_Default(name) for name in ("workspace_id", "goal_id", "task_id", "model"))


class _Guard(Protocol):
    """Decorates a function without changing its type."""

    @overload
    def __call__(self, function: staticmethod[_P, _R], /) -> staticmethod[_P, _R]: ...
    @overload
    def __call__(self, function: classmethod[_T, _P, _R], /) -> classmethod[_T, _P, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def guarded(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...
@overload
def guarded(
    *,
    workspace: str | None = ...,
    goal: str | None = ...,
    task: str | None = ...,
    user: str | None = ...,
    model: str | None = ...,
    tokens: int | Callable[..., int] | None = ...,
    provider: str | None = ...,
    credential: str | None = ...,
    manager: Any = ...,
    wait: bool | float = ...,
    priority: str = ...,
    retry: int | Retry | None = ...,
    on_budget: str = ...,
    usage: Callable[[Any], Any] | None = ...,
    method: str | None = ...,
) -> _Guard: ...
def guarded(
    function: Callable[..., Any] | None = None,
    /,
    *,
    workspace: str | None = _WORKSPACE,
    goal: str | None = _GOAL,
    task: str | None = _TASK,
    user: str | None = None,
    model: str | None = _MODEL,
    tokens: int | Callable[..., int] | None = None,
    provider: str | None = "openai",
    credential: str | None = None,
    manager: Any = None,
    wait: bool | float = False,
    priority: str = "normal",
    retry: int | Retry | None = None,
    on_budget: str = "go on",
    usage: Callable[[Any], Any] | None = None,
    method: str | None = None,
) -> Any:
    """Guards a function, coroutine function, generator or async generator: each call is admitted, then counted once.

    ``@guarded`` alone is ``@guarded()``.

    Arguments:
        workspace, goal, task, user, model: the names of the function's own arguments that say whose call it is. An
            argument that is ``None`` falls to the context (:class:`~llmquota.context.quota_context`), a workspace then
            to ``"global"``. The defaults need not be there; a name that is given must.
        tokens: what a call is going to take: a number, or a function of the same arguments that returns one. Without
            it: characters / 4 of the texts and messages among the arguments, and ``max_tokens``,
            ``max_completion_tokens`` or ``max_output_tokens``.
        provider, credential: whose limits the call shares with all other workspaces.
        manager: the ``QuotaManager``, or a function that returns it; by default the one made from the environment.
        wait: for how many seconds at most to wait for room, by ``priority`` (``"high"``, ``"normal"``, ``"low"``);
            ``True`` waits without bound. See ``docs/waiting.md``.
        retry: how many times again a failed call is made at most, or a :class:`~llmquota.retry.Retry`, which also says
            how patiently. Each try is a call of its own: admitted, and counted by its own outcome. A generator is begun
            again only before its first item. The client inside should not try again itself (``max_retries=0``).
        on_budget: ``"stop"`` ends a stream, without an error, once it has brought more than was held for it and what is
            left of a budget (``budget_usd_per_day``, ``budget_usd_per_month``, ``tokens_per_day``) does not pay for
            more; it is looked at each 64 tokens. By default, ``"go on"``, it goes on to its end, and what it took is
            debt.
        usage: finds the usage in what the function returns or yields, where :func:`~llmquota.usage.read_usage` cannot.
        method: what the provider calls what the function does, such as ``"chat.completions.create"``, for history.

    A call that does not fit raises ``QuotaExceeded`` and its body does not run. Otherwise it ends as follows:

    - the body returns: its usage is counted, as the result, the last items of a stream, or a manual record in the body
      tell it; where nobody does, an estimate (what was held, or the text that was streamed), never 0;
    - it raises: one failed request is counted by the provider's code, none for a connection that was refused; that same
      exception goes on;
    - it is cancelled, or its generator is closed or left behind: what was held is charged, unless the usage had come.

    In a running event loop a synchronous function can neither wait nor retry: it would block the loop.

    A generator is admitted when it is begun. A function that returns a generator, a coroutine or an SDK's stream ends
    with it.

    Raises ``TypeError``, when it decorates, for a name that the function has no argument for, and ``TypeError`` or
    ``ValueError`` for an option that cannot be.
    """
    if tokens is not None and not callable(tokens) and (isinstance(tokens, bool) or not isinstance(tokens, int)):
        raise TypeError(f"tokens must be a whole number or a function that returns one, not {tokens!r}")
    if not (isinstance(wait, bool) or (isinstance(wait, (int, float)) and math.isfinite(wait) and wait >= 0)):
        raise ValueError(f"wait must be True, False, or seconds of 0 or more, not {wait!r}")
    if on_budget not in _ON_BUDGET:
        raise ValueError(f"on_budget must be one of {', '.join(map(repr, _ON_BUDGET))}, not {on_budget!r}")
    stops = on_budget == "stop"
    terms = Terms(provider, credential, manager, wait, priority, usage, method, plan_of(retry), stops)
    names = {"workspace_id": workspace, "goal_id": goal, "task_id": task, "user_id": user, "model": model}

    def decorate(function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(decorate(function.__func__))
        if not callable(function):
            raise TypeError(f"guarded() decorates a function, not {function!r}; its options are keywords")
        return _wrapped(function, _Arguments(function, names, tokens), terms)

    return decorate if function is None else decorate(function)


def current_hold() -> Hold | None:
    """The hold of the guarded call whose body this is, or ``None``. A body may settle or release it itself.

    Its ``id`` is the column ``hold`` of history. Sent along as ``X-Client-Request-Id``, it names the same call in the
    provider's books.
    """
    claim = current_claim()
    return claim.hold if isinstance(claim, GuardedCall) else None


def settle(usage: Any = None, **numbers: Any) -> None:
    """Settles the guarded call whose body this is, in place of what its result says. Arguments as of ``Hold.settle``.

    Raises ``RuntimeError`` outside of a guarded function.
    """
    hold = current_hold()
    if hold is None:
        raise RuntimeError("settle() is for the body of a guarded function; elsewhere reserve() and settle that hold")
    hold.settle(usage, **numbers)


class _Arguments:
    """Reads out of a call's arguments whose call it is and what it will take."""

    def __init__(
        self, function: Callable[..., Any], names: Mapping[str, str | None], tokens: int | Callable[..., int] | None
    ) -> None:
        self._tokens = tokens
        try:
            self._signature = inspect.signature(function)
        except ValueError as error:
            raise TypeError(f"guarded() cannot read the arguments of {function!r}") from error
        parameters = self._signature.parameters
        kinds = {parameter.kind: name for name, parameter in parameters.items()}
        self._keywords = kinds.get(inspect.Parameter.VAR_KEYWORD)
        self._names: dict[str, str] = {}
        for field, name in names.items():
            if name is None:
                continue
            if name in parameters or self._keywords is not None:
                self._names[field] = name
            elif not isinstance(name, _Default):
                has = ", ".join(parameters) or "none"
                option = field.removesuffix("_id")
                where = getattr(function, "__qualname__", function)
                raise TypeError(f"guarded({option}={name!r}): {where}() has no such argument; its arguments are: {has}")

    def call(self, terms: Terms, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GuardedCall:
        """The call that these arguments make. Raises ``TypeError`` for those that the function does not take."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if self._keywords is not None:
            arguments |= arguments.pop(self._keywords)
        names = {field: _identifier(arguments.get(name)) for field, name in self._names.items()}
        tokens = self._tokens(*args, **kwargs) if callable(self._tokens) else self._tokens
        estimate: Estimate = estimate_request(arguments, ignored=self._names.values())
        return GuardedCall(terms, Context(**names), estimate, tokens)


def _identifier(value: Any) -> Any:
    """An id as a text. What is none of the usual kinds goes on as it is, and the reserve says what is wrong with it."""
    if value is None or value == "":
        return None
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        return str(value)
    return value


def _wrapped(function: Callable[..., Any], arguments: _Arguments, terms: Terms) -> Callable[..., Any]:
    def prepare(args: tuple[Any, ...], kwargs: dict[str, Any]) -> GuardedCall:
        return arguments.call(terms, args, kwargs)

    if inspect.isgeneratorfunction(function):
        return wrap_generator(function, prepare, terms.retry)
    if inspect.isasyncgenfunction(function):
        return wrap_async_generator(function, prepare, terms.retry)
    if inspect.iscoroutinefunction(function):

        async def once_async(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            call = prepare(args, kwargs)
            await call.begin_async()
            try:
                with call.inside:
                    result = await function(*args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            return followed(result, call)

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            return await attempted(lambda: once_async(args, kwargs), terms.retry)

        return coroutine

    def once(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = prepare(args, kwargs)
        call.begin()
        try:
            with call.inside:
                result = function(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        return followed(result, call)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return attempted_here(lambda: once(args, kwargs), terms.retry)

    return plain
