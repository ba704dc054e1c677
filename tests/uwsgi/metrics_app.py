"""The reference app with its metrics, its health, and spans that go to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from flask import Response
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from app import app
from flask_spooler.health import health
from flask_spooler.metrics import exposition


class ToFile(SpanExporter):
    """Appends each span as one line of JSON."""

    def __init__(self, path: str) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(self._path, "a") as file:
            for span in spans:
                file.write(json.dumps(shown(span)) + "\n")
        return SpanExportResult.SUCCESS


def shown(span: ReadableSpan) -> dict[str, Any]:
    assert span.context is not None
    return {
        "name": span.name,
        "pid": os.getpid(),
        "trace": span.context.trace_id,
        "span": span.context.span_id,
        "parent": span.parent and span.parent.span_id,
        "links": [link.context.span_id for link in span.links],
        "job": (span.attributes or {}).get("messaging.message.id"),
    }


if "SPANS" in os.environ:
    provider = TracerProvider()
    # With a thread, made before the master forks: it has to begin anew in workers and spoolers.
    exporter = ToFile(os.environ["SPANS"])
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
    trace.set_tracer_provider(provider)


@app.get("/test/metrics")
def metrics() -> Response:
    body, content_type = exposition(app)
    return Response(body, content_type=content_type)


@app.get("/test/healthz")
def healthz() -> tuple[str, int]:
    reason = health(app)
    return reason or "well", 503 if reason else 200
