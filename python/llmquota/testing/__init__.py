"""Everything that a test of quota-aware code needs. Parts are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake_openai import FakeOpenAI
    from .over_admission import assert_no_over_admission

__all__ = ["FakeOpenAI", "assert_no_over_admission"]

_HOMES = {"FakeOpenAI": ".fake_openai", "assert_no_over_admission": ".over_admission"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
