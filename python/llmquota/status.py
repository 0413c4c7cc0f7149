"""The state of a workspace."""

from __future__ import annotations

from enum import Enum

__all__ = ["QuotaStatus"]


class QuotaStatus(str, Enum):
    """How a workspace stands. Derived from its counters, its breaker and the clock whenever it is read."""

    NORMAL = "normal"
    #: A limit is near (80 %) or critical (95 %), unless other thresholds are set.
    WARNING = "warning"
    #: A limit of a minute, an hour, a second or of open calls is full, or the provider said so.
    RATE_LIMITED = "rate_limited"
    #: A limit of a day or a month is full, or the provider's quota is spent.
    QUOTA_EXCEEDED = "quota_exceeded"
    #: The provider fails.
    DEGRADED = "degraded"
