"""Counts every call that this process makes to a provider, whoever makes it: ``llmquota.instrument()``.

It stands at the one place that all calls pass, the ``send`` of the HTTP clients of ``httpx`` and ``httpx2``: a call is
admitted there before it leaves, and what its answer says that it used is read from the bytes as they pass. Clients that
were made before are covered as well as those made after, and an SDK's own retries are seen as the requests that they
are. It reads nothing of a call that goes elsewhere, and it never raises: a call that is refused is answered (429) in
the provider's place. ``patching`` puts it there, ``providers`` knows what is a provider's, ``sending`` and
``following`` see one call to its end, ``refusals`` answers, ``transport`` is the same for one client alone.
"""

from __future__ import annotations

from .patching import instrument, uninstrument
from .transport import AsyncQuotaTransport, QuotaTransport

__all__ = ["AsyncQuotaTransport", "QuotaTransport", "instrument", "uninstrument"]
