"""Reads how many tokens a call used out of whatever a provider's SDK returned.

It knows shapes, not classes: no SDK is imported, and an object of a kind it has never seen is read if it carries the
same names. It never raises: the call is paid, so a number that cannot be is left out, and why is kept.
"""

from __future__ import annotations

import logging
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from . import _native
from .charging import uses_of_tools
from .parsing import is_unicode
from .usage_numbers import UNITS, UsageNumbers

__all__ = ["StreamUsage", "Usage", "UsageNumbers", "in_numbers", "read_usage"]

MAX_TOKENS = 2**53
"""The largest count: every whole number up to it survives JSON and floats."""

_DEPTH = 4
"""How many objects deep a usage may lie: an event, its data, its response, its usage."""

_CALLERS_OWN = ("function_call", "custom_tool_call")
_log = logging.getLogger(__name__)


Usage: TypeAlias = UsageNumbers | _native.AnswerUsage
"""What a hold is settled with, whoever has read it."""


def in_numbers(usage: Usage) -> UsageNumbers:
    """``usage`` with each of its numbers to be had."""
    return usage if isinstance(usage, UsageNumbers) else usage.numbers()


def read_usage(source: Any) -> UsageNumbers | None:
    """Reads the usage of ``source``; ``None`` where it carries none.

    ``source`` may be an answer, chunk or event of the OpenAI SDK or a dictionary of the same shape, a usage object
    itself, a raw response whose body has arrived, a result of the Agents SDK (all its requests together), an object of
    another SDK that has ``usage``, an Anthropic usage (whose input leaves out what was cached: it is put back), or a
    whole number, which is the total.

    Never raises. Numbers that cannot be (negative, NaN, booleans, texts) are left out, named in
    :attr:`UsageNumbers.problems` and logged.
    """
    problems: list[str] = []
    try:
        found = _read(source, problems, _DEPTH)
    except Exception:
        # An object whose attributes run code of their own; the call that returned it is paid all the same.
        _log.warning("The usage of a %s could not be read", type(source).__name__, exc_info=True)
        return None
    if problems:
        _log.warning("A usage of %s has numbers that cannot be: %s", type(source).__name__, "; ".join(problems))
    return found if found is None else replace(found, problems=tuple(problems))


class StreamUsage:
    """The usage of a stream, from its items as they pass.

    Some providers repeat a growing usage in every item: of one response the last word counts. A stream of an agent has
    several responses: their usages are added.
    """

    def __init__(self) -> None:
        self._by_response: dict[str | None, UsageNumbers] = {}
        self._current: str | None = None

    def see(self, item: Any) -> None:
        """Takes what ``item`` says, if it says anything. Never raises."""
        if isinstance(item, (str, bytes, bytearray, int, float)):
            return
        found = read_usage(item)
        if found is None:
            return
        key = found.response_id or self._current
        if self._current is None and key is not None and None in self._by_response:
            self._by_response[key] = self._by_response.pop(None)
        self._current = key
        earlier = self._by_response.get(key)
        self._by_response[key] = found if earlier is None else _overlaid(earlier, found)

    @property
    def usage(self) -> UsageNumbers | None:
        """All of it so far."""
        return _summed(self._by_response.values())


def _read(source: Any, problems: list[str], depth: int) -> UsageNumbers | None:
    if source is None or depth == 0 or isinstance(source, (str, bytes, bytearray)):
        return None
    if isinstance(source, UsageNumbers):
        return source
    if isinstance(source, (bool, int, float)):
        total = _count(source, "tokens", problems)
        return None if total is None else UsageNumbers(total_tokens=total)
    if not isinstance(source, Mapping):
        source = _body(source)
    run = _of_run(source, problems)
    if run is not None:
        return run
    for name in ("usage", "response", "message", "data"):
        inner = _get(source, name)
        # A number is a usage only where it is called so; texts and lists under these names are content.
        if inner is None or isinstance(inner, (str, bytes, list, tuple)) or (name != "usage" and _is_number(inner)):
            continue
        found = _read(inner, problems, depth - 1)
        if found is not None:
            return _named(found, source)
    return _of_numbers(source, problems)


