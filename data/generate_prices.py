"""Write `data/prices.json`, and with `--fixture` the figures that the price tests compare with.

`make prices` runs it. Both come from the PyPI package `genai-prices` that is installed in the environment of the
interpreter: its bundled data become `prices.json`, and its own arithmetic the fixture.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from pathlib import Path
from typing import Any

from genai_prices import __version__, types
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot

ROOT = Path(__file__).resolve().parent.parent
PRICES = ROOT / "data" / "prices.json"
FIXTURE = ROOT / "tests" / "engine" / "price_fixture.json"

# What the engine counts. Prices of anything else (pages, video, messages, citations...) are left out, because no call
# says how much of it there was.
COUNTED = (
    "input_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "input_audio_mtok",
    "cache_audio_read_mtok",
    "input_image_mtok",
    "cache_image_read_mtok",
    "output_mtok",
    "output_reasoning_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "requests_kcount",
    "audio_hours",
    "input_audio_hours",
    "input_mchars",
    "web_searches_kcount",
    "storage_searches_kcount",
    "code_executions_kcount",
)

# What the package has in its code and not in its data: shorter sounds are charged as if they were so long.
LEAST_MILLISECONDS = {("groq", "whisper-large-v3"): 10_000, ("groq", "whisper-large-v3-turbo"): 10_000}

# Request conditions of the data -> the engine's `Processing`. `service_tier: default` overrides nothing; routes and
# search types are properties that the engine does not know of a call.
PROCESSING = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}


def clause(match: Any) -> dict[str, Any]:
    """One matching clause. Texts are lower-cased, since names are matched in lower case."""
    if isinstance(match, types.ClauseOr):
        return {"or": [clause(part) for part in match.or_]}
    if isinstance(match, types.ClauseAnd):
        return {"and": [clause(part) for part in match.and_]}
    if isinstance(match, types.ClauseRegex):
        return regex(match.regex)
    if isinstance(match, types.ClauseEquals):
        return {"equals": match.equals.lower()}
    if isinstance(match, types.ClauseStartsWith):
        return {"starts_with": match.starts_with.lower()}
    if isinstance(match, types.ClauseEndsWith):
        return {"ends_with": match.ends_with.lower()}
    if isinstance(match, types.ClauseContains):
        return {"contains": match.contains.lower()}
    raise SystemExit(f"a kind of clause that the engine does not know: {match!r}")


def regex(pattern: str) -> dict[str, Any]:
    """A pattern without look-around: a leading `^(?!A)B` becomes "not ^A, and ^B"."""
    if not pattern.startswith("^(?!"):
        if "(?" in pattern.replace("(?:", ""):
            raise SystemExit(f"a pattern that the engine cannot match: {pattern!r}")
        return {"regex": pattern}
    depth, end = 0, -1
    for token in re.finditer(r"\\.|\[(?:\\.|[^\]])*\]|[()]", pattern):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == ")" and depth == 0:
            end = token.start()
            break
    refused, rest = {"not": regex("^(?:" + pattern[4:end] + ")")}, pattern[end + 1 :]
    return {"and": [refused, regex("^" + rest)]} if rest else refused


def decimal(value: Decimal) -> str:
    """Plain digits, without exponent or trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def rates(price: types.ModelPrice) -> dict[str, Any] | None:
    """The counted prices; None where the provider bills, but nothing that the engine counts."""
    stored = {key: value for key, value in vars(price).items() if value is not None}
    result: dict[str, Any] = {}
    for key in COUNTED:
        value = stored.get(key)
        if isinstance(value, types.TieredPrices):
            result[key] = {
                "base": decimal(value.base),
                "tiers": [[tier.start, decimal(tier.price)] for tier in value.tiers],
            }
        elif value is not None:
            result[key] = decimal(value)
    return None if stored and not result else result


