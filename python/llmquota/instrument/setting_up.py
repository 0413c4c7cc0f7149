"""What ``instrument()`` and the transports are told, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmquota.settings import provider_bases

from .providers import Providers
from .sending import Sender

__all__ = ["MODES", "sender_of"]

MODES = ("enforce", "observe")


def sender_of(manager: Any, mode: str, providers: Mapping[str, str] | None, include_usage: bool) -> Sender:
    """A sender. Raises ``ValueError`` for a mode that is none and for a base URL that is none."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}")
    known = Providers({**provider_bases(), **(providers or {})})
    return Sender(manager, known, observe=mode == "observe", include_usage=include_usage)
