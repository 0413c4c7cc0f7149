"""The rows of history against the provider's books, call by call: matched by the hold that was sent along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmquota.history import Row
from llmquota.testing.fake_openai import Tally


@dataclass(frozen=True)
class Orphan:
    """A hold whose worker died with the call open: charged as it was held, for nobody knows what the call used."""

    hold: str
    workspace_id: str
    goal_id: str | None
    held_requests: int
    held_tokens: int
    provider_requests: int
    """0 where the worker died before the request had reached the provider."""
    provider_tokens: int
    """What the provider charged for it."""
    told: bool
    """Whether the provider's answer with these numbers had left it."""

    @property
    def fate(self) -> str:
        """What became of the provider's answer."""
        if not self.provider_requests:
            return "never asked"
        return "left whole" if self.told else "broke off"


@dataclass
class Matched:
    """All calls of both books."""

    equal: list[Row] = field(default_factory=list)
    """The provider told what these used, and it was counted to the unit."""
    untold: list[tuple[Row, Tally]] = field(default_factory=list)
    """The provider charged these and never told what; an estimate was counted."""
    orphans: list[Orphan] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def matched(rows: Sequence[Row], by_hold: Mapping[str, Tally]) -> Matched:
    """Holds each row against what the provider has under its hold; ``by_hold`` has all that the provider served."""
    result = Matched()
    left = dict(by_hold)
    for row in rows:
        if row["replaced"]:
            continue
        served = left.pop(row["hold"] or "", Tally())
        if row["kind"] == "orphan":
            result.orphans.append(_orphan(row, served))
        elif _says_the_same(row, served):
            result.equal.append(row)
        elif row["kind"] == "settle" and row["requests"] == served.requests and _only_estimated(row, served):
            result.untold.append((row, served))
        else:
            result.differences.append(_difference(row, served))
    result.differences += [
        f"{hold or 'A call without a hold'}: the provider served {served.requests} requests and {served.total_tokens} "
        "tokens that history does not have."
        for hold, served in left.items()
    ]
    return result


def sums(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Requests and tokens by workspace, as history has them."""
    result: dict[str, tuple[int, int]] = {}
    for row in rows:
        if not row["replaced"]:
            requests, tokens = result.get(row["workspace"], (0, 0))
            result[row["workspace"]] = (requests + row["requests"], tokens + row["tokens"])
    return result


def _says_the_same(row: Row, served: Tally) -> bool:
    """A ``release`` says that nothing was sent: a hold that had not started, also one of a worker that died."""
    failed = sum(number for status, number in served.statuses.items() if status != "200")
    return (
        row["kind"] in ("settle", "release")
        and not served.unreported_requests
        and (row["requests"], row["errors"], row["tokens"]) == (served.requests, failed, served.total_tokens)
    )


def _only_estimated(row: Row, served: Tally) -> bool:
    return served.unreported_requests > 0 and row["certainty"] == "estimated"


def _orphan(row: Row, served: Tally) -> Orphan:
    return Orphan(
        hold=row["hold"],
        workspace_id=row["workspace"],
        goal_id=row["goal"],
        held_requests=row["requests"],
        held_tokens=row["tokens"],
        provider_requests=served.requests,
        provider_tokens=served.total_tokens,
        told=served.requests > 0 and not served.unreported_requests,
    )


def _difference(row: Row, served: Tally) -> str:
    return (
        f"{row['hold'] or 'A row without a hold'}: history has it as {row['kind']} of {row['requests']} requests, "
        f"{row['errors']} errors and {row['tokens']} tokens ({row['certainty']}); the provider served "
        f"{served.requests} requests and {served.total_tokens} tokens, {served.unreported_tokens} of them untold "
        f"({', '.join(f'{number} x {status}' for status, number in served.statuses.items()) or 'no answer'})."
    )
