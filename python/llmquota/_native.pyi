import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias, final

from typing_extensions import Self, disjoint_base

from .usage_numbers import UsageNumbers

_Json: TypeAlias = dict[str, Any]
_Headers: TypeAlias = Iterable[tuple[bytes | str, bytes | str]]

__all__ = [
    "AnswerReader",
    "AnswerUsage",
    "Hold",
    "Manager",
    "ManualClock",
    "Subscription",
    "Tracker",
    "__version__",
    "is_transient",
    "none_left_for",
    "open_claims",
    "read_request",
]

__version__: str

def is_transient(code: str | None, status: int | None) -> bool: ...
def none_left_for(headers: _Headers) -> float | None: ...
def open_claims(change: int) -> int: ...
def read_request(body: bytes) -> tuple[str | None, int, int, int] | None: ...

@final
class AnswerReader:
    def __new__(cls, content_type: str = "", content_encoding: str = "") -> Self: ...
    def feed(self, piece: bytes) -> None: ...
    def finish(self, request_id: str | None = None) -> _Json | None: ...

@final
class AnswerUsage:
    @property
    def requests(self) -> int: ...
    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    def numbers(self) -> UsageNumbers: ...

@final
class ManualClock:
    def __new__(cls, start: SupportsFloat | None = None) -> Self: ...
    def advance(self, seconds: SupportsFloat) -> None: ...
    def set_wall(self, epoch_seconds: SupportsFloat) -> None: ...
    def time(self) -> float: ...

@disjoint_base
class Manager:
    def __new__(
        cls, store: str | None = "memory:", *, clock: ManualClock | None = None, builtins: bool = True
    ) -> Self: ...
    def open(
        self,
        store: str = "memory:",
        *,
        clock: ManualClock | None = None,
        builtins: bool = True,
        environment: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        limits_toml: str | None = None,
        limits_name: str = "limits.toml",
        limits_changed: int | None = None,
        limits_unreadable: bool = False,
        limits: Mapping[str, Any] | None = None,
        timezone: str | None = None,
        on_store_failure: str | None = None,
        history_days: int | None = None,
        observe: bool = False,
    ) -> None: ...
    def close(self) -> None: ...
    @property
    def is_open(self) -> bool: ...
    def configure(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        limits_toml: str | None = None,
        limits_name: str = "limits.toml",
        limits_changed: int | None = None,
        limits_unreadable: bool = False,
        limits: Mapping[str, Any] | None = None,
        timezone: str | None = None,
        on_store_failure: str | None = None,
    ) -> None: ...
    def reload_every(self, seconds: SupportsFloat | None) -> None: ...
    def set_override(
        self, scope: str, owner: str, name: str, limits: Mapping[str, Any], expires_at: SupportsFloat | None = None
    ) -> None: ...
    def remove_override(self, scope: str, owner: str, name: str) -> bool: ...
    def record(
        self,
        workspace: str | None,
        success: bool = True,
        tokens_used: SupportsIndex | None = 0,
        goal_id: str | None = None,
        task_id: str | None = None,
        *,
        model: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        input_tokens: SupportsIndex | None = None,
        output_tokens: SupportsIndex | None = None,
        cached_tokens: SupportsIndex | None = None,
        reasoning_tokens: SupportsIndex | None = None,
        cost_usd: SupportsFloat | None = None,
        error_code: str | None = None,
        error_status: SupportsIndex | None = None,
        retry_after: SupportsFloat | None = None,
        service_tier: str | None = None,
        request_id: str | None = None,
        latency_ms: SupportsFloat | None = None,
        method: str | None = None,
    ) -> None: ...
    def reserve(
        self,
        workspace: str | None,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        ttl: SupportsFloat = 600.0,
        priority: str = "normal",
    ) -> Hold: ...
    def explain(
        self,
        workspace: str | None,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        priority: str | None = None,
    ) -> _Json: ...
    def can_make_request(self, workspace: str | None) -> bool: ...
    def snapshot(self, workspace: str | None) -> _Json: ...
    def usage(
        self,
        workspace: str | None,
        *,
        goal: str | None = None,
        task: str | None = None,
        model: str | None = None,
        user: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
    ) -> _Json: ...
    def limits(
        self,
        workspace: str | None,
        *,
        goal: str | None = None,
        task: str | None = None,
        model: str | None = None,
        user: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
    ) -> list[_Json]: ...
    def terms(self, workspace: str | None) -> _Json: ...
    def limiter_limits(self, name: str) -> list[_Json]: ...
    def attribution(self, workspace: str | None, scope: str, limit: int | None = None) -> list[_Json]: ...
    def workspaces(self) -> list[tuple[str, float]]: ...
    def learn(
        self,
        workspace: str | None,
        *,
        credential: str | None = None,
        model: str | None = None,
        code: str | None = None,
        status: SupportsIndex | None = None,
        retry_after: SupportsFloat | None = None,
    ) -> None: ...
    def hear(
        self,
        workspace: str | None,
        headers: _Headers,
        well: bool = True,
        *,
        provider: str | None = None,
        credential: str | None = None,
        model: str | None = None,
        elapsed: SupportsFloat | None = None,
    ) -> list[str]: ...
    def adjust(
        self,
        workspace: str | None,
        period: str,
        counter: str,
        value: Any,
        *,
        goal: str | None = None,
        task: str | None = None,
    ) -> None: ...
    def price(
        self, usage: Any, *, model: str | None = None, provider: str | None = None, service_tier: str | None = None
    ) -> tuple[int, bool]: ...
    def foresee(self, workspace: str, model: str, guessed_prompt: int) -> tuple[int, int | None]: ...
    def observe(
        self, workspace: str, model: str, guessed_prompt: int, input_tokens: int, open_choices: int, output_tokens: int
    ) -> None: ...
    def close_breaker(self, workspace: str | None) -> None: ...
    def set_last_error(self, workspace: str | None, at: SupportsFloat | None) -> None: ...
    def reset(self, workspace: str | None) -> None: ...
    def permit(self, limiter: str) -> _Json | None: ...
    def record_permit(self, limiter: str) -> None: ...
    def notice(self, workspace: str | None, language: str = "en") -> _Json: ...
    def check_notice(self, workspace: str | None, language: str = "en") -> _Json: ...
    @staticmethod
    def refusal_text(decision: Mapping[str, Any], language: str = "en") -> _Json: ...
    def telemetry(self) -> _Json: ...
    def history_rows(
        self,
        *,
        workspace: str | None = None,
        goal: str | None = None,
        task: str | None = None,
        model: str | None = None,
        user: str | None = None,
        since: SupportsFloat | None = None,
        until: SupportsFloat | None = None,
        kinds: Sequence[str] = (),
        after: SupportsIndex | None = None,
        limit: SupportsIndex = 1000,
        newest_first: bool = False,
    ) -> list[_Json]: ...
    def history_sums(
        self,
        period: str,
        *,
        workspace: str | None = None,
        goal: str | None = None,
        task: str | None = None,
        model: str | None = None,
        user: str | None = None,
        since: SupportsFloat | None = None,
        until: SupportsFloat | None = None,
        limit: SupportsIndex = 1000,
        newest_first: bool = False,
    ) -> list[_Json]: ...
    def verify(self, repair: bool = False) -> list[_Json]: ...
    def flush(self) -> None: ...
    def report(self) -> _Json: ...
    def fill(self) -> _Json: ...
    def now(self) -> float: ...

