"""The demo's reconciliation finds what was not counted."""

from __future__ import annotations

import httpx
import openai
import pytest

from demonstration.books import Account, Reconciliation, reconcile_with_answers, reconcile_with_fake
from demonstration.tenants import TENANTS
from demonstration.traffic import Seen
from demonstration.watching import View
from llmquota.testing import FakeOpenAI

AGREES = Account("acme", 3, 3, 100, 100)


async def test_a_call_that_went_past_the_backend_is_found(backend_url: str, provider: FakeOpenAI) -> None:
    views = [View(tenant.workspace_id) for tenant in TENANTS]
    seen = {tenant.workspace_id: Seen(calls=1) for tenant in TENANTS}
    async with httpx.AsyncClient(base_url=backend_url, timeout=30) as client:
        for tenant in TENANTS:
            body = {"workspace_id": tenant.workspace_id, "goal_id": tenant.goals[0], "prompt": "Hello"}
            (await client.post("/api/ai/chat", json=body)).raise_for_status()
        for view in views:
            await view.refresh(client)
        honest = await reconcile_with_fake(client, provider.served, views, seen)
        with openai.OpenAI(base_url=provider.base_url, api_key="test") as past:
            past.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Hello"}],
                extra_headers={"X-Workspace-Id": "globex"},
            )
        caught = await reconcile_with_fake(client, provider.served, views, seen)
    assert honest.holds, honest
    assert not caught.holds
    assert [account.workspace_id for account in caught.accounts if not account.agrees] == ["globex"]


@pytest.mark.parametrize(
    ("accounts", "disturbed", "holds"),
    [
        ([AGREES], [], True),
        ([AGREES, Account("globex", 3, 3, 100, 99)], [], False),
        ([AGREES, Account("globex", 3, 4, 100, 100)], [], False),
        ([AGREES, Account("globex", 0, 0, 0, 0)], [], False),
        ([AGREES], ["acme"], False),
    ],
)
def test_what_holds(accounts: list[Account], disturbed: list[str], holds: bool) -> None:
    assert Reconciliation("", accounts, [], disturbed).holds is holds


def test_against_a_real_provider_the_answers_are_the_books() -> None:
    views = [View("acme", requests=5, errors=2, tokens=90), View("noisy-corp", requests=2, tokens=40)]
    seen = {
        "acme": Seen(calls=3, answered_requests=3, answered_tokens=90),
        "noisy-corp": Seen(calls=9, refused=7, answered_requests=2, answered_tokens=40),
    }
    assert reconcile_with_answers(views, seen).holds
    seen["acme"].refused = 1
    assert reconcile_with_answers(views, seen).disturbed == ["acme"]
