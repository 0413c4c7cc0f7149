"""What an expression of a module stands for: where it was imported from, what made it, and which text it is.

What an object is, is written as what made it: ``httpx.Client().post``.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator

from .scopes import Bound, Scope, is_self

__all__ = ["names_of", "reaches", "texts_of", "values_of"]

# More than anybody writes; what is nested deeper stays unknown.
_DEPTH = 60
_MANY = 8
_KEPT_BY = frozenset({"format", "rstrip", "lstrip", "strip", "lower", "removesuffix"})
_MADE_OF_TEXT = frozenset({"str", "URL", "urljoin"})


def values_of(node: ast.AST, scope: Scope) -> list[Bound]:
    """What a name, or an attribute of ``self``, was given in this module."""
    owner, name = _owner(node, scope)
    return [] if owner is None else owner.bound[name]


def _owner(node: ast.AST, scope: Scope) -> tuple[Scope | None, str]:
    if isinstance(node, ast.Name):
        return scope.owner(node.id), node.id
    if isinstance(node, ast.Attribute) and is_self(node.value):
        around = scope.class_around()
        return (around if around is not None and node.attr in around.bound else None), node.attr
    return None, ""


def names_of(node: ast.AST, scope: Scope, depth: int = 0) -> list[str]:
    """The full names of what ``node`` is, an object's with ``()`` behind what made it; none where it is unknown."""
    if depth > _DEPTH:
        return []

    def names(part: ast.AST) -> list[str]:
        return names_of(part, scope, depth + 1)

    def of(bound: Bound) -> list[str]:
        told = [bound.imported] if bound.imported else []
        if bound.value is not None:
            told += names_of(bound.value, bound.scope, depth + 1)
        return told + [f"{name}()" for part in _types(bound.type) for name in names_of(part, bound.scope, depth + 1)]

    owner, name = _owner(node, scope)
    if owner is not None:
        return _once(owner.names, name, owner.bound[name], of)
    match node:
        case ast.Name(id=name):
            return [f"{star}.{name}" for star in list(scope.chain())[-1].stars]
        case ast.Attribute(value=value, attr=attr):
            return [f"{name}.{attr}" for name in names(value)]
        case ast.Call(func=func):
            return [f"{name}()" for name in names(func)]
        case ast.Await(value=value) | ast.NamedExpr(value=value):
            return names(value)
        case ast.BoolOp(values=values):
            return [name for part in values for name in names(part)][:_MANY]
        case ast.IfExp(body=body, orelse=orelse):
            return [*names(body), *names(orelse)][:_MANY]
    return []


def _once(known: dict[str, list[str]], name: str, bound: list[Bound], of: Callable[[Bound], list[str]]) -> list[str]:
    if name not in known:
        known[name] = []
        found = dict.fromkeys(each for thing in bound for each in of(thing))
        known[name] = list(found)[:_MANY]
    return known[name]


def _types(annotation: ast.expr | None, depth: int = 0) -> Iterator[ast.expr]:
    """The classes of an annotation: of ``X``, ``X | None``, ``Optional[X]``, ``Annotated[X, ...]`` and ``"X"``."""
    parts: list[ast.expr] = []
    match annotation:
        case ast.Name() | ast.Attribute():
            yield annotation
        case ast.BinOp(left=left, right=right):
            parts = [left, right]
        case ast.Subscript(slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        case ast.Constant(value=str(text)):
            try:
                parts = [ast.parse(text, mode="eval").body]
            except (SyntaxError, ValueError):
                return
    for part in parts if depth < _DEPTH else []:
        yield from _types(part, depth + 1)


def texts_of(node: ast.AST, scope: Scope, depth: int = 0) -> list[str]:
    """The texts that ``node`` may be, without what is only known when it runs."""
    if depth > _DEPTH:
        return []

    def texts(part: ast.AST) -> list[str]:
        return texts_of(part, scope, depth + 1)

    owner, name = _owner(node, scope)
    if owner is not None:
        return _once(
            owner.texts,
            name,
            owner.bound[name],
            lambda bound: [] if bound.value is None else texts_of(bound.value, bound.scope, depth + 1),
        )
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return _joined([texts(part) for part in parts])
        case ast.FormattedValue(value=value) | ast.NamedExpr(value=value):
            return texts(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([texts(left), texts(right)])
        case ast.BinOp(left=left, op=ast.Mod() | ast.Div()):
            return texts(left)
        case ast.BoolOp(values=parts):
            return [text for part in parts for text in texts(part)][:_MANY]
        case ast.IfExp(body=body, orelse=orelse):
            return [*texts(body), *texts(orelse)][:_MANY]
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _KEPT_BY:
            return texts(value)
        case ast.Call(func=ast.Attribute(attr="get" | "getenv") | ast.Name(id="getenv"), args=[_, default]):
            # What the environment or the settings say instead, is not in the code.
            return texts(default)
        case ast.Call(func=ast.Attribute(attr=made) | ast.Name(id=made), args=[first, *_]) if made in _MADE_OF_TEXT:
            return texts(first)
    return []


def _joined(parts: list[list[str]]) -> list[str]:
    choices = itertools.product(*([text or [""] for text in parts]))
    return ["".join(choice) for choice in itertools.islice(choices, _MANY)]


def reaches(node: ast.AST, scope: Scope, is_it: Callable[[str], bool]) -> bool:
    """Whether anything that ``node`` is made of, in this module, has a name that ``is_it``."""
    waiting = [(node, scope)]
    seen: set[int] = set()
    while waiting:
        thing, where = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        for part in ast.walk(thing):
            if isinstance(part, ast.Call) and any(map(is_it, names_of(part.func, where))):
                return True
            waiting += [(bound.value, bound.scope) for bound in values_of(part, where) if bound.value is not None]
    return False
