"""Says what a call used beside tokens, where the provider charges by that: time, characters, pictures, uses of tools.

A pure function of what was asked and what was answered. What it costs is the engine's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CHARGED_BESIDE", "Asked", "asked_for", "used_beside", "uses_of_tools"]

_DIGITS = 4
_SPEECH = "audio.speech.create"
_IMAGES = ("images.generate", "images.edit", "images.create_variation")
CHARGED_BESIDE = frozenset({_SPEECH, *_IMAGES})
"""The methods of whose requests :func:`asked_for` says something."""

_TOOLS = {"web_search": "web_searches", "file_search": "file_searches"}
# Run by the caller, or charged by their tokens alone.
_FREE = frozenset({"apply_patch", "computer", "local_shell", "mcp", "shell", "tool_search"})


@dataclass(frozen=True)
class Asked:
    """What a request says that its answer may not."""

    characters: int = 0
    """To be spoken, where that is charged."""
    images: int = 0
    image_kind: str | None = None
    """Quality and size of the pictures."""

    @property
    def units(self) -> dict[str, Any]:
        """What is going to be charged beside tokens, as fields of :class:`~llmquota.usage.UsageNumbers`."""
        if self.characters:
            return {"characters": self.characters}
        return {"images": self.images, "image_kind": self.image_kind} if self.images else {}


_NOTHING = Asked()


def asked_for(method: str, body: Mapping[str, Any]) -> Asked:
    """What the body of a request of ``method`` says. Never raises: it is the provider's to refuse what cannot be."""
    if method == _SPEECH:
        text, model = body.get("input"), body.get("model")
        # Speech of the later models is charged by its tokens.
        by_character = not (isinstance(model, str) and model.startswith("gpt-"))
        return Asked(characters=len(text)) if by_character and isinstance(text, str) else _NOTHING
    if method in _IMAGES:
        quality, size = body.get("quality"), body.get("size")
        quality = quality if isinstance(quality, str) and quality != "auto" else "standard"
        size = size if isinstance(size, str) and size != "auto" else "1024x1024"
        return Asked(images=_count(body.get("n")), image_kind=f"{quality} {size}")
    return _NOTHING


def used_beside(asked: Asked, told: Mapping[str, Any]) -> dict[str, Any]:
    """What was used beside tokens, as fields of :class:`~llmquota.usage.UsageNumbers`; empty where there is nothing.

    ``told``: what ``AnswerReader.finish`` returned of an answer that is no failure.
    """
    if "usage" not in told:
        # Where there are tokens these are what is charged, and where an answer should have told them it is guessed.
        if "milliseconds" in told:
            return {"milliseconds": told["milliseconds"]}
        if asked.image_kind and told["is_whole"] and "images" in told:
            return {"images": told["images"], "image_kind": asked.image_kind}
        return {"characters": asked.characters} if asked.characters else {}
    return uses_of_tools(told.get("tools", {}))


def uses_of_tools(tools: Mapping[str, int]) -> dict[str, int]:
    """What uses of a provider's tools by name (``web_search``) are, as fields of ``UsageNumbers``."""
    used: dict[str, int] = {}
    for tool, times in tools.items():
        if tool == "code_interpreter":
            # All of a response's runs share a container.
            used["code_sessions"] = 1
        elif tool == "image_generation":
            # Its tokens are another model's, and are not in the usage.
            used["images"] = times
        elif tool not in _FREE:
            field = _TOOLS.get(tool, "other_tools")
            used[field] = used.get(field, 0) + times
    return used


def _count(value: Any) -> int:
    """How many are asked for: a number, or the text of a form's field."""
    text = str(value)
    return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 1
