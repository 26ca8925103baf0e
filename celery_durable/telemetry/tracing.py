"""OpenTelemetry: one span per orchestration, over all its turns and processes, with what it did below it.

Everything is emitted after the commit that recorded it, so replay emits nothing. The span of an orchestration is emitted once, at
its end, under an id that follows from its execution: spans that name it as their parent can be emitted long before it, anywhere.
Only ``opentelemetry-api`` is needed; with no SDK set up by the application nothing is recorded. No payloads, no messages of
exceptions: those are data.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from ..core.entity import ORCHESTRATORS, RESERVED
from ..core.events import Event, EventKind
from ..core.status import RuntimeStatus
from ..engine.observation import Asked, Carried, Life, Scope, Seen
from ..engine.records import ActivityTicket, InstanceRow, NewInstance
from ..errors import ConfigurationError
from ..versions import demand

demand("opentelemetry-api")
try:
    from opentelemetry import trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError(
        "durable_tracing needs the package opentelemetry-api: pip install 'celery-durable[otel]'",
        setting="durable_tracing",
    ) from error

__all__ = ["HEADER", "Tracing"]

log = logging.getLogger("celery_durable.tracing")
#: The message header in which the context of an orchestration travels to its activities.
HEADER = "durable_trace"
_LARGEST = 1_000
_NAME = 150
_W3C = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()
_CONTROL = {Retry: "retried", Ignore: "ignored", Reject: "rejected"}
Carrier = Mapping[str, str]


class Tracing:
    """Emits the spans of one process (``engine.observation.Observer`` and ``worker.runtime.Tracing``)."""

    follows_lives = True

    is_on = True

    # -- starts ---------------------------------------------------------------------------------------------

    def starting(self, new: NewInstance) -> Mapping[str, Any]:
        """Return the context that an orchestration is started in: that of its ``create_orchestration`` span."""
        if new.name.startswith(ORCHESTRATORS):
            return {}
        current = trace.get_current_span().get_span_context()
        span_id = _id("create", new.execution, size=8)
        context = _beside(current, span_id) if current.is_valid else _fresh(new.execution, new.name, span_id)
        carrier = _carrier(context)
        _BAGGAGE.inject(carrier)
        return {"trace": {name: value for name, value in carrier.items() if len(value) <= _LARGEST}}

    def started(self, new: NewInstance) -> None:
        """Emit the ``create_orchestration`` span of an orchestration that was inserted."""
        created = _context_of(_trace_of(new.facts))
        if not created.is_valid:
            return
        current = trace.get_current_span().get_span_context()
        parent = current if current.is_valid and current.trace_id == created.trace_id else None
        attributes = _about(new.id, new.execution, new.name, new.version)
        span = _start(f"create_orchestration:{new.name}", created, parent, SpanKind.PRODUCER, attributes)
        span.end()

    # -- turns ----------------------------------------------------------------------------------------------

    def carried(self, instance: InstanceRow, life: Life) -> Carried:
        """Return the context of an orchestration for its activities, its children, and its next execution."""
        if instance.name.startswith(ORCHESTRATORS):
            return Carried()
        carrier = _carried(instance, life)
        return Carried({HEADER: carrier}, {"trace": carrier}, {"trace": {"continued": carrier["traceparent"]}})

    def committed(self, seen: Seen) -> None:
        """Emit what a commit recorded, and at its end the orchestration itself."""
        instance, life = seen.instance, seen.life
        if instance.name.startswith(ORCHESTRATORS) or life is None:
            return
        own = _own_context(instance, life)
        for event, asked in seen.came:
            if event.kind is EventKind.EVENT_RAISED:
                _emit_event(instance, own, event, seen.now)
            elif event.kind is EventKind.TIMER_FIRED and asked is not None:
                _emit_timer(instance, own, event, asked)
            elif event.kind is EventKind.ACTIVITY_FAILED and asked is not None:
                _emit_unseen_failure(instance, own, event, asked)
        commit = seen.commit
        if commit.next_execution is not None or (commit.status is not None and commit.status.is_terminal):
            status = "CONTINUED_AS_NEW" if commit.status is None else str(commit.status)
            _emit_orchestration(seen, own, life, status)

    # -- activities -------------------------------------------------------------------------------------------

    @contextmanager
    def activity(self, scope: Scope, ticket: ActivityTicket, request: Any) -> Iterator[None]:
        """Surround the body of an activity with its span, below the orchestration's.

        Where the current span is of the same trace, as that of Celery's instrumentation, it is the parent; else it is linked.
        """
        begun = None
        with _harmless():
            begun = _begin_activity(scope, ticket, request)
        try:
            yield
        except BaseException as error:
            if begun is not None:
                with _harmless():
                    _note_error(begun[0], error)
            raise
        finally:
            if begun is not None:
                with _harmless():
                    detach(begun[1])
                    begun[0].end()

    @contextmanager
    def sending(self, headers: Mapping[str, Any]) -> Iterator[None]:
        """Let what Celery's instrumentation makes of the sending of an activity be below the orchestration."""
        own = _context_of(_checked(headers.get(HEADER)))
        if not own.is_valid:
            yield
            return
        token = attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))
        try:
            yield
        finally:
            detach(token)


