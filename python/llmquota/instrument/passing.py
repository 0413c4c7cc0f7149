"""One request on its way through: admitted or answered, sent, followed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from llmquota.errors import QuotaError

from .following import follow
from .refusals import answer
from .sending import Sender, SentCall

__all__ = ["is_seen_to", "passed", "passed_async"]

_log = logging.getLogger(__name__)

# The request that a layer further out sees to. Of the context and not of the request: that is copied where it is
# redirected, and may be sent again, and by two threads at once.
_under_way: ContextVar[Any] = ContextVar("llmquota.instrument", default=None)


def is_seen_to(request: Any = None) -> bool:
    """Whether ``request`` is under way here already; any, where none is given."""
    under_way = _under_way.get()
    return under_way is not None and (request is None or under_way is request)


def passed(sender: Sender, library: ModuleType, request: Any, send: Callable[[Any], Any], *, unread: bool) -> Any:
    """The response to ``request``: what ``send`` returns, or an answer in the provider's place.

    ``unread``: the caller reads the body itself.
    """
    try:
        call = sender.begin(library, request)
    except QuotaError as error:
        return answer(library, request, error, unread=unread)
    if call is None:
        return send(request)
    before = _under_way.set(call.request)
    try:
        response = send(call.request)
    except BaseException as error:
        call.failed(error)
        raise
    finally:
        _under_way.reset(before)
    return _followed(library, call, response, is_async=False)


async def passed_async(
    sender: Sender, library: ModuleType, request: Any, send: Callable[[Any], Awaitable[Any]], *, unread: bool
) -> Any:
    """The same, of an asynchronous client."""
    try:
        call = sender.begin(library, request)
    except QuotaError as error:
        return answer(library, request, error, unread=unread)
    if call is None:
        return await send(request)
    before = _under_way.set(call.request)
    try:
        response = await send(call.request)
    except BaseException as error:
        call.failed(error)
        raise
    finally:
        _under_way.reset(before)
    return _followed(library, call, response, is_async=True)


def _followed(library: ModuleType, call: SentCall, response: Any, *, is_async: bool) -> Any:
    try:
        follow(library, call, response, is_async=is_async)
    except Exception:
        _log.exception("An answer could not be followed: its call is counted as it was held")
        call.closed()
    return response
