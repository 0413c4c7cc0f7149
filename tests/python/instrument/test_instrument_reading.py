"""What is read of a request's bytes is what Python's own parser and estimate say of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from llmquota import _native
from llmquota.estimates import Estimate, estimate_request
from llmquota.instrument.reading import body_of, model_and_estimate

JSON = b"application/json"
NAMES = [
    "model",
    "messages",
    "content",
    "text",
    "input",
    "role",
    "n",
    "max_tokens",
    "max_output_tokens",
    "self",
    "other",
]
NUMBERS = ["0", "-0", "1", "-7", "1.0", "-0.0", "4096", "1e3", "1e400", "NaN", "18446744073709551616", "99999999999"]


def _object(pairs: list[tuple[str, str]]) -> str:
    # A name may come twice.
    return "{" + ",".join(f"{json.dumps(name)}: {value}" for name, value in pairs) + "}"


halves = st.sampled_from(["", "\ud83d"])
texts = st.builds(lambda text, half: json.dumps(text + half), st.text('aé😀"\\\n', max_size=9), halves)
plain = texts | st.sampled_from([*NUMBERS, "true", "false", "null", '"gpt-4o"', '"\x01"', '"\\udc00"', "nul"])
objects = lambda inner: st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=5).map(_object)  # noqa: E731
lists = lambda inner: st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")  # noqa: E731
values = st.recursive(plain, lambda inner: lists(inner) | objects(inner), max_leaves=25)
nested = st.integers(0, 9).flatmap(lambda depth: values.map(lambda value: "[" * depth + value + "]" * depth))


def _request(content: bytes) -> Any:
    return SimpleNamespace(content=content)


def _by_python(content: bytes) -> tuple[object, Estimate]:
    body = body_of(_request(content), JSON)
    return body.get("model"), estimate_request(body)


@given(objects(nested))
def test_the_estimate_is_that_of_python(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    assert model_and_estimate(_request(content), JSON) == _by_python(content)


@given(st.binary(max_size=20) | values.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_is_no_object_is_no_error(content: bytes) -> None:
    assert model_and_estimate(_request(content), JSON) == _by_python(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_chat_request_is_read(encoding: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "é😀"}]},
    ]
    body = {"model": "gpt-4o", "messages": messages, "max_completion_tokens": 100, "n": 2, "stream": True}
    content = json.dumps(body, ensure_ascii=False).encode(encoding)
    assert model_and_estimate(_request(content), JSON) == ("gpt-4o", Estimate(3 + 2 * 4, 200, 0))
    assert (_native.read_request(content) is not None) == (encoding == "utf-8")


def test_a_request_is_read_only_where_it_is_json_and_there() -> None:
    class Streamed:
        @property
        def content(self) -> bytes:
            raise RuntimeError("not read")

    assert model_and_estimate(_request(b'{"model": "x"}'), b"text/plain") == (None, Estimate(0, 0, 1))
    assert model_and_estimate(Streamed(), JSON) == (None, Estimate(0, 0, 1))


@pytest.mark.parametrize(
    ("body", "open_choices"),
    [({}, 1), ({"n": 3}, 3), ({"n": True}, 1), ({"n": 3, "max_tokens": 5}, 0), ({"n": 2, "max_tokens": 0}, 2)],
)
def test_answers_without_a_maximum_are_open(body: dict[str, object], open_choices: int) -> None:
    content = json.dumps(body).encode()
    assert _native.read_request(content) is not None
    assert model_and_estimate(_request(content), JSON)[1].open_choices == open_choices
    assert model_and_estimate(_request(content), JSON) == _by_python(content)


def test_a_form_is_read_by_its_texts() -> None:
    fields = [
        SimpleNamespace(name="model", value="gpt-image-1"),
        SimpleNamespace(name="image", value=b"a picture"),
        SimpleNamespace(name="prompt", value="A cat."),
        SimpleNamespace(name="mask"),
    ]
    form = SimpleNamespace(stream=SimpleNamespace(fields=fields))
    assert body_of(form, b"multipart/form-data; boundary=x") == {"model": "gpt-image-1", "prompt": "A cat."}
    assert model_and_estimate(form, b"multipart/form-data; boundary=x") == ("gpt-image-1", Estimate(2, 0, 1))
    assert model_and_estimate(_request(b""), b"multipart/form-data; boundary=x") == (None, Estimate(0, 0, 1))
