"""Stands where WebSockets to a provider pass: ``send``, ``recv`` and ``close`` of the connections of ``websockets``."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote

from llmquota.context import Context

from .conversation import Conversation
from .providers import Endpoint
from .sending import HEADERS, Sender, credential_of

__all__ = ["around_close", "around_recv", "around_send", "connections"]

# From 13 on, which the SDK needs as well.
_MODULES = {"websockets.sync.connection": False, "websockets.asyncio.connection": True}
_METHODS = {"/realtime": "realtime.responses.create", "/responses": "responses.create"}
_STATE = "_llmquota_conversation"
_UNSEEN = object()

Sees = Callable[[], "Sender | None"]


def connections() -> list[tuple[type[Any], bool]]:
    """The classes of connections, and whether each is asynchronous; none where the library is not there, or too old."""
    found = []
    for name, is_async in _MODULES.items():
        try:
            found.append((importlib.import_module(name).Connection, is_async))
        except ImportError:
            continue
    return found


def around_send(sees: Sees, original: Any, *, is_async: bool) -> Any:
    """``send`` that admits the responses that are asked for; ``sees`` returns who sees to that now."""

    @functools.wraps(original)
    def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        with _sending(_conversation(self, sees), message) as sent:
            return original(self, sent, *args, **kwargs)

    @functools.wraps(original)
    async def send_async(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        with _sending(_conversation(self, sees), message) as sent:
            return await original(self, sent, *args, **kwargs)

    return send_async if is_async else send


def around_recv(sees: Sees, original: Any, *, is_async: bool) -> Any:
    """``recv`` that counts what the responses used."""

    @functools.wraps(original)
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _receiving(_conversation(self, sees)) as heard:
            message = original(self, *args, **kwargs)
            heard(message)
        return message

    @functools.wraps(original)
    async def recv_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _receiving(_conversation(self, sees)) as heard:
            message = await original(self, *args, **kwargs)
            heard(message)
        return message

    return recv_async if is_async else recv


def around_close(original: Any, *, is_async: bool) -> Any:
    """``close`` after which nothing is under way."""

    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            _ended(self)

    @functools.wraps(original)
    async def close_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        finally:
            _ended(self)

    return close_async if is_async else close


def _ended(connection: Any) -> None:
    conversation = vars(connection).get(_STATE)
    if conversation is not None:
        conversation.ended()


@contextlib.contextmanager
def _sending(conversation: Conversation | None, message: Any) -> Iterator[Any]:
    """Around the sending of ``message``; gives what to send in its place."""
    if conversation is None:
        yield message
        return
    call, sent = conversation.about_to_send(message)
    try:
        yield sent
    except BaseException as error:
        if call is not None:
            conversation.was_not_sent(call, error, is_closed=_is_closed(error))
        raise


@contextlib.contextmanager
def _receiving(conversation: Conversation | None) -> Iterator[Callable[[Any], None]]:
    """Around the receiving of a message; gives who is to be told of it."""
    if conversation is None:
        yield _ignored
        return
    try:
        yield conversation.received
    except BaseException as error:
        # A reader that gave up for now, or was cancelled, may come back.
        if _is_closed(error):
            conversation.ended()
        raise


def _ignored(_message: Any) -> None:
    pass


def _is_closed(error: BaseException) -> bool:
    return any(kind.__name__ == "ConnectionClosed" for kind in type(error).__mro__)


def _conversation(connection: Any, sees: Sees) -> Conversation | None:
    """What is known of a connection; ``None`` for one that is no provider's. Never raises."""
    known = vars(connection).get(_STATE, _UNSEEN)
    if known is not _UNSEEN:
        return known  # type: ignore[no-any-return]
    sender = sees()
    # One that was there before stays unseen until somebody sees to it.
    if sender is None:
        return None
    conversation = _begun(connection, sender)
    setattr(connection, _STATE, conversation)
    return conversation


def _begun(connection: Any, sender: Sender) -> Conversation | None:
    protocol = getattr(connection, "protocol", None)
    uri = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)
    request = getattr(connection, "request", None)
    if uri is None or request is None:
        # A server's connection.
        return None
    url = SimpleNamespace(scheme="https" if uri.secure else "http", host=uri.host, port=uri.port, path=uri.path)
    endpoint = sender.recognise("GET", url)
    method = None if endpoint is None else _METHODS.get(endpoint.method.removeprefix("GET "))
    if endpoint is None or method is None:
        return None
    query = parse_qs(uri.query)
    model = next((value for name in ("model", "deployment") for value in query.get(name, ())), endpoint.deployment)
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.raw_items()}
    made = Endpoint(endpoint.provider, method, makes=True, deployment=endpoint.deployment)
    named = Context(
        **{name: unquote(headers[header].decode()) for header, name in HEADERS.items() if header in headers}
    )
    return Conversation(sender, made, credential_of(endpoint.provider, headers), model, named)
