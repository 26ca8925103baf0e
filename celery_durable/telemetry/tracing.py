"""OpenTelemetry: one span per orchestration, over all its turns and processes, with what it did
below it.

Everything is emitted after the commit that recorded it, so replay emits nothing. The span of an
orchestration is emitted once, at its end, under an id that follows from its execution: spans that
name it as their parent can be emitted long before it, anywhere. Only ``opentelemetry-api`` is
needed; with no SDK set up by the application nothing is recorded. No payloads, no messages of
exceptions: those are data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from ..core.entity import ORCHESTRATORS, RESERVED
from ..core.history import Event, EventKind
from ..core.kinds import KINDS, Activities, Children
from ..core.status import RuntimeStatus
from ..engine.observers import CommitNotice, PropagatedContext
from ..engine.records import ActivityAttemptId, InstanceRow
from ..engine.scope import Scope
from ..engine.summary import ExecutionSummary, PendingCall
from ..engine.writes import NewInstance
from .otel import Link, Span, SpanContext, SpanKind, Status, StatusCode, attach, detach, trace
from .span_context import (
    BAGGAGE,
    HEADER,
    LARGEST,
    beside,
    carried_by,
    carrier_of,
    checked,
    context_of,
    fresh_context,
    header_of,
    id_of,
    own_context,
    start_span,
    trace_of,
    tracer,
)

__all__ = ["HEADER", "Tracing"]

log: logging.Logger = logging.getLogger("celery_durable.tracing")
_NAME = 150
_CONTROL = {Retry: "retried", Ignore: "ignored", Reject: "rejected"}


class Tracing:
    """Emits the spans of one process (``engine.observers.Observer`` and
    ``worker.runtime.Tracing``).
    """

    needs_summary = True

    is_on = True

    # -- starts ------------------------------------------------------------------------------------

    def starting(self, new: NewInstance) -> Mapping[str, Any]:
        """Return the context that an orchestration is started in: that of its
        ``create_orchestration`` span.
        """
        if new.name.startswith(ORCHESTRATORS):
            return {}
        current = trace.get_current_span().get_span_context()
        span_id = id_of("create", new.execution, size=8)
        context = (
            beside(current, span_id)
            if current.is_valid
            else fresh_context(new.execution, new.name, span_id)
        )
        carrier = carrier_of(context)
        BAGGAGE.inject(carrier)
        return {"trace": {name: value for name, value in carrier.items() if len(value) <= LARGEST}}

    def started(self, new: NewInstance) -> None:
        """Emit the ``create_orchestration`` span of an orchestration that was inserted."""
        created = context_of(trace_of(new.facts))
        if not created.is_valid:
            return
        current = trace.get_current_span().get_span_context()
        parent = current if current.is_valid and current.trace_id == created.trace_id else None
        attributes = _about(new.id, new.execution, new.name, new.version)
        span = start_span(
            f"create_orchestration:{new.name}", created, parent, SpanKind.PRODUCER, attributes
        )
        span.end()

    # -- turns -------------------------------------------------------------------------------------

    def carried(self, instance: InstanceRow, summary: ExecutionSummary) -> PropagatedContext:
        """Return the context of an orchestration for its activities, its children, and its next
        execution.
        """
        if instance.name.startswith(ORCHESTRATORS):
            return PropagatedContext()
        carrier = carried_by(instance, summary)
        return PropagatedContext(
            {HEADER: carrier}, {"trace": carrier}, {"trace": {"continued": carrier["traceparent"]}}
        )

    def committed(self, seen: CommitNotice) -> None:
        """Emit what a commit recorded, and at its end the orchestration itself."""
        instance, summary = seen.instance, seen.summary
        if instance.name.startswith(ORCHESTRATORS) or summary is None:
            return
        own = own_context(instance, summary)
        for event, asked in seen.came:
            with _harmless():
                _emit_part(instance, own, event, asked, seen.now)
        commit = seen.commit
        if commit.next_execution is not None or (
            commit.status is not None and commit.status.is_terminal
        ):
            status = "CONTINUED_AS_NEW" if commit.status is None else str(commit.status)
            _emit_orchestration(seen, own, summary, status)

    # -- activities --------------------------------------------------------------------------------

    @contextmanager
    def activity(self, scope: Scope, ticket: ActivityAttemptId, request: Any) -> Iterator[None]:
        """Surround the body of an activity with its span, below the orchestration's.

        Where the current span is of the same trace, as that of Celery's instrumentation, it is the
        parent; else it is linked.
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
        """Let what Celery's instrumentation makes of the sending of an activity be below the
        orchestration.
        """
        own = context_of(checked(headers.get(HEADER)))
        if not own.is_valid:
            yield
            return
        token = attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))
        try:
            yield
        finally:
            detach(token)


# -- spans -----------------------------------------------------------------------------------------


@contextmanager
def _harmless() -> Iterator[None]:
    """Log what the application's own sampler or span processor raises: nothing else is to be lost
    or to fail by it.
    """
    try:
        yield
    except Exception:
        log.warning("a span is lost; what it tells of is not touched by that", exc_info=True)


