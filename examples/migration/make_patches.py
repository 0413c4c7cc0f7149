"""Writes ``patches/``, by which the files of ``before/`` become those of the example backend. Run it after a change."""

from __future__ import annotations

import difflib
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEFORE = HERE / "before"
AFTER = HERE.parent / "backend"

PATCHES = {
    "01_ai_provider_abstraction.patch": (
        "services/attribution.py",
        "services/ai_provider_abstraction.py",
    ),
    "02_enhanced_document_search.patch": ("tools/enhanced_document_search.py",),
    "03_conversational_simple.patch": ("ai_agents/conversational_simple.py",),
}


def patch_of(path: str) -> str:
    """The unified diff of one file, which may be new."""
    old = BEFORE / path
    old_lines = old.read_text("utf-8").splitlines(keepends=True) if old.exists() else []
    new_lines = (AFTER / path).read_text("utf-8").splitlines(keepends=True)
    old_name = f"a/{path}" if old.exists() else "/dev/null"
    return "".join(difflib.unified_diff(old_lines, new_lines, old_name, f"b/{path}"))


def main() -> None:
    """Writes them all."""
    for name, paths in PATCHES.items():
        (HERE / "patches" / name).write_text("".join(map(patch_of, paths)), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
