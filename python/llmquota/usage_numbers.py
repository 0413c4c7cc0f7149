"""What one call used, in numbers, wherever they were read: an SDK's object, or the bytes of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["UNITS", "UsageNumbers"]

UNITS = ("milliseconds", "characters", "images", "web_searches", "file_searches", "code_sessions", "other_tools")
"""The fields of what is charged and is no token."""

_WITHOUT_KEYWORD = (
    *("cache_write_tokens", "audio_input_tokens", "audio_output_tokens", "image_input_tokens", "image_output_tokens"),
    *UNITS,
)


@dataclass(frozen=True)
class UsageNumbers:
    """What one call, or one run of several, used. Counts are tokens; ``None`` where nobody said."""

    input_tokens: int | None = None
    """All that was sent, cached or not."""
    output_tokens: int | None = None
    """All that came back, hidden reasoning included."""
    total_tokens: int | None = None
    """The provider's own total; the only number where it gave no split."""
    cached_tokens: int | None = None
    """Among the input: read from the provider's cache."""
    cache_write_tokens: int | None = None
    """Among the input: written to the provider's cache."""
    reasoning_tokens: int | None = None
    """Among the output: hidden reasoning."""
    audio_input_tokens: int | None = None
    """Among the input."""
    audio_output_tokens: int | None = None
    """Among the output."""
    image_input_tokens: int | None = None
    """Among the input."""
    image_output_tokens: int | None = None
    """Among the output."""
    cache_write_1h_tokens: int | None = None
    """Among those written to the cache: to be kept for an hour."""
    milliseconds: int | None = None
    """Of sound, where the provider charges by time."""
    characters: int | None = None
    """That were spoken, where it charges by them."""
    images: int | None = None
    """That were made, where it charges by the picture."""
    image_kind: str | None = None
    """Their quality and size, ``"hd 1024x1792"``."""
    web_searches: int | None = None
    file_searches: int | None = None
    code_sessions: int | None = None
    """Containers in which the provider ran code."""
    other_tools: int | None = None
    """Uses of tools that no price is known of."""
    requests: int = 1
    """How many requests they are of."""
    model: str | None = None
    """As the provider named it."""
    service_tier: str | None = None
    """``"default"``, ``"flex"``, ``"priority"``..."""
    response_id: str | None = None
    request_id: str | None = None
    """As the provider named the request, for its support; not every answer has it."""
    problems: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def tokens(self) -> int:
        """All tokens: the provider's total, or input and output, whichever is more."""
        return max(self.total_tokens or 0, (self.input_tokens or 0) + (self.output_tokens or 0))

    @property
    def is_charged_otherwise(self) -> bool:
        """Whether something is charged that :meth:`as_settle` has no keyword for."""
        return any(getattr(self, name) for name in _WITHOUT_KEYWORD)

    def as_settle(self) -> dict[str, Any]:
        """The keyword arguments of ``Hold.settle`` that say the same, but for what these cannot."""
        numbers: dict[str, Any] = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "model": self.model,
            "service_tier": self.service_tier,
            "request_id": self.request_id or self.response_id,
        }
        split = (self.input_tokens or 0) + (self.output_tokens or 0)
        if self.tokens > split:
            # Some providers' totals hold more than their parts (thoughts, tool prompts); all of it was charged.
            numbers["tokens"] = self.tokens
        known = {name: value for name, value in numbers.items() if value is not None}
        return {**known, "requests": self.requests}
