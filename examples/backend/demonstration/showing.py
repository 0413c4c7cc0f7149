"""The demo's pictures: the live table, and the reconciliation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .books import Reconciliation
from .traffic import Seen
from .watching import View

TOP_GOALS = 3
STATUS_STYLES = {
    "normal": "green",
    "warning": "yellow",
    "degraded": "yellow",
    "rate_limited": "red",
    "quota_exceeded": "bold red",
}


def workspaces(views: Sequence[View], seen: dict[str, Seen], title: str) -> Group:
    """A row for each workspace, as the backend's routes show it; calls and refusals as the callers saw them."""
    table = Table(title=title, title_justify="left")
    table.add_column("workspace", no_wrap=True)
    table.add_column("status", no_wrap=True, min_width=len("quota_exceeded"))
    for name in ("calls", "refused", "requests", "tokens", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    goals = []
    for view in views:
        calls = seen[view.workspace_id]
        table.add_row(
            view.workspace_id,
            Text(view.status, STATUS_STYLES.get(view.status, "")),
            f"{calls.calls:,}",
            Text(f"{calls.refused:,}", "red" if calls.refused else ""),
            f"{view.requests:,}",
            f"{view.tokens:,}",
            f"{view.cost_usd:.4f}",
        )
        top = ", ".join(f"{goal['goal_id']} {goal['tokens_used']:,}" for goal in view.goals[:TOP_GOALS])
        goals.append(Text.assemble("  ", (view.workspace_id, "bold"), f": {top or 'none yet'}"))
    return Group(table, Text("Top goals, by tokens:"), *goals)


def reconciliation(result: Reconciliation) -> Group:
    """Both books, the calls without a number, and the verdict."""
    table = Table(title=f"Reconciliation with {result.provider}", title_justify="left")
    table.add_column("workspace", no_wrap=True)
    for name in ("provider requests", "counted requests", "provider tokens", "counted tokens"):
        table.add_column(name, justify="right")
    table.add_column("")
    for account in result.accounts:
        table.add_row(
            account.workspace_id,
            f"{account.provider_requests:,}",
            f"{account.counted_requests:,}",
            f"{account.provider_tokens:,}",
            f"{account.counted_tokens:,}",
            Text("equal", "green") if account.agrees else Text("DIFFERENT", "bold red"),
        )
    lines = [
        Text(
            f"Apart: {gap.workspace_id} / {gap.goal_id}: {gap.requests} answers broke off before the provider gave a "
            f"number. It charged {gap.charged_tokens:,} tokens; llmquota counted an estimate of "
            f"{gap.estimated_tokens:,}."
        )
        for gap in result.untold
    ]
    lines += [Text(f"{name} was refused within its limits.", "bold red") for name in result.disturbed]
    verdict = "The books agree." if result.holds else "The books do not agree."
    lines.append(Text(verdict, "bold green" if result.holds else "bold red"))
    return Group(table, *lines)
