"""What llmquota raises, and how it reads what a provider's client raised."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from llmquota import ManualClock, QuotaManager
from llmquota.errors import (
    QuotaConfigError,
    QuotaError,
    QuotaExceeded,
    QuotaInputError,
    QuotaStoreError,
    describe_failure,
    exceeded,
    nothing_was_sent,
)

LIMITS = {"defaults": {"tokens_per_minute": 100, "requests_per_minute": 1}}


def refusal(tokens: int = 50) -> QuotaExceeded:
    tracker = QuotaManager("memory:?size=1MiB", LIMITS, ManualClock()).get_tracker("acme")
    tracker.record_request(tokens_used=100)
    with pytest.raises(QuotaExceeded) as caught:
        tracker.reserve(tokens)
    return caught.value


def test_a_refusal_says_what_is_in_the_way_and_until_when() -> None:
    error = refusal()
    assert (error.reason, error.status_code, error.workspace_id, error.never_fits) == ("limit", 429, "acme", False)
    assert {line["limit"] for line in error.limits} == {"tokens_per_minute", "requests_per_minute"}
    assert error.retry_after is not None
    assert 59 < error.retry_after <= 61
    assert error.retry_at == error.decision["retry_at"]
    for word in ("acme", "tokens_per_minute", "100 used", "50 asked", error.retry_at):
        assert str(word) in str(error)
    assert json.loads(json.dumps(error.decision)) == error.decision


def test_what_fits_at_no_time_has_no_retry() -> None:
    error = refusal(101)
    assert error.never_fits
    assert error.retry_after is None
    assert "at no time" in str(error)


def test_a_refusal_is_said_in_the_readers_language() -> None:
    error = refusal()
    english, italian = error.localized(), error.localized("it-IT,it;q=0.9")
    assert {"title", "message", "actions"} <= english.keys()
    assert (english["language"], italian["language"]) == ("en", "it")
    assert english["message"] != italian["message"]


def test_a_decision_that_is_none_cannot_be_said() -> None:
    with pytest.raises(QuotaInputError, match="decision"):
        exceeded({"reason": "limit"}).localized()


def in_a_fresh_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


MAKE = """
from llmquota import QuotaManager, QuotaExceeded
tracker = QuotaManager(limits={'defaults': {'tokens_per_minute': 1}}).get_tracker('acme')
try:
    tracker.reserve(2)
except QuotaExceeded as caught:
    error = caught
