"""Where the counting stands, and how it is put there and taken away."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import logging
from typing import Any

import httpx
import openai
import pytest
from guard_parts import HELLO, connect, counted

import llmquota
from llmquota import AsyncQuotaTransport, QuotaManager, QuotaTransport, _native, quota_context
from llmquota.instrument import patching
from llmquota.testing import FakeOpenAI

# Each SDK brings one of them; the newest and the one before may lie side by side.
LIBRARIES = [importlib.import_module(name) for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
SENDS = [(library, name) for library in LIBRARIES for name in ("Client", "AsyncClient")]


def sends() -> list[Any]:
    return [vars(getattr(library, name))["send"] for library, name in SENDS]


def post(library: Any, fake: FakeOpenAI, **options: Any) -> Any:
    with library.Client(verify=False, **options) as client:
        return client.post(f"{fake.base_url}/chat/completions", json={"model": "gpt-4o", "messages": HELLO})


def test_twice_is_once(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    before = sends()
    other = QuotaManager()
    for manager in (other, quota_manager):
        llmquota.instrument(manager, providers={fake_openai.base_url: "openai"})
    try:
        with quota_context("acme"):
            for library in LIBRARIES:
                post(library, fake_openai)
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager)[0] == len(LIBRARIES)
    assert counted(other)[0] == 0
    assert sends() == before
    llmquota.uninstrument()
    assert sends() == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_library_that_patches_over_ours_stays(
    library: Any, fake_openai: FakeOpenAI, quota_manager: QuotaManager
) -> None:
    original = library.Client.send
    seen = []
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    ours = library.Client.send

    @functools.wraps(ours)
    def theirs(self: Any, request: Any, **options: Any) -> Any:
        seen.append(request.url.path)
        return ours(self, request, **options)

    library.Client.send = theirs
    try:
        with quota_context("acme"):
            post(library, fake_openai)
            llmquota.uninstrument()
            # Theirs is still there, and what is below it passes everything on.
            assert library.Client.send is theirs
            post(library, fake_openai)
            llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
            assert library.Client.send is theirs
            post(library, fake_openai)
    finally:
        library.Client.send = ours
        llmquota.uninstrument()
    assert library.Client.send is original
    assert len(seen) == 3
    assert counted(quota_manager)[0] == 2


def test_a_library_that_takes_ours_away_is_patched_anew(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    original = httpx.Client.send
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    httpx.Client.send = original  # type: ignore[method-assign]
    llmquota.instrument(quota_manager, providers={fake_openai.base_url: "openai"})
    try:
        with quota_context("acme"):
            post(httpx, fake_openai)
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager)[0] == 1
    assert httpx.Client.send is original


def test_what_goes_elsewhere_is_left_alone(instrumented: QuotaManager, fake_openai: FakeOpenAI) -> None:
    with FakeOpenAI() as elsewhere, quota_context("acme"):
        for library in LIBRARIES:
            post(library, elsewhere)
    assert counted(instrumented)[0] == 0


def test_the_sdks_own_variable_leads_to_a_provider(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    llmquota.instrument(quota_manager)
    try:
        with quota_context("acme"), connect(fake_openai) as client:
            client.models.list()
    finally:
        llmquota.uninstrument()
    assert counted(quota_manager)[0] == 1


def test_a_version_of_the_sdk_that_is_not_known_is_told_once_and_works(
    fake_openai: FakeOpenAI,
    quota_manager: QuotaManager,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.1.0" if name == "openai" else version(name))
    monkeypatch.setattr(patching, "_warned", set())
    try:
        with caplog.at_level(logging.WARNING, "llmquota"), quota_context("acme"):
            llmquota.instrument(quota_manager)
            llmquota.instrument(quota_manager)
            with connect(fake_openai) as client:
                client.models.list()
    finally:
        llmquota.uninstrument()
    (entry,) = [record.getMessage() for record in caplog.records]
    assert "openai 9.1.0" in entry
    assert counted(quota_manager)[0] == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"mode": "watch"}, "'enforce', 'observe'"),
        ({"providers": {"localhost:8000": "vllm"}}, "'localhost:8000'"),
        ({"providers": {"http://localhost:port/v1": "vllm"}}, "localhost:port"),
        ({"providers": {"http://localhost:8000/v1": ""}}, "''"),
    ],
)
def test_arguments_that_cannot_be_are_named_and_change_nothing(given: Any, named: str) -> None:
    before = sends()
    with pytest.raises(ValueError, match=named):
        llmquota.instrument(**given)
    with pytest.raises(ValueError, match=named):
        QuotaTransport(**given)
    assert sends() == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_transport_counts_its_own_client_alone(
    library: Any, fake_openai: FakeOpenAI, quota_manager: QuotaManager
) -> None:
    options: dict[str, Any] = {"manager": quota_manager, "providers": {fake_openai.base_url: "openai"}}
    with quota_context("acme"):
        assert post(library, fake_openai, transport=QuotaTransport(**options)).status_code == 200
        assert post(library, fake_openai).status_code == 200
    assert counted(quota_manager) == (1, fake_openai.served.total.reported_tokens // 2, 0)
    quota_manager.set_override("workspace", "", "acme", {"requests_per_minute": 1})
    with quota_context("acme"):
        inside = library.HTTPTransport()
        assert post(library, fake_openai, transport=QuotaTransport(inside, **options)).status_code == 429


@pytest.mark.parametrize("library", LIBRARIES)
async def test_an_asynchronous_transport_counts_too(
    library: Any, fake_openai: FakeOpenAI, quota_manager: QuotaManager
) -> None:
    transport = AsyncQuotaTransport(manager=quota_manager, providers={fake_openai.base_url: "openai"})
    body = {"model": "gpt-4o", "messages": HELLO}
    async with library.AsyncClient(transport=transport) as client:
        with quota_context("acme"):
            response = await client.post(f"{fake_openai.base_url}/chat/completions", json=body)
    assert counted(quota_manager) == (1, response.json()["usage"]["total_tokens"], 0)


def test_a_transport_beside_the_instrumentation_counts_nothing_twice(
    instrumented: QuotaManager, fake_openai: FakeOpenAI
) -> None:
    transport = QuotaTransport(manager=instrumented, providers={fake_openai.base_url: "openai"})
    with quota_context("acme"):
        post(LIBRARIES[-1], fake_openai, transport=transport)
    assert counted(instrumented) == (1, fake_openai.served.total.reported_tokens, 0)


def test_the_transport_serves_the_sdk(fake_openai: FakeOpenAI, quota_manager: QuotaManager) -> None:
    quota_manager.set_override("workspace", "", "acme", {"requests_per_minute": 1})
    library = LIBRARIES[-1] if int(openai.__version__.split(".")[0]) >= 3 else httpx
    transport = QuotaTransport(manager=quota_manager, providers={fake_openai.base_url: "openai"})
    http_client: Any = library.Client(transport=transport)
    client = openai.OpenAI(base_url=fake_openai.base_url, api_key="test", http_client=http_client)
    with client, quota_context("acme"):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(llmquota.QuotaExceeded):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert fake_openai.served.total.requests == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_record_by_hand_is_of_the_call_that_a_transport_counted(
    quota_manager: QuotaManager, fake_openai: FakeOpenAI, library: Any
) -> None:
    transport = QuotaTransport(manager=quota_manager, providers={fake_openai.base_url: "openai"})
    tokens = post(library, fake_openai, transport=transport).json()["usage"]["total_tokens"]
    tracker = quota_manager.get_tracker("acme")
    tracker.record_request(tokens_used=tokens, goal_id="goal-1")
    assert (counted(quota_manager, "global"), counted(quota_manager)) == ((0, 0, 0), (1, tokens, 0))
    # Once the transport is gone nobody is asked whether a record is of one of its calls.
    gc.collect()
    before = _native.open_claims(0)
    del transport
    gc.collect()
    assert _native.open_claims(0) == before - 1
