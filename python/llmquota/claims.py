"""Counts a call once, though several layers see it.

A guarded function opens a *claim* on the call that its body is about to make. Whoever else sees that call settles with
the claim and does not count it again: a guarded function inside it *supersedes* the claim (the innermost layer is the
one that stands at the provider), and a manual ``record_request`` in the body is *taken* by it. Claims never compare
numbers: two calls may well use the same tokens.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from . import _native

__all__ = ["GLOBAL", "Claim", "Record", "Trail"]

GLOBAL = "global"
"""The workspace of calls that nobody claims."""

# Claims are changed by the threads and tasks that a body starts; nothing blocks while it is held. Reentrant: the
# garbage collector may run inside, and close a stream that was left behind.
_lock = threading.RLock()

MAX_UNMATCHED = 1_000
"""Counted calls that one body waits for records of: of more nobody will tell."""

Record = Mapping[str, Any]
"""The keyword arguments of one manual ``record_request``."""


class Claim:
    """One guarded call as long as its body runs. Any thread may call its methods."""

    # Of the class until they change: most calls see none of this.
    #: What a manual record in the body said of the call.
    record: Record | None = None
    #: A layer further in stands at the provider.
    superseded = False
    #: Whether calls inside this one have been counted.
    counted_inside = False
    counted_at = 0.0
    #: Whether a manual record may be of it once it has been counted.
    may_be_recorded = True
    _open = False

    def __init__(self, workspace_id: str, manager: object, outer: Claim | None) -> None:
        self.workspace_id = workspace_id
        self.manager = manager
        self.outer = outer
        # Calls inside this one that have been counted and that no manual record has been matched with.
        self._unmatched: deque[Claim] = deque(maxlen=MAX_UNMATCHED)

    def let_go(self) -> None:
        """Gives up what is held: called once, when the claim is superseded."""

    def amend(self, record: Record) -> None:
        """Takes what a manual record says of this call after it has been counted."""

    def could_be(self, record: Record) -> bool:
        """Whether nothing that ``record`` says is of another call than this one, which was counted."""
        return True

    def is_of_model(self, model: object) -> bool:
        """Whether it may be a call of ``model``, or of any where that is not told."""
        return True

    def open(self) -> None:
        """From here on records ask for it."""
        if not self._open:
            self._open = True
            _native.open_claims(1)

    def close(self) -> None:
        """The body has ended. The calls that it leaves unmatched may be recorded by hand by the body around it."""
        with _lock:
            if not self._open:
                return
            self._open = False
            left = list(self._unmatched)
            self._unmatched.clear()
            if self.outer is not None and self.outer._open:
                self.outer._unmatched += left
                self.outer.counted_inside |= self.counted_inside
        _native.open_claims(-1)

    def supersede(self, workspace_id: str, manager: object) -> None:
        """A call for ``workspace_id`` is about to be made inside this one: then this one is not the provider's."""
        with _lock:
            if not self._open or self.superseded or self.record is not None or not self.is_for(workspace_id, manager):
                return
            self.superseded = True
        self.let_go()

    def counted(self) -> None:
        """This call has been counted: a manual record in the body around it may be of it."""
        with _lock:
            if self.outer is None or not self.outer._open:
                return
            self.outer.counted_inside = True
            self.counted_at = time.monotonic()
            if self.record is None and self.may_be_recorded:
                self.outer._unmatched.append(self)

    def take(self, workspace_id: str | None, manager: object | None, record: Record) -> bool:
        """Whether ``record`` is of this call, or of one inside it; then it must not be counted again."""
        with _lock:
            if not self._open or (manager is not None and manager is not self.manager):
                return False
            inner = next(
                (
                    each
                    for each in list(self._unmatched)
                    if each.is_for(workspace_id, self.manager) and each.could_be(record)
                ),
                None,
            )
            if inner is not None:
                self._unmatched.remove(inner)
                record = {**record, "workspace_id": workspace_id}
            elif self.superseded or self.record is not None or not self.is_for(workspace_id, self.manager):
                return False
            else:
                self.record = {**record, "workspace_id": workspace_id}
                return True
        inner.amend(record)
        return True

    def is_for(self, workspace_id: str | None, manager: object) -> bool:
        """Whether it may be the call of this workspace at this manager."""
        return manager is self.manager and (workspace_id in (None, self.workspace_id) or self.workspace_id == GLOBAL)

    def __del__(self) -> None:
        # Of a stream that nobody began to read: the count of open claims would never come back.
        if self._open:
            self._open = False
            _native.open_claims(-1)


TRAIL_CALLS = 16
TRAIL_SECONDS = 60.0


class Trail(Claim):
    """Stands where no guard does: which calls were counted here, so that a record by hand that follows finds its own.

    It remembers the last :data:`TRAIL_CALLS`, each for :data:`TRAIL_SECONDS`: a record that comes later is of something
    else. It is nobody's claim on a call itself.
    """

    def __init__(self) -> None:
        super().__init__(GLOBAL, None, None)
        self.superseded = True
        # Without being counted among the open claims: records ask anyway while calls are counted where they leave.
        self._open = True
        self._unmatched = deque(maxlen=TRAIL_CALLS)

    def __del__(self) -> None:
        pass

    def take(self, workspace_id: str | None, manager: object | None, record: Record) -> bool:
        """Whether ``record`` is of the oldest call of its workspace that no other record was of."""
        oldest = time.monotonic() - TRAIL_SECONDS
        with _lock:
            calls = [
                each
                for each in self._unmatched
                if each.counted_at >= oldest and manager in (None, each.manager) and each.could_be(record)
            ]
            # A call that nobody was named for is of whoever comes and says so, if none of their own is.
            own = (each for each in calls if workspace_id in (None, each.workspace_id))
            nobodys = (each for each in calls if each.workspace_id == GLOBAL and each.is_of_model(record.get("model")))
            found = next(own, None) or next(nobodys, None)
            if found is None:
                return False
            self._unmatched.remove(found)
        found.amend({**record, "workspace_id": workspace_id})
        return True
