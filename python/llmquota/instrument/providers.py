"""What a request is, by where it goes: which provider's, which of its methods, and whether that makes something."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Endpoint", "Providers"]

_HOSTS = {
    "api.openai.com": "openai",
    "us.api.openai.com": "openai",
    "eu.api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
}
_DOMAINS = {
    ".openai.azure.com": "azure",
    ".cognitiveservices.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    ".api.openai.com": "openai",
}

_CONTINUING = "/threads/{id}/runs/{id}/submit_tool_outputs"
# What the provider charges by use. Everything else (lists, files, settings) is a request and no more.
_MAKING = {
    "/chat/completions": "chat.completions.create",
    "/completions": "completions.create",
    "/responses": "responses.create",
    "/responses/compact": "responses.compact",
    "/embeddings": "embeddings.create",
    "/audio/speech": "audio.speech.create",
    "/audio/transcriptions": "audio.transcriptions.create",
    "/audio/translations": "audio.translations.create",
    "/images/generations": "images.generate",
    "/images/edits": "images.edit",
    "/images/variations": "images.create_variation",
    "/videos": "videos.create",
    "/threads/runs": "beta.threads.create_and_run",
    "/threads/{id}/runs": "beta.threads.runs.create",
    _CONTINUING: "beta.threads.runs.submit_tool_outputs",
    "/messages": "messages.create",
}
_LASTING = {"/responses", "/threads/runs", "/threads/{id}/runs", "/videos"}
_PREFIX = re.compile(r"^(?:/openai)?(?:/deployments/(?P<deployment>[^/]+)|/v\d+)?(?=/)")
# A segment that names one thing: it has a digit, or letters of both cases, or is long.
_NAME = re.compile(r"[0-9]|[a-z][A-Z]|.{32}")


@dataclass(frozen=True)
class Endpoint:
    """What a request calls."""

    provider: str
    method: str
    """As the SDK calls it, ``chat.completions.create``; ``GET /models`` where it makes nothing."""
    makes: bool
    """The provider charges it by use."""
    deployment: str | None = None
    """Azure names the model in the path."""
    lasts: bool = False
    """What it makes may be fetched later, and shows its usage then."""
    continues: bool = False
    """What it makes goes on with an object that an earlier call began."""


class Providers:
    """The providers whose calls are counted: those that are known by their host, and base URLs of one's own."""

    def __init__(self, bases: Mapping[str, str]) -> None:
        """``bases``: the name of the provider that each base URL is of.

        Raises ``ValueError`` for a base that is no ``http(s)://host``, or whose provider has no name.
        """
        self._bases = [(*_split(base), _named(base, provider)) for base, provider in bases.items()]
        # The longest path first: it says most.
        self._bases.sort(key=lambda base: -len(base[2]))
        self._hosts = {host for host, _, _, _ in self._bases}

    def recognise(self, method: str, url: Any) -> Endpoint | None:
        """What a request of this verb to this URL (of ``httpx``) calls; ``None`` where it is no provider's."""
        host = url.host
        provider, path = None, ""
        if host in self._hosts:
            provider, path = self._own(host, url)
        if provider is None:
            provider = _HOSTS.get(host) or _of_domain(host)
            if provider is None:
                return None
            path = url.path
        return _endpoint(provider, method, path)

    def _own(self, host: str, url: Any) -> tuple[str | None, str]:
        path = url.path
        port = url.port or _PORTS.get(url.scheme)
        for base_host, base_port, base_path, provider in self._bases:
            if base_host == host and base_port == port and (path + "/").startswith(base_path + "/"):
                # What follows the base is the provider's path, wherever the base lies.
                return provider, path[len(base_path) :]
        return None, ""


_PORTS = {"http": 80, "https": 443}


def _split(base: str) -> tuple[str, int | None, str]:
    parts = urlsplit(base)
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if parts.scheme not in _PORTS or not parts.hostname or port is None:
        raise ValueError(f"providers: {base!r} is no base URL; expected such as 'http://localhost:8000/v1'")
    return parts.hostname, port, parts.path.rstrip("/")


def _named(base: str, provider: str) -> str:
    if not isinstance(provider, str) or not provider:
        raise ValueError(f"providers: the provider of {base!r} is {provider!r}; expected a name such as 'openai'")
    return provider


def _of_domain(host: str) -> str | None:
    return next((provider for domain, provider in _DOMAINS.items() if host.endswith(domain)), None)


@functools.lru_cache(maxsize=1_024)
def _endpoint(provider: str, verb: str, path: str) -> Endpoint:
    prefix = _PREFIX.match(path)
    deployment = prefix.group("deployment") if prefix else None
    path = "/" + "/".join(part for part in (path[prefix.end() :] if prefix else path).split("/") if part)
    shape = path if path in _MAKING else "/".join("{id}" if _NAME.search(part) else part for part in path.split("/"))
    made = _MAKING.get(shape) if verb == "POST" else None
    return Endpoint(
        provider,
        made or f"{verb} {shape}",
        makes=made is not None,
        deployment=deployment,
        lasts=made is not None and shape in _LASTING,
        continues=shape == _CONTINUING,
    )