def constraint(when: Any) -> dict[str, Any]:
    if when is None:
        return {}
    if isinstance(when, types.StartDateConstraint):
        return {"start_date": when.start_date.isoformat()}
    if isinstance(when, types.TimeOfDateConstraint):
        return {"daily_utc_seconds": [seconds(when.start_time), seconds(when.end_time)]}
    raise SystemExit(f"a constraint that the engine does not know: {when!r}")


def seconds(time: datetime.time) -> int:
    """Seconds since midnight UTC."""
    if time.utcoffset() not in (None, datetime.timedelta(0)) or time.microsecond:
        raise SystemExit(f"a time of day that is not whole seconds of UTC: {time!r}")
    return time.hour * 3600 + time.minute * 60 + time.second


def model(provider_id: str, info: types.ModelInfo) -> dict[str, Any]:
    conditional = (
        [types.ConditionalPrice(prices=info.prices)] if isinstance(info.prices, types.ModelPrice) else info.prices
    )
    result: dict[str, Any] = {
        "id": info.id,
        "match": clause(info.match),
        "prices": [{**constraint(price.constraint), "rates": rates(price.prices)} for price in conditional],
    }
    for price in result["prices"]:
        if (provider_id, info.id) in LEAST_MILLISECONDS:
            price["rates"]["least_milliseconds"] = LEAST_MILLISECONDS[provider_id, info.id]
    variants = []
    for variant in info.price_variants or ():
        processing = [PROCESSING.get(condition) for condition in variant.when.items()]
        overrides = rates(variant.prices)
        if overrides and None not in processing:
            (name,) = processing
            variants.append({"processing": name, **constraint(variant.constraint), "rates": overrides})
    return {**result, "variants": variants} if variants else result


def provider(info: types.Provider) -> dict[str, Any]:
    result: dict[str, Any] = {"id": info.id}
    if info.provider_match:
        result["provider_match"] = clause(info.provider_match)
    if info.model_match:
        result["model_match"] = clause(info.model_match)
    if info.fallback_model_providers:
        result["fallback"] = info.fallback_model_providers
    return {**result, "models": [model(info.id, each) for each in info.models]}


def prices(date: str) -> str:
    """The table as JSON, one model a line so that an update reads well as a diff."""
    source = {"package": "genai-prices", "version": __version__, "license": "MIT", "date": date}
    blocks = []
    for info in providers:
        head = provider(info)
        models = ",\n".join(dump(each) for each in head.pop("models"))
        blocks.append(f'{dump(head)[:-1]},"models":[\n{models}\n]}}')
    return f'{{"source":{dump(source)},\n"providers":[\n' + ",\n".join(blocks) + "\n]}\n"


def dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- the fixture ---------------------------------------------------------------------------------------------------

