"""Which methods an SDK has: asked of its client, at which they hang."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["PREFIXES", "Method", "at", "methods_of"]

PREFIXES = ("", "with_raw_response", "with_streaming_response")
"""What may stand before a method's own name: the answer comes as itself, read already, or to be read."""

VERBS = ("get", "post", "put", "patch", "delete")
"""The client's own methods that send, for what the SDK has no method for."""


@dataclass(frozen=True)
class Method:
    """One method."""

    name: str
    """From the client on: ``chat.completions.create``."""
    is_websocket: bool = False
    """It opens one, and sends nothing by HTTP."""

    @property
    def resource(self) -> str:
        """The first part of its name; ``client`` for one of the client's own."""
        first, dot, _ = self.name.partition(".")
        return first if dot else "client"


def methods_of(client: Any) -> list[Method]:
    """Those of a client and of the resources below it, by resource and name."""
    found = [Method(name) for name in VERBS] + list(_below(client, ""))
    return sorted(found, key=lambda method: (method.resource, method.name))


def _below(thing: Any, path: str) -> Iterator[Method]:
    for name in dir(type(thing)):
        if name.startswith("_") or name in PREFIXES:
            continue
        if not callable(inspect.getattr_static(type(thing), name)):
            inner = getattr(thing, name)
            if any(kind.__name__ in ("SyncAPIResource", "AsyncAPIResource") for kind in type(inner).__mro__):
                yield from _below(inner, f"{path}{name}.")
        elif path:
            returns = str(inspect.signature(getattr(thing, name)).return_annotation)
            yield Method(path + name, is_websocket=returns.endswith("ConnectionManager"))


def at(client: Any, name: str, prefix: str = "") -> Any:
    """What a name stands for at a client; ``None`` where the method cannot be called with that prefix."""
    *path, last = name.split(".")
    thing = client
    for part in path:
        thing = getattr(thing, part)
    if prefix:
        thing = getattr(thing, prefix, None)
    return getattr(thing, last, None)
