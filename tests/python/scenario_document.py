"""Reads ``tests/scenarios/*.yaml``. What is not known is an error: a typo must not pass.

``tests/scenarios/README.md`` is the reference of what a scenario can say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

import yaml

SECOND = 1_000_000_000
UNITS = {"ms": SECOND // 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND}


class Mistake(AssertionError):
    """A scenario cannot be read, or does not go as it is written."""


class Loader(yaml.SafeLoader):
    """YAML 1.2, as the Rust runner reads it: ``yes`` and dates are text, and a key can be given once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own attribute, emptied

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise Mistake(f"{key!r}: a key is text")
            if keys.count(key) > 1:
                raise Mistake(f"duplicate mapping key: {key}")
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in [
    ("null", r"null|~|", [*"n~", ""]),
    ("bool", r"true|false", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", "-0123456789"),
    ("float", r"-?[0-9]+\.[0-9]+", "-0123456789"),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))

COUNT, NUMBER, TEXT, TABLE, LIST = (int,), (int, float), (str,), (dict,), (list,)
Known = Mapping[str, tuple[type, ...]]

CALL: Known = {"workspace": (str, type(None)), **dict.fromkeys(("goal", "task", "model", "user", "credential"), TEXT)}
USED: Known = {
    **dict.fromkeys(("tokens", "input_tokens", "output_tokens", "cached_tokens"), COUNT),
    "cost_usd": NUMBER,
    "failed": TABLE,
}
FAILED: Known = {"code": TEXT, "status": COUNT, "retry_after": TEXT}
ASKED: Known = {"tokens": COUNT, "cost_usd": NUMBER}
STATE: Known = {
    **dict.fromkeys(("limits", "usage", "holds", "provider_state"), TABLE),
    "status": TEXT,
    "status_reasons": LIST,
    "can_make_request": (bool,),
}
#: What each verb takes: a table of these keys, or one value.
VERBS: dict[str, Known | tuple[type, ...]] = {
    "record": {**CALL, **USED, "times": COUNT},
    "reserve": {**CALL, **ASKED, "ttl": TEXT, "as": TEXT},
    "explain": {**CALL, **ASKED},
    "settle": {"hold": TEXT, **USED, "requests": COUNT},
    "learn": {**CALL, **FAILED},
    "hear": {**CALL, "headers": TABLE},
    "expect": {**CALL, **STATE},
    **dict.fromkeys(("start", "release", "abandon", "drop", "wait", "wait_until", "set_clock"), TEXT),
    "reset": (str, type(None)),
    "change_limits": TABLE,
}
REFUSABLE = ("reserve", "explain")
BECOMING = ("start", "settle", "release", "abandon")


def read(text: str) -> dict[str, Any]:
    """The scenario of a text: its ``start`` in nanoseconds since the epoch, ``limits``, ``steps`` of verb and value."""
    try:
        document = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise Mistake(str(error)) from error
    known = {"about": TEXT, "start": TEXT, "limits": TABLE, "steps": LIST}
    fields("the scenario", document, known, needed=("about", "start", "steps"))
    if not document["about"] or not document["steps"]:
        raise Mistake("about and steps: neither may be empty")
    steps = []
    for number, written in enumerate(document["steps"], 1):
        try:
            steps.append(_step(written))
        except Mistake as error:
            raise Mistake(f"step {number}: {error}") from error
    return {"start": instant(document["start"]), "limits": document.get("limits", {}), "steps": steps}


def _step(written: Any) -> dict[str, Any]:
    if not isinstance(written, dict):
        raise Mistake("a step is a table")
    verbs = [key for key in written if key not in ("refused", "becomes")]
    if len(verbs) != 1:
        raise Mistake("a step is one verb, and what is attached to it")
    verb = verbs[0]
    if verb not in VERBS:
        raise Mistake(f"{verb}: there is no such verb")
    if "refused" in written and verb not in REFUSABLE:
        raise Mistake(f"refused: a {verb} is never refused")
    if "becomes" in written and verb not in BECOMING:
        raise Mistake(f"becomes: a {verb} changes no hold")
    value, known = written[verb], VERBS[verb]
    if isinstance(known, tuple):
        _typed(verb, value, known)
    else:
        fields(verb, value, known, needed={"settle": ("hold",), "hear": ("headers",)}.get(verb, ()))
    if verb == "settle" and not {"tokens", "input_tokens", "output_tokens", "cost_usd", "failed"} & set(value):
        raise Mistake("settle: say what was used, or that it failed")
    return {"verb": verb, "value": value, **{key: written[key] for key in ("refused", "becomes") if key in written}}


def fields(what: str, value: Any, known: Known, needed: Iterable[str] = ()) -> None:
    """Checks that ``value`` is a table of ``known`` keys, each of its type."""
    if not isinstance(value, dict):
        raise Mistake(f"{what}: a table is needed, and not {value!r}")
    for key, item in value.items():
        if key not in known:
            raise Mistake(f"{what}: unknown field {key!r}; known are {', '.join(known)}")
        _typed(f"{what}.{key}", item, known[key])
    for key in needed:
        if key not in value:
            raise Mistake(f"{what}: missing field {key!r}")


def _typed(what: str, value: Any, types: tuple[type, ...]) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise Mistake(f"{what}: invalid type: {value!r} is no {' or '.join(each.__name__ for each in types)}")


def duration(text: str) -> int:
    """Nanoseconds of ``61s``: a whole number and its unit."""
    found = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", text)
    if found is None:
        raise Mistake(f"{text!r} is no duration such as 61s, 500ms, 2h")
    return int(found[1]) * UNITS[found[2]]


def instant(text: str) -> int:
    """Nanoseconds since the epoch of ``2026-01-31T12:00:00Z``, to the second."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise Mistake(f"{text!r} is no instant such as 2026-01-31T12:00:00Z") from None
    return int(moment.timestamp()) * SECOND


def matches(path: str, written: Any, found: Any) -> None:
    """Compares what is written with what came. Every key that is written must be there; what is not may be anything."""
    if isinstance(written, dict) and isinstance(found, dict):
        if not written and found:
            raise Mistake(f"{path}: expected nothing, found {list(found)}")
        for key, value in written.items():
            inner = f"{path}.{key}" if path else key
            if key not in found:
                raise Mistake(f"{inner}: there is no such thing beside {list(found)}")
            matches(inner, value, found[key])
    elif isinstance(written, bool) is not isinstance(found, bool) or written != found:
        raise Mistake(f"{path}: expected {written!r}, found {found!r}")
