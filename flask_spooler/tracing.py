"""OpenTelemetry spans, behind one switch: `SPOOLER_TRACING`.

Owns what the spans are called and carry, after OpenTelemetry's semantic conventions for messaging.
An enqueue is a ``send`` span of kind PRODUCER, a run is a ``process`` span of kind CONSUMER that
links to it; in between the job itself carries the W3C ``traceparent``, in its signed file.

A first run of a job that was due at once belongs to the trace that enqueued it. A scheduled job
and every further attempt begin a trace of their own, with the same link: a trace that ends next
week is of no use to anybody, and neither is the sampling decision made for it.

===================================  ======================================================
attribute                            value
===================================  ======================================================
``messaging.system``                 ``flask_spooler``
``messaging.operation.name``         ``enqueue`` or ``run``; with the queue it names the
                                     span, as in ``run default``
``messaging.operation.type``         ``send`` or ``process``
``messaging.destination.name``       the queue
``messaging.message.id``             the job's id
``messaging.message.body.size``      bytes of its arguments
``messaging.batch.message_count``    how many jobs, where several were enqueued together;
                                     the span then has neither id nor size
``messaging.flask_spooler.task``     the task's name
``messaging.flask_spooler.attempt``  which run it is, from 1
``error.type``                       class of the exception with which it ended, if it did
===================================  ======================================================

Imported only when the switch is on; needs the extra ``tracing``. An app that sets no tracer
provider gets spans that go nowhere. A process that is killed takes its spans with it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .engine import SpoolEngine
from .job import Job
from .outcome import Cancelled, Outcome, Succeeded
from .perform import Attempt
from .record import ErrorInfo
from .worker import Performed, Worker

TRACEPARENT: Final = "traceparent"

STOPPED: Final = ErrorInfo("JobCancelled", "somebody cancelled the job while it ran")

tracer = trace.get_tracer("flask_spooler", version("Flask-Spooler"))
_propagator: Final = TraceContextTextMapPropagator()


class TracedEngine(SpoolEngine):
    """An engine whose enqueues are spans, and whose jobs carry their context."""

    def submit_many(self, jobs: list[Job]) -> list[str]:
        """Publish jobs together within one span; see `SpoolEngine.submit_many`."""
        name = f"enqueue {jobs[0].queue}"
        facts = _facts("enqueue", "send", jobs)
        with tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=facts) as span:
            carrier: dict[str, str] = {}
            _propagator.inject(carrier)
            context = carrier.get(TRACEPARENT)
            try:
                job_ids = super().submit_many(
                    [msgspec.structs.replace(job, trace=context) for job in jobs]
                )
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise
            if len(job_ids) == 1:
                # A unique key may have found another job.
                span.set_attribute("messaging.message.id", job_ids[0])
            return job_ids


class TracedWorker(Worker):
    """A worker whose runs are spans."""

    def perform(self, attempt: Attempt) -> Performed:
        """Run the user's function within a span; see `Worker.perform`."""
        job = attempt.job
        creation = _propagator.extract({TRACEPARENT: job.trace} if job.trace else {}, Context())
        context = trace.get_current_span(creation).get_span_context()
        with tracer.start_as_current_span(
            f"run {job.queue}",
            context=Context() if attempt.number > 1 or job.is_scheduled else creation,
            kind=SpanKind.CONSUMER,
            attributes={
                **_facts("run", "process", [job]),
                "messaging.message.id": job.id,
                "messaging.flask_spooler.attempt": attempt.number,
            },
            links=[Link(context)] if context.is_valid else [],
        ) as span:
            performed = super().perform(attempt)
            _note(span, performed[0])
        return performed


def _facts(name: str, kind: str, jobs: list[Job]) -> dict[str, Any]:
    job = jobs[0]  # those enqueued together are of one task and one queue
    facts = {
        "messaging.system": "flask_spooler",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": job.queue,
        "messaging.flask_spooler.task": job.task,
    }
    if len(jobs) == 1:
        return facts | {"messaging.message.body.size": len(bytes(job.kwargs))}
    return facts | {"messaging.batch.message_count": len(jobs)}


def _note(span: Span, outcome: Outcome) -> None:
    """Say how the run ended: whatever is no success is an error of the span."""
    if isinstance(outcome, Succeeded):
        return
    error = STOPPED if isinstance(outcome, Cancelled) else outcome.error
    span.set_attribute("error.type", error.type)
    span.add_event(
        "exception",
        {
            "exception.type": error.type,
            "exception.message": error.message,
            "exception.stacktrace": error.traceback or "",
        },
    )
    span.set_status(Status(StatusCode.ERROR, error.message))
