"""The instrumentations of OpenTelemetry for ``openai``, set up as a backend would at the least.

Spans go through a ``BatchSpanProcessor`` to an exporter that drops them: what a collector would take is not measured.
They keep no budget and refuse nothing; what is compared is what a call pays for being seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai.resources.chat.completions import Completions
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as Official
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_INSTRUMENTORS: dict[str, Any] = {
    "opentelemetry-instrumentation-openai-v2": Official,
    "opentelemetry-instrumentation-openai": Traceloop,
}
NAMES = tuple(_INSTRUMENTORS)


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def wrapped() -> dict[str, Any]:
    """By the name of each instrumentation, the ``Completions.create`` that it makes; the SDK's own is back again.

    Not by ``uninstrument()`` from round to round: that of ``opentelemetry-instrumentation-openai`` 0.62.4 leaves the
    method wrapped, and the next round would wrap it once more.
    """
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
    original = vars(Completions)["create"]
    made = {}
    for name, instrumentor in _INSTRUMENTORS.items():
        instrumentor().instrument(tracer_provider=tracers)
        made[name] = vars(Completions)["create"]
        Completions.create = original  # type: ignore[method-assign]
        if made[name] is original:
            raise RuntimeError(f"{name} does not wrap Completions.create")
    return made
