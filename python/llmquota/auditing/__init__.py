"""Which calls of a code base to a provider are counted, and which are not: read from its text, of which nothing is run.

``scopes`` and ``names`` say what a name stands for, ``places`` finds the calls, ``judging`` says who counts them. Each
file is read by itself: what an object of another file is, nobody knows here.
"""

from __future__ import annotations

import ast
import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmquota.errors import QuotaInputError

from .judging import Place, judged
from .places import Module, read_places

__all__ = ["Audit", "Place", "audit"]

_SKIPPED = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True)
class Audit:
    """What was found."""

    files: int
    """How many were read."""
    places: list[Place]
    """By path and line."""


def audit(paths: Iterable[str]) -> Audit:
    """Reads the Python files at ``paths`` as one code base. Raises ``QuotaInputError`` for a path that is not there."""
    modules: list[Module] = []
    unread: list[Place] = []
    for path, root in _sources(paths, unread):
        try:
            tree = _tree(path)
            is_own = functools.partial(_is_own, path, root)
            modules.append(read_places(path, tree, is_test=_is_test(path, root), is_own=is_own))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unread.append(_unread(path, error))
    found = unread + judged(modules)
    return Audit(len(modules), sorted(found, key=lambda place: (place.path, place.line)))


def _sources(paths: Iterable[str], unread: list[Place]) -> Iterator[tuple[str, str]]:
    """Each Python file once, and the path that it was found under; into ``unread`` each directory that is closed."""
    paths = list(paths)
    for path in paths:
        if not os.path.exists(path):
            raise QuotaInputError(f"{path!a}: there is no such file or directory", "no_such_path", "path")
    seen: set[str] = set()
    for root in map(os.path.normpath, paths):
        for path in _below(root, unread) if os.path.isdir(root) else [root]:
            name = os.path.realpath(path)
            if name not in seen:
                seen.add(name)
                yield path, root if os.path.isdir(root) else os.path.dirname(root)


def _below(root: str, unread: list[Place]) -> Iterator[str]:
    def closed(error: OSError) -> None:
        unread.append(_unread(error.filename, error))

    for folder, folders, files in os.walk(root, onerror=closed):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(files):
            if name.endswith(".py"):
                yield os.path.normpath(os.path.join(folder, name))


def _tree(path: str) -> ast.Module:
    with open(path, "rb") as file:
        text = file.read()
    with warnings.catch_warnings():
        # Of the code that is read: none of ours.
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _unread(path: str, error: BaseException) -> Place:
    line = getattr(error, "lineno", None) or 1
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
    return Place(path, line, "file", None, f"it cannot be read as Python ({reason})")


def _is_test(path: str, root: str) -> bool:
    """Whether pytest would take the file for its own: what that does, a backend does not."""
    folder, name = os.path.split(os.path.relpath(path, root or "."))
    is_named = name == "conftest.py" or name.startswith("test_") or name.endswith("_test.py")
    return is_named or not {"test", "tests"}.isdisjoint(folder.split(os.sep))


def _is_own(path: str, root: str, name: str) -> bool:
    """Whether a module beside the file at ``path``, or above it up to ``root``, is what ``name`` is imported from.

    Asked for a module whose name is anybody's. One that does not have what is imported cannot be meant.
    """
    module, _, member = name.partition(".")
    member = member.partition(".")[0]
    folder = os.path.dirname(path)
    while True:
        for candidate in (f"{module}.py", os.path.join(module, "__init__.py")):
            if member in _defined(os.path.join(folder, candidate)):
                return True
        if os.path.normpath(folder or ".") == os.path.normpath(root or ".") or folder == os.path.dirname(folder):
            return False
        folder = os.path.dirname(folder)


def _defined(path: str) -> frozenset[str]:
    """What the module at ``path`` defines or imports at its top; nothing where there is none."""
    try:
        body = _tree(path).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    names = [node.name for node in body if isinstance(node, ast.ClassDef)]
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    names += [alias.asname or alias.name for node in imports for alias in node.names]
    return frozenset(names)
