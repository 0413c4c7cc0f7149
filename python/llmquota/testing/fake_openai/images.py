"""``POST /v1/images/generations`` and ``POST /v1/images/edits``: a few bytes for an image, and what it costs."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

from .answers import Answer, Event
from .bodies import form_object, json_object, new_id, optional_count, required_model, required_text
from .errors import ProviderError
from .http1 import Request
from .replies import Reply
from .tokens import IMAGE_TOKENS, MADE_IMAGE_TOKENS, PARTIAL_IMAGE_TOKENS, count_text

__all__ = ["edit", "generate"]

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\nfake").decode()


def generate(request: Request, reply: Reply) -> Answer:
    """Images from a text. Raises ``ProviderError`` for a bad request."""
    return _answer(request, reply, json_object(request), images=0, event="image_generation")


def edit(request: Request, reply: Reply) -> Answer:
    """Images from a text and images. Raises ``ProviderError`` for a bad request."""
    body = form_object(request, "n", "partial_images")
    images = len(request.form.files)
    if not images:
        raise ProviderError(400, "Missing required parameter: 'image'.", param="image")
    return _answer(request, reply, body, images=images, event="image_edit")


def _answer(request: Request, reply: Reply, body: dict[str, Any], *, images: int, event: str) -> Answer:
    model = required_model(body)
    prompt = required_text(body, "prompt")
    wanted = optional_count(body, "n") or 1
    answer = Answer(headers=dict(reply.headers), chunk_delay=reply.chunk_delay)
    created = int(time.time())
    if model.startswith("dall-e"):  # paid by the image: no tokens and no streams
        by_url = body.get("response_format") != "b64_json"
        answer.body = {"created": created, "data": [_dall_e_image(prompt, by_url) for _ in range(wanted)]}
        return answer
    partial = (optional_count(body, "partial_images", minimum=0) or 0) if request.stream else 0
    looks = _looks(body)
    each = MADE_IMAGE_TOKENS.get(looks["quality"], MADE_IMAGE_TOKENS["high"])
    counted = images * IMAGE_TOKENS
    answer.usage = reply.charge(count_text(prompt) + counted, wanted * each + partial * PARTIAL_IMAGE_TOKENS)
    usage = answer.usage.as_image(counted)
    if request.stream:
        if wanted > 1:
            raise ProviderError(400, "Streaming is only supported with n=1.", param="n")
        answer.events = list(_events(event, {"created_at": created, **looks}, partial, usage))
        return answer
    # The events have no such details.
    details = {"image_tokens": answer.usage.completion_tokens, "text_tokens": 0}
    answer.body = {
        "created": created,
        **looks,
        "data": [{"b64_json": PIXEL} for _ in range(wanted)],
        "usage": {**usage, "output_tokens_details": details},
    }
    return answer


def _events(event: str, common: dict[str, Any], partial: int, usage: dict[str, Any]) -> Iterator[Event]:
    for index in range(partial):
        name = f"{event}.partial_image"
        yield Event({"type": name, "b64_json": PIXEL, "partial_image_index": index, **common}, name=name)
    name = f"{event}.completed"
    yield Event({"type": name, "b64_json": PIXEL, **common, "usage": usage}, name=name, reports_usage=True)


def _looks(body: dict[str, Any]) -> dict[str, str]:
    """What was asked for, and for ``auto`` what the model chose."""
    chosen = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1024"}
    return {key: str(body[key]) if body.get(key) not in (None, "auto") else value for key, value in chosen.items()}


def _dall_e_image(prompt: str, by_url: bool) -> dict[str, str]:
    image = {"url": f"https://images.invalid/{new_id('img-')}.png"} if by_url else {"b64_json": PIXEL}
    return {**image, "revised_prompt": prompt}
