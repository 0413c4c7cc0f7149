"""Whose call it is by the trace of the OpenAI Agents SDK that it is made in."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from llmquota.context import Context, named_in

__all__ = ["named_by_trace"]


def named_by_trace() -> Context | None:
    """What the metadata of the current trace names; ``None`` where there is none, or the SDK is not in use."""
    agents = sys.modules.get("agents")
    # A backend may well have a package of that name itself.
    get_current_trace = getattr(agents, "get_current_trace", None)
    metadata = getattr(get_current_trace(), "metadata", None) if callable(get_current_trace) else None
    if not isinstance(metadata, Mapping):
        return None
    return Context(**named_in(metadata))
