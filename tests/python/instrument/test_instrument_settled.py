"""What an answer's own usage settles is what the same usage settles in numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmquota import QuotaManager, _native
from llmquota.usage import UsageNumbers

CHAT = {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500}
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 50},
    "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 40},
}
CACHED = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 25},
}
PICTURES = {
    "input_tokens": 60,
    "output_tokens": 400,
    "total_tokens": 460,
    "input_tokens_details": {"image_tokens": 50, "text_tokens": 10},
}
USAGES = {
    "chat": {"usage": CHAT},
    "details": {"usage": {**CHAT, **DETAILS}},
    "more in all": {"usage": {**CHAT, "total_tokens": 1_700}},
    "a total alone": {"usage": {"total_tokens": 77}},
    "nothing": {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
    "more cached than sent": {"usage": {**CHAT, "prompt_tokens_details": {"cached_tokens": 5_000}}},
    "a cheaper tier": {"usage": {**CHAT, **DETAILS}, "service_tier": "flex"},
    "written to a cache": {"usage": CACHED, "type": "message", "model": "claude-sonnet-4-5"},
    "pictures": {"usage": PICTURES, "model": "gpt-image-1"},
}


def _usage(answer: dict[str, Any], request_id: str | None) -> _native.AnswerUsage:
    reader = _native.AnswerReader("application/json")
    reader.feed(json.dumps({"id": "answer-1", "model": "gpt-4o", **answer}).encode())
    told = reader.finish(request_id)
    assert told is not None
    return told["usage"]  # type: ignore[no-any-return]


def _rows(usage: _native.AnswerUsage | UsageNumbers) -> list[dict[str, Any]]:
    manager = QuotaManager(limits={}, clock=_native.ManualClock(1_700_000_000.0))
    hold = manager.get_tracker("acme").reserve(tokens=10, provider="openai")
    hold.start()
    hold.settle(usage)
    return list(manager.history())


@pytest.mark.parametrize("request_id", [None, "req-1"])
@pytest.mark.parametrize("answer", USAGES.values(), ids=USAGES)
def test_it_settles_the_same(answer: dict[str, Any], request_id: str | None) -> None:
    usage = _usage(answer, request_id)
    numbers = usage.numbers()
    assert type(numbers) is UsageNumbers
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (
        numbers.requests,
        numbers.input_tokens,
        numbers.output_tokens,
    )
    rows = _rows(usage)
    assert rows == _rows(numbers)
    assert [row["kind"] for row in rows] == ["settle"]
