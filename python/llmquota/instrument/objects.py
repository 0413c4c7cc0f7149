"""Which of a provider's objects were charged, for one shows its usage more than once.

A response that is made in the background says nothing of its usage when it is begun, and everything whenever it is
asked for; so do an assistant's runs, and batches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from llmquota.usage import Usage

__all__ = ["OBJECTS", "Objects"]

MAX_OBJECTS = 10_000

Amend = Callable[[Usage], None]


class Objects:
    """The last :data:`MAX_OBJECTS` of them, by provider and id. Any thread may ask."""

    def __init__(self) -> None:
        # What a first usage is to be told to; None once that is done.
        self._waiting: OrderedDict[tuple[str, str], Amend | None] = OrderedDict()
        # Reentrant: the garbage collector may run inside, and end a stream that was left behind.
        self._lock = threading.RLock()

    def began(self, provider: str, name: str, amend: Amend) -> None:
        """A call made the object and was charged without knowing its usage: ``amend`` takes it when it is shown."""
        self._put((provider, name), amend)

    def knows(self, provider: str, name: str) -> bool:
        """Whether a call that made the object is remembered."""
        return (provider, name) in self._waiting

    def charged(self, provider: str, name: str) -> None:
        """The object's usage has been counted."""
        self._put((provider, name), None)

    def shown(self, provider: str, name: str, usage: Usage) -> bool:
        """An answer shows the usage of an object. Whether that is seen to: nothing more is to be counted then."""
        key = provider, name
        with self._lock:
            if key not in self._waiting:
                return False
            amend, self._waiting[key] = self._waiting[key], None
        if amend is not None:
            amend(usage)
        return True

    def _put(self, key: tuple[str, str], amend: Amend | None) -> None:
        with self._lock:
            self._waiting[key] = amend
            self._waiting.move_to_end(key)
            if len(self._waiting) > MAX_OBJECTS:
                self._waiting.popitem(last=False)


OBJECTS = Objects()
"""Those of this process: what one client began another may fetch."""
