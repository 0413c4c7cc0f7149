"""What counts as a provider's word: the code in the SDK's text, exact class names, and nothing else."""

from __future__ import annotations

import time

import httpx2
import openai
import pytest

from llmquota.compat.classify import Failure, of_exception, of_report, of_text

QUOTA_TEXT = (
    "Error code: 429 - {'error': {'message': 'You exceeded your current quota, please check your plan and billing "
    "details.', 'type': 'insufficient_quota', 'param': None, 'code': 'insufficient_quota'}}"
)
RATE_TEXT = (
    "Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o in organization org-x on tokens per min "
    "(TPM): Limit 30000. Please try again in 1m2.5s.', 'type': 'tokens', 'param': None, 'code': 'rate_limit_exceeded'}}"
)
CONTEXT_TEXT = (
    "Error code: 400 - {'error': {'message': \"This model's maximum context length is exceeded\", "
    "'type': 'invalid_request_error', 'param': 'messages', 'code': 'context_length_exceeded'}}"
)


def test_the_sdks_text_has_code_status_and_wait() -> None:
    assert of_text("RateLimitError", QUOTA_TEXT) == Failure("insufficient_quota", 429)
    assert of_text("RateLimitError", RATE_TEXT) == Failure("rate_limit_exceeded", 429, 62.5)
    assert of_text("openai_error", CONTEXT_TEXT) == Failure("context_length_exceeded", 400)
    assert of_text("InternalServerError", "Error code: 529") == Failure(None, 529)


def test_a_body_that_is_no_literal_leaves_the_status() -> None:
    for body in ("{'error': __import__('os')}", "{'a': 1", "{" * 500 + "}" * 500, "{'error': 1}", "{1, 2}"):
        assert of_text("RateLimitError", f"Error code: 429 - {body}").status in (429, None)
    assert of_text("x", "Error code: 429 - {'error': __import__('os').abort()}") == Failure(None, 429)


def test_reading_is_bounded() -> None:
    began = time.perf_counter()
    assert of_text("x", "Error code: 429 - {" + "[" * 5_000_000 + "}") == Failure()
    assert of_text("x", "Error code: 429 - {'a': " + "(" * 30_000 + ")" * 30_000 + "}") == Failure(None, 429)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RateLimitError", Failure("rate_limit_exceeded", 429)),
        ("APITimeoutError", Failure("timeout")),
        ("APIConnectionError", Failure("connection_error")),
        ("InternalServerError", Failure("server_error", 500)),
        ("insufficient_quota", Failure("insufficient_quota")),
        ("openai_error", Failure()),
        ("GenerateError", Failure()),
        ("MyRateLimitErrorWrapper", Failure()),
        ("ratelimiterror", Failure()),
    ],
)
def test_a_name_counts_only_if_it_is_exact(name: str, expected: Failure) -> None:
    assert of_text(name, "rate limit 429 quota exceeded insufficient_quota") == expected


@pytest.mark.parametrize(
    "words",
    ["exceeded", "insufficient_quota", "429", "the quota was exceeded", "see Error code: 429 - {'error': {}}", ""],
)
def test_free_words_never_count(words: str) -> None:
    assert of_text("ValueError", words) == Failure()
    assert not of_text("ValueError", words)


def _sdk_error(status: int, body: dict, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    client = openai.OpenAI(api_key="sk-test")
    request = httpx2.Request("POST", "https://api.openai.com/v1/chat/completions")
    response = httpx2.Response(status, json=body, headers=headers, request=request)
    return client._make_status_error_from_response(response)


def test_a_real_sdk_error_says_its_code_while_it_is_handled() -> None:
    body = {"error": {"message": "You exceeded", "type": "insufficient_quota", "code": "insufficient_quota"}}
    error = _sdk_error(429, body)
    assert type(error) is openai.RateLimitError
    assert of_exception(error) == Failure("insufficient_quota", 429)
    assert of_exception(error).is_spent_quota
    assert not of_exception(error).is_rate_limit
    try:
        raise error
    except openai.OpenAIError as handled:
        reports = [
            of_report(type(handled).__name__, str(handled)),
            of_report(None, str(handled)),
            of_report("RateLimitError", "Error code: 500"),
        ]
    assert reports == [Failure("insufficient_quota", 429), Failure("insufficient_quota", 429), Failure(None, 500)]
    assert of_report(type(error).__name__, str(error)).status == 429


def test_the_text_of_a_newer_sdk_has_the_status_and_the_wait() -> None:
    assert of_text("RateLimitError", "Error code: 429 - Please try again in 20s.") == Failure(None, 429, 20)
    assert of_text("BadRequestError", "Error code: 400 - the quota was exceeded") == Failure(None, 400)


def test_an_exceptions_headers_tell_the_wait() -> None:
    body = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    assert of_exception(_sdk_error(429, body, {"retry-after-ms": "1500"})).retry_after == 1.5
    assert of_exception(_sdk_error(429, body, {"retry-after": "7"})).retry_after == 7
    assert (
        of_exception(_sdk_error(429, {"error": {"message": "Please try again in 6ms.", "code": "x"}})).retry_after
        == 0.006
    )


def test_an_exception_of_other_libraries_is_read_by_its_attributes() -> None:
    class Overloaded(Exception):
        status_code = 529

    assert of_exception(Overloaded()).is_rate_limit
    assert not of_exception(ValueError("429 rate_limit overloaded"))
