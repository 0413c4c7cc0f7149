"""One guarded call: admitted before it is made, counted once when it ends, however it ends.

After the reserve nothing here raises: the call may be paid, and the caller gets its result or its exception as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .claims import Claim, Record
from .context import Context, Inside, current, current_claim, frame_for, resolve_workspace
from .errors import QuotaError
from .estimates import Estimate, delta_characters, foreseen, learn, tokens_of
from .outcomes import failure_of, failure_told, numbers_told
from .stopping import Meter
from .terms import Terms, manager_of, refuse_to_block
from .usage import StreamUsage, Usage, UsageNumbers, in_numbers, read_usage

__all__ = ["GuardedCall"]

_NAMES = ("goal_id", "task_id", "user_id", "model")
_BESIDE = ("request_id", "latency_ms", "method")
_log = logging.getLogger(__name__)


class GuardedCall(Claim):
    """Watches one call, from the reserve to its end. The first end counts; later ones change nothing."""

    hold: Any = None
    #: What the body says that it called, where it does.
    method: str | None = None
    _inside: Inside | None = None
    _seen: StreamUsage | None = None
    _meter: Meter | None = None
    _characters = 0
    _ended = False
    #: What was counted of it, for whom else it may turn out to have been: a usage, or the keywords of ``Hold.settle``.
    _said: Usage | Mapping[str, Any] | None = None
    _charged_as_held = False
    _failed = False

    def __init__(self, terms: Terms, names: Context, estimate: Estimate, tokens: int | None) -> None:
        self._terms = terms
        self._guess = estimate
        context = names.within(current())
        workspace_id = resolve_workspace(context.workspace_id)
        self._context = context if context.workspace_id == workspace_id else replace(context, workspace_id=workspace_id)
        super().__init__(workspace_id, manager_of(terms), current_claim())
        self._tracker = self.manager.get_tracker(workspace_id)  # type: ignore[attr-defined]
        self._estimate = foreseen(self.manager, workspace_id, context.model, estimate)
        self._asked = self._estimate.tokens if tokens is None else tokens

    @property
    def _streamed(self) -> UsageNumbers | None:
        """What the items so far have said."""
        return None if self._seen is None else self._seen.usage

    # --- before ---

    def begin(self) -> None:
        """Admits the call. Raises ``QuotaExceeded``, and then nothing has been sent and nothing is counted."""
        if self.hold is not None:
            return
        self._take_over()
        ask = self._ask()
        if self._terms.blocks is not None:
            refuse_to_block(self._terms.blocks)
        if self._terms.wait is not False:
            self._started(self._tracker.acquire_sync(**ask, **self._waiting()))
        else:
            self._started(self._tracker.reserve(**ask))

    async def begin_async(self) -> None:
        """The same, waiting its turn without blocking."""
        if self.hold is not None:
            return
        self._take_over()
        ask = self._ask()
        if self._terms.wait is not False:
            self._started(await self._tracker.acquire(**ask, **self._waiting()))
        else:
            self._started(self._tracker.reserve(**ask))

    def _take_over(self) -> None:
        # Before the reserve: what the call around this one holds would stand in the way of its own provider call.
        if self.outer is not None:
            self.outer.supersede(self.workspace_id, self.manager)

    def _ask(self) -> dict[str, Any]:
        context, terms = self._context, self._terms
        return {
            "tokens": self._asked,
            "provider": terms.provider,
            "credential": terms.credential,
            "goal_id": context.goal_id,
            "task_id": context.task_id,
            "user_id": context.user_id,
            "model": context.model,
        }

    def _waiting(self) -> dict[str, Any]:
        wait = self._terms.wait
        return {"priority": self._terms.priority, "timeout": None if wait is True else wait}

    def _started(self, hold: Any) -> None:
        hold.start()
        self.hold = hold
        self.open()

    @property
    def inside(self) -> Inside:
        """What is in force while the body runs. Made when it is needed: it refers to this call in turn."""
        if self._inside is None:
            self._inside = Inside(frame_for(self._context, self))
        return self._inside

    # --- the ends ---

    def saw(self, item: Any) -> None:
        """The body yielded ``item``."""
        self._characters += delta_characters(item)
        if self._seen is None:
            self._seen = StreamUsage()
        self._seen.see(self._extracted(item))

    def ended(self, value: Any) -> None:
        """The body returned ``value``."""
        usage = self._streamed
        # A bare number is what the function answers; only an extractor may call it a usage.
        if self._terms.usage is not None or not isinstance(value, (int, float)):
            usage = read_usage(self._extracted(value)) or usage
        self._end(usage, whole=True)

    def failed(self, error: BaseException) -> None:
        """The body raised ``error``."""
        if not isinstance(error, Exception):
            # Cancelled, interrupted: the request may be with the provider, and nobody will hear what it used.
            self.closed()
        elif isinstance(error, QuotaError):
            self._end(self._streamed, refused=True)
        else:
            self._end(self._streamed, failure=failure_of(error))

    def closed(self) -> None:
        """The body was left before its end."""
        self._end(self._streamed)

    def is_to_stop(self) -> bool:
        """Whether what the stream has brought is paid for no more."""
        if not self._terms.stops:
            return False
        if self._meter is None:
            self._meter = Meter(self._explain, self._asked, self.workspace_id)
        return self._meter.is_spent(self._estimate.prompt + tokens_of(self._characters))

    def _explain(self, tokens: int) -> Mapping[str, Any]:
        return self._tracker.explain(**{**self._ask(), "tokens": tokens})  # type: ignore[no-any-return]

    def let_go(self) -> None:
        """Nothing is sent by this call itself."""
        try:
            self.hold.release()
        except Exception:
            _log.exception("A guarded call could not release its hold %s", self._hold_id)

    def could_be(self, record: Record) -> bool:
        """A record of another provider's call, or of a success where this one failed, is of another one."""
        is_other = any(
            record.get(name) not in (None, getattr(self._terms, name)) for name in ("provider", "credential")
        )
        return not is_other and not (self._failed and failure_told(record) is None)

    def is_of_model(self, model: object) -> bool:
        """By the name that was asked for; a provider answers with that of the day, ``gpt-4o-2024-08-06``."""
        known = self._context.model
        if not isinstance(model, str) or known is None:
            return True
        return known.startswith(model) or model.startswith(known)

    def amend(self, record: Record) -> None:
        """A manual record knows what this one had to guess: what was used, or by whom."""
        if self._said is not None and self._moves(record):
            self._move(record)
        elif self._charged_as_held:
            self._amend_charge(record)

    def _move(self, record: Record) -> None:
        """It was somebody else's call than it was counted for."""
        said, self.record = self._said, record
        if said is not None and not isinstance(said, Mapping):
            # At the same cost: it knows more than the keywords can say.
            said = {**in_numbers(said).as_settle(), "cost_usd": self.hold.cost_usd}
        # Before it is taken back: in between it is counted twice, which admits nobody too many.
        self._record({**(said or {}), **self._beside(record)})
        try:
            self.hold.take_back()
        except Exception:
            # The record is counted: failing it would have it made again.
            _log.exception("A call stays counted for %s too: hold %s", self.workspace_id, self._hold_id)

    def _amend_charge(self, record: Record) -> None:
        numbers, moves = numbers_told(record), self._moves(record)
        if moves:
            self.record = record
            self._record(numbers or {"tokens": self._asked})
            numbers = {"requests": 0, "tokens": 0, "cost_usd": 0}
        if numbers:
            self._charged_as_held = False
            self.hold.settle(**numbers)

    def _end(
        self,
        usage: Usage | None,
        *,
        failure: dict[str, Any] | None = None,
        whole: bool = False,
        refused: bool = False,
    ) -> None:
        if self._ended or self.hold is None:
            return
        self._ended = True
        self._failed = failure is not None
        self._inside = None
        try:
            self.close()
            if self.superseded:
                if usage is not None and not self.counted_inside:
                    # Nothing came of the call inside (it was refused): this one found its usage elsewhere.
                    self._record(self._keywords(usage))
                return
            if self.hold.state in ("reserved", "started"):
                if refused and usage is None and self.record is None:
                    self.hold.release()
                    return
                self._count(usage, failure, whole)
            self.counted()
        except Exception:
            # What is held is charged by the store when the hold is dropped; the caller's own result goes on.
            _log.exception("A guarded call of %s could not be counted by its hold %s", self.workspace_id, self._hold_id)

    def _count(self, usage: Usage | None, failure: dict[str, Any] | None, whole: bool) -> None:
        record = self.record or {}
        if usage is not None and not record and failure is None:
            # What most calls come to: the answer has told, and nobody else has anything to say.
            self.hold.settle(usage, requests=usage.requests, **self._beside(record))
            self._said = usage
            if whole:
                learn(self.manager, self.workspace_id, self._context.model, self._guess, usage)
            return
        ending = failure or failure_told(record) or {}
        told = numbers_told(record) if usage is None else self._keywords(usage)
        unknown = ending.pop("unknown", not ending) and not told
        seen = self._estimate.prompt + tokens_of(self._characters) if self._characters else 0
        if unknown and (seen > self._asked or (seen and whole)):
            # As a total of unknown direction it is priced, and marked, as the estimate that it is.
            told, unknown = {"tokens": seen}, False
        moves = self._moves(record) and ending.get("requests", 1)
        if unknown and (ending or moves):
            told = {"tokens": self._asked}
        beside = self._beside(record)
        told = {**told, **ending, **beside} if told or ending else told
        if moves:
            self._record(told)
            self.hold.release()
        elif usage is not None:
            # Itself and not its numbers: it knows more than the keywords can say (audio, cache writes).
            self.hold.settle(usage, **{"requests": usage.requests, **ending, **beside})
            self._said = usage if not ending else told
        elif told:
            self.hold.settle(**told)
            self._said = told
        else:
            self.hold.__exit__(None, None, None)
            self._charged_as_held = True

    def _beside(self, record: Record) -> dict[str, Any]:
        """What history keeps beside the numbers, as far as it is told and not read out of the answer."""
        method = self.method or self._terms.method
        beside = {} if method is None else {"method": method}
        if record:
            beside |= {name: record[name] for name in _BESIDE if record.get(name) is not None}
        return beside

    def _moves(self, record: Record) -> bool:
        """Whether a manual record names somebody whom the hold does not: a hold cannot move to another account."""
        if self._tracker_of(record) is not self._tracker:
            return True
        return any(record.get(name) and not getattr(self._context, name) for name in _NAMES)

    def _tracker_of(self, record: Record) -> Any:
        workspace_id = record.get("workspace_id")
        if workspace_id in (None, self.workspace_id):
            return self._tracker
        return self.manager.get_tracker(workspace_id)  # type: ignore[attr-defined]

    def _keywords(self, usage: Usage) -> dict[str, Any]:
        """``usage`` by keywords, and by its cost where these cannot say all that is charged."""
        numbers = in_numbers(usage)
        told = numbers.as_settle()
        if numbers.is_charged_otherwise:
            told["cost_usd"] = self._price(numbers)[0] / 1e9
        return told

    def _price(self, usage: UsageNumbers) -> tuple[int, bool]:
        """What it costs in nano-dollars, and whether that is an estimate."""
        model = usage.model or self._context.model
        return self.manager.price(usage, model=model, provider=self._terms.provider)  # type: ignore[attr-defined, no-any-return]

    def _record(self, told: Mapping[str, Any]) -> None:
        """Counts it as a fact. Before a release: in between it is counted twice, which admits nobody too many."""
        record = self.record or {}
        fields = {name: value for name, value in told.items() if name not in ("requests", "tokens")}
        if "tokens" in told:
            fields["tokens_used"] = told["tokens"]
        names = {name: getattr(self._context, name) or record.get(name) for name in _NAMES}
        if fields.get("model") is None:
            fields.pop("model", None)
        # Of this call alone: a body around it would take it for what it says of an earlier one.
        with Inside(frame_for(self._context, None)):
            self._tracker_of(record).record_request(
                **{"provider": self._terms.provider, "credential": self._terms.credential, **names, **fields}
            )

    def _extracted(self, value: Any) -> Any:
        if self._terms.usage is None:
            return value
        try:
            return self._terms.usage(value)
        except Exception:
            _log.exception("The usage= function of a guarded function could not read a %s", type(value).__name__)
            return None

    @property
    def _hold_id(self) -> str:
        return str(getattr(self.hold, "id", None))
