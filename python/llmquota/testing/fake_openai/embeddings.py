"""``POST /v1/embeddings``: the same vector for the same text, of length 1, in floats or in base64."""

from __future__ import annotations

import base64
import hashlib
import math
import struct

from .answers import Answer
from .bodies import json_object, optional_count, required_inputs, required_model
from .errors import ProviderError
from .http1 import Request
from .tokens import Usage, count_input

__all__ = ["create"]

DIMENSIONS = {"text-embedding-3-large": 3072}
OTHER_DIMENSIONS = 1536
MAX_DIMENSIONS = 4096


def create(request: Request) -> Answer:
    """The embeddings of each input. Raises ``ProviderError`` for a bad request."""
    body = json_object(request)
    model = required_model(body)
    inputs = required_inputs(body, "input")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise ProviderError(
            400, f"Invalid value for 'encoding_format': {encoding!r}.", param="encoding_format", code="invalid_value"
        )
    dimensions = optional_count(body, "dimensions") or DIMENSIONS.get(model, OTHER_DIMENSIONS)
    if dimensions > MAX_DIMENSIONS:
        raise ProviderError(400, f"Invalid value for 'dimensions': at most {MAX_DIMENSIONS}.", param="dimensions")
    usage = Usage(prompt_tokens=sum(count_input(item) for item in inputs))
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(_vector(item, dimensions), encoding)}
        for index, item in enumerate(inputs)
    ]
    return Answer(body={"object": "list", "data": data, "model": model, "usage": usage.as_embedding()}, usage=usage)


def _vector(item: str | list[int], dimensions: int) -> list[float]:
    seed = item if isinstance(item, str) else ",".join(map(str, item))
    noise = hashlib.shake_256(seed.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    raw = struct.unpack(f"<{dimensions}h", noise)
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
