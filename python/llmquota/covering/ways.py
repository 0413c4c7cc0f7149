"""In which ways a method can be called: with each set of arguments that it takes, and for each form of its answer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .methods import PREFIXES, Method, at
from .values import types_of, value_of

__all__ = ["Way", "ways_of"]


@dataclass(frozen=True)
class Way:
    """One way of calling a method."""

    prefix: str
    """One of ``PREFIXES``."""
    arguments: Mapping[str, Any]
    label: str
    """What tells it from the others, for people."""

    @property
    def is_stream(self) -> bool:
        """Whether the SDK makes events of the answer."""
        return self.arguments.get("stream") is True


def ways_of(client: Any, method: Method, known: Mapping[str, Any], path: os.PathLike[str]) -> list[Way]:
    """Every way of calling a method. ``known``: arguments by name. ``path``: a file, for whatever takes one."""
    sets = list(_sets(at(client, method.name), method, known, path))
    ways = []
    for prefix in PREFIXES if method.resource != "client" else ("",):
        if at(client, method.name, prefix) is None:
            continue
        for arguments in sets:
            own = ", ".join(_named(*each) for each in arguments.items() if each[0] not in sets[0])
            ways.append(Way(prefix, arguments, " ".join(filter(None, (prefix, own)))))
    return ways


def _named(name: str, value: Any) -> str:
    return f"{name}={value!r}" if isinstance(value, (bool, str)) else name


def _sets(
    function: Callable[..., Any], method: Method, known: Mapping[str, Any], path: os.PathLike[str]
) -> Iterator[dict[str, Any]]:
    """The sets of arguments that differ."""
    seen: list[dict[str, Any]] = []
    for shape in _shapes(function):
        for arguments in _further(_arguments(shape, known, path), shape, method):
            if arguments not in seen:
                seen.append(arguments)
                yield arguments


def _shapes(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Its overloads, which say what is needed together where the function itself asks for nothing."""
    # Of what the SDK needs itself: before Python 3.11 typing has none.
    from typing_extensions import get_overloads

    plain = inspect.unwrap(getattr(function, "__func__", function))
    return list(get_overloads(plain)) or [plain]


def _arguments(shape: Callable[..., Any], known: Mapping[str, Any], path: os.PathLike[str]) -> dict[str, Any]:
    """What a call cannot do without, and what else it takes of ``known``."""
    types = types_of(shape)
    arguments = {}
    for name, parameter in inspect.signature(shape).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in known:
            arguments[name] = known[name]
        elif parameter.default is parameter.empty:
            arguments[name] = value_of(types.get(name, Any), name, path)
    if arguments.get("stream") is False:
        # As without it.
        del arguments["stream"]
    return arguments


def _further(arguments: dict[str, Any], shape: Callable[..., Any], method: Method) -> Iterator[dict[str, Any]]:
    """The arguments, and those with which the answer says what it used, where it does not without."""
    yield arguments
    names = inspect.signature(shape).parameters
    if arguments.get("stream") and method.name.endswith("completions.create"):
        yield {**arguments, "stream_options": {"include_usage": True}}
    if "stream_format" in names:
        yield {**arguments, "stream_format": "sse"}
