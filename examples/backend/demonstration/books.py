"""The reconciliation: what the provider counted against what llmquota counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from llmquota.testing.fake_openai import Served, Tally

from .tenants import NOISY, TENANTS
from .traffic import Seen
from .watching import View, goal_tokens


@dataclass(frozen=True)
class Account:
    """One workspace in both books, without the tokens that the provider never told."""

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
class Reconciliation:
    """Both books side by side."""

    provider: str
    """Where the provider's numbers come from."""
    accounts: Sequence[Account]
    untold: Sequence[Untold]
    disturbed: Sequence[str]
    """Workspaces that were refused though they kept within their limits."""

    @property
    def holds(self) -> bool:
        """Every account agrees, the quiet ones noticed nothing, and something was counted at all."""
        counted = all(account.provider_requests > 0 and account.provider_tokens > 0 for account in self.accounts)
        return counted and all(account.agrees for account in self.accounts) and not self.disturbed


async def reconcile_with_fake(
    client: httpx.AsyncClient, served: Served, views: Sequence[View], seen: dict[str, Seen]
) -> Reconciliation:
    """Against the fake provider's own books, which split by workspace and by goal."""
    by_workspace, by_goal = served.by("x-workspace-id"), served.by("x-goal-id")
    accounts: list[Account] = []
    untold: list[Untold] = []
    for tenant, view in zip(TENANTS, views, strict=True):
        gaps = []
        for goal in sorted(set(tenant.goals)):  # no two tenants share a goal
            books = by_goal.get(goal, Tally())
            if books.unreported_requests:
                estimated = await goal_tokens(client, view.workspace_id, goal) - books.reported_tokens
                gaps.append(
                    Untold(view.workspace_id, goal, books.unreported_requests, books.unreported_tokens, estimated)
                )
        tally = by_workspace.get(view.workspace_id, Tally())
        untold += gaps
        accounts.append(
            Account(
                view.workspace_id,
                provider_requests=tally.requests,
                counted_requests=view.requests,
                provider_tokens=tally.reported_tokens,
                counted_tokens=view.tokens - sum(gap.estimated_tokens for gap in gaps),
            )
        )
    return Reconciliation("the provider's own books", accounts, untold, _disturbed(seen))


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
