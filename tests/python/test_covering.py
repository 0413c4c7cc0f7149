"""``llmquota coverage``: what it says of a method that is not counted, and where it does not go."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import llmquota
from llmquota import QuotaInputError, QuotaManager, covering
from llmquota.cli import main
from llmquota.covering import Call, Coverage, Judged, Method, cover, stage
from llmquota.covering.fence import fenced_in
from llmquota.covering.ways import Way
from llmquota.instrument import sending
from llmquota.testing.fake_openai import anything
from llmquota.usage import UsageNumbers

Only = Callable[..., None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Only:
    """Has the SDK have these methods alone."""

    def choose(*names: str) -> None:
        monkeypatch.setattr(covering, "methods_of", lambda _client: [Method(name) for name in names])

    return choose


def why(found: Coverage) -> set[str]:
    (missed,) = found.missed
    return {problem.partition(": ")[2] for problem in missed.problems}


# --- what is not counted ---


def test_a_request_that_nobody_records_is_a_miss(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only("models.list")
    monkeypatch.setattr(stage, "instrument", lambda *_args, **_kwargs: None)
    assert why(cover()) == {"1 requests were served and 0 recorded"}


def test_a_wrong_number_of_tokens_is_a_miss(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only("embeddings.create", "models.list")
    wrong = UsageNumbers(input_tokens=1, output_tokens=0)
    monkeypatch.setattr(sending.SentCall, "_charged", lambda *_: wrong)
    found = cover()
    assert {missed.method.name for missed in found.missed} == {"embeddings.create", "models.list"}
    assert found.missed[0].problems[0] == "OpenAI: 2 tokens were told and 1 recorded"


def test_a_method_that_cannot_be_called_is_a_miss_with_its_reason(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only("models.list")
    monkeypatch.setattr(covering, "ways_of", lambda *_: [Way("", {"colour": "red"}, "")])
    (reason,) = {problem.rpartition("Models.")[2] for problem in why(cover())}
    assert reason == "list() got an unexpected keyword argument 'colour'"


def test_a_method_whose_arguments_cannot_be_told_is_a_miss(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only("models.list", "models.retrieve")

    def ways_of(_client: Any, method: Method, *_: Any) -> list[Way]:
        if method.name == "models.list":
            raise TypeError("no such type")
        return [Way("", {"model": "gpt-4o"}, "")]

    monkeypatch.setattr(covering, "ways_of", ways_of)
    found = cover()
    assert why(found) == {"no request was made: TypeError: no such type"}
    assert len(found.sending) == 2


def test_a_method_of_which_one_way_sends_nothing_is_a_miss() -> None:
    sent, silent = (Call(way, served, served, 0, 0, 0, None) for way, served in (("one", 1), ("other", 0)))
    assert Judged(Method("a.b"), [sent, silent]).problems == ["other: no request was made"]
    assert not Judged(Method("a.b"), [silent]).sends
    assert Judged(Method("a.b"), []).problems


def test_a_call_that_asks_for_ever_is_ended(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only("files.wait_for_processing")
    monkeypatch.setitem(anything._DONE, "v1/files", {"status": "uploaded"})
    calls = cover().calls
    assert [call.served for call in calls] == [stage.MAX_REQUESTS] * 2
    assert all("Endless" in str(call.raised) for call in calls)


# --- where it does not go ---


def test_nothing_goes_anywhere_else_meanwhile() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("127.0.0.1", 0)) as other:
        with fenced_in(own.getsockname()[1]):
            socket.create_connection(own.getsockname()).close()
            for address in (other.getsockname(), ("api.openai.com", 443), ("::1", own.getsockname()[1])):
                with pytest.raises(ConnectionRefusedError, match="sends to nobody"):
                    socket.create_connection(address)
            with socket.socket() as bare, pytest.raises(ConnectionRefusedError):
                bare.connect_ex(other.getsockname())
        socket.create_connection(other.getsockname()).close()


def test_the_environment_leads_nowhere(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        address = f"http://127.0.0.1:{other.getsockname()[1]}"
        for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, address)
        only("chat.completions.create", "get")
        assert not cover().missed
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_process_that_is_instrumented_keeps_its_manager(quota_manager: QuotaManager) -> None:
    llmquota.instrument(quota_manager)
    try:
        with pytest.raises(QuotaInputError, match="run it in another"):
            cover()
    finally:
        llmquota.uninstrument()


# --- the command ---


def found_of(*, missed: bool) -> Coverage:
    good = Call("OpenAI", 1, 1, 20, 20, 0, None)
    bad = Call("OpenAI stream=True", 1, 0, 20, 0, 0, "NotFoundError: no such\nthing")
    judged = [Judged(Method("chat.completions.create"), [good, bad] if missed else [good])]
    judged.append(Judged(Method("models.list"), [Call("OpenAI", 1, 1, 0, 0, 0, None)]))
    return Coverage("3.0.0", judged, [Judged(Method("webhooks.unwrap"), [])], [Method("responses.connect", True)])


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str, found: Coverage | None = None) -> tuple[int, str, str]:
        if found is not None:
            monkeypatch.setattr(covering, "cover", lambda: found)
        status = main(["coverage", *arguments], lambda _store: pytest.fail("no store is opened here"))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_it_prints_what_is_counted_and_what_is_not(printed: Any) -> None:
    status, output, _ = printed(found=found_of(missed=True))
    assert status == 1
    assert output.splitlines() == [
        "chat                         0 / 1",
        "models                       1 / 1",
        "NOT counted: chat.completions.create",
        "    OpenAI stream=True: 1 requests were served and 0 recorded (NotFoundError: no such thing)",
        "the SDK raised an error after their requests, in 1 calls of chat.completions.create",
        "make no request: webhooks.unwrap",
        "WebSocket, not called: 1 (responses.connect)",
        "3 calls with openai 3.0.0: 3 requests served, 2 recorded; 40 tokens told, 20 recorded",
        "problems: 1 of 2 methods are counted",
    ]
    status, output, _ = printed(found=found_of(missed=False))
    assert (status, output.splitlines()[-1]) == (0, "ok: 2 of 2 methods are counted")


def test_it_prints_the_same_as_json(printed: Any) -> None:
    status, output, _ = printed("--json", found=found_of(missed=True))
    why = ["OpenAI stream=True: 1 requests were served and 0 recorded (NotFoundError: no such\nthing)"]
    assert status == 1
    assert json.loads(output) == {
        "sdk": "3.0.0",
        "counted": 1,
        "total": 2,
        "calls": 3,
        "requests": {"served": 3, "recorded": 2},
        "tokens": {"told": 40, "recorded": 20},
        "resources": {"chat": {"counted": 0, "total": 1}, "models": {"counted": 1, "total": 1}},
        "not_counted": [{"method": "chat.completions.create", "because": why}],
        "no_request": ["webhooks.unwrap"],
        "websocket": ["responses.connect"],
        "raised": [
            {
                "method": "chat.completions.create",
                "way": "OpenAI stream=True",
                "error": "NotFoundError: no such\nthing",
            }
        ],
    }


def test_without_an_sdk_there_is_nothing_to_call(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    status, output, errors = printed()
    assert (status, output) == (2, "")
    assert "pip install 'llmquota[openai]'" in errors