NAMED: list[tuple[str | None, str]] = [
    ("openai", "gpt-4o"),
    (None, "gpt-4o"),
    ("openai", "GPT-4o-2024-08-06"),
    ("openai", "gpt-4o-2024-05-13"),
    ("openai", "gpt-4o-mini"),
    (None, "gpt-4o-mini-2024-07-18"),
    ("openai", "text-embedding-3-small"),
    ("openai", "text-embedding-3-large"),
    ("openai", "o1"),
    ("openai", "o3"),
    (None, "o3-mini"),
    (None, "o4-mini"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5.4"),
    (None, "gpt-5.2-20251211"),
    ("openai", "gpt-realtime"),
    ("openai", "gpt-4o-realtime-preview"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
    ("anthropic", "claude-3-5-sonnet-20241022"),
    (None, "claude-3-haiku-20240307"),
    ("Anthropic ", "claude-opus-4-8"),
    ("azure", "gpt-4o"),
    ("azure", "claude-opus-4-8"),
    ("google-vertex", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    (None, "gemini-2.5-flash-preview-tts"),
    ("deepseek", "deepseek-chat"),
    ("deepseek", "deepseek-reasoner"),
    ("deepseek", "deepseek-v4-pro"),
    ("perplexity", "sonar-pro"),
    ("perplexity", "sonar-deep-research"),
    ("mistral", "mistral-large-latest"),
    (None, "labs-devstral-small-2512"),
    ("openrouter", "qwen/qwen3-coder-flash"),
    ("litellm", "anthropic/claude-3-haiku-20240307"),
    ("litellm", "gpt-4o"),
    ("openai", "no-such-model"),
    ("no-such-provider", "gpt-4o"),
    ("mistral", "gpt-4o"),
]

USAGES: list[dict[str, int]] = [
    {"input": 1},
    {"input": 1_000, "output": 500},
    {"input": 123_457, "output": 4_099, "cached_input": 100_003},
    {"input": 300_001, "output": 77, "cached_input": 1_024, "cache_write": 2_049},
    {"input": 2_500, "output": 1_900, "reasoning": 1_500},
    {"input": 900, "output": 750, "audio_input": 333, "audio_output": 701},
    {"input": 9_007_199, "output": 9_007_199_254},
]

INSTANTS = ("2024-06-01T12:00:00Z", "2025-04-30T03:00:00Z", "2026-11-20T02:30:00Z", "2026-11-20T16:29:59Z")

CONTEXTS: dict[str, dict[str, str]] = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}

USAGE_KEYS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached_input": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "output_reasoning_tokens",
    "audio_input": "input_audio_tokens",
    "audio_output": "output_audio_tokens",
}


def cases() -> Iterator[tuple[str | None, str, str, str, dict[str, int]]]:
    """(provider, model, instant, processing, usage): named models in depth, one model in twelve of all in breadth."""
    for number, (provider_id, ref) in enumerate(NAMED):
        for index, usage in enumerate(USAGES):
            yield provider_id, ref, INSTANTS[(number + index) % len(INSTANTS)], "standard", usage
        for index, processing in enumerate(CONTEXTS):
            yield provider_id, ref, INSTANTS[2], processing, USAGES[1 + index % 3]
    everything = [(info.id, each.id) for info in providers for each in info.models]
    for number, (provider_id, ref) in enumerate(everything[::12]):
        usage = USAGES[1 + number % 4]
        yield provider_id, ref, INSTANTS[number % len(INSTANTS)], list(CONTEXTS)[number % len(CONTEXTS)], usage


def fixture() -> str:
    """One case a line: the query, and what genai-prices says: provider, model and whole nano-dollars, or null."""
    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    lines = []
    for provider_id, ref, instant, processing, usage in cases():
        at = datetime.datetime.fromisoformat(instant.replace("Z", "+00:00"))
        expected: dict[str, Any] | None
        try:
            found, info = snapshot.find_provider_model(ref, None, provider_id, None)
        except LookupError:
            expected = None
        else:
            counted = rates(info.get_prices(at))
            if counted is None or (counted and not any(key.endswith("_mtok") for key in counted)):
                continue  # not billed by tokens: the engine guesses what they cost
            reported = types.Usage(**{USAGE_KEYS[key]: value for key, value in usage.items()})
            with localcontext(Context(prec=80)):
                price = info.calc_price(
                    reported, found, genai_request_timestamp=at, price_context=CONTEXTS[processing] or None
                )
                nanos = price.total_price.scaleb(9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
            expected = {"provider": found.id, "model": info.id, "nano_usd": int(nanos)}
        case = {"provider": provider_id, "model": ref, "at": instant, "processing": processing, "usage": usage}
        lines.append(dump({**case, "expected": expected}))
    source = {"package": "genai-prices", "version": __version__}
    return f'{{"source":{dump(source)},\n"cases":[\n' + ",\n".join(lines) + "\n]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixture", action="store_true", help="write the test fixture instead of the prices")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.timezone.utc).date().isoformat())
    arguments = parser.parse_args()
    path, text = (FIXTURE, fixture()) if arguments.fixture else (PRICES, prices(arguments.date))
    path.write_text(text, encoding="utf-8")
    shown = path.relative_to(ROOT)
    sys.stdout.write(f"{shown}: genai-prices {__version__} (MIT, data/LICENSE-genai-prices), {arguments.date}\n")


if __name__ == "__main__":
    main()
