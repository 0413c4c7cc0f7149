"""Run in a migrated backend's folder: makes one call of each kind, and prints what llmquota has counted, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from ai_agents.conversational_simple import conversational_agent
from services.ai_provider_abstraction import ai_provider_manager
from services.openai_quota_tracker import workspace_quota_manager
from tools.enhanced_document_search import document_search

WHO = {"workspace_id": "migrated", "goal_id": "goal-1", "task_id": "task-1"}


async def main() -> None:
    """Chat, responses, a stream read to its end, and a search."""
    agent = {"name": "assistant", "model": "gpt-4o-mini", "instructions": "Be brief."}
    for provider_type in ("chat", "responses"):
        await ai_provider_manager.call_ai(provider_type, agent, "Hello", **WHO)
    async for _ in conversational_agent.stream_reply("Hello", **WHO):
        pass
    await asyncio.to_thread(document_search.search, "Hello?", ["one", "two", "three"], **WHO)
    tracker = workspace_quota_manager.get_tracker("migrated")
    usage = tracker.snapshot()["usage"]["total"]
    print(json.dumps({"usage": usage, "goal": tracker.get_goal_quota_usage("goal-1")}))


asyncio.run(main())
