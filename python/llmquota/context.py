"""Whose call it is: a context that the calls inside it inherit.

    with quota_context(workspace_id="acme", goal_id="goal-1"):
        client.chat.completions.create(...)

It is a ``contextvars`` variable: tasks, ``gather`` and ``asyncio.to_thread`` inherit it. ``ThreadPoolExecutor.submit``
does not: :class:`ContextThreadPoolExecutor` does.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from . import _native
from .claims import GLOBAL, Claim, Record, Trail
from .stepping import wrap_async_generator, wrap_generator

__all__ = [
    "CallSite",
    "Context",
    "ContextThreadPoolExecutor",
    "amend_claim",
    "current",
    "quota_context",
    "resolve_workspace",
    "unattributed",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_log = logging.getLogger(__name__)

MAX_CALL_SITES = 1_000
"""How many places :func:`unattributed` remembers; further ones are counted together, without a place."""


@dataclass(frozen=True)
class Context:
    """Whose call it is. What is ``None`` nobody has said."""

    workspace_id: str | None = None
    goal_id: str | None = None
    task_id: str | None = None
    user_id: str | None = None
    model: str | None = None

    def within(self, outer: Context) -> Context:
        """Itself, with what it does not say taken from ``outer``.

        A goal, a task and a user belong to their workspace: another workspace does not inherit them.
        """
        if outer is self or outer is _NOBODY:
            return self
        if outer.workspace_id is not None and self.workspace_id not in (None, outer.workspace_id):
            outer = Context(model=outer.model)
        return Context(
            outer.workspace_id if self.workspace_id is None else self.workspace_id,
            outer.goal_id if self.goal_id is None else self.goal_id,
            outer.task_id if self.task_id is None else self.task_id,
            outer.user_id if self.user_id is None else self.user_id,
            outer.model if self.model is None else self.model,
        )


_NOBODY = Context()


@dataclass(frozen=True, eq=False)
class Frame:
    """What is in force: a context, the claim of the guarded call around it, and what was in force before."""

    context: Context
    claim: Claim | None
    outer: Frame | None
    owner: quota_context | None = None


_frame: ContextVar[Frame | None] = ContextVar("llmquota", default=None)


_OWNERS = ("workspace_id", "goal_id", "task_id", "user_id")


def named_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Whose a call is by the metadata of another library's run, as arguments of :class:`Context`.

    What is no text there is something else's, and passed over.
    """
    return {name: value for name in _OWNERS if isinstance(value := metadata.get(name), str) and value}


def _in_force() -> Frame | None:
    frame = _frame.get()
    while frame is not None and frame.owner is not None and frame.owner.is_over:
        frame = frame.outer
    return frame


def current() -> Context:
    """The context in force here; all ``None`` outside of any."""
    frame = _in_force()
    return _NOBODY if frame is None else frame.context


def current_claim() -> Claim | None:
    """The claim of the guarded call whose body this is, if it is one."""
    frame = _in_force()
    return None if frame is None else frame.claim


_keepers = 0
# Reentrant: a transport may be collected while another one begins.
_keepers_lock = threading.RLock()


def keep_trails(keep: bool) -> None:
    """Calls are counted where they leave, so that records by hand have to be matched with them; each who counts says so
    once, and once that it does no longer."""
    global _keepers
    change = 1 if keep else -1
    with _keepers_lock:
        _keepers += change
    _native.open_claims(change)


def begin_trail() -> None:
    """Has records by hand that follow here find the calls that are counted from now on."""
    frame = _in_force()
    if frame is None or frame.claim is None:
        _frame.set(Frame(_NOBODY if frame is None else frame.context, Trail(), frame))


def frame_for(context: Context, claim: Claim | None) -> Frame:
    """A frame inside the one in force. It comes into force by :class:`Inside`."""
    return Frame(context, claim, _in_force())


