"""``POST /v1/audio/speech``: a few bytes that are no sound, at once or as server-sent events."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from .answers import Answer, Event
from .bodies import json_object, required_model, required_text
from .errors import ProviderError
from .http1 import Request
from .replies import Reply
from .tokens import SPEECH_TOKENS_PER_TOKEN, Usage, count_text

__all__ = ["speak"]

SOUND = (b"ID3\x04fake ", b"sound, in ", b"three parts")
CONTENT_TYPES = {"mp3": "audio/mpeg", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac"}
CONTENT_TYPES |= {"wav": "audio/wav", "pcm": "audio/pcm"}


def speak(request: Request, reply: Reply) -> Answer:
    """The text, spoken. Raises ``ProviderError`` for a bad request.

    Bytes have no place for usage: only events tell it. The ``tts-1`` models are paid by the character, not in tokens,
    and know no events.
    """
    body = json_object(request)
    model = required_model(body)
    text = count_text(required_text(body, "input"))
    if not body.get("voice"):
        raise ProviderError(400, "Missing required parameter: 'voice'.", param="voice")
    content_type = CONTENT_TYPES.get(body.get("response_format") or "mp3")
    if content_type is None:
        raise ProviderError(400, "Invalid value for 'response_format'.", param="response_format", code="invalid_value")
    answer = Answer(headers=dict(reply.headers), chunk_delay=reply.chunk_delay)
    by_character = model.startswith("tts-")
    if not by_character:
        instructions = body.get("instructions")
        told = count_text(instructions) if isinstance(instructions, str) else 0
        answer.usage = reply.charge(text + told, text * SPEECH_TOKENS_PER_TOKEN)
    if request.stream:
        if by_character:
            raise ProviderError(400, f"stream_format 'sse' is not supported by '{model}'.", param="stream_format")
        answer.events = list(_events(answer.usage))
        return answer
    answer.content = b"".join(SOUND)
    answer.content_type = content_type
    answer.reports_usage = False
    return answer


def _events(usage: Usage) -> Iterator[Event]:
    for part in SOUND:
        yield Event({"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()})
    yield Event({"type": "speech.audio.done", "usage": usage.as_speech()}, reports_usage=True)
