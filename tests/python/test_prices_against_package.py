"""Every price against the arithmetic of the package that it is from: nano-dollar by nano-dollar.

Two sets of usages: those that the package's own authors recorded from real answers (`recorded_usages.json`), and for
each model of each provider usages that reach each of its prices, tiers, dates, hours and processings. Where the two may
differ is said by `Reason`, and each is counted; a difference that is none of these fails.
"""

from __future__ import annotations

import datetime
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

from llmquota import QuotaManager
from llmquota._native import ManualClock
from llmquota.usage import UsageNumbers

# It needs a later Python than this project does.
genai_prices = pytest.importorskip("genai_prices")

from genai_prices import types  # noqa: E402
from genai_prices.data import providers  # noqa: E402
from genai_prices.data_snapshot import DataSnapshot  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded_usages.json")
SNAPSHOT = DataSnapshot(providers=providers, from_auto_update=False)
UTC = datetime.timezone.utc

FIELDS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "input_image_tokens": "image_input_tokens",
    "output_image_tokens": "image_output_tokens",
    "input_characters": "characters",
    "web_searches": "web_searches",
    "storage_searches": "file_searches",
    "code_executions": "code_sessions",
}
"""The package's name of a usage, and ours."""

NOT_COUNTED = ("input_video_mtok", "output_video_mtok", "output_citation_mtok", "input_text_messages_kcount")
"""Prices that no answer's usage reaches here."""

