"""``multipart/form-data`` bodies, as the SDK sends them where a file goes along. No OpenAI here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser

__all__ = ["File", "Form", "read_form"]


@dataclass(frozen=True)
class File:
    """One file of a form."""

    name: str
    """Of its field, as it was sent: ``image``, ``image[]``."""
    filename: str
    content: bytes


@dataclass(frozen=True)
class Form:
    """What a form says."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Of a repeated name, the last value."""
    files: Sequence[File] = ()


def read_form(content_type: str, body: bytes) -> Form:
    """The form in a body; an empty one if the body is none."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or boundary is None:
        return Form()
    fields: dict[str, str] = {}
    files: list[File] = []
    # Each delimiter has the line break before it; the first may be without one.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))[1:]:
        if part.startswith(b"--"):
            break
        head, _, content = part.partition(b"\r\n\r\n")
        headers = HeaderParser().parsestr(head.decode("utf-8", "replace").strip())
        name = headers.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        filename = headers.get_filename()
        if filename is None:
            fields[name] = content.decode("utf-8", "replace")
        else:
            files.append(File(name, filename, content))
    return Form(fields, files)
