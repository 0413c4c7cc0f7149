"""The backend's worker processes, as their answers name them, and the one that is killed while it works."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import httpx


@dataclass(frozen=True)
class Killed:
    """A worker that was killed (SIGKILL: it runs not one line more)."""

    pid: int
    after_seconds: float
    """Since the first call."""
    workspace_id: str
    """Whose answer it was in the middle of."""


@dataclass
class Workers:
    """Counts answers by worker, and kills one of them at the first chance after ``kill_after`` seconds.

    The chance is a streamed answer that has just begun: its call is open then, at the worker and at the provider.
    """

    kill_after: float | None = None
    """``None`` kills none."""
    tell: Callable[[Killed], None] = lambda killed: None
    answers: Counter[int] = field(default_factory=Counter)
    killed: Killed | None = None
    began: float = 0.0

    def start(self) -> None:
        """The first call is about to be made."""
        self.began = monotonic()

    def answered(self, answer: httpx.Response) -> None:
        """Takes note of an answer that came whole."""
        self.answers[worker_of(answer)] += 1

    def begins(self, answer: httpx.Response, workspace_id: str) -> None:
        """A streamed answer to a workspace has begun."""
        seconds = monotonic() - self.began
        if self.kill_after is None or self.killed is not None or seconds < self.kill_after or not answer.is_success:
            return
        self.killed = Killed(worker_of(answer), seconds, workspace_id)
        os.kill(self.killed.pid, signal.SIGKILL)
        self.tell(self.killed)


def worker_of(answer: httpx.Response) -> int:
    """The process id of the worker that gave an answer."""
    return int(answer.headers["X-Served-By"])
