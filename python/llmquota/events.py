"""Events: what happens in a store, told to whoever listens, also across processes.

An event is a dict: ``type``, ``workspace_id``, ``sequence`` (of the store), ``version`` (of the workspace), ``at``
(RFC 3339 in UTC), and by its type

- ``record``: counters changed; ``change`` says by what: ``record``, ``grant``, ``settle``, ``release``, ``orphan`` or
  ``adjust``;
- ``status``: the status was ``old`` and is ``new``, by what happened or by time alone;
- ``threshold``: a limit (``limit``, a line as in a snapshot) is ``near``, ``critical`` or ``full`` (``level``). Each is
  told once in an hour, day or month; of a minute, a second or open calls again once no call has met it for a minute;
- ``lagged``: this listener was too slow, and ``count`` events of the store are gone. The crossings among them and the
  current status follow.

``schema/event.json`` has them in full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from . import _native

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Subscription"]


class Subscription(_native.Subscription):
    """Events as they come: ``for``, ``async for``, :meth:`next` with a timeout, or :meth:`take` without waiting.

    Made by :meth:`QuotaManager.subscribe`. It ends by :meth:`close`, by leaving its block, or when nobody has it any
    more; a loop over it then ends too. A task that is cancelled while it waits loses no event.
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            event = self.take()
            if event is not None:
                return event
            if self.closed:
                raise StopAsyncIteration
            # Takes nothing itself, so that a cancelled wait loses nothing.
            await self.ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> Literal[False]:
        self.close()
        return False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> Literal[False]:
        self.close()
        return False
