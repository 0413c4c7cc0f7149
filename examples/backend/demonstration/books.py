"""The reconciliation: what the provider counted against what llmquota counted, call by call and in sum."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import httpx

from llmquota.history import Row
from llmquota.testing import FakeOpenAI
from llmquota.testing.fake_openai import Served, Tally

from .calls import Matched, Orphan, matched, sums
from .tenants import HOLD_HEADER, NOISY, ROGUE_GOAL
from .traffic import Seen
from .watching import View, history

ORPHAN_SECONDS = 5.0
"""In which the holds of a dead process have ended: within one, and more where the machine is busy."""


@dataclass(frozen=True)
class Account:
    """One workspace in both books, without orphaned holds, and without the tokens that the provider never told."""

    workspace_id: str
    provider_requests: int
    counted_requests: int
    provider_tokens: int
    counted_tokens: int

    @property
    def agrees(self) -> bool:
        """Whether both books say the same."""
        return (self.provider_requests, self.provider_tokens) == (self.counted_requests, self.counted_tokens)


@dataclass(frozen=True)
class Untold:
    """The calls of one goal that the provider charged and gave no number for: llmquota can only estimate."""

    workspace_id: str
    goal_id: str
    requests: int
    charged_tokens: int
    estimated_tokens: int


@dataclass(frozen=True)
class Rogue:
    """The calls of a module that makes a client of its own: the provider knows no workspace of them, llmquota does."""

    workspace_id: str
    requests: int
    tokens: int


@dataclass(frozen=True)
class Reconciliation:
    """Both books side by side."""

    provider: str
    """Where the provider's numbers come from."""
    accounts: Sequence[Account]
    untold: Sequence[Untold]
    disturbed: Sequence[str]
    """Workspaces that were refused though they kept within their limits."""
    matched: int = 0
    """Calls that both books have under one hold, and about which they say the same."""
    orphans: Sequence[Orphan] = ()
    """The calls that were open at a worker when it was killed."""
    rogue: Sequence[Rogue] = ()
    """Calls that no layer of the backend knows of."""
    differences: Sequence[str] = ()
    """What else is in one book and not in the other, in a sentence each."""
    verified: bool = False
    """Whether ``llmquota verify`` was asked, and found nothing."""

    @property
    def holds(self) -> bool:
        """Every account and every call agrees, the quiet ones noticed nothing, and something was counted at all."""
        counted = all(account.provider_requests > 0 and account.provider_tokens > 0 for account in self.accounts)
        agree = all(account.agrees for account in self.accounts) and not self.differences
        return counted and agree and not self.disturbed


async def reconcile_when_settled(
    client: httpx.AsyncClient, fake: FakeOpenAI, views: Sequence[View], seen: dict[str, Seen]
) -> Reconciliation:
    """Against the fake provider's books, once the holds of the dead have ended; as it is, where they do not in time."""
    deadline = monotonic() + ORPHAN_SECONDS
    while True:
        for view in views:
            await view.refresh(client)
        result = await reconcile_with_fake(client, fake.served, views, seen)
        if result.holds or monotonic() > deadline:
            return result
        await asyncio.sleep(0.2)


async def reconcile_with_fake(
    client: httpx.AsyncClient, served: Served, views: Sequence[View], seen: dict[str, Seen]
) -> Reconciliation:
    """Against the fake provider's own books, which split by workspace, by goal and by hold.

    The calls are those of history; the sums are those of the counters that llmquota decides by.
    """
    tallies = served.by("x-workspace-id")
    rows = [row for view in views for row in await history(client, view.workspace_id)]
    by_hold = served.by(HOLD_HEADER)
    calls = matched(rows, by_hold)
    rogue = [_rogue(view.workspace_id, rows, by_hold) for view in views]
    differences = [*calls.differences, *_sums_that_differ(views, sums(rows)), *_orphans_of_the_living(calls, seen)]
    accounts = [
        _account(view, tallies.get(view.workspace_id, Tally()), calls, unsigned)
        for view, unsigned in zip(views, rogue, strict=True)
    ]
    return Reconciliation(
        provider="the provider's own books",
        accounts=accounts,
        untold=_untold(calls),
        disturbed=_disturbed(seen),
        matched=sum(row["requests"] > 0 for row in calls.equal),
        orphans=calls.orphans,
        rogue=[unsigned for unsigned in rogue if unsigned.requests],
        differences=differences,
    )