@disjoint_base
class Tracker:
    def __new__(cls, manager: Manager, workspace_id: str | None = None) -> Self: ...
    @property
    def workspace_id(self) -> str: ...
    @property
    def manager(self) -> Manager: ...
    def record_request(
        self,
        success: bool = True,
        tokens_used: SupportsIndex | None = 0,
        goal_id: str | None = None,
        task_id: str | None = None,
        workspace_id: str | None = None,
        *,
        model: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        input_tokens: SupportsIndex | None = None,
        output_tokens: SupportsIndex | None = None,
        cached_tokens: SupportsIndex | None = None,
        reasoning_tokens: SupportsIndex | None = None,
        cost_usd: SupportsFloat | None = None,
        error_code: str | None = None,
        error_status: SupportsIndex | None = None,
        retry_after: SupportsFloat | None = None,
        service_tier: str | None = None,
        request_id: str | None = None,
        latency_ms: SupportsFloat | None = None,
        method: str | None = None,
    ) -> None: ...
    def can_make_request(self) -> bool: ...
    def snapshot(self) -> _Json: ...
    def explain(
        self,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        priority: str | None = None,
    ) -> _Json: ...
    def reserve(
        self,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        ttl: SupportsFloat = 600.0,
        priority: str = "normal",
    ) -> Hold: ...
    def queue_up(
        self,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        ttl: SupportsFloat = 600.0,
        priority: str = "normal",
        timeout: SupportsFloat | None = None,
    ) -> asyncio.Future[Hold] | Hold: ...
    def acquire_sync(
        self,
        tokens: SupportsIndex = 0,
        *,
        model: str | None = None,
        goal_id: str | None = None,
        task_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        credential: str | None = None,
        cost_usd: SupportsFloat | None = None,
        ttl: SupportsFloat = 600.0,
        priority: str = "normal",
        timeout: SupportsFloat | None = None,
    ) -> Hold: ...
    def notification(self, language: str = "en") -> _Json: ...
    def reset(self) -> None: ...

@disjoint_base
class Subscription:
    def __new__(cls, manager: Manager, workspace_id: str | None = None) -> Self: ...
    @property
    def workspace_id(self) -> str | None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def take(self) -> _Json | None: ...
    def next(self, timeout: SupportsFloat | None = None) -> _Json | None: ...
    def ready(self) -> asyncio.Future[None]: ...

@final
class Hold:
    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def workspace_id(self) -> str: ...
    def start(self) -> bool: ...
    def settle(
        self,
        usage: Any = None,
        *,
        tokens: SupportsIndex | None = None,
        input_tokens: SupportsIndex | None = None,
        output_tokens: SupportsIndex | None = None,
        cached_tokens: SupportsIndex | None = None,
        reasoning_tokens: SupportsIndex | None = None,
        cost_usd: SupportsFloat | None = None,
        model: str | None = None,
        success: bool = True,
        error_code: str | None = None,
        error_status: SupportsIndex | None = None,
        retry_after: SupportsFloat | None = None,
        requests: SupportsIndex = 1,
        service_tier: str | None = None,
        request_id: str | None = None,
        latency_ms: SupportsFloat | None = None,
        method: str | None = None,
    ) -> bool: ...
    def hear(self, headers: _Headers, well: bool = True) -> list[str]: ...
    def release(self) -> bool: ...
    def take_back(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> Literal[False]: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> Awaitable[Literal[False]]: ...
