"""An exact LLM quota for every workspace of a Python backend."""

from __future__ import annotations

from .context import quota_context
from .errors import QuotaConfigError, QuotaError, QuotaExceeded, QuotaInputError, QuotaStoreError
from .events import Subscription
from .guard import guarded
from .instrument import AsyncQuotaTransport, QuotaTransport, instrument, uninstrument
from .manager import Hold, ManualClock, QuotaManager, QuotaTracker, record_request, workspace_quota_manager
from .status import QuotaStatus

__all__ = [
    "AsyncQuotaTransport",
    "Hold",
    "ManualClock",
    "QuotaConfigError",
    "QuotaError",
    "QuotaExceeded",
    "QuotaInputError",
    "QuotaManager",
    "QuotaStatus",
    "QuotaStoreError",
    "QuotaTracker",
    "QuotaTransport",
    "Subscription",
    "guarded",
    "instrument",
    "quota_context",
    "record_request",
    "uninstrument",
    "workspace_quota_manager",
]