# -- spans ----------------------------------------------------------------------------------------------------------


@contextmanager
def _harmless() -> Iterator[None]:
    """Log what the application's own sampler or span processor raises: the body of an activity is not to fail by it."""
    try:
        yield
    except Exception:
        log.warning("a span of an activity is lost; the activity is not touched by that", exc_info=True)


def _begin_activity(scope: Scope, ticket: ActivityTicket, request: Any) -> tuple[Span, Any]:
    """Start the span of an activity and make it the current one; return it, and the token that ends that."""
    carrier = _header_of(request)
    own, current = _context_of(carrier), trace.get_current_span().get_span_context()
    is_inside = current.is_valid and current.trace_id == own.trace_id
    links = [Link(current)] if current.is_valid and own.is_valid and not is_inside else []
    parent = current if is_inside or not own.is_valid else own
    attributes = {
        **_about(scope.instance_id, ticket.execution, scope.orchestration, None),
        "celery.durable.activity": scope.activity or "", "celery.durable.attempt": ticket.attempt,
        "celery.durable.command": ticket.command, "messaging.message.id": ticket.task_id,
    }  # fmt: skip
    context = _BAGGAGE.extract(carrier, trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    span = _tracer().start_span(
        f"activity:{scope.activity}", context, SpanKind.CONSUMER, attributes, links, record_exception=False
    )
    return span, attach(trace.set_span_in_context(span, context))


def _emit_orchestration(seen: Seen, own: SpanContext, life: Life, status: str) -> None:
    instance, commit = seen.instance, seen.commit
    start = life.start.get("trace")
    created = _context_of(_trace_of(life.start))
    links = []
    if isinstance(start, dict) and isinstance(start.get("continued"), str):
        links.append(Link(_context_of({"traceparent": start["continued"]})))
    if life.rewinds:
        links.append(Link(_own_context(instance, life, life.rewinds - 1)))
    if life.seed is not None and life.seed != instance.execution:
        links.append(Link(_beside(own, _id("run", life.seed, 0, size=8))))
    attributes = {
        **_about(instance.id, instance.execution, instance.name, instance.version), "celery.durable.status": status,
        "celery.durable.turns": commit.sequence + 1, "messaging.message.id": instance.id,
    }  # fmt: skip
    if instance.parent_id is not None:
        attributes["celery.durable.parent_id"] = instance.parent_id
    span = _start(
        f"orchestration:{instance.name}", own, created if created.is_valid else None, SpanKind.SERVER, attributes,
        begin=life.begun_at, links=[link for link in links if link.context.is_valid],
    )  # fmt: skip
    if status == RuntimeStatus.FAILED:
        kind = (commit.reason or "").partition(":")[0][:_NAME]
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, kind))
    elif status in (RuntimeStatus.CANCELED, RuntimeStatus.TERMINATED):
        span.set_status(Status(StatusCode.ERROR, status.lower()))
    span.end(seen.now * 1000)


def _emit_timer(instance: InstanceRow, own: SpanContext, event: Event, asked: Asked) -> None:
    _child(instance, own, f"orchestration:{instance.name}:timer", SpanKind.INTERNAL, asked.at, event.at,
           {"celery.durable.command": event.command})  # fmt: skip


def _emit_event(instance: InstanceRow, own: SpanContext, event: Event, now: int) -> None:
    if not event.name.startswith(RESERVED):  # answers of entities
        _child(instance, own, f"orchestration_event:{event.name[:_NAME]}", SpanKind.CONSUMER, event.at, now,
               {"celery.durable.event": event.name[:_NAME]})  # fmt: skip


def _emit_unseen_failure(instance: InstanceRow, own: SpanContext, event: Event, asked: Asked) -> None:
    """Emit an attempt whose body nobody saw ending: a time limit, a lost worker, an override."""
    if "ran" in (event.facts or {}):
        return  # the process that ran it has emitted it
    attributes = {"celery.durable.activity": asked.name, "celery.durable.attempt": event.attempt,
                  "celery.durable.command": event.command}  # fmt: skip
    _child(instance, own, f"activity:{asked.name}", SpanKind.INTERNAL, asked.at, event.at, attributes, has_failed=True)


def _child(
    instance: InstanceRow, own: SpanContext, name: str, kind: SpanKind, begin: int, end: int, attributes: Mapping[str, Any],
    *, has_failed: bool = False,
) -> None:  # fmt: skip
    about = {**_about(instance.id, instance.execution, instance.name, instance.version), **attributes}
    context = trace.set_span_in_context(trace.NonRecordingSpan(own))
    span = _tracer().start_span(name, context, kind, about, start_time=begin * 1000)
    if has_failed:
        span.set_status(Status(StatusCode.ERROR))
    span.end(max(begin, end) * 1000)


def _note_error(span: Span, error: BaseException) -> None:
    for control, outcome in _CONTROL.items():
        if isinstance(error, control):
            span.set_attribute("celery.durable.outcome", outcome)
            return
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))


