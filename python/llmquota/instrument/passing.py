"""One request on its way through: admitted or answered, sent, followed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from llmquota.errors import QuotaError

from .following import follow
from .refusals import answer
from .sending import IN_SEND, Sender, SentCall

__all__ = ["passed", "passed_async"]

_log = logging.getLogger(__name__)


def passed(sender: Sender, library: ModuleType, request: Any, send: Callable[[], Any]) -> Any:
    """The response to ``request``: what ``send`` returns, or an answer in the provider's place."""
    try:
        call = sender.begin(request)
    except QuotaError as error:
        return answer(library, request, error)
    if call is None:
        return send()
    try:
        response = send()
    except BaseException as error:
        call.failed(error)
        raise
    finally:
        del request.extensions[IN_SEND]
    return _followed(library, call, response)


async def passed_async(sender: Sender, library: ModuleType, request: Any, send: Callable[[], Awaitable[Any]]) -> Any:
    """The same, of an asynchronous client."""
    try:
        call = sender.begin(request)
    except QuotaError as error:
        return answer(library, request, error)
    if call is None:
        return await send()
    try:
        response = await send()
    except BaseException as error:
        call.failed(error)
        raise
    finally:
        del request.extensions[IN_SEND]
    return _followed(library, call, response)


def _followed(library: ModuleType, call: SentCall, response: Any) -> Any:
    try:
        follow(library, call, response)
    except Exception:
        _log.exception("An answer could not be followed: its call is counted as it was held")
        call.closed()
    return response
