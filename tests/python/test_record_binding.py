"""How the arguments of `record_request` are bound: by hand, so as a function with that signature would."""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest

from llmquota import QuotaInputError, QuotaManager, QuotaTracker

TOLD: dict[str, Any] = {
    "success": True,
    "tokens_used": 30,
    "goal_id": "goal",
    "task_id": "task",
    "workspace_id": "other",
    "model": "gpt-4o",
    "user_id": "user",
    "provider": "openai",
    "credential": "key",
    "input_tokens": 20,
    "output_tokens": 10,
    "cached_tokens": 5,
    "reasoning_tokens": 2,
    "cost_usd": 0.5,
    "error_code": None,
    "error_status": None,
    "retry_after": None,
    "service_tier": "flex",
    "request_id": "req-1",
    "latency_ms": 12.4,
    "method": "chat.completions.create",
}
POSITIONAL = ("success", "tokens_used", "goal_id", "task_id", "workspace_id")


@pytest.fixture
def tracker() -> QuotaTracker:
    return QuotaManager().get_tracker("acme")


def total(tracker: QuotaTracker, workspace: str, **inside: str) -> dict[str, Any]:
    """What one account of a workspace used in all."""
    return dict(tracker.manager.usage(workspace, **inside)["total"])


def test_the_signature_names_every_argument_of_these_tests() -> None:
    parameters = list(inspect.signature(QuotaTracker.record_request).parameters)
    assert parameters == ["self", *TOLD]


@pytest.mark.parametrize("seed", range(20))
def test_keywords_go_where_they_belong_in_any_order(tracker: QuotaTracker, seed: int) -> None:
    names = list(TOLD)
    random.Random(seed).shuffle(names)
    tracker.record_request(**{name: TOLD[name] for name in names})
    for inside in ({}, {"goal": "goal"}, {"task": "task"}, {"model": "gpt-4o"}, {"user": "user"}):
        used = total(tracker, "other", **inside)
        told = {"requests": 1, "errors": 0, "tokens": 30, "input_tokens": 20, "output_tokens": 10, "cached_tokens": 5}
        assert {name: used[name] for name in told} == told, inside
        assert used["cost_usd"] == 0.5
    assert total(tracker, "acme")["requests"] == 0
    (row,) = tracker.manager.history_rows()
    beside = ("request_id", "latency_ms", "method", "credential")
    assert tuple(row[name] for name in beside) == ("req-1", 12, "chat.completions.create", "openai/key")


@pytest.mark.parametrize("by_place", range(len(POSITIONAL) + 1))
def test_the_first_five_may_be_given_by_place(tracker: QuotaTracker, by_place: int) -> None:
    given = [TOLD[name] for name in POSITIONAL]
    rest = {name: TOLD[name] for name in POSITIONAL[by_place:]}
    tracker.record_request(*given[:by_place], **rest)
    assert total(tracker, "other", goal="goal")["tokens"] == 30
    assert total(tracker, "other", task="task")["tokens"] == 30


def test_a_keyword_may_be_a_string_of_its_own(tracker: QuotaTracker) -> None:
    # Not the interned one that a call in source code has.
    name = "".join(["goal", "_", "id"])
    tracker.record_request(tokens_used=7, **{name: "goal"})
    assert total(tracker, "acme", goal="goal")["tokens"] == 7


def test_none_counts_as_absent(tracker: QuotaTracker) -> None:
    tracker.record_request(True, **dict.fromkeys(list(TOLD)[1:]))
    assert total(tracker, "acme")["requests"] == 1


def test_a_failure_is_an_error(tracker: QuotaTracker) -> None:
    tracker.record_request(False)
    tracker.record_request(error_status=500)
    tracker.record_request(success=False, tokens_used=3, goal_id="goal")
    assert total(tracker, "acme")["errors"] == 3


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {"tokens": 1}, "unexpected keyword argument 'tokens'"),
        ((True,), {"success": True}, "multiple values for argument 'success'"),
        ((True, 1, "g"), {"goal_id": None}, "multiple values for argument 'goal_id'"),
        ((True, 1, "g", "t", "w", "gpt-4o"), {}, "takes from 0 to 5 positional arguments but 6 were given"),
        ((None,), {}, "success"),
        ((), {"success": 1}, "success"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error(
    tracker: QuotaTracker, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        tracker.record_request(*args, **kwargs)
    assert total(tracker, "acme")["requests"] == 0


def test_a_value_that_cannot_be_is_named_and_records_nothing(tracker: QuotaTracker) -> None:
    for wrong in (
        {"tokens_used": -1},
        {"tokens_used": True},
        {"goal_id": ""},
        {"goal_id": 7},
        {"cost_usd": -1.0},
        {"latency_ms": -1},
        {"latency_ms": "1"},
        {"request_id": 7},
        {"method": b"x"},
    ):
        with pytest.raises(QuotaInputError) as raised:
            tracker.record_request(**wrong)
        assert raised.value.field == next(iter(wrong))
    assert total(tracker, "acme")["requests"] == 0


def test_another_object_is_refused() -> None:
    with pytest.raises(TypeError, match="doesn't apply to a 'str' object"):
        QuotaTracker.record_request("tracker")  # type: ignore[arg-type]
