"""Puts the counting where all calls pass, and takes it away again."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from llmquota import context

from .passing import is_seen_to, passed, passed_async
from .refusals import forget_sdk, teach_sdk
from .sending import Sender
from .setting_up import sender_of
from .sockets import around_close, around_recv, around_send, connections

__all__ = ["instrument", "is_instrumented", "uninstrument"]

LIBRARIES = ("httpx", "httpx2")
KNOWN_SDKS = ("1", "2", "3")
"""First parts of the versions of ``openai`` that our tests run with."""

_lock = threading.Lock()
# Who sees to requests now; none while nothing is instrumented, though another library may still call through ours.
_sender: Sender | None = None
# Of each class and its method: its own, and ours in its place.
_patched: dict[tuple[type[Any], str], tuple[Any, Any]] = {}
_warned: set[str] = set()
_log = logging.getLogger("llmquota.instrument")


def instrument(
    manager: Any = None,
    *,
    mode: str = "enforce",
    providers: Mapping[str, str] | None = None,
    include_usage: bool = False,
) -> None:
    """Has every call of this process to a provider admitted, counted and attributed, from here on.

    Arguments:
        manager: a ``QuotaManager``, or a function that returns one; by default the one made from the environment.
        mode: ``"enforce"`` refuses what does not fit; ``"observe"`` counts and refuses nothing.
        providers: base URLs of further providers that speak like OpenAI, and what each is to be called:
            ``{"http://localhost:8000/v1": "vllm"}``. Known without it: OpenAI, Azure OpenAI and Anthropic by their
            hosts, and where ``OPENAI_BASE_URL``, ``AZURE_OPENAI_ENDPOINT`` and ``ANTHROPIC_BASE_URL`` lead.

        include_usage: whether chat streams that do not ask what they used are made to (``stream_options``); the chunk
            that tells it does not reach the caller. Without it their tokens are estimated.

    A call that is refused makes no request. The ``openai`` SDK raises ``QuotaExceeded`` for it, which is an
    ``openai.RateLimitError`` too, without trying again; whoever uses ``httpx`` or ``httpx2`` without it gets a response
    429. Whose call it is says the context (:class:`~llmquota.context.quota_context`), and where that leaves it open the
    headers ``X-LLMQuota-Workspace``, ``-Goal``, ``-Task`` and ``-User``, percent-encoded, which do not leave the
    process. A call for nobody is counted for ``"global"``, and its place listed by ``llmquota.context.unattributed``.

    A second time it takes the new arguments and changes nothing else. Raises ``ValueError`` for an argument that cannot
    be, and ``RuntimeError`` where neither library is installed.
    """
    global _sender
    sender = sender_of(manager, mode, providers, include_usage)
    libraries = [importlib.import_module(name) for name in LIBRARIES if importlib.util.find_spec(name) is not None]
    if not libraries:
        raise RuntimeError("instrument() found neither httpx nor httpx2: install the SDK of your provider first")
    with _lock:
        if _sender is None:
            # Records by hand ask from here on whether an instrumented call was theirs.
            context.keep_trails(True)
        _sender = sender
        for library in libraries:
            _patch(library.Client, "send", functools.partial(_around_send, library))
            _patch(library.AsyncClient, "send", functools.partial(_around_async_send, library))
        for connection, is_async in connections():
            _patch(connection, "send", functools.partial(around_send, _who_sees, is_async=is_async))
            _patch(connection, "recv", functools.partial(around_recv, _who_sees, is_async=is_async))
            _patch(connection, "close", functools.partial(around_close, is_async=is_async))
        teach_sdk()
    _warn_of_unknown_sdk()


def uninstrument() -> None:
    """Takes it back. Where another library has patched over ours, ours stays and passes everything on.

    Calls that are under way are still counted.
    """
    global _sender
    with _lock:
        if _sender is not None:
            _sender = None
            context.keep_trails(False)
        for (owner, name), (original, ours) in list(_patched.items()):
            if vars(owner)[name] is ours:
                setattr(owner, name, original)
                del _patched[owner, name]
        forget_sdk()


def is_instrumented() -> bool:
    """Whether calls of this process are counted now."""
    return _sender is not None


def _who_sees() -> Sender | None:
    return _sender


def _patch(owner: type[Any], name: str, around: Callable[[Any], Any]) -> None:
    is_now = vars(owner)[name]
    known = _patched.get((owner, name))
    # Ours, or somebody's over ours. Only where its own is back is ours gone.
    if known is not None and is_now is not known[0]:
        return
    ours = around(is_now)
    setattr(owner, name, ours)
    _patched[owner, name] = (is_now, ours)


def _around_send(library: ModuleType, original: Any) -> Any:
    @functools.wraps(original)
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        sender = _sender
        if sender is None or is_seen_to(request):
            return original(self, request, *args, **kwargs)
        unread = bool(kwargs.get("stream"))
        return passed(sender, library, request, lambda sent: original(self, sent, *args, **kwargs), unread=unread)

    return send


def _around_async_send(library: ModuleType, original: Any) -> Any:
    @functools.wraps(original)
    async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        sender = _sender
        if sender is None or is_seen_to(request):
            return await original(self, request, *args, **kwargs)
        unread = bool(kwargs.get("stream"))
        go = lambda sent: original(self, sent, *args, **kwargs)  # noqa: E731 - a name for one line
        return await passed_async(sender, library, request, go, unread=unread)

    return send


def _warn_of_unknown_sdk() -> None:
    try:
        version = importlib.metadata.version("openai")
    except importlib.metadata.PackageNotFoundError:
        return
    if version.partition(".")[0] not in KNOWN_SDKS and version not in _warned:
        _warned.add(version)
        _log.warning(
            "openai %s is not a version that llmquota was tested with (%s): its calls are counted all the same",
            version,
            ", ".join(f"{major}.x" for major in KNOWN_SDKS),
        )
