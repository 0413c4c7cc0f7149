"""The routes under /api/quota, in the envelopes that the legacy frontend reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from llmquota.testing import FakeOpenAI

Chat = Callable[..., httpx.Response]


def get(http: httpx.Client, path: str, **query: str) -> Any:
    answer = http.get(f"/api/quota{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_gauge(gauge: dict[str, Any], unit: str) -> None:
    assert set(gauge) == {"current", "limit", "percentage", "unit"}
    assert gauge["unit"] == unit
    assert gauge["percentage"] == pytest.approx(100 * gauge["current"] / gauge["limit"], abs=0.01)


def test_status_of_a_workspace_that_was_never_used(http: httpx.Client, workspace: str) -> None:
    body = get(http, "/status", workspace_id=workspace)
    assert set(body) == {"success", "data", "workspace_id"}
    assert (body["success"], body["workspace_id"]) == (True, workspace)
    data = body["data"]
    assert data["status"] == "normal"
    for name, unit in (
        ("requests_per_minute", "requests"),
        ("requests_per_day", "requests"),
        ("tokens_per_minute", "tokens"),
    ):
        assert_gauge(data[name], unit)
        assert data[name]["current"] == 0
    assert data["requests_per_minute"]["limit"] == 500
    assert data["errors"] == {"count": 0, "last_error": None}
    assert (data["goal_usage"], data["task_usage"]) == ([], [])
    assert datetime.fromisoformat(data["last_updated"]).tzinfo is None


def test_status_without_a_workspace_is_that_of_unattributed_calls(http: httpx.Client) -> None:
    body = get(http, "/status")
    assert body["workspace_id"] is None
    assert body["data"]["status"] == "normal"


def test_status_counts_a_call_with_its_goal_and_task(http: httpx.Client, chat: Chat, workspace: str) -> None:
    answer = chat(workspace, goal_id="goal-1", task_id="task-1").json()
    tokens = answer["usage"]["total_tokens"]
    data = get(http, "/status", workspace_id=workspace)["data"]
    assert data["requests_per_minute"]["current"] == 1
    assert data["requests_per_day"]["current"] == 1
    assert data["tokens_per_minute"]["current"] == tokens > 0
    entry = {"tokens_used": tokens, "request_count": 1, "avg_tokens_per_request": tokens}
    assert data["goal_usage"] == [{"goal_id": "goal-1", **entry}]
    assert data["task_usage"] == [{"task_id": "task-1", **entry}]


def test_goal_usage(http: httpx.Client, chat: Chat, workspace: str) -> None:
    tokens = [chat(workspace, goal_id=goal).json()["usage"]["total_tokens"] for goal in ("one", "one", "other")]
    data = get(http, "/goal/one/usage", workspace_id=workspace)["data"]
    assert data == {
        "goal_id": "one",
        "tokens_used": tokens[0] + tokens[1],
        "request_count": 2,
        "percentage_of_total": pytest.approx(100 * (tokens[0] + tokens[1]) / sum(tokens), abs=0.01),
    }


def test_usage_by_period(http: httpx.Client, chat: Chat, workspace: str) -> None:
    tokens = chat(workspace).json()["usage"]["total_tokens"]
    data = get(http, "/usage", workspace_id=workspace)["data"]
    legacy = {"period", "requests_per_minute", "requests_per_day", "errors", "last_updated", "status"}
    assert set(data) == legacy | {"usage"}
    assert data["period"] == "current"
    assert set(data["usage"]) == {"minute", "day", "month", "total"}
    today = get(http, "/usage", workspace_id=workspace, period="day")["data"]
    assert (today["period"], today["usage"]["requests"], today["usage"]["tokens"]) == ("day", 1, tokens)
    assert today["usage"]["cost_usd"] > 0


def test_a_refusal_says_which_limit_and_when_to_retry(chat: Chat) -> None:
    assert [chat("two-a-minute").status_code for _ in range(2)] == [200, 200]
    refused = chat("two-a-minute")
    assert refused.status_code == 429
    decision = refused.json()["decision"]
    assert (decision["allowed"], decision["reason"]) == (False, "limit")
    line = next(line for line in decision["limits"] if line["limit"] == "requests_per_minute")
    assert (line["account"], line["cap"], line["used"], line["asked"]) == ("two-a-minute", 2, 2, 1)
    assert 0 < decision["retry_after_ms"] <= 61_000  # a minute is 61 buckets of a second
    assert int(refused.headers["Retry-After"]) == -(-decision["retry_after_ms"] // 1_000)
    assert "2 requests per minute" in refused.json()["detail"]


def test_a_refusal_speaks_the_callers_language(http: httpx.Client) -> None:
    body = {"workspace_id": "nothing-a-minute", "prompt": "Ciao"}
    refused = http.post("/api/ai/chat", json=body, headers={"Accept-Language": "it"})
    assert refused.status_code == 429
    assert "richiest" in refused.json()["detail"]
    assert "Retry-After" not in refused.headers  # a limit of 0 has no end


def test_check_says_how_long_to_wait(http: httpx.Client, chat: Chat) -> None:
    name = "two-a-minute-check"
    free = get(http, "/check", workspace_id=name)["data"]
    assert (free["can_make_request"], free["status"]) == (True, "normal")
    assert free["message"]
    assert "wait_seconds" not in free
    for _ in range(3):
        chat(name)
    full = get(http, "/check", workspace_id=name)["data"]
    assert (full["can_make_request"], full["status"]) == (False, "rate_limited")
    assert 50 < full["wait_seconds"] <= 61
    assert full["suggested_actions"]


def test_notifications_speak_the_readers_language(http: httpx.Client, chat: Chat, workspace: str) -> None:
    quiet = get(http, "/notifications", workspace_id=workspace)["data"]
    assert (quiet["show_notification"], quiet["level"], quiet["title"], quiet["message"]) == (False, "info", "", "")
    assert quiet["suggested_actions"] == []
    name = "two-a-minute-notice"
    for _ in range(2):
        chat(name)
    english = get(http, "/notifications", workspace_id=name)["data"]
    assert set(english) == {"show_notification", "level", "title", "message", "suggested_actions", "status_data"}
    assert (english["show_notification"], english["level"], english["title"]) == (True, "warning", "Rate Limited")
    assert "2 requests per minute" in english["message"]
    assert len(english["suggested_actions"]) == 3
    assert english["status_data"]["status"] == "rate_limited"
    answer = http.get(
        "/api/quota/notifications", params={"workspace_id": name}, headers={"Accept-Language": "it-IT,it;q=0.9"}
    )
    italian = answer.json()["data"]
    assert italian["title"] != english["title"]
    assert re.search(r"richiest", italian["message"])


def test_reset_asks_for_the_key(http: httpx.Client, chat: Chat, workspace: str) -> None:
    chat(workspace)
    for headers, body, query in (
        ({}, None, {}),
        ({"X-Admin-Key": "wrong"}, None, {}),
        ({}, {"admin_key": "wrong"}, {}),
        ({}, None, {"admin_key": "wrong"}),
        ({"X-Admin-Key": "\u00e4".encode()}, None, {}),
    ):
        query = {"workspace_id": workspace, **query}
        answer = http.post("/api/quota/reset", headers=headers, json=body, params=query)
        assert answer.status_code == 403, answer.text
    assert get(http, "/status", workspace_id=workspace)["data"]["requests_per_minute"]["current"] == 1


def test_history_has_a_row_for_each_call_by_the_hold_it_was_sent_with(
    http: httpx.Client, chat: Chat, provider: FakeOpenAI, workspace: str
) -> None:
    tokens = [chat(workspace, goal_id=f"goal-{number}").json()["usage"]["total_tokens"] for number in range(3)]
    latest_first = get(http, "/history", workspace_id=workspace)["data"]
    # The guard's own hold, given back to the call inside, has a row too, of nothing.
    rows = [row for row in latest_first if row["kind"] != "release"]
    assert [(row["goal"], row["kind"], row["tokens"]) for row in rows] == [
        (f"goal-{number}", "settle", tokens[number]) for number in (2, 1, 0)
    ]
    served = provider.served.by("x-client-request-id")
    assert [served[row["hold"]].total_tokens for row in rows] == tokens[::-1]
    assert get(http, "/history", workspace_id=workspace, limit="1")["data"] == latest_first[:1]
    assert get(http, "/history", workspace_id=f"{workspace}-other")["data"] == []
    assert http.get("/api/quota/history", params={"limit": 0}).status_code == 422


def test_an_answer_names_the_worker_that_gave_it(http: httpx.Client) -> None:
    answers = [http.get("/api/quota/status"), http.get("/api/quota/unknown")]
    (worker,) = {int(answer.headers["X-Served-By"]) for answer in answers}
    assert worker > 0


@pytest.mark.parametrize("way", ["header", "body", "query"])
def test_reset_zeroes_one_workspace(http: httpx.Client, chat: Chat, workspace: str, way: str, admin_key: str) -> None:
    other = f"{workspace}-other"
    chat(workspace, goal_id="goal-1")
    chat(other)
    if way == "header":
        answer = http.post("/api/quota/reset", headers={"X-Admin-Key": admin_key}, params={"workspace_id": workspace})
    elif way == "body":
        answer = http.post("/api/quota/reset", json={"admin_key": admin_key, "workspace_id": workspace})
    else:
        answer = http.post("/api/quota/reset", params={"admin_key": admin_key, "workspace_id": workspace})
    assert answer.json() == {"success": True, "message": "Quota statistics reset successfully"}
    data = get(http, "/status", workspace_id=workspace)["data"]
    assert (data["requests_per_minute"]["current"], data["tokens_per_minute"]["current"]) == (0, 0)
    assert [goal["tokens_used"] for goal in data["goal_usage"]] in ([], [0])
    assert get(http, "/status", workspace_id=other)["data"]["requests_per_minute"]["current"] == 1


def test_reset_reopens_a_full_workspace(http: httpx.Client, chat: Chat, admin_key: str) -> None:
    name = "two-a-minute-reset"
    assert [chat(name).status_code for _ in range(3)] == [200, 200, 429]
    http.post("/api/quota/reset", headers={"X-Admin-Key": admin_key}, params={"workspace_id": name}).raise_for_status()
    assert get(http, "/status", workspace_id=name)["data"]["status"] == "normal"
    assert chat(name).status_code == 200


def test_reset_without_a_configured_key_is_closed(other_backend_url: str) -> None:
    answer = httpx.post(f"{other_backend_url}/api/quota/reset", headers={"X-Admin-Key": ""})
    assert answer.status_code == 503
    assert "QUOTA_ADMIN_RESET_KEY" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/status", "/notifications", "/usage", "/check", "/history", "/goal/one/usage"])
def test_an_impossible_workspace_is_the_callers_mistake(http: httpx.Client, path: str) -> None:
    for name in ("a\x00b", "x" * 257):
        answer = http.get(f"/api/quota{path}", params={"workspace_id": name})
        assert answer.status_code == 400, answer.text
        assert answer.json()["detail"]
