"""The legacy tracker's dicts, live: reading one asks the engine, and writing one is an operation of the engine.

They are real dicts, for callers test, merge and encode them. The copy that a dict has of its own serves only C code
that looks at nothing else; it is renewed whenever the whole is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from . import clock
from .shapes import UNLIMITED, UNLIMITED_USD, successes

if TYPE_CHECKING:
    from .account import Account

__all__ = ["IdCounts", "LiveDict", "MinuteCounts", "RateLimits", "UsageStats"]

K = TypeVar("K")
V = TypeVar("V")
_MISSING: Any = object()


class LiveDict(dict[K, V], Generic[K, V]):
    """A dict whose contents lie in the engine."""

    @abstractmethod
    def _load(self) -> dict[K, V]:
        """All of it."""

    @abstractmethod
    def _put(self, key: K, value: Any) -> None:
        """Sets one item."""

    @abstractmethod
    def _drop(self, key: K) -> None:
        """Takes one item back to what it is when nobody has set it."""

    def _one(self, key: K) -> V:
        return self._load()[key]

    def _all(self) -> dict[K, V]:
        items = self._load()
        for key in [key for key in dict.keys(self) if key not in items]:
            dict.pop(self, key, None)
        dict.update(self, items)
        return items

    def __getitem__(self, key: K) -> V:
        return self._one(key)

    def get(self, key: K, default: Any = None) -> Any:
        return self._load().get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._load()

    def __iter__(self) -> Iterator[K]:
        return iter(self._all())

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def keys(self) -> KeysView[K]:  # type: ignore[override]  # typeshed names the C types
        return self._all().keys()

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        return self._all().values()

    def items(self) -> ItemsView[K, V]:  # type: ignore[override]
        return self._all().items()

    def copy(self) -> dict[K, V]:
        """A plain dict of what is there now."""
        return self._all()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[K, V]:
        return self._all()

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (self._all(),))

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, LiveDict) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return self._all() | dict(other)

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self._all()

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return repr(self._all())

    def __setitem__(self, key: K, value: V) -> None:
        self._put(key, value)

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._drop(key)

    def clear(self) -> None:
        for key in list(self._load()):
            self._drop(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        if key not in self:
            if default is _MISSING:
                raise KeyError(key)
            return default
        value = self[key]
        self._drop(key)
        return value

    def popitem(self) -> tuple[K, V]:
        items = self._load()
        if not items:
            raise KeyError("popitem(): dictionary is empty")
        key, value = items.popitem()
        self._drop(key)
        return key, value

    def setdefault(self, key: K, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **named: Any) -> None:
        for key, value in dict(*others, **named).items():
            self[key] = value


class UsageStats(LiveDict[str, Any]):
    """``usage_stats``: nine numbers of a workspace. ``requests_*`` count what did not fail."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def _load(self) -> dict[str, Any]:
        snapshot = self._account.snapshot()
        usage = snapshot["usage"]
        return {
            "requests_today": successes(usage["day"]),
            "requests_this_minute": successes(usage["minute"]),
            "tokens_used": usage["total"]["tokens"],
            "tokens_today": usage["day"]["tokens"],
            "tokens_this_minute": usage["minute"]["tokens"],
            "errors_count": usage["total"]["errors"],
            "last_error_time": clock.naive_local_iso(snapshot["last_error_at"]),
            "quota_reset_time": _quota_reset(snapshot),
            "daily_cost_usd": usage["day"]["cost_usd"],
        }

    def _put(self, key: str, value: Any) -> None:
        account = self._account
        counters: dict[str, Callable[[Any], None]] = {
            "requests_today": lambda count: account.set_requests("day", count),
            "requests_this_minute": lambda count: account.set_requests("minute", count),
            "tokens_used": lambda count: account.set("total", "tokens", count),
            "tokens_today": lambda count: account.set("day", "tokens", count),
            "tokens_this_minute": lambda count: account.set("minute", "tokens", count),
            "errors_count": lambda count: account.set_errors("total", count),
            "last_error_time": account.set_last_error,
            # Follows from the limit that is full.
            "quota_reset_time": lambda _time: None,
            "daily_cost_usd": lambda usd: account.set("day", "cost_usd", usd),
        }
        if key not in counters:
            raise KeyError(f"usage_stats has no {key!r}; it has {', '.join(counters)}")
        counters[key](value)

    def _drop(self, key: str) -> None:
        self._put(key, None if key in ("last_error_time", "quota_reset_time") else 0)

    def assign(self, values: Mapping[str, Any]) -> None:
        """Takes the place of all nine: what ``values`` lacks becomes what it is at first."""
        for period in ("minute", "day", "total"):
            self._account.set_errors(period, 0)
        for key in self._load():
            if key in values:
                self._put(key, values[key])
            else:
                self._drop(key)
        for key in values:
            if key not in self:
                self._put(key, values[key])


