"""Says of each place who counts its calls, or why nobody does and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from llmquota.instrument.patching import LIBRARIES
from llmquota.instrument.providers import Providers
from llmquota.settings import provider_bases

from .places import LITELLM_AIOHTTP, OLD_OPENAI, Found, Module

__all__ = ["Place", "judged"]

_GUARD = "put @guarded on the function that makes the call"
_UNSEEN = {
    "websocket": f"instrument() does not see websocket-client: speak by websockets, or {_GUARD}",
    LITELLM_AIOHTTP: "litellm's asynchronous calls go over its aiohttp transport: set"
    f" litellm.disable_aiohttp_transport = True, or {_GUARD}",
    OLD_OPENAI: "this call is one of openai before 1, which sends with requests and aiohttp: use openai 1 or later",
}


@dataclass(frozen=True)
class Place:
    """A place that sends to a provider, or a file that cannot be read."""

    path: str
    line: int
    what: str
    covered: bool | None
    """``None`` where nobody can say: the file cannot be read."""
    because: str
    """Who counts its calls; where nobody does, why and what to do."""


def judged(modules: Sequence[Module]) -> list[Place]:
    """The places of a code base, which is all ``modules`` together."""
    judge = _Judge(modules)
    places = [judge.place(module, found) for module in modules for found in module.found]
    return [place for place in places if place is not None]


@dataclass(frozen=True)
class _URL:
    """What :class:`Providers` asks of a URL, which may be of a library that is not installed."""

    scheme: str
    host: str
    port: int | None
    path: str


class _Judge:
    def __init__(self, modules: Sequence[Module]) -> None:
        self._providers = Providers({**provider_bases(), **_valid(base for each in modules for base in each.bases)})
        # What tests do, no backend does: theirs counts for them alone.
        calls = [(each.is_test, f"{each.path}:{line}") for each in modules for line in each.instruments]
        self._instrument = {
            is_test: next((call for of_test, call in sorted(calls) if is_test or not of_test), None)
            for is_test in (False, True)
        }
        self._seen = {*LIBRARIES, "websockets"}
        if any(module.litellm_uses_httpx for module in modules):
            self._seen.add(LITELLM_AIOHTTP)

    def place(self, module: Module, found: Found) -> Place | None:
        """A place, judged; ``None`` for what goes nowhere near a provider."""
        urls = [url for text in found.urls if (url := _url(text)) is not None]
        known = [url for url in urls if self._providers.recognise("POST", url) is not None]
        if not found.is_client and not known:
            return None
        # Of several that it may be, a known one is taken: the others may be those of a test.
        elsewhere = urls[0] if urls and not known else None
        what = f"{found.what} to {_shown(known[0])}" if known else found.what
        by = self._counted_by(found, elsewhere, self._instrument[module.is_test])
        if by is not None:
            return Place(module.path, found.line, what, True, by)
        return Place(module.path, found.line, what, False, self._advice(found, elsewhere))

    def _counted_by(self, found: Found, elsewhere: _URL | None, instrument: str | None) -> str | None:
        if elsewhere is None and found.has_transport:
            return "the QuotaTransport of its client"
        if elsewhere is None and found.sends in self._seen and instrument is not None:
            return f"instrument() in {instrument}"
        return None if found.guard is None else f"@guarded on {found.guard}()"

    def _advice(self, found: Found, elsewhere: _URL | None) -> str:
        if found.sends is None:
            return f"which library sends it is not to be seen here: annotate what it is called on, or {_GUARD}"
        if found.sends not in self._seen:
            other = f"instrument() does not see {found.sends}: send it with httpx, or {_GUARD}"
            return _UNSEEN.get(found.sends, other)
        if elsewhere is not None:
            return (
                f"{_shown(elsewhere)} is no provider that is known: name its base URL in instrument(providers=...),"
                f" or {_GUARD}"
            )
        who = "nothing here calls" if self._instrument[True] is None else "only tests call"
        return f"{who} llmquota.instrument(): call it where the process starts, or {_GUARD}"


def _valid(bases: Iterable[str]) -> dict[str, str]:
    """Those that ``instrument()`` would take."""
    taken = {}
    for base in bases:
        try:
            Providers({base: "own"})
        except ValueError:
            continue
        taken[base] = "own"
    return taken


def _url(text: str) -> _URL | None:
    try:
        parts = urlsplit(text.strip())
        return _URL(parts.scheme, parts.hostname, parts.port, parts.path) if parts.hostname else None
    except ValueError:
        return None


def _shown(url: _URL) -> str:
    """The host alone: what stands around it may be a secret. What is only known when it runs is a star."""
    return f"*{url.host}" if url.host.startswith(".") else url.host