def _body(source: Any) -> Any:
    """The parsed body of a raw response, where it has arrived; else the object itself."""
    response = getattr(source, "http_response", None)
    parse = getattr(source, "parse", None)
    # Parsing one that is still open would read from the network, in place of its owner.
    if response is None or not callable(parse) or iscoroutinefunction(parse):
        return source
    return parse() if getattr(response, "is_closed", False) is True else source


def _of_run(source: Any, problems: list[str]) -> UsageNumbers | None:
    """The usage of a run of the Agents SDK: its own sum, or that of its raw responses."""
    wrapper, responses = _get(source, "context_wrapper"), _get(source, "raw_responses")
    if wrapper is None and not isinstance(responses, list):
        return None
    agent = _get(source, "last_agent")
    model = _text(_get(agent, "model"))
    responses = responses if isinstance(responses, list) else []
    total = _get(wrapper, "usage")
    found = _of_numbers(total, problems) if _get(total, "requests") else None
    if found is None:
        each = (_of_numbers(_get(response, "usage"), problems) for response in responses)
        found = _summed([usage for usage in each if usage is not None])
    if found is None or not found.requests:
        return None
    response_id = _text(_get(responses[0], "response_id")) if len(responses) == 1 else None
    return replace(found, model=found.model or model, response_id=response_id)


def _of_numbers(source: Any, problems: list[str]) -> UsageNumbers | None:
    """The numbers of a usage object itself."""

    def count(*names: str) -> int | None:
        for name in names:
            holder = source
            *path, last = name.split(".")
            for step in path:
                holder = _get(holder, step)
            value = _get(holder, last)
            if value is not None:
                return _count(value, name, problems)
        return None

    chat_input = count("prompt_tokens")
    given = chat_input if chat_input is not None else count("input_tokens")
    given_output = count("completion_tokens", "output_tokens")
    total = count("total_tokens", "tokens", "tokens_used")
    if given is None and given_output is None and total is None:
        seconds = _get(source, "seconds")
        return _of_seconds(seconds, problems) if _get(source, "type") == "duration" else None
    cached = count(
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "input_token_details.cached_tokens",
        "cached_tokens",
    )
    written = count("prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens")
    if chat_input is None and cached is None and given is not None:
        # Anthropic counts what it read from and wrote to its cache beside the input, not inside it.
        read, created = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
        if read is not None or created is not None:
            cached, written = read, created
            given += (read or 0) + (created or 0)
    requests = _get(source, "requests")
    counted = 1 if requests is None else _count(requests, "requests", problems)
    return UsageNumbers(
        input_tokens=given,
        output_tokens=given_output,
        total_tokens=total,
        cached_tokens=_part(cached, given),
        cache_write_tokens=_part(written, None if given is None else given - (_part(cached, given) or 0)),
        reasoning_tokens=_part(
            count(
                "completion_tokens_details.reasoning_tokens",
                "output_tokens_details.reasoning_tokens",
                "reasoning_tokens",
            ),
            given_output,
        ),
        audio_input_tokens=_part(
            count("prompt_tokens_details.audio_tokens", "input_token_details.audio_tokens"), given
        ),
        audio_output_tokens=_part(
            count("completion_tokens_details.audio_tokens", "output_token_details.audio_tokens"), given_output
        ),
        image_input_tokens=_part(count("input_tokens_details.image_tokens", "input_token_details.image_tokens"), given),
        image_output_tokens=_part(
            count("output_tokens_details.image_tokens", "output_token_details.image_tokens"), given_output
        ),
        cache_write_1h_tokens=_part(count("cache_creation.ephemeral_1h_input_tokens"), written),
        web_searches=count("server_tool_use.web_search_requests"),
        requests=1 if counted is None else counted,
        model=_text(_get(source, "model")),
        service_tier=_text(_get(source, "service_tier")),
        response_id=_text(_get(source, "response_id")) or _text(_get(source, "id")),
    )