class Inside:
    """Puts a frame into force for a stretch of code, and the one before it again afterwards.

    One object serves all steps of a generator: what a step leaves in force (a ``with quota_context`` around a
    ``yield``) is in force again in the next step, and never leaks to whoever reads the generator.
    """

    __slots__ = ("_inside", "_outside")

    def __init__(self, frame: Frame) -> None:
        self._inside: Frame | None = frame
        self._outside: Frame | None = None

    def __enter__(self) -> None:
        # By value and not by token: a generator may be closed from another task, where a token is not valid.
        self._outside = _frame.get()
        _frame.set(self._inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = _frame.get()
        _frame.set(self._outside)


class quota_context:
    """Says whose calls those inside are. A ``with`` block, an ``async with`` block, or a decorator.

    What it does not name is inherited from the context around it, except that a goal, a task and a user are not
    inherited by another workspace. As a decorator of a generator it is in force while the generator's own code runs,
    and not in the code that reads it.
    """

    # Of one that was entered where nobody can leave it: it is over in every copy of its context at once.
    is_over = False

    def __init__(
        self,
        workspace_id: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        model: str | None = None,
    ) -> None:
        self._context = Context(workspace_id, goal_id, task_id, user_id, model)

    def __enter__(self) -> Context:
        outer = _in_force()
        claim = outer.claim if outer else None
        if claim is None and _keepers:
            # Here and not first at the call: that may be made by a child, whose context nobody sees again.
            claim = Trail()
        frame = Frame(self._context.within(current()), claim, outer, owner=self)
        _frame.set(frame)
        return frame.context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Looked for and not assumed: one object may be entered by many tasks, and a block inside a generator may be
        # left in a context that never saw it entered.
        frame = _frame.get()
        while frame is not None:
            if frame.owner is self:
                _frame.set(frame.outer)
                return
            frame = frame.outer

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: _F) -> _F:
        """The function, in this context whenever it runs."""
        wrapped: Callable[..., Any]
        if inspect.isgeneratorfunction(function):
            wrapped = wrap_generator(function, lambda args, kwargs: _Steps(self._nested()))
        elif inspect.isasyncgenfunction(function):
            wrapped = wrap_async_generator(function, lambda args, kwargs: _Steps(self._nested()))
        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                with Inside(self._nested()):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                with Inside(self._nested()):
                    return function(*args, **kwargs)

        return cast(_F, wrapped)

    def _nested(self) -> Frame:
        return frame_for(self._context.within(current()), current_claim())


class _Steps:
    """Puts a frame into force around the steps of a generator, and does nothing else."""

    def __init__(self, frame: Frame) -> None:
        self.inside = Inside(frame)

    def begin(self) -> None:
        pass

    async def begin_async(self) -> None:
        pass

    def saw(self, item: Any) -> None:
        pass

    def ended(self, value: Any) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass

    def closed(self) -> None:
        pass

    def is_to_stop(self) -> bool:
        return False


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose threads run each call in the context that submitted it."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Runs ``fn`` in a copy of the caller's context, as ``asyncio.to_thread`` does."""
        call = functools.partial(fn, *args, **kwargs)
        return super().submit(copy_context().run, call)


@dataclass(frozen=True)
class CallSite:
    """A place in the user's code that makes calls for nobody."""

    file: str
    line: int
    function: str
    calls: int
    """How often, so far."""


_sites: dict[tuple[str, int, str], int] = {}
_sites_lock = threading.Lock()
_ELSEWHERE = ("", 0, "(elsewhere)")


def resolve_workspace(given: str | None = None) -> str:
    """The workspace of a call: the one given, else the context's, else ``"global"``.

    A call for ``"global"`` that nobody named is noted with its place: see :func:`unattributed`.
    """
    workspace = given or current().workspace_id
    if workspace:
        return workspace
    site = _caller()
    with _sites_lock:
        known = site if site in _sites or len(_sites) < MAX_CALL_SITES else _ELSEWHERE
        _sites[known] = _sites.get(known, 0) + 1
    return GLOBAL


def unattributed() -> list[CallSite]:
    """Where this process made calls that belong to no workspace, most calls first."""
    with _sites_lock:
        sites = [CallSite(*site, calls) for site, calls in _sites.items()]
    return sorted(sites, key=lambda site: -site.calls)


def forget_unattributed() -> None:
    """Forgets the places that :func:`unattributed` lists."""
    with _sites_lock:
        _sites.clear()


def _caller() -> tuple[str, int, str]:
    """The innermost frame that is neither this package's nor of a library between it and the caller."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


_SDKS = {"openai", "anthropic", "agents", "langchain_core", "langchain_openai", "langchain_anthropic"}
_CLIENTS = {"httpx", "httpx2", "opentelemetry", "tenacity", "backoff", "asyncio", "contextlib"}
_BETWEEN = frozenset({__name__.partition(".")[0]} | _SDKS | _CLIENTS)
"""Libraries through which a call goes on its way to its provider."""


def amend_claim(workspace_id: str, told: Record, manager: object | None = None) -> bool:
    """Whether a record by hand is of a call that a guard counts. Then nothing more is to be counted.

    Asked by a record of ``workspace_id`` while claims are open; ``told`` has the arguments of ``record_request`` that
    were given, validated. Never raises.
    """
    claim = current_claim()
    if claim is None:
        return False
    try:
        return claim.take(workspace_id, manager, told)
    except Exception:
        # A record that is not matched is counted twice; one that raises is lost.
        _log.exception("A record could not be matched with the guarded call around it")
        return False
