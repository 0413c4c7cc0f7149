"""The demo's reconciliation finds what was not counted, and what was counted otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from demonstration.backend import free_port, running_backend
from demonstration.books import Account, Reconciliation, reconcile_with_answers, reconcile_with_fake
from demonstration.calls import matched
from demonstration.tenants import BOOKS, TENANTS
from demonstration.traffic import Seen
from demonstration.watching import View
from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai import Tally

AGREES = Account("acme", 3, 3, 100, 100)


@pytest.fixture
def books() -> Iterator[FakeOpenAI]:
    """A provider that serves nobody else: its books are compared as a whole."""
    with FakeOpenAI(group_by=BOOKS) as fake:
        yield fake


@pytest.fixture
def backend(books: FakeOpenAI) -> Iterator[str]:
    environment = {
        "OPENAI_BASE_URL": books.base_url,
        "OPENAI_API_KEY": "test",
        "LLMQUOTA_STORE": "memory:",
        "LLMQUOTA_LIMITS": "",
    }
    with running_backend(free_port(18_500), environment) as url:
        yield url


async def test_a_call_that_went_past_the_backend_is_found(backend: str, books: FakeOpenAI) -> None:
    views = [View(tenant.workspace_id) for tenant in TENANTS]
    seen = {tenant.workspace_id: Seen(calls=1) for tenant in TENANTS}
    async with httpx.AsyncClient(base_url=backend, timeout=30) as client:
        for tenant in TENANTS:
            body = {"workspace_id": tenant.workspace_id, "goal_id": tenant.goals[0], "prompt": "Hello"}
            (await client.post("/api/ai/chat", json=body)).raise_for_status()
        for view in views:
            await view.refresh(client)
        honest = await reconcile_with_fake(client, books.served, views, seen)
        with openai.OpenAI(base_url=books.base_url, api_key="test") as past:
            past.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Hello"}],
                extra_headers={"X-Workspace-Id": "globex"},
            )
        caught = await reconcile_with_fake(client, books.served, views, seen)
    assert honest.holds, honest
    assert not caught.holds
    assert [account.workspace_id for account in caught.accounts if not account.agrees] == ["globex"]
    assert len(caught.differences) == 1
    assert caught.differences[0].startswith("A call without a hold: the provider served 1 requests")
    assert (honest.matched, caught.matched) == (3, 3)


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


def test_a_difference_of_one_call_does_not_hold() -> None:
    assert not Reconciliation("", [AGREES], [], [], differences=["hold-1: ..."]).holds


def row(kind: str = "settle", **columns: Any) -> dict[str, Any]:
    """A row of a call of one request and 10 tokens, with hold ``h1``."""
    usual = {"kind": kind, "hold": "h1", "workspace": "acme", "goal": "goal-1", "certainty": "exact", "replaced": False}
    return {**usual, "requests": 1, "errors": 0, "tokens": 10, **columns}


def served(status: str = "200", **counts: int) -> Tally:
    return Tally(**{"requests": 1, "total_tokens": 10, **counts}, statuses={status: 1})


UNTOLD = served(unreported_requests=1, unreported_tokens=10)


@pytest.mark.parametrize(
    ("rows", "tally", "found"),
    [
        ([row()], served(), "equal"),
        ([row(errors=1, tokens=0)], served("429", total_tokens=0), "equal"),
        ([row("release", requests=0, tokens=0)], None, "equal"),
        ([row(certainty="estimated", errors=1, tokens=7)], UNTOLD, "untold"),
        ([row("orphan", tokens=6)], UNTOLD, "orphans"),
        ([row("orphan", tokens=6)], served(), "orphans"),
        ([row("orphan", tokens=6)], None, "orphans"),
        ([row("orphan", tokens=6, replaced=True), row()], served(), "equal"),
        ([row(tokens=11)], served(), "differences"),
        ([row(errors=1)], served(), "differences"),
        ([row(tokens=7)], UNTOLD, "differences"),
        ([row(certainty="estimated", tokens=7)], served(), "differences"),
        ([row()], None, "differences"),
        ([row("release", requests=0, tokens=0)], served(), "differences"),
        ([row("record")], served(), "differences"),
        ([row()], served(requests=2, total_tokens=20), "differences"),
        ([], served(), "differences"),
    ],
)
def test_a_call_is_held_against_its_row(rows: list[dict[str, Any]], tally: Tally | None, found: str) -> None:
    result = matched(rows, {} if tally is None else {"h1": tally})
    assert {name: len(each) for name, each in vars(result).items() if each} == {found: 1}


def test_two_rows_of_one_hold_are_one_too_many() -> None:
    result = matched([row(), row()], {"h1": served()})
    assert (len(result.equal), len(result.differences)) == (1, 1)


def test_an_orphan_says_what_was_held_what_was_served_and_how_far_the_answer_came() -> None:
    rows = [row("orphan", hold=hold, tokens=6) for hold in ("h1", "h2", "h3")]
    orphans = matched(rows, {"h1": served(), "h2": UNTOLD}).orphans
    assert [(each.hold, each.held_tokens, each.provider_tokens, each.fate) for each in orphans] == [
        ("h1", 6, 10, "left whole"),
        ("h2", 6, 10, "broke off"),
        ("h3", 6, 0, "never asked"),
    ]


def test_against_a_real_provider_the_answers_are_the_books() -> None:
    views = [View("acme", requests=5, errors=2, tokens=90), View("noisy-corp", requests=2, tokens=40)]
    seen = {
        "acme": Seen(calls=3, answered_requests=3, answered_tokens=90),
        "noisy-corp": Seen(calls=9, refused=7, answered_requests=2, answered_tokens=40),
    }
    assert reconcile_with_answers(views, seen).holds
    seen["acme"].refused = 1
    assert reconcile_with_answers(views, seen).disturbed == ["acme"]