def _begin_activity(scope: Scope, ticket: ActivityAttemptId, request: Any) -> tuple[Span, Any]:
    """Start the span of an activity and make it the current one.

    Return it, and the token that ends that.
    """
    carrier = header_of(request)
    own, current = context_of(carrier), trace.get_current_span().get_span_context()
    is_inside = current.is_valid and current.trace_id == own.trace_id
    links = [Link(current)] if current.is_valid and own.is_valid and not is_inside else []
    parent = current if is_inside or not own.is_valid else own
    attributes = {
        **_about(scope.instance_id, ticket.execution, scope.orchestration, None),
        "celery.durable.activity": scope.activity or "",
        "celery.durable.attempt": ticket.attempt,
        "celery.durable.command": ticket.command,
        "messaging.message.id": ticket.task_id,
    }
    context = BAGGAGE.extract(carrier, trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    span = tracer().start_span(
        f"activity:{scope.activity}",
        context,
        SpanKind.CONSUMER,
        attributes,
        links,
        record_exception=False,
    )
    return span, attach(trace.set_span_in_context(span, context))


def _emit_orchestration(
    seen: CommitNotice, own: SpanContext, summary: ExecutionSummary, status: str
) -> None:
    instance, commit = seen.instance, seen.commit
    start = summary.start.get("trace")
    created = context_of(trace_of(summary.start))
    links = []
    if isinstance(start, dict) and isinstance(start.get("continued"), str):
        links.append(Link(context_of({"traceparent": start["continued"]})))
    if summary.rewinds:
        links.append(Link(own_context(instance, summary, summary.rewinds - 1)))
    if summary.seed is not None and summary.seed != instance.execution:
        links.append(Link(beside(own, id_of("run", summary.seed, 0, size=8))))
    if summary.forked:
        links.append(Link(context_of(trace_of(summary.forked))))
    attributes = {
        **_about(instance.id, instance.execution, instance.name, instance.version),
        "celery.durable.status": status,
        "celery.durable.turns": commit.sequence + 1,
        "messaging.message.id": instance.id,
    }
    if instance.parent_id is not None:
        attributes["celery.durable.parent_id"] = instance.parent_id
    span = start_span(
        f"orchestration:{instance.name}",
        own,
        created if created.is_valid else None,
        SpanKind.SERVER,
        attributes,
        begin=summary.begun_at,
        links=[link for link in links if link.context.is_valid],
    )
    if status == RuntimeStatus.FAILED:
        kind = (commit.reason or "").partition(":")[0][:_NAME]
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, kind))
    elif status in (RuntimeStatus.CANCELED, RuntimeStatus.TERMINATED):
        span.set_status(Status(StatusCode.ERROR, status.lower()))
    span.end(seen.now * 1000)


#: Those who run what these kinds ask for emit spans themselves.
_WITH_SPANS = (Activities, Children)


def _emit_part(
    instance: InstanceRow, own: SpanContext, event: Event, asked: PendingCall | None, now: int
) -> None:
    if event.kind is EventKind.EVENT_RAISED:
        _emit_event(instance, own, event, now)
    elif event.kind is EventKind.ACTIVITY_FAILED and asked is not None:
        _emit_unseen_failure(instance, own, event, asked)
    elif asked is not None and KINDS.inputs[event.kind] not in _WITH_SPANS:
        _emit_wait(instance, own, event, asked)


def _emit_wait(instance: InstanceRow, own: SpanContext, event: Event, asked: PendingCall) -> None:
    """Emit how long something was waited for that nothing else emits: a timer, or what a kind of
    command from outside asks for.
    """
    _child(
        instance,
        own,
        f"orchestration:{instance.name}:{KINDS.inputs[event.kind].name}",
        SpanKind.INTERNAL,
        asked.at,
        event.at,
        {"celery.durable.command": event.command},
    )


def _emit_event(instance: InstanceRow, own: SpanContext, event: Event, now: int) -> None:
    if not event.name.startswith(RESERVED):  # answers of entities
        _child(
            instance,
            own,
            f"orchestration_event:{event.name[:_NAME]}",
            SpanKind.CONSUMER,
            event.at,
            now,
            {"celery.durable.event": event.name[:_NAME]},
        )


def _emit_unseen_failure(
    instance: InstanceRow, own: SpanContext, event: Event, asked: PendingCall
) -> None:
    """Emit an attempt whose body no process saw end: a time limit, a lost worker, an override."""
    if "ran" in (event.facts or {}):
        return  # the process that ran it has emitted it
    attributes = {
        "celery.durable.activity": asked.name,
        "celery.durable.attempt": event.attempt,
        "celery.durable.command": event.command,
    }
    _child(
        instance,
        own,
        f"activity:{asked.name}",
        SpanKind.INTERNAL,
        asked.at,
        event.at,
        attributes,
        has_failed=True,
    )


def _child(
    instance: InstanceRow,
    own: SpanContext,
    name: str,
    kind: SpanKind,
    begin: int,
    end: int,
    attributes: Mapping[str, Any],
    *,
    has_failed: bool = False,
) -> None:
    about = {
        **_about(instance.id, instance.execution, instance.name, instance.version),
        **attributes,
    }
    context = trace.set_span_in_context(trace.NonRecordingSpan(own))
    span = tracer().start_span(name, context, kind, about, start_time=begin * 1000)
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
        "celery.durable.instance_id": instance_id,
        "celery.durable.execution_id": execution,
        "celery.durable.orchestration": name,
    }
    return found if version is None else {**found, "celery.durable.version": version}
