"""Who calls, how often, and what goes wrong for them: the demo's script."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from llmquota.testing import FakeOpenAI

BROKEN_GOAL = "live-captions"
"""The provider drops every stream of this goal, and so never says what it cost."""

NOISY = "noisy-corp"

ROGUE_GOAL = "headlines"
"""The goal of the module that makes a bare ``OpenAI()`` client: it tells the provider nothing of a workspace."""

HOLD_HEADER = "x-client-request-id"
BOOKS = ("x-workspace-id", "x-goal-id", HOLD_HEADER)
"""By which headers the provider keeps its books."""


@dataclass(frozen=True)
class Tenant:
    """A workspace and its habits."""

    workspace_id: str
    calls_per_second: float
    model: str
    """A model that a tenant does not share: when the provider slows it down, nobody else has to wait."""
    goals: tuple[str, ...]
    kinds: tuple[str, ...]
    """Its calls, in turn: ``chat``, ``responses``, ``agents``, ``stream``, ``search``, ``headline``."""


# The Agents SDK is optional.
_AGENTS = ("agents",) if find_spec("agents") else ()

TENANTS = (
    Tenant(
        "acme", 3, "gpt-4o-mini", ("onboarding", "monthly-report", "support"), ("chat", "stream", "search", "headline")
    ),
    Tenant("globex", 2, "gpt-4.1-mini", ("market-study", "translation"), ("responses", "search", "stream", *_AGENTS)),
    Tenant(NOISY, 8, "gpt-4o", ("mass-mailing", BROKEN_GOAL, "mass-mailing", "scraping"), ("chat", "stream")),
)


def model_of(tenant: Tenant, goal: str) -> str:
    """The goal with the broken streams has a model of its own, so that its failures slow nothing else down."""
    return "gpt-4.1" if goal == BROKEN_GOAL else tenant.model


def set_up_provider(fake: FakeOpenAI) -> None:
    """How the provider answers, and what goes wrong at it."""
    fake.reply("Here is a short answer, as it was asked for.", chunk_delay=0.06)
    fake.reply("A long letter to every customer. " * 40, chunk_delay=0.002, when={"model": "gpt-4o"})
    fake.fail(code="rate_limit_exceeded", retry_after=0.8, times=2, when={"model": "gpt-4o"})
    fake.fail(status=500, times=1, when={"headers": {"x-workspace-id": "acme"}})
    fake.fail("drop_in_stream", after=3, times=None, when={"headers": {"x-goal-id": BROKEN_GOAL}, "stream": True})
