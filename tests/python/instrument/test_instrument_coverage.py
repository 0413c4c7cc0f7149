"""Every method of this version of the SDK is counted, called in every way."""

from __future__ import annotations

import openai
import pytest

from llmquota import workspace_quota_manager
from llmquota.covering import cover

SILENT = {"beta.agents.sessions.artifacts.for_result", "webhooks.unwrap", "webhooks.verify_signature"}
"""Of the versions that we test with: those that send nothing."""
SOME = {
    "audio.speech.create",
    "beta.threads.runs.create_and_poll",
    "chat.completions.create",
    "chat.completions.stream",
    "embeddings.create",
    "images.edit",
    "post",
    "responses.create",
    "responses.parse",
    "vector_stores.file_batches.upload_and_poll",
}


@pytest.mark.timeout(300)
def test_every_method_of_the_sdk_is_counted() -> None:
    found = cover()
    listing = "\n".join(f"{each.method.name}: {why}" for each in found.missed for why in each.problems)
    assert not found.missed, f"openai {found.sdk}:\n{listing}"
    calls = found.calls
    assert sum(call.served for call in calls) == sum(call.recorded for call in calls) >= len(calls)
    assert sum(call.told for call in calls) == sum(call.read for call in calls) > 20_000
    # And those are all of them.
    names = {each.method.name for each in found.sending}
    assert names >= SOME
    assert {each.method.name for each in found.silent} <= SILENT
    assert all(method.name.endswith(".connect") for method in found.websockets)
    assert found.sdk == openai.__version__
    assert not workspace_quota_manager.is_open


@pytest.mark.timeout(300)
def test_it_is_called_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmquota import covering

    monkeypatch.setattr(covering, "methods_of", lambda _client: [covering.Method("chat.completions.create")])
    (method,) = cover().sending
    forms = ["", " stream=True", " stream=True, stream_options"]
    prefixes = ["", " with_raw_response", " with_streaming_response"]
    assert [call.way for call in method.calls] == [
        f"{client}{prefix}{form}" for client in ("OpenAI", "AsyncOpenAI") for prefix in prefixes for form in forms
    ]
    # A stream that is not asked says nothing of its usage.
    assert [call.told > 0 for call in method.calls] == [True, False, True] * 6
