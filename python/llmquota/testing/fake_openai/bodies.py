"""Reads request bodies as OpenAI does: what is missing or of the wrong type is a 400 that names the parameter."""

from __future__ import annotations

import json
import secrets
from typing import Any

from .errors import ProviderError
from .http1 import Request

__all__ = [
    "asks_for_usage",
    "form_object",
    "json_object",
    "new_id",
    "optional_count",
    "required_inputs",
    "required_model",
    "required_text",
    "required_tool",
]


def new_id(prefix: str) -> str:
    """An id that no other answer has. Not from the seed: who counts by id must never take two answers for one."""
    return f"{prefix}{secrets.token_hex(16)}"


def json_object(request: Request) -> dict[str, Any]:
    """The body. Raises ``ProviderError`` if it is not a JSON object."""
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):  # not JSON, not Unicode, too deep
        value = None
    if not isinstance(value, dict):
        raise ProviderError(400, "We could not parse the JSON body of your request.")
    return _with_deployment(request, value)


def form_object(request: Request, *counts: str) -> dict[str, Any]:
    """The texts of a multipart form; those of ``counts`` as numbers, if they are. Raises ``ProviderError`` for none."""
    form = request.form
    if not form.fields and not form.files:
        raise ProviderError(400, "We could not parse the multipart form of your request.")
    numbers = {name: int(form.fields[name]) for name in counts if form.fields.get(name, "").isdecimal()}
    return _with_deployment(request, {**form.fields, **numbers})


def required_model(body: dict[str, Any]) -> str:
    """``model``. Raises ``ProviderError`` if there is none."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ProviderError(400, "you must provide a model parameter")
    return model


def required_text(body: dict[str, Any], name: str) -> str:
    """``name``. Raises ``ProviderError`` if it is no text, or an empty one."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ProviderError(400, f"Missing required parameter: '{name}'.", param=name)
    return value


def required_inputs(body: dict[str, Any], name: str) -> list[str | list[int]]:
    """``name``: one text, one list of token ids, or a list of either. Raises ``ProviderError`` for anything else."""
    value = body.get(name)
    items = [value] if isinstance(value, str) or _is_token_ids(value) else value
    if isinstance(items, list) and items and all((isinstance(i, str) and i) or _is_token_ids(i) for i in items):
        return items
    raise ProviderError(400, f"'$.{name}' is invalid. Please check the API reference.", param=name)


def asks_for_usage(body: dict[str, Any]) -> bool:
    """Whether a stream shall end with usage. Raises ``ProviderError`` if there is no stream to say it of."""
    options = body.get("stream_options")
    if options is not None and body.get("stream") is not True:
        raise ProviderError(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return isinstance(options, dict) and options.get("include_usage") is True


def optional_count(body: dict[str, Any], *names: str, minimum: int = 1) -> int | None:
    """The first of ``names`` that is there. Raises ``ProviderError`` if it is not a whole number from ``minimum``."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ProviderError(
                400, f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type"
            )
        if value < minimum:
            raise ProviderError(
                400,
                f"Invalid '{name}': integer below minimum value. Expected a value >= {minimum}, but got {value}.",
                param=name,
                code="integer_below_min_value",
            )
        return value
    return None


def required_tool(body: dict[str, Any]) -> str | None:
    """The function that ``tool_choice`` insists on, if any: by name, or the first of ``tools`` for ``required``."""
    choice = body.get("tool_choice")
    if choice == "required":
        tools = body.get("tools")
        choice = tools[0] if isinstance(tools, list) and tools else None
    if not isinstance(choice, dict):
        return None
    # Chat Completions nests the name in "function", the Responses API does not.
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _with_deployment(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    return body if body.get("model") or not request.deployment else {**body, "model": request.deployment}


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
