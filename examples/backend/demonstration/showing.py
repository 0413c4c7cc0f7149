"""The demo's pictures: the live table, and the reconciliation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .books import Reconciliation
from .calls import Orphan
from .traffic import Seen
from .watching import View
from .workers import Killed, Workers

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
    for name in ("calls", "refused", "lost", "requests", "tokens", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    goals = []
    for view in views:
        calls = seen[view.workspace_id]
        table.add_row(
            view.workspace_id,
            Text(view.status, STATUS_STYLES.get(view.status, "")),
            f"{calls.calls:,}",
            Text(f"{calls.refused:,}", "red" if calls.refused else ""),
            Text(f"{calls.lost:,}", "red" if calls.lost else ""),
            f"{view.requests:,}",
            f"{view.tokens:,}",
            f"{view.cost_usd:.4f}",
        )
        top = ", ".join(f"{goal['goal_id']} {goal['tokens_used']:,}" for goal in view.goals[:TOP_GOALS])
        goals.append(Text.assemble("  ", (view.workspace_id, "bold"), f": {top or 'none yet'}"))
    return Group(table, Text("Top goals, by tokens:"), *goals)


def kill(killed: Killed) -> str:
    """What happened to the worker."""
    return (
        f"Worker {killed.pid} was killed (SIGKILL) after {killed.after_seconds:.1f} s, in the middle of an answer to "
        f"{killed.workspace_id}."
    )


def answers(workers: Workers) -> Text:
    """Who answered, and who did not live to the end."""
    dead = workers.killed and workers.killed.pid
    parts = [f"{number:,} by {pid}{' (killed)' if pid == dead else ''}" for pid, number in workers.answers.items()]
    return Text(f"Answers by worker process: {', '.join(parts)}.")


def reconciliation(result: Reconciliation, killed: Killed | None) -> Group:
    """Both books, the calls that the killed worker had open, those without a number, and the verdict."""
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
    lines: list[RenderableType] = []
    if result.matched:
        lines.append(Text(f"{result.matched:,} calls are in both books under one hold, equal to the unit."))
    lines += [
        Text(
            f"{calls.requests:,} of them, with {calls.tokens:,} tokens, were made by a module with a bare OpenAI() "
            f"client that no layer knows of: counted, and attributed to {calls.workspace_id}."
        )
        for calls in result.rogue
    ]
    if killed is not None:
        lines += [Text(""), Text(kill(killed)), _orphans(result.orphans)]
    lines += [
        Text(
            f"Apart: {gap.workspace_id} / {gap.goal_id}: {gap.requests} answers broke off before the provider gave a "
            f"number. It charged {gap.charged_tokens:,} tokens; llmquota counted an estimate of "
            f"{gap.estimated_tokens:,}."
        )
        for gap in result.untold
    ]
    lines += [Text(f"{name} was refused within its limits.", "bold red") for name in result.disturbed]
    lines += [Text(difference, "bold red") for difference in result.differences]
    if result.verified:
        lines.append(Text("llmquota verify: every counter is what history adds up to."))
    verdict = "The books agree." if result.holds else "The books do not agree."
    lines.append(Text(verdict, "bold green" if result.holds else "bold red"))
    return Group(table, *lines)


def _orphans(orphans: Sequence[Orphan]) -> RenderableType:
    """A row for each hold that the killed worker left open. They are in neither sum above."""
    if not orphans:
        return Text("It had no call open that had been sent.")
    table = Table(title="Orphaned holds of that worker: charged as held, once", title_justify="left")
    for name in ("hold", "workspace"):
        table.add_column(name, no_wrap=True)
    for name in ("tokens held", "tokens served"):
        table.add_column(name, justify="right")
    table.add_column("answer", no_wrap=True)
    for orphan in orphans:
        held, served = f"{orphan.held_tokens:,}", f"{orphan.provider_tokens:,}"
        table.add_row(orphan.hold, orphan.workspace_id, held, served, orphan.fate)
    return table