def _about(instance_id: str, execution: str, name: str, version: str | None) -> dict[str, Any]:
    found = {
        "celery.durable.instance_id": instance_id, "celery.durable.execution_id": execution,
        "celery.durable.orchestration": name,
    }  # fmt: skip
    return found if version is None else {**found, "celery.durable.version": version}


# -- ids and contexts ---------------------------------------------------------------------------------------------------


def _id(*parts: Any, size: int) -> int:
    """Return an id that follows from what it is for; never 0."""
    digest = hashlib.sha256(":".join(["celery-durable", *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:size], "big") or 1


def _fresh(execution: str, name: str, span_id: int) -> SpanContext:
    """Return a context in the trace of an execution that nobody's trace asked for; every process comes to the same one."""
    trace_id = _id("trace", execution, size=16)
    sampler = getattr(_tracer(), "sampler", None)
    is_sampled = True
    if sampler is not None:
        result = sampler.should_sample(None, trace_id, f"orchestration:{name}", SpanKind.SERVER)
        is_sampled = result.decision.is_sampled()
    return SpanContext(trace_id, span_id, True, TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT))


def _beside(other: SpanContext, span_id: int) -> SpanContext:
    return SpanContext(other.trace_id, span_id, True, other.trace_flags, other.trace_state)


def _own_context(instance: InstanceRow, life: Life, rewinds: int | None = None) -> SpanContext:
    """Return the context of an orchestration's own span; each rewind makes it another span of the same trace."""
    created = _context_of(_trace_of(life.start))
    span_id = _id("run", instance.execution, life.rewinds if rewinds is None else rewinds, size=8)
    return _beside(created, span_id) if created.is_valid else _fresh(instance.execution, instance.name, span_id)


def _carried(instance: InstanceRow, life: Life) -> dict[str, str]:
    carrier = _carrier(_own_context(instance, life))
    bag = _trace_of(life.start).get("baggage")
    return carrier if bag is None else {**carrier, "baggage": bag}


def _carrier(context: SpanContext) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(context), Context()))
    return carrier


def _trace_of(facts: Mapping[str, Any] | None) -> Carrier:
    return _checked((facts or {}).get("trace"))


def _header_of(request: Any) -> Carrier:
    """Return the context in the headers of a message, which anybody may have sent."""
    headers = getattr(request, "headers", None)
    found = headers.get(HEADER) if isinstance(headers, dict) else None
    return _checked(getattr(request, HEADER, None) if found is None else found)


def _checked(found: Any) -> Carrier:
    if not isinstance(found, dict):
        return {}
    wanted = ("traceparent", "tracestate", "baggage")
    return {name: found[name] for name in wanted if isinstance(found.get(name), str) and len(found[name]) <= _LARGEST}


def _context_of(carrier: Carrier) -> SpanContext:
    return trace.get_current_span(_W3C.extract(carrier, Context())).get_span_context()


# -- the tracer ---------------------------------------------------------------------------------------------------------


class _ChosenIds:
    """Gives the next span of this thread the ids that were chosen for it, and other spans random ones."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual
        self._chosen = threading.local()

    def choose(self, context: SpanContext | None) -> None:
        self._chosen.context = context

    def generate_span_id(self) -> int:
        context: SpanContext | None = getattr(self._chosen, "context", None)
        return int(self._usual.generate_span_id()) if context is None else context.span_id

    def generate_trace_id(self) -> int:
        context: SpanContext | None = getattr(self._chosen, "context", None)
        return int(self._usual.generate_trace_id()) if context is None else context.trace_id

    def is_trace_id_random(self) -> bool:
        is_random = getattr(self._usual, "is_trace_id_random", None)
        return getattr(self._chosen, "context", None) is None and bool(is_random and is_random())


_of_provider: tuple[Any, trace.Tracer] | None = None


def _tracer() -> trace.Tracer:
    """Return the tracer of the provider that is set now; the application may set it late."""
    global _of_provider  # noqa: PLW0603
    provider = trace.get_tracer_provider()
    if _of_provider is None or _of_provider[0] is not provider:
        tracer = provider.get_tracer("celery_durable")
        if hasattr(tracer, "id_generator"):
            tracer.id_generator = _ChosenIds(tracer.id_generator)  # the API has no way to give a span its id
        _of_provider = provider, tracer
    return _of_provider[1]


def _start(
    name: str, own: SpanContext, parent: SpanContext | None, kind: SpanKind, attributes: Mapping[str, Any],
    begin: int | None = None, links: Sequence[Link] = (),
) -> Span:  # fmt: skip
    """Start the span whose context was decided before."""
    tracer = _tracer()
    context = Context() if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
    ids = getattr(tracer, "id_generator", None)
    if not isinstance(ids, _ChosenIds):  # no SDK, or one that chooses its ids elsewhere
        return tracer.start_span(name, context, kind, attributes, links, None if begin is None else begin * 1000)
    ids.choose(own)
    try:
        return tracer.start_span(name, context, kind, attributes, links, None if begin is None else begin * 1000)
    finally:
        ids.choose(None)