def _quota_reset(snapshot: Mapping[str, Any]) -> str | None:
    """When a day, month or budget that is full begins anew, or the breaker of a spent quota lets a call through."""
    if snapshot["status"] != "quota_exceeded":
        return None
    reasons = set(snapshot["status_reasons"])
    times = [line["resets_at"] for line in snapshot["limits"] if f"full:{line['limit']}" in reasons]
    times += [state["open_until"] for state in snapshot["provider_state"].values()]
    known = [clock.naive_local(time) for time in times if time is not None]
    return max(known).isoformat() if known else None


class RateLimits(LiveDict[str, Any]):
    """``rate_limits``: the limits of a workspace as they hold now. Writing one sets an administrator's override."""

    _KINDS: ClassVar = {
        "requests_per_minute": "requests_per_minute",
        "requests_per_day": "requests_per_day",
        "tokens_per_minute": "tokens_per_minute",
        "tokens_per_day": "tokens_per_day",
        "monthly_budget_usd": "budget_usd_per_month",
    }

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def _load(self) -> dict[str, Any]:
        terms = self._account.terms()
        caps = {kind: term["cap"] for kind, term in terms["limits"].items()}
        limits: dict[str, Any] = {
            name: caps.get(kind, UNLIMITED) for name, kind in self._KINDS.items() if name != "monthly_budget_usd"
        }
        limits["monthly_budget_usd"] = float(caps.get("budget_usd_per_month", UNLIMITED_USD))
        limits["warning_threshold"] = terms["near_percent"] / 100
        limits["critical_threshold"] = terms["critical_percent"] / 100
        return limits

    def _put(self, key: str, value: Any) -> None:
        self._account.override(self._kind(key), value)

    def _drop(self, key: str) -> None:
        if key in self._KINDS:
            self._account.override(self._kind(key), None)

    def _kind(self, key: str) -> str:
        if key in self._KINDS:
            return self._KINDS[key]
        if key in ("warning_threshold", "critical_threshold"):
            raise TypeError(f"{key} is set by the environment or by near_percent and critical_percent of limits.toml")
        raise KeyError(f"rate_limits has no {key!r}; it has {', '.join(self._KINDS)}")


class MinuteCounts(LiveDict[datetime, int]):
    """``request_counts`` and ``error_counts``: keyed by naive local minutes and midnights, as a ``defaultdict(int)``.

    It has the current minute (the last 60 seconds) and the current day; anything older is 0. In the minute after
    midnight both have the same key, which then counts the day.
    """

    default_factory = int

    def __init__(self, account: Account, *, errors: bool) -> None:
        super().__init__()
        self._account = account
        self._errors = errors

    def _keys(self) -> dict[datetime, str]:
        now = self._account.now()
        return {clock.minute(now): "minute", clock.midnight(now): "day"}

    def _load(self) -> dict[datetime, int]:
        usage = self._account.snapshot()["usage"]
        counts = {
            key: usage[period]["errors"] if self._errors else successes(usage[period])
            for key, period in self._keys().items()
        }
        return {key: count for key, count in counts.items() if count}

    def _one(self, key: datetime) -> int:
        return self._load().get(key, 0)

    def _put(self, key: datetime, value: Any) -> None:
        period = self._keys().get(key)
        if period is None:
            # Minutes and days that are past count no more.
            return
        if self._errors:
            self._account.set_errors(period, value)
        else:
            self._account.set_requests(period, value)

    def _drop(self, key: datetime) -> None:
        self._put(key, 0)

    def clear(self) -> None:
        """Zeroes the minute and the day. Without requests there are no failed ones either."""
        for period in ("minute", "day"):
            self._account.set_errors(period, 0)
            if not self._errors:
                self._account.set_requests(period, 0)


class IdCounts(LiveDict[str, int]):
    """``goal_usage`` and its like: a number for each goal or task, as a ``defaultdict(int)``."""

    default_factory = int

    def __init__(self, account: Account, scope: str, read: Callable[[Mapping[str, Any]], int], counter: str) -> None:
        super().__init__()
        self._account = account
        self._scope = scope
        self._read = read
        self._counter = counter

    def _load(self) -> dict[str, int]:
        entries: Iterable[Mapping[str, Any]] = self._account.attribution(self._scope)
        return {str(entry["id"]): self._read(entry["total"]) for entry in entries if _has_used(entry["total"])}

    def _one(self, key: str) -> int:
        return self._read(self._account.usage_of(self._scope, key)["total"])

    def get(self, key: str, default: Any = None) -> Any:
        return self._one(key) if key in self else default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _has_used(self._account.usage_of(self._scope, key)["total"])

    def _put(self, key: str, value: Any) -> None:
        self._account.set_of(self._scope, key, self._counter, value)

    def _drop(self, key: str) -> None:
        self._put(key, 0)


def _has_used(total: Mapping[str, Any]) -> bool:
    """Whether there is anything but failures."""
    return bool(total["tokens"]) or successes(total) > 0


def renew(live: LiveDict[Any, Any]) -> None:
    """Renews the copy that the dict itself has, unless that would list very many ids."""
    if dict.__len__(live) <= 64:
        live._all()
