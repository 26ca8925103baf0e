"""Which ids spans get, and how a trace travels: the contexts behind ``tracing``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.records import InstanceRow
from ..engine.summary import ExecutionSummary
from .otel import (
    Context,
    Link,
    Span,
    SpanContext,
    SpanKind,
    TraceContextTextMapPropagator,
    TraceFlags,
    W3CBaggagePropagator,
    trace,
)

__all__ = [
    "HEADER",
    "Carrier",
    "id_of",
    "fresh_context",
    "beside",
    "own_context",
    "carried_by",
    "carrier_of",
    "trace_of",
    "header_of",
    "checked",
    "context_of",
    "tracer",
    "start_span",
]

#: The message header in which the context of an orchestration travels to its activities.
HEADER = "durable_trace"
LARGEST = 1_000
_W3C = TraceContextTextMapPropagator()
BAGGAGE = W3CBaggagePropagator()
Carrier = Mapping[str, str]


# -- ids and contexts ------------------------------------------------------------------------------


def id_of(*parts: Any, size: int) -> int:
    """Return an id that follows from what it is for; never 0."""
    digest = hashlib.sha256(":".join(["celery-durable", *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:size], "big") or 1


def fresh_context(execution: str, name: str, span_id: int) -> SpanContext:
    """Return a context in the trace of an execution that no trace asked for.

    Every process comes to the same one.
    """
    trace_id = id_of("trace", execution, size=16)
    sampler = getattr(tracer(), "sampler", None)
    is_sampled = True
    if sampler is not None:
        result = sampler.should_sample(None, trace_id, f"orchestration:{name}", SpanKind.SERVER)
        is_sampled = result.decision.is_sampled()
    return SpanContext(
        trace_id,
        span_id,
        True,
        TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT),
    )


def beside(other: SpanContext, span_id: int) -> SpanContext:
    """Return a context in the trace of another one."""
    return SpanContext(other.trace_id, span_id, True, other.trace_flags, other.trace_state)


def own_context(
    instance: InstanceRow, summary: ExecutionSummary, rewinds: int | None = None
) -> SpanContext:
    """Return the context of an orchestration's own span.

    Each rewind makes it another span of the same trace.
    """
    created = context_of(trace_of(summary.start))
    span_id = id_of(
        "run", instance.execution, summary.rewinds if rewinds is None else rewinds, size=8
    )
    return (
        beside(created, span_id)
        if created.is_valid
        else fresh_context(instance.execution, instance.name, span_id)
    )


def carried_by(instance: InstanceRow, summary: ExecutionSummary) -> dict[str, str]:
    """Return what a message carries of an execution: its context and the baggage of its start."""
    carrier = carrier_of(own_context(instance, summary))
    bag = trace_of(summary.start).get("baggage")
    return carrier if bag is None else {**carrier, "baggage": bag}


def carrier_of(context: SpanContext) -> dict[str, str]:
    """Return a context in the form in which it travels."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(context), Context()))
    return carrier


def trace_of(facts: Mapping[str, Any] | None) -> Carrier:
    """Return the carrier among the facts of a start."""
    return checked((facts or {}).get("trace"))


def header_of(request: Any) -> Carrier:
    """Return the context in the headers of a message, which anybody may have sent."""
    headers = getattr(request, "headers", None)
    found = headers.get(HEADER) if isinstance(headers, dict) else None
    return checked(getattr(request, HEADER, None) if found is None else found)


def checked(found: Any) -> Carrier:
    """Return a carrier that anyone may have written, as far as it is one."""
    if not isinstance(found, dict):
        return {}
    wanted = ("traceparent", "tracestate", "baggage")
    return {
        name: found[name]
        for name in wanted
        if isinstance(found.get(name), str) and len(found[name]) <= LARGEST
    }


def context_of(carrier: Carrier) -> SpanContext:
    """Return the context that a carrier names."""
    return trace.get_current_span(_W3C.extract(carrier, Context())).get_span_context()


# -- the tracer ------------------------------------------------------------------------------------


class _ChosenIds:
    """Gives the next span of this thread the ids that were chosen for it, and other spans random
    ones.
    """

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


def tracer() -> trace.Tracer:
    """Return the tracer of the provider that is set now; the application may set it late."""
    global _of_provider  # noqa: PLW0603
    provider = trace.get_tracer_provider()
    if _of_provider is None or _of_provider[0] is not provider:
        tracer = provider.get_tracer("celery_durable")
        if hasattr(tracer, "id_generator"):
            # the API has no way to give a span its id
            tracer.id_generator = _ChosenIds(tracer.id_generator)
        _of_provider = provider, tracer
    return _of_provider[1]


def start_span(
    name: str,
    own: SpanContext,
    parent: SpanContext | None,
    kind: SpanKind,
    attributes: Mapping[str, Any],
    begin: int | None = None,
    links: Sequence[Link] = (),
) -> Span:
    """Start the span whose context was decided before."""
    found = tracer()
    context = (
        Context()
        if parent is None
        else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
    )
    ids = getattr(found, "id_generator", None)
    if not isinstance(ids, _ChosenIds):  # no SDK, or one that chooses its ids elsewhere
        return found.start_span(
            name, context, kind, attributes, links, None if begin is None else begin * 1000
        )
    ids.choose(own)
    try:
        return found.start_span(
            name, context, kind, attributes, links, None if begin is None else begin * 1000
        )
    finally:
        ids.choose(None)
