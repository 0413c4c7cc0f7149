"""The scopes of a module and the names in them: what each was imported as, or given.

A name may be given several things (``try: import a`` and ``except: import b``): all of them are kept, in no order of
time.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Bound", "Function", "Scope", "is_self", "read"]

Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Bound:
    """One thing that a name stands for: what was imported, or a value or its type, as written in a scope."""

    scope: Scope
    imported: str = ""
    value: ast.expr | None = None
    type: ast.expr | None = None


@dataclass(eq=False)
class Scope:
    """The names of a module, a class or a function."""

    node: ast.AST
    parent: Scope | None
    bound: dict[str, list[Bound]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    homes: dict[str, Scope] = field(default_factory=dict)
    # Found already; empty while it is looked for, so that what refers to itself ends.
    names: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def chain(self) -> Iterator[Scope]:
        """This scope and those around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def owner(self, name: str) -> Scope | None:
        """The scope whose name this is, seen from here."""
        for scope in self.chain():
            # A class's names are not those of its methods.
            if name in scope.bound and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                return scope
        return None

    def class_around(self) -> Scope | None:
        """The class that ``self`` is of."""
        return next((scope for scope in self.chain() if isinstance(scope.node, ast.ClassDef)), None)

    def declare(self, name: str, bound: Bound | None = None) -> None:
        """The name is this scope's, whatever it stands for."""
        things = self.homes.get(name, self).bound.setdefault(name, [])
        if bound is not None:
            things.append(bound)

    def assign(self, target: ast.expr, bound: Bound | None) -> None:
        """``target = ...``, or whatever else gives a value to it."""
        if isinstance(target, ast.Name):
            self.declare(target.id, bound)
        elif isinstance(target, ast.Attribute):
            around = self.class_around() if is_self(target.value) else None
            if around is not None:
                around.declare(target.attr, bound)
        elif isinstance(target, ast.Tuple | ast.List):
            value = None if bound is None else bound.value
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            same = len(parts) == len(target.elts)
            for each, part in itertools.zip_longest(target.elts, parts if same else []):
                self.assign(each, None if part is None else Bound(self, value=part))
        elif isinstance(target, ast.Starred):
            self.assign(target.value, None)


def read(tree: ast.Module) -> list[tuple[ast.AST, Scope]]:
    """Every node of a module in the order of its text, with the scope that it is in, whose names are known then."""
    nodes: list[tuple[ast.AST, Scope]] = []
    waiting: list[tuple[ast.AST, Scope]] = [(tree, Scope(tree, None))]
    while waiting:
        node, scope = waiting.pop()
        nodes.append((node, scope))
        _bind(node, scope)
        waiting += reversed(list(_inside(node, scope)))
    return nodes


def _inside(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """The parts of a node. Decorators, defaults and bases are outside of what they belong to."""
    if isinstance(node, ast.ClassDef):
        inner = Scope(node, scope)
        outside: list[ast.AST] = [*node.decorator_list, *node.bases, *node.keywords]
        body: list[ast.AST] = list(node.body)
    elif isinstance(node, Function):
        inner = Scope(node, scope)
        _bind_arguments(node.args, inner, scope)
        outside = [*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)]
        body = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    else:
        inner, outside, body = scope, [], list(ast.iter_child_nodes(node))
    for part in outside:
        yield part, scope
    for part in body:
        yield part, inner


def _bind(node: ast.AST, scope: Scope) -> None:
    match node:
        case ast.Import(names=aliases):
            for alias in aliases:
                top = alias.name.partition(".")[0]
                scope.declare(alias.asname or top, Bound(scope, imported=alias.name if alias.asname else top))
        case ast.ImportFrom(module=module, names=aliases, level=level):
            source = "." * level + (module or "")
            for alias in aliases:
                if alias.name == "*":
                    scope.stars.append(source)
                else:
                    scope.declare(alias.asname or alias.name, Bound(scope, imported=f"{source}.{alias.name}"))
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            scope.declare(name)
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                scope.assign(target, Bound(scope, value=value))
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            scope.assign(target, Bound(scope, value=value, type=annotation))
        case ast.NamedExpr(target=target, value=value):
            scope.assign(target, Bound(scope, value=value))
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            scope.assign(target, Bound(scope, value=value))
        case ast.For(target=target) | ast.AsyncFor(target=target) | ast.comprehension(target=target):
            scope.assign(target, None)
        case ast.ExceptHandler(name=str(name)):
            scope.declare(name)
        case ast.Global(names=names):
            scope.homes |= dict.fromkeys(names, list(scope.chain())[-1])
        case ast.Nonlocal(names=names) if scope.parent is not None:
            scope.homes |= {name: scope.parent.owner(name) or scope for name in names}


def _bind_arguments(arguments: ast.arguments, scope: Scope, outer: Scope) -> None:
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(placed) - len(arguments.defaults))
    defaults += arguments.defaults
    pairs = itertools.chain(
        zip(placed, defaults, strict=True), zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    )
    for argument, default in pairs:
        scope.declare(argument.arg, Bound(outer, value=default, type=argument.annotation))
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            scope.declare(rest.arg)


def is_self(node: ast.AST) -> bool:
    """Whether it is what a method calls its object, or its class."""
    return isinstance(node, ast.Name) and node.id in ("self", "cls")