"""


def test_without_openai_it_is_a_plain_error_and_nothing_loads_openai() -> None:
    done = in_a_fresh_process(
        MAKE
        + "import sys\nassert type(error) is QuotaExceeded\n"
        + "assert not {'openai', 'httpx', 'httpx2'} & set(sys.modules)\n"
    )
    assert done.returncode == 0, done.stderr


def test_with_openai_it_is_the_sdks_rate_limit_error_too() -> None:
    import openai

    error: Any = refusal()
    assert isinstance(error, openai.RateLimitError)
    assert isinstance(error, QuotaExceeded)
    assert (error.status_code, error.code, error.message, error.request_id) == (429, "quota_refused", str(error), None)
    assert error.response.status_code == 429
    assert error.response.headers["x-should-retry"] == "false"
    assert float(error.response.headers["retry-after-ms"]) == error.retry_after * 1_000
    assert float(error.response.headers["retry-after"]) >= error.retry_after
    assert error.response.json()["error"] == error.body
    assert type(error) is type(refusal()), "one class, however many refusals"


def test_it_pickles_into_a_process_with_openai_and_one_without() -> None:
    error = refusal()
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (again.decision, str(again), again.workspace_id) == (error.decision, str(error), "acme")
    done = in_a_fresh_process(
        "import pickle, llmquota, sys\n"
        f"error = pickle.loads({pickle.dumps(error)!r})\n"
        "assert type(error) is llmquota.QuotaExceeded and error.reason == 'limit'\n"
        "assert 'openai' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [QuotaError, QuotaInputError, QuotaConfigError, QuotaStoreError])
def test_errors_pickle_with_code_and_field(kind: type[QuotaError]) -> None:
    error = pickle.loads(pickle.dumps(kind("tokens: no", "invalid_number", "tokens")))
    assert type(error) is kind
    assert (str(error), error.code, error.field) == ("tokens: no", "invalid_number", "tokens")


def test_the_engines_codes_have_their_classes() -> None:
    manager = QuotaManager("memory:?size=1MiB")
    with pytest.raises(QuotaInputError) as caught:
        manager.record("a\0b")
    assert (caught.value.code, caught.value.field) == ("invalid_id", "workspace_id")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(QuotaConfigError) as caught_config:
        manager.configure(timezone="Mars/Olympus")
    assert caught_config.value.code == "invalid_time_zone"
    with pytest.raises(QuotaConfigError) as caught_limit:
        manager.configure(limits={"defaults": {"tokens_per_minute": "abc"}})
    assert caught_limit.value.code == "invalid_limit"


# --- what a provider's client raised ---


def response(status: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, request=httpx.Request("POST", "https://provider.invalid/"))


class Sdk(Exception):
    """With the attributes that the OpenAI SDK sets."""

    def __init__(self, status: int | None = None, code: Any = None, body: Any = None, **headers: str) -> None:
        super().__init__("rate_limit insufficient_quota 429 exceeded: free words never count")
        self.code, self.body = code, body
        if status is not None:
            self.status_code = status
            self.response = response(status, **headers)


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (Sdk(429, "insufficient_quota"), ("insufficient_quota", 429, None)),
        (Sdk(429, None, {"error": {"code": "rate_limit_exceeded"}}), ("rate_limit_exceeded", 429, None)),
        (Sdk(429, None, {"code": None, "type": "tokens"}), ("tokens", 429, None)),
        (Sdk(529, None, {"type": "error", "error": {"type": "overloaded_error"}}), ("overloaded_error", 529, None)),
        (Sdk(429, 7, "text"), (None, 429, None)),
        (Sdk(503, retry_after="7"), (None, 503, 7.0)),
        (Sdk(429, retry_after="7", retry_after_ms="1250"), (None, 429, 1.25)),
        (Sdk(429, retry_after="soon"), (None, 429, None)),
        (Sdk(429, retry_after="-1"), (None, 429, None)),
        (Sdk(429, retry_after="nan"), (None, 429, None)),
        (Sdk(429, retry_after=formatdate(0, usegmt=True)), (None, 429, 0.0)),
        (Sdk(), (None, None, None)),
        (Exception("Error code: 429 - insufficient_quota"), (None, None, None)),
        (TimeoutError(), ("timeout", None, None)),
        (httpx.ReadTimeout("slow"), ("timeout", None, None)),
        (httpx.ConnectTimeout("slow"), ("timeout", None, None)),
        (httpx.ConnectError("no"), ("connection_error", None, None)),
        (httpx.RemoteProtocolError("cut"), ("connection_error", None, None)),
        (ConnectionResetError(), ("connection_error", None, None)),
        (
            httpx.HTTPStatusError("no", request=httpx.Request("GET", "http://a"), response=response(500)),
            (None, 500, None),
        ),
        (exceeded({"reason": "limit"}), (None, None, None)),
    ],
)
def test_a_failure_is_read_by_code_status_and_wait(error: BaseException, described: tuple[Any, ...]) -> None:
    assert describe_failure(error) == described


def test_a_date_is_a_wait_from_now() -> None:
    wait = describe_failure(Sdk(429, retry_after=formatdate(time.time() + 100, usegmt=True)))[2]
    assert wait is not None
    assert 95 <= wait <= 100


def test_the_sdks_own_errors_are_read() -> None:
    import openai

    http = sys.modules[openai.OpenAI.__mro__[1].__module__]
    library = getattr(http, "httpx2", None) or http.httpx  # type: ignore[attr-defined]
    request = library.Request("POST", "https://provider.invalid/")
    refused = library.Response(429, request=request, headers={"retry-after": "3"})
    body = {"code": "insufficient_quota", "type": "insufficient_quota", "message": "spent"}
    assert describe_failure(openai.RateLimitError("spent", response=refused, body=body)) == (
        "insufficient_quota",
        429,
        3.0,
    )
    assert describe_failure(openai.APITimeoutError(request)) == ("timeout", None, None)
    broken = openai.APIConnectionError(request=request)
    assert describe_failure(broken) == ("connection_error", None, None)
    assert not nothing_was_sent(broken)
    broken.__cause__ = library.ConnectError("refused")
    assert nothing_was_sent(broken)


def test_a_loop_of_causes_ends() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert not nothing_was_sent(one)
    assert describe_failure(one) == (None, None, None)


def test_attributes_that_raise_are_survived() -> None:
    class Hostile(Exception):
        @property
        def code(self) -> str:
            raise RuntimeError("no")

        response = property(lambda self: 1 / 0)

    assert describe_failure(Hostile()) == (None, None, None)
