"""How a call ended, as ``Hold.settle`` is told: by the exception that it raised, or by a record by hand."""

from __future__ import annotations

from typing import Any

from .claims import Record
from .errors import describe_failure, failed_request_id, nothing_was_sent

__all__ = ["failure_of", "failure_told", "numbers_told"]

_NUMBERS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "service_tier")


def failure_of(error: BaseException) -> dict[str, Any]:
    """How ``Hold.settle`` is told of ``error``; ``unknown`` where the provider may have charged tokens."""
    code, status, retry_after = describe_failure(error)
    nothing_left = nothing_was_sent(error)
    return {
        "success": False,
        "error_code": code,
        "error_status": status,
        "retry_after": retry_after,
        "requests": 0 if nothing_left else 1,
        "request_id": failed_request_id(error),
        "unknown": status is None and not nothing_left,
    }


def failure_told(record: Record) -> dict[str, Any] | None:
    """How a manual record says that its call failed; ``None`` where it did not."""
    if record.get("success", True) and record.get("error_code") is None and record.get("error_status") is None:
        return None
    told = {name: record.get(name) for name in ("error_code", "error_status", "retry_after")}
    return {"success": False, **{name: value for name, value in told.items() if value is not None}}


def numbers_told(record: Record) -> dict[str, Any]:
    """The numbers that a manual record tells, as ``Hold.settle`` takes them; empty where it tells none."""
    numbers = {name: record[name] for name in _NUMBERS if record.get(name) is not None}
    if record.get("tokens_used"):
        numbers["tokens"] = record["tokens_used"]
    if not any(numbers.get(name) for name in ("tokens", "input_tokens", "output_tokens", "cost_usd")):
        return {}
    return {**numbers, **({"model": record["model"]} if record.get("model") else {})}
