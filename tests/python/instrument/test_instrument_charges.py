"""What providers charge beside tokens: speech by the character, sound by the second, pictures, uses of tools."""

from __future__ import annotations

import io
import warnings
from typing import Any

import openai
import pytest
from guard_parts import connect, counted

import llmquota
from llmquota import QuotaExceeded, QuotaManager, quota_context
from llmquota.charging import Asked, asked_for, used_beside
from llmquota.testing import FakeOpenAI


@pytest.fixture(autouse=True)
def _workspace() -> Any:
    with quota_context(workspace_id="acme"):
        yield


def cost(manager: QuotaManager) -> tuple[float, bool]:
    """US dollars of all time, and whether the last call's are an estimate."""
    assert counted(manager)[0] > 0
    rows = [row for row in manager.history("acme") if row["requests"]]
    return manager.usage("acme")["total"]["cost_usd"], rows[-1]["certainty"] == "estimated"


def test_speech_by_the_character(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    client.audio.speech.create(model="tts-1", voice="alloy", input="Hello, world").read()
    assert cost(instrumented) == (12 * 15e-6, False)
    assert counted(instrumented) == (1, 0, 0)
    with client.audio.speech.with_streaming_response.create(model="tts-1-hd", voice="alloy", input="four") as speech:
        next(speech.iter_bytes(4))
    assert cost(instrumented) == (pytest.approx(12 * 15e-6 + 4 * 30e-6, abs=1e-12), False)


def test_speech_by_its_tokens(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    """Bytes have no place for usage: what was held is charged, and marked."""
    client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello, world").read()
    usd, estimated = cost(instrumented)
    assert usd > 0
    assert estimated


def test_sound_by_the_second(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", io.BytesIO(b"x" * 4_000)))
    seconds = answer.usage.seconds  # type: ignore[union-attr]
    assert seconds > 0
    assert cost(instrumented) == (pytest.approx(seconds * 0.36 / 3_600, abs=1e-9), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        translations = client.audio.translations
        translations.create(model="whisper-1", file=("a.wav", b"x" * 4_000), response_format="verbose_json")
    assert cost(instrumented) == (pytest.approx(2 * seconds * 0.36 / 3_600, abs=1e-9), False)


def test_pictures_by_quality_and_size(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    client.images.generate(model="dall-e-3", prompt="a cat", quality="hd", size="1024x1792")
    assert cost(instrumented) == (0.12, False)
    client.images.edit(model="dall-e-2", prompt="a cat", image=io.BytesIO(b"png"), n=2, size="512x512")
    assert cost(instrumented) == (pytest.approx(0.12 + 2 * 0.018, abs=1e-12), False)
    assert counted(instrumented) == (2, 0, 0)


def test_pictures_by_their_tokens_are_charged_once(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-1", prompt="a cat", quality="low")
    assert answer.usage is not None
    usd = answer.usage.input_tokens * 5e-6 + answer.usage.output_tokens * 40e-6
    assert cost(instrumented) == (pytest.approx(usd, abs=1e-9), False)
    stream = client.images.generate(model="gpt-image-1", prompt="a cat", quality="low", stream=True, partial_images=1)
    assert [event.type for event in stream][-1] == "image_generation.completed"
    assert not cost(instrumented)[1]


def test_a_budget_refuses_what_is_priced_by_the_piece(instrumented: QuotaManager, client: openai.OpenAI) -> None:
    """The request says what it is going to cost."""
    instrumented.configure(limits={"workspaces": {"acme": {"budget_usd_per_month": 0.2}}})
    client.images.generate(model="dall-e-3", prompt="a cat", quality="hd", size="1024x1792")
    with pytest.raises(QuotaExceeded):
        client.images.generate(model="dall-e-3", prompt="a cat", quality="hd", size="1024x1792")
    with pytest.raises(QuotaExceeded):
        client.audio.speech.create(model="tts-1-hd", voice="alloy", input="x" * 4_000)
    client.audio.speech.create(model="tts-1", voice="alloy", input="x" * 4_000).read()
    assert cost(instrumented) == (pytest.approx(0.18, abs=1e-12), False)


TOOLS = {
    "web_search": 2,
    "file_search": 3,
    "code_interpreter": 4,
    "mcp": 9,
    "image_generation": 1,
    "fresh": 1,
    "other": 2,
}


def test_uses_of_tools_count_where_the_tokens_are_told() -> None:
    told = {"is_whole": True, "usage": {"input_tokens": 1}, "tools": TOOLS, "images": 1}
    assert used_beside(Asked(), told) == {
        "web_searches": 2,
        "file_searches": 3,
        "code_sessions": 1,
        "images": 1,
        "other_tools": 3,
    }
    # Without tokens the whole call is guessed.
    assert used_beside(Asked(), {"is_whole": True, "tools": TOOLS}) == {}


@pytest.mark.parametrize(
    ("method", "body", "asked"),
    [
        ("audio.speech.create", {"input": "four", "model": "tts-1"}, Asked(characters=4)),
        ("audio.speech.create", {"input": "four"}, Asked(characters=4)),
        ("audio.speech.create", {"input": "four", "model": "gpt-4o-mini-tts"}, Asked()),
        ("audio.speech.create", {"input": ["four"]}, Asked()),
        ("images.generate", {}, Asked(images=1, image_kind="standard 1024x1024")),
        (
            "images.generate",
            {"n": 3, "quality": "auto", "size": None},
            Asked(images=3, image_kind="standard 1024x1024"),
        ),
        ("images.edit", {"n": "2", "quality": "hd", "size": "1x1"}, Asked(images=2, image_kind="hd 1x1")),
        ("images.edit", {"n": -4, "quality": 7, "size": "auto"}, Asked(images=1, image_kind="standard 1024x1024")),
        ("images.edit", {"n": "9" * 5_000}, Asked(images=1, image_kind="standard 1024x1024")),
        ("chat.completions.create", {"input": "four", "n": 3}, Asked()),
    ],
)
def test_what_a_request_says(method: str, body: dict[str, Any], asked: Asked) -> None:
    assert asked_for(method, body) == asked


def test_what_is_only_observed_costs_the_same(quota_manager: QuotaManager, fake_openai: FakeOpenAI) -> None:
    """Where nothing is held the call is recorded by keywords, which have none for speech."""
    quota_manager.configure(limits={"workspaces": {"acme": {"requests_per_minute": 0}}})
    llmquota.instrument(quota_manager, mode="observe", providers={fake_openai.base_url: "openai"})
    try:
        with connect(fake_openai) as client:
            client.audio.speech.create(model="tts-1", voice="alloy", input="Hello, world").read()
    finally:
        llmquota.uninstrument()
    assert cost(quota_manager) == (12 * 15e-6, False)