def _rogue(workspace_id: str, rows: Sequence[Row], by_hold: Mapping[str, Tally]) -> Rogue:
    """By the provider's books, under the holds that llmquota has for the workspace."""
    own = [row for row in rows if row["workspace"] == workspace_id and row["goal"] == ROGUE_GOAL]
    served = [by_hold.get(row["hold"] or "", Tally()) for row in own if not row["replaced"]]
    return Rogue(workspace_id, sum(each.requests for each in served), sum(each.total_tokens for each in served))


def _account(view: View, tally: Tally, calls: Matched, rogue: Rogue) -> Account:
    orphans = [orphan for orphan in calls.orphans if orphan.workspace_id == view.workspace_id]
    untold = [(row, told) for row, told in calls.untold if row["workspace"] == view.workspace_id]
    apart = sum(orphan.provider_tokens for orphan in orphans) + sum(told.total_tokens for _, told in untold)
    estimated = sum(orphan.held_tokens for orphan in orphans) + sum(row["tokens"] for row, _ in untold)
    return Account(
        view.workspace_id,
        provider_requests=tally.requests + rogue.requests - sum(orphan.provider_requests for orphan in orphans),
        counted_requests=view.requests - sum(orphan.held_requests for orphan in orphans),
        provider_tokens=tally.total_tokens + rogue.tokens - apart,
        counted_tokens=view.tokens - estimated,
    )


def _untold(calls: Matched) -> list[Untold]:
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, told in calls.untold:
        groups.setdefault((row["workspace"], row["goal"] or ""), []).append((told.total_tokens, row["tokens"]))
    return [
        Untold(workspace, goal, len(pairs), sum(charged for charged, _ in pairs), sum(guess for _, guess in pairs))
        for (workspace, goal), pairs in sorted(groups.items())
    ]


def _sums_that_differ(views: Sequence[View], recorded: dict[str, tuple[int, int]]) -> list[str]:
    """Counters that are not what history adds up to."""
    return [
        f"{view.workspace_id}: its counters say {view.requests} requests and {view.tokens} tokens, its history says "
        f"{requests} and {tokens}."
        for view in views
        for requests, tokens in [recorded.get(view.workspace_id, (0, 0))]
        if (requests, tokens) != (view.requests, view.tokens)
    ]


def _orphans_of_the_living(calls: Matched, seen: dict[str, Seen]) -> list[str]:
    """An orphaned hold is a call whose caller was cut off: any more of them were left behind by a worker that lives."""
    found = Counter(orphan.workspace_id for orphan in calls.orphans)
    return [
        f"{workspace}: {number} holds were orphaned, but only {seen[workspace].lost} callers lost their connection."
        for workspace, number in found.items()
        if number > seen[workspace].lost
    ]


def reconcile_with_answers(views: Sequence[View], seen: dict[str, Seen]) -> Reconciliation:
    """Against the usage in the provider's answers: a real provider shows its books days later, and not by workspace.

    Answers say nothing of failed requests, so that only the others are compared.
    """
    accounts = [
        Account(
            view.workspace_id,
            provider_requests=seen[view.workspace_id].answered_requests,
            counted_requests=view.requests - view.errors,
            provider_tokens=seen[view.workspace_id].answered_tokens,
            counted_tokens=view.tokens,
        )
        for view in views
    ]
    return Reconciliation("the usage in its answers, successful requests alone", accounts, [], _disturbed(seen))


def _disturbed(seen: dict[str, Seen]) -> list[str]:
    return [workspace for workspace, calls in seen.items() if workspace != NOISY and calls.refused]
