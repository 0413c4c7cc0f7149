"""Multipart forms, as bytes."""

from __future__ import annotations

import pytest

from llmquota.testing.fake_openai.forms import File, Form, read_form

FIELD = b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1'
FILE = b'Content-Disposition: form-data; name="image[]"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def form(*parts: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary


def test_files_keep_every_byte():
    content = b"\r\n--not-it\r\n\x00\xff--b\r\n\r\n"
    read = read_form('multipart/form-data; boundary="b"', form(FIELD, FILE + content, FILE))
    assert read == Form({"model": "whisper-1"}, [File("image[]", "a.png", content), File("image[]", "a.png", b"")])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", form(FIELD)),
        ("application/json", b"{}"),
        ("multipart/form-data", form(FIELD)),
        ("multipart/form-data; boundary=other", form(FIELD)),
        ("multipart/form-data; boundary=b", form(b"", b"no header\r\n\r\n", b"Content-Disposition: form-data")),
    ],
)
def test_what_is_no_form_is_an_empty_one(content_type, body):
    read = read_form(content_type, body)
    assert not read.fields
    assert not read.files
