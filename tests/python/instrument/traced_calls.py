"""Calls with an instrumentation of OpenTelemetry and ours, in a process of its own: neither takes all of itself back.

Prints, as JSON, the spans that were made and what was counted.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from guard_parts import HELLO, connect
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import llmquota
from llmquota import QuotaManager, quota_context
from llmquota.testing import FakeOpenAI


def instrumentor(name: str) -> Any:
    """The instrumentation of a distribution."""
    if name == "openai-v2":
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    return OpenAIInstrumentor()


def calls(client: openai.OpenAI, fake: FakeOpenAI) -> None:
    """One that is answered, one that is streamed, one that fails, and one that is refused."""
    with quota_context("acme"):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        usage: Any = {"stream": True, "stream_options": {"include_usage": True}}
        for _chunk in client.chat.completions.create(model="gpt-4o", messages=HELLO, **usage):
            pass
        fake.fail(status=500)
        for kind in (openai.InternalServerError, llmquota.QuotaExceeded):
            try:
                client.chat.completions.create(model="gpt-4o", messages=HELLO)
            except kind:
                continue
            raise AssertionError(f"no {kind.__name__}")


def main(name: str, order: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    manager = QuotaManager(limits={"workspaces": {"acme": {"requests_per_day": 3}}})
    with FakeOpenAI() as fake, connect(fake) as client:
        steps = {
            "theirs": lambda: instrumentor(name).instrument(tracer_provider=provider),
            "ours": lambda: llmquota.instrument(manager, providers={fake.base_url: "openai"}),
        }
        for step in order.split(","):
            steps[step]()
        calls(client, fake)
        served = fake.served.total
        usage = manager.usage("acme")["total"]
        spans = [
            {"name": span.name, "failed": not span.status.is_ok and not span.status.is_unset, **(span.attributes or {})}
            for span in exporter.get_finished_spans()
        ]
        counts = {
            "served": [served.requests, served.reported_tokens],
            "counted": [usage["requests"], usage["tokens"], usage["errors"]],
        }
        # What is left of the one, once the other has gone, goes on.
        llmquota.uninstrument()
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        counts["after"] = [manager.usage("acme")["total"]["requests"], len(exporter.get_finished_spans()) - len(spans)]
    print(json.dumps({"spans": spans, **counts}, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
