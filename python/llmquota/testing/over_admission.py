"""``assert_no_over_admission``: proves that nothing was granted past a limit, from outside of what decided it.

    with assert_no_over_admission(manager) as admissions:
        ...                                     # threads, tasks, whatever the backend does
    assert admissions.grants > 0

Two proofs for every grant and each enforced limit of its chain:

- *by the manager's numbers*: where no fact came in between, used + held after the grant is within the cap;
- *by a ledger of its own*: the calls that were granted, and the facts recorded, before the latest grant of a window are
  added up, each with the least that it can have counted for then. It needs no number of the manager, and holds
  whatever the threads' order was: it may miss an excess among calls that overlap, and never sees one that was not.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from llmquota.usage import read_usage

__all__ = ["Admissions", "assert_no_over_admission"]

_MINUTE = 60.0
_DEFAULT_TTL = 600.0
_NAMES = {"goal_id": "goal", "task_id": "task", "user_id": "user"}
_SECONDS = {"requests_per_minute": _MINUTE, "tokens_per_minute": _MINUTE, "max_burst": 1.0}

Key = tuple[str, str, str, str]
"""Scope, workspace (none for a provider's), account, limit."""


@dataclass(eq=False)
class _Event:
    """A grant or a fact. Places are numbers of one sequence: what has the smaller one came first."""

    began: int
    since: float
    """The manager's time before it."""
    requests: int
    tokens: int
    lines: dict[Key, dict[str, Any]] = field(default_factory=dict)
    ended: int = 0
    """Where it had been granted, or recorded."""
    until: float = 0.0
    # Of a grant: how its hold ended.
    ttl: float = _DEFAULT_TTL
    end_began: int | None = None
    end_ended: int | None = None
    final_requests: int = 0
    final_tokens: int = 0
    void: bool = False

    def amount(self, limit: str, final: bool = False) -> int:
        if limit.startswith("tokens"):
            return self.final_tokens if final else self.tokens
        return self.final_requests if final else self.requests

    def least(self, limit: str, first: int, last: int, now: float) -> int:
        """The least that it counted for at any moment between the places ``first`` and ``last``."""
        if self.void:
            return 0
        if self.end_began is None or self.end_began > last:
            return 0 if now >= self.since + self.ttl else self.amount(limit)
        if limit == "max_concurrent":
            return 0
        if self.end_ended is not None and self.end_ended < first:
            return self.amount(limit, final=True)
        return min(self.amount(limit), self.amount(limit, final=True))


class Admissions:
    """What was seen inside the block."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._places = itertools.count(1)
        self._lock = threading.Lock()
        self._grants: list[_Event] = []
        self._facts: list[_Event] = []
        self._holds: weakref.WeakKeyDictionary[Any, _Event] = weakref.WeakKeyDictionary()
        self._violations: list[str] = []

    @property
    def grants(self) -> int:
        """How many calls were granted."""
        return len(self._grants)

    @property
    def violations(self) -> list[str]:
        """What went past a limit, each as a sentence."""
        return [*self._violations, *dict.fromkeys(self._replay())]

    # --- what the wrapped methods tell ---

    def granting(self, workspace: str, names: dict[str, Any], asked: Any) -> tuple[_Event, dict[Key, dict[str, Any]]]:
        before = self._lines(workspace, names)
        tokens = 0 if asked is None else int(asked)
        return _Event(next(self._places), self._manager.now(), 1, tokens, ttl=names.get("ttl") or _DEFAULT_TTL), before

    def granted(
        self, event: _Event, hold: Any, workspace: str, names: dict[str, Any], before: dict[Key, dict[str, Any]]
    ) -> None:
        event.until, event.ended = self._manager.now(), next(self._places)
        event.lines = self._lines(workspace, names)
        with self._lock:
            self._grants.append(event)
            self._holds[hold] = event
        weakref.finalize(hold, _dropped, event, self._places)
        for key, line in event.lines.items():
            earlier = before.get(key)
            # A fact that came in between may rightly pass the limit.
            if earlier is None or line["used"] != earlier["used"] or line["cap"] != earlier["cap"]:
                continue
            if line["mode"] == "enforce" and _past(line["used"] + line["held"], line["cap"]):
                self._violations.append(
                    f"{_shown(key)}: used {line['used']} + held {line['held']} > cap {line['cap']} after a grant"
                )

    def ending(self, hold: Any) -> _Event | None:
        event = self._holds.get(hold)
        if event is None or event.end_began is not None:
            return None
        event.end_began = next(self._places)
        return event

    def end(self, event: _Event, requests: int, tokens: int) -> None:
        event.final_requests, event.final_tokens = requests, tokens
        event.end_ended = next(self._places)

    def recording(self, tokens: int) -> _Event:
        return _Event(next(self._places), self._manager.now(), 1, tokens)

    def recorded(self, event: _Event, workspace: str, names: dict[str, Any]) -> None:
        event.until, event.ended = self._manager.now(), next(self._places)
        event.lines = self._lines(workspace, names)
        event.end_began = event.end_ended = event.ended
        event.final_requests, event.final_tokens = event.requests, event.tokens
        with self._lock:
            self._facts.append(event)

    def forget(self) -> None:
        """The manager was told to forget what was used: so does the ledger."""
        with self._lock:
            for event in [*self._grants, *self._facts]:
                event.void = event.end_began is not None

    # --- the ledger's proof ---

    def _replay(self) -> Iterator[str]:
        keys = {key for grant in self._grants for key in grant.lines}
        for key in sorted(keys):
            limit = key[3]
            if limit.startswith("budget"):
                continue  # what a hold costs only the manager knows
            enforced = [each for each in self._grants if key in each.lines and each.lines[key]["mode"] == "enforce"]
            for grant in enforced:
                yield from self._replay_one(key, grant, enforced)

    def _replay_one(self, key: Key, grant: _Event, enforced: list[_Event]) -> Iterator[str]:
        limit, last = key[3], grant.ended
        seen = [each for each in enforced if each.ended <= last]
        now = max(each.until for each in seen)
        seen = [each for each in seen if _same_window(key, each, grant, now)]
        # The latest grant of them happened between these two places, whichever it was: it saw all the others.
        first = max((each.began for each in seen), default=0)
        if not seen:
            return
        facts = [each for each in self._facts if each.ended < first and _counts(key, each, seen, now)]
        total = sum(each.least(limit, first, last, now) for each in [*seen, *facts])
        cap = max(each.lines[key]["cap"] for each in seen)
        if total > cap:
            yield f"{_shown(key)}: {len(seen)} grants and {len(facts)} facts make at least {total} > cap {cap}"

    def _lines(self, workspace: str, names: dict[str, Any]) -> dict[Key, dict[str, Any]]:
        chain = {short: names.get(name) for name, short in _NAMES.items()}
        chain |= {name: names.get(name) for name in ("model", "provider", "credential")}
        lines = self._manager.limits(workspace, **{name: value for name, value in chain.items() if value is not None})
        return {
            (line["scope"], "" if line["scope"] == "provider" else workspace, line["account"], line["limit"]): line
            for line in lines
        }


@contextmanager
def assert_no_over_admission(watched: Any) -> Iterator[Admissions]:
    """Watches every grant of a ``QuotaManager``, or of a tracker's, inside the block; at its end raises
    ``AssertionError`` with every limit that was passed.

    It wraps the classes' own methods while it runs, so that guards and threads are seen too; other managers of the
    process are left alone. It slows each call down by the reading of its limits.
    """
    manager = getattr(watched, "manager", watched)
    seen = Admissions(manager)
    tracker = manager.get_tracker(getattr(watched, "workspace_id", "global"))
    with ExitStack() as patches:
        for owner, name, wrap in _wrappers(manager, tracker, seen):
            original = getattr(owner, name, None)
            if original is not None:
                patches.enter_context(patch.object(owner, name, wrap(original)))
        yield seen
    violations = seen.violations
    if violations:
        raise AssertionError("granted past a limit:\n  " + "\n  ".join(violations))


_Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _wrappers(manager: Any, tracker: Any, seen: Admissions) -> Iterator[tuple[Any, str, _Wrap]]:
    from llmquota import _native

    def workspace_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...]] | None:
        """Whose call it is, and the arguments without it; ``None`` for another manager."""
        if target is manager:
            named = args[0] if args else kwargs.get("workspace")
            return manager.get_tracker(named).workspace_id, args[1:]
        return (target.workspace_id, args) if getattr(target, "manager", None) is manager else None

    def reserve(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = workspace_of(self, args, kwargs)
            if found is None:
                return original(self, *args, **kwargs)
            workspace, rest = found
            event, before = seen.granting(workspace, kwargs, rest[0] if rest else kwargs.get("tokens"))
            hold = original(self, *args, **kwargs)
            seen.granted(event, hold, workspace, kwargs, before)
            return hold

        return wrapper

    def acquire(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = workspace_of(self, args, kwargs)
            if found is None:
                return await original(self, *args, **kwargs)
            workspace, rest = found
            event, before = seen.granting(workspace, kwargs, rest[0] if rest else kwargs.get("tokens"))
            hold = await original(self, *args, **kwargs)
            seen.granted(event, hold, workspace, kwargs, before)
            return hold

        return wrapper

    def record(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = workspace_of(self, args, kwargs)
            workspace = found and (kwargs.get("workspace_id") or found[0])
            # A record in a guarded call may be of that call: then it counts with its hold.
            if found is None or workspace is None or _native.open_claims(0) > 0:
                return original(self, *args, **kwargs)
            split = (kwargs.get("input_tokens") or 0) + (kwargs.get("output_tokens") or 0)
            used = found[1][1] if len(found[1]) > 1 else kwargs.get("tokens_used")
            event = seen.recording(max(used or 0, split))
            result = original(self, *args, **kwargs)
            names = dict(zip(("goal_id", "task_id"), found[1][2:4], strict=False))
            seen.recorded(event, workspace, {**kwargs, **names})
            return result

        return wrapper

    def forget(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if self is manager or getattr(self, "manager", None) is manager:
                seen.forget()
            return result

        return wrapper

    def ending(final: Callable[[_Event, tuple[Any, ...], dict[str, Any]], tuple[int, int]]) -> _Wrap:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                event = seen.ending(self)
                result = original(self, *args, **kwargs)
                if event is not None:
                    seen.end(event, *final(event, args, kwargs))
                return result

            return wrapper

        return wrap

    for owner in (type(manager), type(tracker)):
        yield owner, "reserve", reserve
        yield owner, "acquire", acquire
        yield owner, "acquire_sync", reserve
        yield owner, "reset", forget
        yield owner, "adjust", forget
        yield owner, "close", forget
    yield type(manager), "record", record
    yield type(tracker), "record_request", record
    yield _native.Hold, "settle", ending(_settled)
    yield _native.Hold, "release", ending(lambda event, args, kwargs: (0, 0))
    # Left without a word it is charged if it was started; how a block's exception settled it is not known here.
    yield _native.Hold, "__exit__", ending(lambda event, args, kwargs: (0, 0))
    yield _native.Hold, "__aexit__", ending(lambda event, args, kwargs: (0, 0))


def _settled(event: _Event, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
    requests = 1 if kwargs.get("requests") is None else kwargs["requests"]
    split = (kwargs.get("input_tokens") or 0) + (kwargs.get("output_tokens") or 0)
    if split or kwargs.get("tokens") is not None:
        return requests, max(split, kwargs.get("tokens") or 0)
    usage = read_usage(args[0] if args else kwargs.get("usage"))
    if usage is not None:
        return requests, usage.tokens
    failed = not kwargs.get("success", True) or kwargs.get("error_code") or kwargs.get("error_status")
    return requests, 0 if failed else event.tokens


def _dropped(event: _Event, places: Iterator[int]) -> None:
    """Nobody has the hold any more: it was released or charged, and which is not known here."""
    if event.end_began is None:
        event.end_began = next(places)


def _same_window(key: Key, each: _Event, grant: _Event, now: float) -> bool:
    limit = key[3]
    if limit == "max_concurrent":
        return True
    if limit in _SECONDS:
        return each.since > now - _SECONDS[limit]
    # Calendar periods that give back at the same instant are the same; a line that holds nothing names none.
    resets_at = each.lines[key]["resets_at"]
    return resets_at is not None and bool(resets_at == grant.lines[key]["resets_at"])


def _counts(key: Key, fact: _Event, seen: list[_Event], now: float) -> bool:
    if key not in fact.lines or key[3] == "max_concurrent":
        return False
    if key[3] in _SECONDS:
        return fact.since > now - _SECONDS[key[3]]
    return bool(fact.lines[key]["resets_at"] == seen[-1].lines[key]["resets_at"])


def _past(total: float, cap: float) -> bool:
    # Dollars are floats here, and integers where it was decided.
    return total > cap * (1 + 1e-9)


def _shown(key: Key) -> str:
    scope, workspace, account, limit = key
    where = f"{workspace}/{account}" if workspace and workspace != account else account
    return f"{scope} {where}, {limit}"
