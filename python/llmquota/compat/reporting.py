"""``openai_quota_tracker``: what the limiter tells the tracker, so that each call is counted once.

The function that a permit was for may well count its call itself: a guard, a tracked client, a ``record_request``. A
:class:`Watch` is a claim that sees this and lets it through; only a call that nobody counted is counted by the limiter.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llmquota.claims import Claim, Record
from llmquota.context import Inside, current, current_claim, frame_for
from llmquota.errors import QuotaExceeded
from llmquota.status import QuotaStatus

from .classify import Failure, of_exception

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OpenAIQuotaReporter", "QuotaInfo", "Watch"]

logger = logging.getLogger(__name__)


class Watch(Claim):
    """Sees whether a call is counted by somebody. It is a claim that takes no record for itself."""

    def __init__(self, manager: Any, provider: str) -> None:
        super().__init__(current().workspace_id or "global", manager, current_claim())
        self._provider = provider
        self._seen = False
        # This layer never stands at the provider itself.
        self.superseded = True
        self._inside: Inside | None = None

    def __enter__(self) -> Self:
        self.open()
        self._inside = Inside(frame_for(current(), self))
        self._inside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inside is not None:
            self._inside.__exit__(kind, error, trace)
        self.close()

    def supersede(self, workspace_id: str, manager: object) -> None:
        """A guarded call is about to be made: it counts itself."""
        self._seen = True
        if self.outer is not None:
            self.outer.supersede(workspace_id, manager)

    def take(self, workspace_id: str | None, manager: object | None, record: Record) -> bool:
        """A manual record: it counts itself, unless it is of a guarded call inside, or of the one around."""
        self._seen = True
        if super().take(workspace_id, manager, record):
            return True
        return self.outer is not None and self.outer.take(workspace_id, manager, record)

    def succeeded(self) -> None:
        """The call has an answer: counts it where nobody did."""
        if self._is_mine:
            _quietly(_record, self.manager)

    def failed(self, error: BaseException) -> None:
        """The call failed: counts it where nobody did. A call that was refused was not made."""
        if self._is_mine and not isinstance(error, QuotaExceeded):
            _quietly(_record_failure, self.manager, of_exception(error))

    @property
    def _is_mine(self) -> bool:
        return not self._seen and "openai" in self._provider.lower()


def _quietly(report: Any, *args: Any) -> None:
    """A report that fails must not take a paid answer, or the error that the caller has to see."""
    try:
        report(*args)
    except Exception:
        logger.exception("a call of the limiter could not be counted")


def _tracker(manager: Any) -> Any:
    return manager.get_tracker(current().workspace_id)


def _record(manager: Any) -> None:
    context = current()
    _tracker(manager).record_request(success=True, goal_id=context.goal_id, task_id=context.task_id)


def _record_failure(manager: Any, failure: Failure) -> None:
    _tracker(manager).record_failure(failure)


@dataclass(frozen=True)
class QuotaInfo:
    """How a workspace stands after an error."""

    workspace_id: str
    status: QuotaStatus
    #: The provider's code, or that of the class of the exception.
    code: str | None
    #: Seconds until a call may go again, where that is known.
    retry_after: float | None
    can_make_request: bool


class OpenAIQuotaReporter:
    """``openai_quota_tracker``. The workspace is the context's, else ``"global"``.

    Any other attribute is that of the global tracker.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._manager.get_tracker("global"), name)

    async def track_request(self, provider: str = "openai", **_context: Any) -> None:
        """Counts one successful call, unless it is one that a guard has counted."""
        _record(self._manager)

    async def handle_openai_error(self, error: BaseException, context: Mapping[str, Any] | None = None) -> QuotaInfo:
        """Counts one failed call, unless it is one that a guard has counted, and tells how the workspace stands."""
        failure = of_exception(error)
        _record_failure(self._manager, failure)
        tracker = _tracker(self._manager)
        data = tracker.get_status_data()
        return QuotaInfo(
            workspace_id=tracker.workspace_id,
            status=QuotaStatus(data["status"]),
            code=failure.code,
            retry_after=data["retry_after_seconds"],
            can_make_request=tracker.can_make_request(),
        )
