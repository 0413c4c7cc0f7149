"""A11: the seed's three snippets, as they are written, in a fresh process of the example backend."""

from __future__ import annotations

from collections.abc import Callable

SNIPPETS = """\
# Test 1: Verify quota tracking works
async def test_quota_tracking():
    from services.openai_quota_tracker import workspace_quota_manager
    tracker = workspace_quota_manager.get_tracker("test-workspace")
    tracker.record_request(success=True, tokens_used=100, goal_id="goal-1")
    assert tracker.goal_usage["goal-1"] == 100
    print("Quota tracking works")

# Test 2: Verify workspace isolation
async def test_workspace_isolation():
    tracker1 = workspace_quota_manager.get_tracker("workspace-1")
    tracker2 = workspace_quota_manager.get_tracker("workspace-2")
    tracker1.record_request(success=True, tokens_used=100)
    assert tracker2.usage_stats["tokens_used"] == 0
    print("Workspace isolation works")

# Test 3: Verify WebSocket updates
async def test_websocket_updates():
    # Connect to WebSocket and verify updates received
    # See test_quota_websocket.py for implementation
    pass
"""

RUN = """
import asyncio
from services.openai_quota_tracker import workspace_quota_manager
{snippets}
for test in (test_quota_tracking, test_workspace_isolation, test_websocket_updates):
    asyncio.run(test())
"""


def test_the_three_snippets_pass_as_written(in_backend: Callable[..., str]) -> None:
    assert in_backend(RUN.format(snippets=SNIPPETS)) == "Quota tracking works\nWorkspace isolation works\n"


def test_a_fresh_process_begins_at_zero(in_backend: Callable[..., str]) -> None:
    code = (
        "from services.openai_quota_tracker import quota_tracker as t; print(t.usage_stats['tokens_used']); "
        "t.record_request(tokens_used=5)"
    )
    assert [in_backend(code), in_backend(code)] == ["0\n", "0\n"]


def test_the_environment_sets_the_limits(in_backend: Callable[..., str]) -> None:
    code = "from services.openai_quota_tracker import quota_tracker as t; print(dict(t.rate_limits))"
    limits = {
        "OPENAI_RATE_LIMIT_PER_MINUTE": "5",
        "OPENAI_RATE_LIMIT_PER_DAY": "50",
        "OPENAI_TOKEN_LIMIT_PER_MINUTE": "500",
        "OPENAI_DAILY_TOKEN_LIMIT": "5000",
        "OPENAI_MONTHLY_BUDGET_USD": "12.5",
        "OPENAI_WARNING_THRESHOLD_PERCENT": "60",
        "OPENAI_CRITICAL_THRESHOLD_PERCENT": "90",
    }
    assert eval(in_backend(code, **limits)) == {
        "requests_per_minute": 5,
        "requests_per_day": 50,
        "tokens_per_minute": 500,
        "tokens_per_day": 5000,
        "monthly_budget_usd": 12.5,
        "warning_threshold": 0.6,
        "critical_threshold": 0.9,
    }
