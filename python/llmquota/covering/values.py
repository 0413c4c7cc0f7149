"""A value of a type, so that a method can be called that nobody here knows."""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import types
import typing
from typing import Any

__all__ = ["types_of", "value_of"]

_DEPTH = 4
"""Of things in things: what lies deeper is left out."""

_PLAIN: dict[Any, Any] = {bool: False, int: 1, float: 1.0, bytes: b"coverage"}


def types_of(thing: Any) -> dict[str, Any]:
    """The types of a function's arguments, or of a class's fields; none where they cannot be told."""
    from typing_extensions import get_type_hints

    try:
        return get_type_hints(thing, include_extras=True)
    except Exception:
        # One of the names is there for type checkers alone.
        return {}


def value_of(kind: Any, name: str, path: os.PathLike[str], depth: int = 0) -> Any:
    """Something of a type, for an argument of this name. ``path``: a file, for what takes one."""
    alternatives = _alternatives(kind)
    if any((typing.get_origin(each) or each) is os.PathLike for each in alternatives):
        return path
    kind = alternatives[0]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, typing.TypeVar):
        kind = kind.__bound__
    if origin is type:
        return None if type(None) in alternatives else str
    if getattr(origin or kind, "__name__", "") == "Literal":
        return inner[0]
    if kind in _PLAIN:
        return _PLAIN[kind]
    made = origin or kind
    if not isinstance(made, type) or made in (str, object) or depth >= _DEPTH:
        return f"{name}-1"
    if issubclass(made, collections.abc.Mapping) and len(inner) == 2:
        return {f"{name}-1": value_of(inner[1], name, path, depth + 1)}
    if inner and hasattr(made, "__iter__"):
        return [value_of(inner[0], name, path, depth + 1)]
    return _made(made, path, depth + 1)


def _alternatives(kind: Any) -> list[Any]:
    """The types of a union, of unions inside it as well; the one type where there is no union."""
    origin = typing.get_origin(kind)
    if origin is typing.Union or origin is types.UnionType:
        return [each for part in typing.get_args(kind) for each in _alternatives(part)]
    if getattr(origin, "__name__", "") in ("Annotated", "Required", "NotRequired"):
        return _alternatives(typing.get_args(kind)[0])
    return [kind]


def _made(kind: Any, path: os.PathLike[str], depth: int) -> Any:
    """An object with what it cannot do without."""
    needed = {name: value_of(of, name, path, depth) for name, of in types_of(kind).items() if _needs(kind, name, of)}
    return kind.construct(**needed) if hasattr(kind, "construct") else kind(**needed)


def _needs(kind: Any, name: str, of: Any) -> bool:
    if hasattr(kind, "__required_keys__"):
        # The keys alone do not know of what is written as text.
        return name in kind.__required_keys__ or getattr(typing.get_origin(of), "__name__", "") == "Required"
    if hasattr(kind, "model_fields"):
        return name in kind.model_fields and kind.model_fields[name].is_required()
    fields = {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    return name in fields and fields[name].default is dataclasses.MISSING