def _of_seconds(value: Any, problems: list[str]) -> UsageNumbers | None:
    """The usage of what is charged by time, rounded up to a millisecond."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS / 1_000:
        return UsageNumbers(input_tokens=0, output_tokens=0, milliseconds=math.ceil(value * 1_000))
    problems.append(f"seconds is {value!r:.40}")
    return None


def _tools(source: Any) -> dict[str, Any]:
    """Uses of the provider's tools among the items of an answer."""
    items = _get(source, "output")
    kinds: Counter[str] = Counter()
    for item in items if isinstance(items, (list, tuple)) else ():
        kind = _get(item, "type")
        # A page that was found is opened for nothing.
        is_free = _get(_get(item, "action"), "type") in ("open_page", "find_in_page")
        if isinstance(kind, str) and kind.endswith("_call") and kind not in _CALLERS_OWN and not is_free:
            kinds[kind.removesuffix("_call")] += 1
    charged = _get(_get(_get(source, "tool_usage"), "web_search"), "num_requests")
    if isinstance(charged, int) and not isinstance(charged, bool) and charged >= 0:
        kinds["web_search"] = charged
    return uses_of_tools(+kinds)


def _named(found: UsageNumbers, source: Any) -> UsageNumbers:
    """With the names of the answer around the usage, and the tools that it used, where it has them."""
    return replace(
        found,
        **_tools(source),
        model=found.model or _text(_get(source, "model")),
        service_tier=found.service_tier or _text(_get(source, "service_tier")),
        response_id=found.response_id or _text(_get(source, "response_id")) or _text(_get(source, "id")),
        request_id=found.request_id or _text(_get(source, "_request_id")),
    )


def _overlaid(earlier: UsageNumbers, later: UsageNumbers) -> UsageNumbers:
    """The later word, with the earlier one where it says nothing."""
    known = {name: value for name, value in vars(later).items() if value is not None}
    return replace(earlier, **known)


def _summed(usages: Iterable[UsageNumbers]) -> UsageNumbers | None:
    each = list(usages)
    if len(each) <= 1:
        return each[0] if each else None

    def total(name: str) -> int | None:
        values = [value for usage in each if (value := getattr(usage, name)) is not None]
        return sum(values) if values else None

    models = {usage.model for usage in each if usage.model}
    units: dict[str, Any] = {name: total(name) for name in UNITS}
    return UsageNumbers(
        input_tokens=total("input_tokens"),
        output_tokens=total("output_tokens"),
        # A total beside a split is kept only if each has one: a sum of some would be less than the parts.
        total_tokens=sum(usage.tokens for usage in each),
        cached_tokens=total("cached_tokens"),
        cache_write_tokens=total("cache_write_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
        audio_input_tokens=total("audio_input_tokens"),
        audio_output_tokens=total("audio_output_tokens"),
        image_input_tokens=total("image_input_tokens"),
        image_output_tokens=total("image_output_tokens"),
        cache_write_1h_tokens=total("cache_write_1h_tokens"),
        **units,
        requests=sum(usage.requests for usage in each),
        model=models.pop() if len(models) == 1 else None,
    )


def _get(source: Any, name: str) -> Any:
    if source is None:
        return None
    if isinstance(source, Mapping):
        return source.get(name)
    try:
        return getattr(source, name, None)
    except Exception:  # a property of the provider's object that does not hold up
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and is_unicode(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _part(part: int | None, whole: int | None) -> int | None:
    """A part is no more than its whole: what a provider says beyond that is of no use."""
    if part is None or whole is None:
        return None
    return min(part, max(whole, 0))


def _count(value: Any, name: str, problems: list[str]) -> int | None:
    """A whole number from 0 to 2^53, or ``None`` with the reason in ``problems``."""
    number: int | None = None
    if isinstance(value, bool):
        pass
    elif isinstance(value, float):
        number = int(value) if math.isfinite(value) and value.is_integer() else None
    else:
        try:
            number = operator.index(value)
        except TypeError:
            number = None
    if number is None or not 0 <= number <= MAX_TOKENS:
        shown = repr(value)
        problems.append(f"{name} is {shown if len(shown) <= 40 else shown[:40] + '...'}")
        return None
    return number
