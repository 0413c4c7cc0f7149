"""Sound, through the real SDK: transcribed, translated, spoken."""

from __future__ import annotations

import asyncio
import base64
import json
import math

import openai
import pytest
from fake_clients import connect_async

from llmquota.testing.fake_openai.replies import DEFAULT_TEXT

SOUND = ("hello.mp3", b"\x00\xff" * 8_001)
"""Two seconds, by the documented rule."""
TEXT_TOKENS = math.ceil(len(DEFAULT_TEXT) / 4)


def test_transcription_in_tokens(fake, client):
    heard = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, prompt="x" * 9)
    assert heard.text == DEFAULT_TEXT
    assert heard.usage.type == "tokens"
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (3 + 20, TEXT_TOKENS)
    assert (heard.usage.input_token_details.text_tokens, heard.usage.input_token_details.audio_tokens) == (3, 20)
    served = fake.served
    assert served.by("endpoint")["/v1/audio/transcriptions"].total_tokens == heard.usage.total_tokens
    assert served.by("model")["gpt-4o-transcribe"].unreported_requests == served.total.audio_seconds == 0


def test_transcription_by_the_second(fake, client):
    fake.reply("Ciao", prompt_tokens=9)
    heard = client.audio.transcriptions.create(model="whisper-1", file=SOUND)
    assert heard.text == "Ciao"
    assert (heard.usage.type, heard.usage.seconds) == ("duration", 2)
    told = client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format="verbose_json")
    assert (told.duration, told.usage.seconds, told.segments[0].text) == (2, 2, "Ciao")
    served = fake.served
    assert (served.total_tokens, served.total.audio_seconds, served.total.charged_requests) == (0, 4, 0)
    assert served.as_dict()["by"]["model"]["whisper-1"]["audio_seconds"] == 4


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
def test_a_text_tells_no_usage(fake, client, wanted):
    fake.reply("Ciao")
    heard = client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format=wanted)
    assert "Ciao\n" in heard
    assert fake.served.total.audio_seconds == 2


# SDK 1.97 logs by it that it does not know the last of the formats.
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
def test_formats_of_the_token_models(fake, client):
    client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, response_format="text")
    assert fake.served.unreported_tokens == fake.served.total_tokens == 20 + TEXT_TOKENS
    parted = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=SOUND, response_format="diarized_json"
    ).model_dump()
    assert (parted["segments"][0]["speaker"], parted["usage"]["input_tokens"]) == ("A", 20)
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, response_format="srt")
    assert caught.value.param == "response_format"


def test_transcription_stream_ends_with_usage(fake, client):
    *deltas, last = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert "".join(event.delta for event in deltas) == last.text == DEFAULT_TEXT
    assert last.type == "transcript.text.done"
    assert last.usage.total_tokens == fake.served.total_tokens == 20 + TEXT_TOKENS
    assert fake.served.unreported_requests == 0
    fake.fail("stream_without_usage", when={"stream": True})
    *_, last = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
    assert last.text == DEFAULT_TEXT
    assert last.usage is None
    assert fake.served.unreported_requests == 1


def test_a_model_paid_by_the_second_does_not_stream(client):
    with client.audio.transcriptions.with_streaming_response.create(
        model="whisper-1", file=SOUND, stream=True
    ) as streamed:
        assert streamed.headers["content-type"] == "application/json"
        assert json.loads(streamed.read())["usage"] == {"type": "duration", "seconds": 2}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_translation_tells_no_usage(fake, client):
    fake.reply("Hello")
    said = client.audio.translations.create(model="whisper-1", file=SOUND)
    assert said.text == "Hello"
    assert not hasattr(said, "usage")
    told = client.audio.translations.create(model="whisper-1", file=SOUND, response_format="verbose_json")
    assert (told.duration, told.language) == (2, "english")
    tally = fake.served.by("endpoint")["/v1/audio/translations"]
    assert (tally.total_tokens, tally.audio_seconds) == (0, 4)


def test_speech_is_bytes_and_tells_no_usage(fake, client):
    spoken = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="x" * 9, instructions="abcd")
    assert spoken.content.startswith(b"ID3")
    assert spoken.response.headers["content-type"] == "audio/mpeg"
    tally = fake.served.by("endpoint")["/v1/audio/speech"]
    assert (tally.prompt_tokens, tally.completion_tokens) == (3 + 1, 15)
    assert tally.unreported_tokens == 19
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="x", response_format="wav"
    ) as streamed:
        assert b"".join(streamed.iter_bytes()) == spoken.content
        assert streamed.headers["content-type"] == "audio/wav"
    assert fake.served.by("model")["tts-1"].total_tokens == 0


def test_speech_events_end_with_usage(fake, client):
    fake.reply(prompt_tokens=14, completion_tokens=101)
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Hello", stream_format="sse"
    ) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    *deltas, last = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas).startswith(b"ID3")
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    assert last == {"type": "speech.audio.done", "usage": usage}
    assert fake.requests[-1].stream
    assert (fake.served.total_tokens, fake.served.unreported_requests) == (115, 0)


def test_bad_requests(fake, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model="tts-1", voice="alloy", input="x", stream_format="sse")
    assert caught.value.param == "stream_format"
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(model="tts-1", voice="alloy", input="x", response_format="midi")
    assert caught.value.param == "response_format"
    with pytest.raises(openai.BadRequestError):
        client.post("/audio/transcriptions", cast_to=object, body={"model": "whisper-1"})
    assert fake.served.total_tokens == 0


def test_async_transcription_and_speech(fake):
    async def run() -> None:
        async with connect_async(fake) as client:
            stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
            assert [event async for event in stream][-1].usage.total_tokens == fake.served.total_tokens
            spoken = await client.audio.speech.create(model="tts-1", voice="alloy", input="x")
            assert spoken.content.startswith(b"ID3")

    asyncio.run(run())
    assert fake.served.requests == 2
