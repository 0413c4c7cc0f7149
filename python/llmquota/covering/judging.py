"""Compares what the calls of a method sent with what was counted."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .methods import Method
from .stage import Endless, Stage
from .ways import Way

__all__ = ["Call", "Coverage", "Judged", "judged"]


@dataclass(frozen=True)
class Call:
    """One call, by the provider's books and by ours."""

    way: str
    """How the method was called: ``AsyncOpenAI with_raw_response stream=True``."""
    served: int
    """Requests that the provider saw."""
    recorded: int
    """Requests that were counted."""
    told: int
    """Tokens that the provider's answers said."""
    read: int
    """Tokens that were read from answers, and counted; estimates are not among them."""
    held: int
    """Requests that are open in our books, though the call has ended."""
    raised: str | None
    """What the SDK raised, if it did. A request that was made is to be counted all the same."""

    @classmethod
    def of_none(cls, client: Any, error: Exception) -> Call:
        """What stands for the calls of a method that cannot be made."""
        return cls(type(client).__name__, 0, 0, 0, 0, 0, _said(error))

    @property
    def problem(self) -> str | None:
        """Why it is not counted; ``None`` where all is well."""
        if not self.served and not self.recorded:
            return "no request was made" + (f": {self.raised}" if self.raised else "")
        if self.served != self.recorded:
            return f"{self.served} requests were served and {self.recorded} recorded" + self._after
        if self.told != self.read:
            return f"{self.told} tokens were told and {self.read} recorded" + self._after
        return f"{self.held} requests are still open" + self._after if self.held else None

    @property
    def _after(self) -> str:
        return f" ({self.raised})" if self.raised else ""


@dataclass(frozen=True)
class Judged:
    """One method that opens no WebSocket."""

    method: Method
    calls: list[Call]

    @property
    def sends(self) -> bool:
        """Whether it makes a request, as far as is known: one that could not be called might."""
        return any(call.served or call.recorded or call.raised for call in self.calls) or not self.calls

    @property
    def problems(self) -> list[str]:
        """Why it is not counted, one for each way of calling it that is not; none where it is."""
        if not self.calls:
            return ["it could not be called"]
        return [f"{call.way}: {call.problem}" for call in self.calls if call.problem]


@dataclass(frozen=True)
class Coverage:
    """What was found."""

    sdk: str
    """Its version."""
    sending: list[Judged]
    """The methods that make requests, by resource and name."""
    silent: list[Judged]
    """The methods that make none at all."""
    websockets: list[Method]
    """The methods that open a WebSocket. They are not called."""

    @property
    def missed(self) -> list[Judged]:
        """Those that make requests and are not counted."""
        return [judged for judged in self.sending if judged.problems]

    @property
    def calls(self) -> list[Call]:
        """Every call of a method that makes requests."""
        return [call for judged in self.sending for call in judged.calls]


@contextlib.contextmanager
def judged(stage: Stage, client: Any, method: Method, way: Way, into: list[Call]) -> Iterator[Any]:
    """The client to call a method with, once: what comes of it is added to ``into``."""
    workspace = f"{method.name}/{len(into)}"
    before = stage.fake.served.total
    raised = None
    try:
        yield stage.for_workspace(client, workspace)
    except (Exception, Endless) as error:
        raised = _said(error)
    if held := stage.open_holds(workspace):
        # An answer that nobody closed ends when it is collected.
        gc.collect()
        held = stage.open_holds(workspace)
    after = stage.fake.served.total
    counted = stage.manager.usage(workspace)["total"]
    into.append(
        Call(
            " ".join(filter(None, (type(client).__name__, way.label))),
            served=after.requests - before.requests,
            recorded=counted["requests"],
            told=after.reported_tokens - before.reported_tokens,
            # Of an estimate nobody knows which way its tokens went.
            read=counted["input_tokens"] + counted["output_tokens"],
            held=held,
            raised=raised,
        )
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
