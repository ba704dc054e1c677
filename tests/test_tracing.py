"""Spans of enqueues and runs: names, kinds, attributes, and how they hang together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags

from flask_spooler import (
    SPOOL_RETRY,
    Discard,
    EnqueueError,
    JobTimeout,
    Spooler,
    current_job,
    operations,
    tracing,
)
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import ExtraMissing, JobCancelled
from flask_spooler.job import Job, open_packet, parse_file
from flask_spooler.spool import WAITING
from flask_spooler.worker import Worker
from tests.conftest import FailAt
from tests.world import World, one_process_pool

ERRORS: dict[str, type[BaseException]] = {
    "fail": ValueError,
    "discard": Discard,
    "time out": JobTimeout,
    "stop": JobCancelled,
}


class Spans:
    """The spans that were exported, in the order of their ends."""

    def __init__(self, provider: TracerProvider) -> None:
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        return [s for s in self._exporter.get_finished_spans() if kind in (None, s.kind)]

    def the(self, kind: SpanKind) -> ReadableSpan:
        (span,) = self.all(kind)
        return span


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def spans(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Spans:
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("flask_spooler"))
    return Spans(provider)


def make_world(path: Path, **config: Any) -> World:
    spooler = Spooler()

    @spooler.task(name="act", max_attempts=2, backoff=[0.0])
    def act(way: str) -> Any:
        with trace.get_tracer("user").start_as_current_span("of the user"):
            pass
        if way == "again" and current_job.attempt == 1:
            return SPOOL_RETRY
        if way == "time out":
            raise JobTimeout(1.0)
        if way in ERRORS:
            raise ERRORS[way](f"they call it {way}")
        return trace.format_span_id(trace.get_current_span().get_span_context().span_id)

    @spooler.task(name="chain")
    def chain() -> None:
        act.enqueue("well")

    app = Flask("traced")
    app.config.update(SPOOLER_DIRECTORY=path / "spool", SPOOLER_DURABILITY="process", **config)
    spooler.init_app(app)
    state = app.extensions["spooler"]
    state.engine.prepare()
    return World(spooler, state, path / "out")


@pytest.fixture
def world(memory: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    one_process_pool(monkeypatch)
    return make_world(memory, SPOOLER_TRACING=True)


def act(world: World, way: str = "well", **options: Any) -> str:
    return world.spooler.tasks["act"].using(**options).enqueue(way).id


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def name_of(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def travelling(engine: SpoolEngine, job_id: str) -> Job:
    """The job as it lies on the disk."""
    return open_packet(parse_file(engine.spool.read(WAITING, job_id)), engine.key)


def test_an_enqueue_is_a_producer_span(world: World, spans: Spans) -> None:
    job_id = act(world, queue="mail")
    span = spans.the(SpanKind.PRODUCER)
    assert span.name == "enqueue mail"
    assert facts(span) == {
        "messaging.system": "flask_spooler",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": job_id,
        "messaging.message.body.size": len(b'{"way":"well"}'),
        "messaging.flask_spooler.task": "act",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_run_is_a_consumer_span_linked_to_its_enqueue(world: World, spans: Spans) -> None:
    job_id = act(world)
    assert world.run_ready() == 1
    enqueued, ran = spans.the(SpanKind.PRODUCER), spans.the(SpanKind.CONSUMER)
    assert ran.name == "run default"
    assert facts(ran) == {
        "messaging.system": "flask_spooler",
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": job_id,
        "messaging.message.body.size": len(b'{"way":"well"}'),
        "messaging.flask_spooler.task": "act",
        "messaging.flask_spooler.attempt": 1,
    }
    assert linked(ran) == [name_of(enqueued)]
    assert ran.status.status_code is StatusCode.UNSET


def test_jobs_that_a_spooler_takes_by_itself_each_have_a_span_linked_to_their_own_enqueue(
    world: World, spans: Spans, provider: TracerProvider
) -> None:
    requests = []
    for way in ("well", "fail", "well"):
        with provider.get_tracer("user").start_as_current_span("request") as request:
            requests.append((request.get_span_context().trace_id, act(world, way)))
    assert world.run_ready() == 1, "one call of uWSGI runs all three"
    asked = {name_of(span): span for span in spans.all(SpanKind.PRODUCER)}
    runs = spans.all(SpanKind.CONSUMER)
    assert [(name_of(run)[0], facts(run)["messaging.message.id"]) for run in runs] == requests
    for run in runs:
        (enqueued,) = linked(run)
        assert parent_of(run) == enqueued
        job_id = facts(asked[enqueued])["messaging.message.id"]
        assert facts(run)["messaging.message.id"] == job_id
    assert [run.status.status_code for run in runs] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    # What a task sees as the current span is that of its own run, not of the one before.
    first, _, third = (world.spooler.get(job_id).result for _, job_id in requests)
    assert [first, third] == [trace.format_span_id(name_of(runs[place])[1]) for place in (0, 2)]


def test_the_names_are_those_of_the_conventions(world: World, spans: Spans) -> None:
    from opentelemetry.semconv._incubating.attributes import messaging_attributes as names
    from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

    act(world, "fail")
    world.spooler.tasks["act"].enqueue_many([("well",), ("well",)])
    world.run_ready()
    used = {name for span in spans.all() for name in facts(span)}
    known = {value for value in vars(names).values() if isinstance(value, str)} | {ERROR_TYPE}
    assert {name for name in used - known if "flask_spooler" not in name} == set()
    types = {value.value for value in names.MessagingOperationTypeValues}
    assert {facts(span)["messaging.operation.type"] for span in spans.all()} <= types


def test_a_first_run_at_once_belongs_to_the_trace_that_asked_for_it(
    world: World, spans: Spans, provider: TracerProvider
) -> None:
    with provider.get_tracer("user").start_as_current_span("request") as request:
        act(world)
    world.run_ready()
    enqueued, ran = spans.the(SpanKind.PRODUCER), spans.the(SpanKind.CONSUMER)
    asked = request.get_span_context()
    assert parent_of(enqueued) == (asked.trace_id, asked.span_id)
    assert parent_of(ran) == name_of(enqueued)


def test_a_further_attempt_begins_a_trace_of_its_own(world: World, spans: Spans) -> None:
    act(world, "again")
    world.recover()
    enqueued = spans.the(SpanKind.PRODUCER)
    first, second = spans.all(SpanKind.CONSUMER)
    assert [facts(run)["messaging.flask_spooler.attempt"] for run in (first, second)] == [1, 2]
    assert parent_of(first) == name_of(enqueued)
    assert parent_of(second) is None
    assert name_of(second)[0] != name_of(enqueued)[0]
    assert linked(first) == linked(second) == [name_of(enqueued)]


def test_a_scheduled_job_begins_a_trace_of_its_own(world: World, spans: Spans) -> None:
    act(world, delay=0.001)
    world.recover()
    enqueued, ran = spans.the(SpanKind.PRODUCER), spans.the(SpanKind.CONSUMER)
    assert parent_of(ran) is None
    assert linked(ran) == [name_of(enqueued)]


def test_what_a_task_does_happens_within_its_span(world: World, spans: Spans) -> None:
    job_id = act(world)
    world.run_ready()
    ran = spans.the(SpanKind.CONSUMER)
    seen_inside = world.spooler.get(job_id).result
    assert seen_inside == trace.format_span_id(name_of(ran)[1])
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_job_that_a_task_enqueues_belongs_to_the_same_trace(world: World, spans: Spans) -> None:
    world.spooler.tasks["chain"].enqueue()
    world.recover()
    producers, consumers = spans.all(SpanKind.PRODUCER), spans.all(SpanKind.CONSUMER)
    assert len({name_of(span)[0] for span in producers + consumers}) == 1
    inner = next(s for s in producers if facts(s)["messaging.flask_spooler.task"] == "act")
    outer = next(s for s in consumers if facts(s)["messaging.flask_spooler.task"] == "chain")
    assert parent_of(inner) == name_of(outer)


@pytest.mark.parametrize("way", ERRORS)
def test_a_run_that_does_not_succeed_is_an_error_with_its_class(
    world: World, spans: Spans, way: str
) -> None:
    act(world, way, max_attempts=1)
    world.run_ready()
    ran = spans.the(SpanKind.CONSUMER)
    assert facts(ran)["error.type"] == ERRORS[way].__name__
    assert ran.status.status_code is StatusCode.ERROR
    (event,) = ran.events
    told = dict(event.attributes or {})
    assert event.name == "exception"
    assert told["exception.type"] == ERRORS[way].__name__
    assert told["exception.message"] == ran.status.description
    if way in ("fail", "discard"):
        assert f"they call it {way}" in str(told["exception.stacktrace"])


def test_asking_for_another_run_is_an_error_of_the_first_only(world: World, spans: Spans) -> None:
    act(world, "again")
    world.recover()
    first, second = spans.all(SpanKind.CONSUMER)
    assert facts(first)["error.type"] == "Retry"
    assert "error.type" not in facts(second)


def test_jobs_enqueued_together_share_one_producer_span(world: World, spans: Spans) -> None:
    world.spooler.tasks["act"].enqueue_many([("well",)] * 3)
    world.recover()
    enqueued = spans.the(SpanKind.PRODUCER)
    assert facts(enqueued)["messaging.batch.message_count"] == 3
    assert (
        facts(enqueued).keys().isdisjoint({"messaging.message.id", "messaging.message.body.size"})
    )
    runs = spans.all(SpanKind.CONSUMER)
    assert [linked(run) for run in runs] == [[name_of(enqueued)]] * 3


def test_an_enqueue_that_finds_its_unique_job_names_that_one(world: World, spans: Spans) -> None:
    first = act(world, unique="key")
    second = act(world, unique="key")
    assert first == second
    told = [facts(span)["messaging.message.id"] for span in spans.all(SpanKind.PRODUCER)]
    assert told == [first, first]


def test_an_enqueue_that_fails_is_an_error_span(
    world: World, spans: Spans, fail_at: FailAt
) -> None:
    fail_at("publish.rename", OSError(28, "No space left on device"))
    with pytest.raises(EnqueueError):
        act(world)
    span = spans.the(SpanKind.PRODUCER)
    assert facts(span)["error.type"] == "EnqueueError"
    assert span.status.status_code is StatusCode.ERROR


def test_the_context_travels_in_the_signed_job(world: World, spans: Spans) -> None:
    job_id = act(world, delay=60)
    trace_id, span_id = name_of(spans.the(SpanKind.PRODUCER))
    job = travelling(world.state.engine, job_id)
    assert job.trace is not None
    version, *names, flags = job.trace.split("-")
    assert (version, *names) == ("00", f"{trace_id:032x}", f"{span_id:016x}")
    assert int(flags, 16) & TraceFlags.SAMPLED


def test_what_is_not_sampled_is_still_passed_on_as_not_sampled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("flask_spooler"))
    spans = Spans(provider)
    job_id = act(world, delay=60)
    trace_parent = travelling(world.state.engine, job_id).trace
    assert trace_parent is not None
    assert not int(trace_parent[-2:], 16) & TraceFlags.SAMPLED
    assert spans.all() == []


def test_an_app_without_a_tracer_provider_runs_its_jobs_all_the_same(world: World) -> None:
    job_id = act(world)
    world.run_ready()
    assert world.spooler.get(job_id).state == "succeeded"


@pytest.mark.parametrize("trace_parent", [None, "", "nonsense", "00-0-0-01", "ff" * 30])
def test_a_job_without_a_usable_context_is_run_without_a_link(
    world: World, spans: Spans, trace_parent: str | None
) -> None:
    task = world.spooler.tasks["act"]
    job = task.job(("well",), {}, 1_700_000_000.0)
    engine = world.state.engine
    changed = Job(**{name: getattr(job, name) for name in job.__struct_fields__}
                  | {"trace": trace_parent})  # fmt: skip
    SpoolEngine.submit_many(engine, [changed])
    world.run_ready()
    ran = spans.the(SpanKind.CONSUMER)
    assert (linked(ran), parent_of(ran)) == ([], None)
    assert world.spooler.get(job.id).state == "succeeded"


def test_a_persons_retry_is_linked_to_the_same_enqueue(world: World, spans: Spans) -> None:
    job_id = act(world, "fail", max_attempts=1)
    world.run_ready()
    operations.revive(world.state.engine, job_id)
    world.recover()
    assert [linked(run) for run in spans.all(SpanKind.CONSUMER)] == [
        [name_of(spans.the(SpanKind.PRODUCER))]
    ] * 2


def test_switched_off_there_are_no_spans_and_nothing_of_them_in_the_job(
    memory: Path, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)
    world = make_world(memory)
    assert type(world.state.engine) is SpoolEngine
    assert type(world.state.desk.worker) is Worker
    job_id = act(world)
    later = act(world, delay=60)
    world.run_ready()
    assert world.spooler.get(job_id).state == "succeeded"
    assert spans.all() == []
    assert b"trace" not in world.state.engine.spool.read(WAITING, later)


def test_switched_off_its_package_is_not_even_imported(tmp_path: Path) -> None:
    program = (
        "import sys, flask, flask_spooler; app = flask.Flask('off');"
        f" app.config['SPOOLER_DIRECTORY'] = {str(tmp_path)!r}; flask_spooler.Spooler(app);"
        " sys.exit('opentelemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_without_its_package_the_start_stops_and_says_what_to_install(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "flask_spooler.tracing")
    monkeypatch.delattr("flask_spooler.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'Flask-Spooler\[tracing\]'"):
        make_world(memory, SPOOLER_TRACING=True)


def test_an_eager_job_has_the_same_spans(memory: Path, spans: Spans) -> None:
    world = make_world(memory, SPOOLER_TRACING=True, SPOOLER_EAGER=True)
    act(world)
    assert [span.kind for span in spans.all()] == [SpanKind.PRODUCER, SpanKind.CONSUMER]
    assert linked(spans.the(SpanKind.CONSUMER)) == [name_of(spans.the(SpanKind.PRODUCER))]


def test_a_child_that_a_task_leaves_behind_ends_no_span_of_its_parent(
    world: World, provider: TracerProvider, spans: Spans, tmp_path: Path
) -> None:
    out = tmp_path / "ended"

    class Note(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            with out.open("a") as file:
                file.write(f"{span.kind.name} ")

    @world.spooler.task(name="forks")
    def forks() -> None:
        if os.fork():
            os.wait()

    provider.add_span_processor(Note())
    forks.enqueue()
    world.run_ready()
    assert out.read_text().split() == ["PRODUCER", "CONSUMER"]