CONTEXTS = {
    None: {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
"""What the package is told of a processing."""


class Reason(Enum):
    """Why the two may differ, and what then holds of ours."""

    UNKNOWN = auto()
    """The package knows no such model: ours is an estimate, and not 0."""
    REFUSED = auto()
    """The package refuses to compute: parts that overlap, and nobody says how much. Ours is a cost all the same."""
    OVERLAP = auto()
    """Sound or pictures beside a cache: the package takes them as apart, and we the dearer reading, marked."""
    UNCOUNTED = auto()
    """It is billed by video, citations, messages or pages as well: ours leaves that out."""
    UNPRICED = auto()
    """The package has no price for a search, or for tokens of a model that is billed by time or characters, and charges
    nothing. Ours is what the provider charges, or an estimate."""


class Engine:
    """Ours, at any instant."""

    def __init__(self) -> None:
        self._clock = ManualClock(0.0)
        self._manager = QuotaManager(clock=self._clock)

    def price(
        self, provider: str, model: str, usage: UsageNumbers, at: datetime.datetime, tier: str | None
    ) -> tuple[int, bool]:
        self._clock.set_wall(at.timestamp())
        return self._manager.price(usage, model=model, provider=provider, service_tier=tier)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def ours_of(usage: Mapping[str, int]) -> UsageNumbers:
    fields: dict[str, Any] = {FIELDS[name]: count for name, count in usage.items() if name in FIELDS}
    seconds = usage.get("audio_seconds") or usage.get("input_audio_seconds")
    if seconds:
        fields["milliseconds"] = round(seconds * 1_000)
    return UsageNumbers(**{"input_tokens": 0, **fields})


def theirs_of(
    provider: str, model: str, usage: Mapping[str, int], at: datetime.datetime, tier: str | None
) -> tuple[int, types.ModelPrice] | Reason:
    """Nano-dollars and the prices they are by, or why there are none."""
    try:
        found, info = SNAPSHOT.find_provider_model(model, None, provider, None)
    except LookupError:
        return Reason.UNKNOWN
    with warnings.catch_warnings(), localcontext(Context(prec=80)):
        warnings.simplefilter("ignore")
        try:
            price = info.calc_price(
                types.Usage(**usage), found, genai_request_timestamp=at, price_context=CONTEXTS[tier] or None
            )
        except ValueError:
            return Reason.REFUSED
        nanos = price.total_price.scaleb(9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return int(nanos), price.model_price


def compare(engine: Engine, case: tuple[str, str, Mapping[str, int], datetime.datetime, str | None]) -> Reason | None:
    """Why they may differ; ``None`` where they are the same. Fails where there is no reason."""
    _provider, _model, usage, _at, _tier = case
    nanos, estimated = engine.price(case[0], case[1], ours_of(usage), *case[3:])
    theirs = theirs_of(*case)
    if isinstance(theirs, Reason):
        assert nanos >= 0
        if theirs is Reason.UNKNOWN:
            assert estimated or nanos == 0, case
            assert nanos > 0 or not any(usage.values()), case
        return theirs
    expected, prices = theirs
    priced = {key for key, value in vars(prices).items() if value is not None}
    if priced and all(key in NOT_COUNTED or key.endswith("pages") for key in priced):
        assert estimated, case
        return Reason.UNCOUNTED
    if nanos == expected:
        return None
    return reason(case, priced, nanos, estimated, expected)


def reason(case: Any, priced: set[str], nanos: int, estimated: bool, expected: int) -> Reason:
    usage = case[2]
    if usage.get("input_video_tokens", 0) + usage.get("output_video_tokens", 0):
        return Reason.UNCOUNTED
    unpriced = [
        name
        for name, key in (
            ("web_searches", "web_searches_kcount"),
            ("storage_searches", "storage_searches_kcount"),
            ("code_executions", "code_executions_kcount"),
        )
        if usage.get(name) and key not in priced
    ]
    has_tokens = any(usage.get(name) for name in ("input_tokens", "output_tokens"))
    if unpriced or (has_tokens and not any(key.endswith("_mtok") for key in priced)):
        assert nanos > expected, case
        return Reason.UNPRICED
    own = usage.get("input_audio_tokens", 0) + usage.get("input_image_tokens", 0)
    if own and usage.get("cache_read_tokens", 0) + usage.get("cache_write_tokens", 0):
        assert estimated, case
        assert nanos >= expected, case
        return Reason.OVERLAP
    pytest.fail(f"{case}: {nanos} nano-dollars, and {expected} by the package")


def met(engine: Engine, cases: Iterator[Any]) -> Counter[Reason | None]:
    return Counter(compare(engine, case) for case in cases)


def recorded() -> Iterator[Any]:
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    # The instant at which the package's own test prices them.
    at = datetime.datetime(2025, 11, 6, 12, tzinfo=UTC)
    for model, place, usage in data["usages"]:
        for provider in data["providers"][place]:
            if model:
                yield provider, model, usage, at, None


def test_what_was_recorded_costs_what_the_package_says(engine: Engine) -> None:
    found = met(engine, recorded())
    assert found.total() > 13_000
    assert found[None] > 2_600
    # Of real answers few leave anything open.
    assert found[Reason.OVERLAP] + found[Reason.UNCOUNTED] + found[Reason.UNPRICED] < 20


def usages_of(prices: types.ModelPrice) -> Iterator[dict[str, int]]:
    """Usages that reach each price, alone and together, on both sides of each tier."""
    keys = {key: value for key, value in vars(prices).items() if value is not None}
    starts = {tier.start for value in keys.values() if isinstance(value, types.TieredPrices) for tier in value.tiers}
    whole = {"input_tokens": 100_003, "output_tokens": 50_021}
    yield {"input_tokens": 1, "output_tokens": 1}
    yield whole
    for start in sorted(starts):
        for count in (start, start + 1):
            yield {"input_tokens": count, "output_tokens": 77, "cache_read_tokens": count // 3}
    yield {**whole, "cache_read_tokens": 31_337}
    yield {**whole, "cache_read_tokens": 31_337, "cache_write_tokens": 17_011, "output_reasoning_tokens": 40_009}
    yield {**whole, "cache_write_tokens": 17_011, "cache_write_1h_tokens": 7_001}
    yield {**whole, "input_audio_tokens": 20_011, "output_audio_tokens": 9_007, "output_reasoning_tokens": 11}
    yield {**whole, "input_image_tokens": 20_011, "output_image_tokens": 9_007, "input_audio_tokens": 77}
    for name, count in (("web_searches", 3), ("storage_searches", 7), ("code_executions", 1)):
        if f"{name}_kcount" in keys:
            yield {**whole, name: count}
    if "input_mchars" in keys:
        yield {"input_characters": 4_321}
    if "audio_hours" in keys or "input_audio_hours" in keys:
        for seconds in (1, 7, 61, 3_601):
            yield {"audio_seconds": seconds, "input_audio_seconds": seconds}


def instants_of(info: types.ModelInfo) -> Iterator[datetime.datetime]:
    """Before and at each moment at which a price of the model changes."""
    late = datetime.datetime(2026, 11, 20, 12, tzinfo=UTC)
    yield late
    conditional = [] if isinstance(info.prices, types.ModelPrice) else info.prices
    for item in [*conditional, *(info.price_variants or ())]:
        constraint = item.constraint
        if constraint is None:
            continue
        if isinstance(constraint, types.StartDateConstraint):
            start = datetime.datetime.combine(constraint.start_date, datetime.time(), tzinfo=UTC)
            yield from (start - datetime.timedelta(seconds=1), start)
        else:
            for time in (constraint.start_time, constraint.end_time):
                moment = datetime.datetime.combine(late.date(), time.replace(tzinfo=None), tzinfo=UTC)
                yield from (moment - datetime.timedelta(seconds=1), moment)


def tiers_of(info: types.ModelInfo) -> list[str | None]:
    words = {word for variant in info.price_variants or () for word in variant.when.values()}
    return [None, *(tier for tier in CONTEXTS if tier in words)]


def texts_of(clause: Any) -> Iterator[str]:
    for part in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from texts_of(part)
    for kind in ("equals", "starts_with", "contains", "ends_with"):
        text = getattr(clause, kind, None)
        if isinstance(text, str):
            yield text


def name_of(provider: types.Provider, info: types.ModelInfo) -> str | None:
    """A name by which the package finds the model; ``None`` where others stand before it for all of them."""
    for name in (info.id, *texts_of(info.match)):
        try:
            if SNAPSHOT.find_provider_model(name, None, provider.id, None)[1] is info:
                return name
        except LookupError:
            continue
    return None


def everything() -> Iterator[Any]:
    for provider in providers:
        for info in provider.models:
            name = name_of(provider, info)
            if name is None:
                continue
            for at in instants_of(info):
                for tier in tiers_of(info):
                    for usage in usages_of(info.get_prices(at)):
                        yield provider.id, name, usage, at, tier


def test_every_price_of_every_model_is_the_packages(engine: Engine) -> None:
    found = met(engine, everything())
    assert found[None] > 20_000
    assert set(found) <= {None, *Reason}
    assert found[Reason.UNKNOWN] == 0
    unnamed = [info.id for provider in providers for info in provider.models if name_of(provider, info) is None]
    assert len(unnamed) <= 5, unnamed


def test_every_price_key_is_counted_or_named() -> None:
    """A key that the package adds is seen here, and not by a user's bill."""
    keys = {
        key
        for provider in providers
        for info in provider.models
        for prices in ([info.prices] if isinstance(info.prices, types.ModelPrice) else [p.prices for p in info.prices])
        for key, value in vars(prices).items()
        if value is not None
    }
    generator = (ROOT / "data" / "generate_prices.py").read_text(encoding="utf-8")
    counted = set(re.findall(r'^    "(\w+)",$', generator.split("COUNTED = (")[1].split("\n)")[0], re.MULTILINE))
    left_out = {*NOT_COUNTED, "input_video_mtok", "input_document_kpages", "input_annotated_document_kpages"}
    assert keys - counted == left_out | {"cache_image_read_mtok"} - counted


def test_the_table_is_of_the_version_that_is_pinned() -> None:
    source = json.loads((ROOT / "data" / "prices.json").read_text(encoding="utf-8"))["source"]
    assert source["version"] == genai_prices.__version__, "run make prices"
    assert source["license"] == "MIT"
    assert datetime.date.fromisoformat(source["date"])
