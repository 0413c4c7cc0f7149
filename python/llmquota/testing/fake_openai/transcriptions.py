"""``POST /v1/audio/transcriptions`` and ``POST /v1/audio/translations``: the reply's text for any sound.

Models whose name begins with ``gpt-`` are paid in tokens, all others (``whisper-1``) by the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .answers import Answer, Event
from .bodies import form_object, required_model
from .errors import ProviderError
from .http1 import Request
from .replies import Reply, Said, in_pieces
from .tokens import AUDIO_TOKENS_PER_SECOND, Usage, count_seconds, count_text

__all__ = ["transcribe", "translate"]

TEXTS = {
    "text": "{text}\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n",
    "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n",
}
ONLY_BY_THE_SECOND = ("srt", "vtt", "verbose_json")


def transcribe(request: Request, reply: Reply) -> Answer:
    """What is said, as a document, a text or a stream. Raises ``ProviderError`` for a bad request.

    A model that is paid by the second does not stream: it answers with a document, asked for a stream or not.
    """
    body = form_object(request)
    model = required_model(body)
    seconds = _seconds(request)
    text_tokens = count_text(body.get("prompt", ""))
    said = reply.say_text(text_tokens + seconds * AUDIO_TOKENS_PER_SECOND)
    wanted = body.get("response_format", "json")
    answer = Answer(headers=dict(said.headers), chunk_delay=said.chunk_delay)
    if not model.startswith("gpt-"):
        answer.usage = Usage(audio_seconds=seconds)
        usage: dict[str, Any] = {"type": "duration", "seconds": seconds}
    else:
        if wanted in ONLY_BY_THE_SECOND:
            message = f"response_format '{wanted}' is not compatible with model '{model}'."
            raise ProviderError(400, message, param="response_format", code="unsupported_value")
        answer.usage = said.usage
        usage = said.usage.as_transcription(text_tokens)
        if request.stream:
            answer.events = list(_events(said.text, usage))
            return answer
    return _in_format(answer, wanted, _document(said, wanted, "transcribe", seconds), usage)


def translate(request: Request, reply: Reply) -> Answer:
    """The same in English, for which no usage is told. Raises ``ProviderError`` for a bad request."""
    body = form_object(request)
    required_model(body)
    seconds = _seconds(request)
    said = reply.say_text(0)
    wanted = body.get("response_format", "json")
    answer = Answer(headers=dict(said.headers), usage=Usage(audio_seconds=seconds))
    return _in_format(answer, wanted, _document(said, wanted, "translate", seconds), None)


def _seconds(request: Request) -> int:
    for file in request.form.files:
        if file.name == "file":
            return count_seconds(file.content)
    raise ProviderError(400, "Missing required parameter: 'file'.", param="file")


def _in_format(answer: Answer, wanted: str, document: dict[str, Any], usage: dict[str, Any] | None) -> Answer:
    if wanted in TEXTS:  # a text has no place for usage
        answer.content = TEXTS[wanted].format(text=document["text"]).encode("utf-8", "replace")
        answer.content_type = "text/plain; charset=utf-8"
        answer.reports_usage = False
    else:
        answer.body = document if usage is None else {**document, "usage": usage}
    return answer


def _document(said: Said, wanted: str, task: str, seconds: int) -> dict[str, Any]:
    whole = {"task": task, "duration": float(seconds), "text": said.text}
    span = {"start": 0.0, "end": float(seconds), "text": said.text}
    if wanted == "verbose_json":
        scores = {"temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.01}
        return {**whole, "language": "english", "segments": [{"id": 0, "seek": 0, **span, "tokens": [], **scores}]}
    if wanted == "diarized_json":
        return {**whole, "segments": [{"type": "transcript.text.segment", "id": "seg_0", "speaker": "A", **span}]}
    return {"text": said.text}


def _events(text: str, usage: dict[str, Any]) -> Iterator[Event]:
    delta, done = "transcript.text.delta", "transcript.text.done"
    for piece in in_pieces(text):
        yield Event({"type": delta, "delta": piece}, name=delta)
    yield Event({"type": done, "text": text, "usage": usage}, name=done, reports_usage=True)
