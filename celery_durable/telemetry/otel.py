"""What of OpenTelemetry is used; one clear word where it is not installed."""

from __future__ import annotations

from ..errors import ConfigurationError
from ..versions import demand

demand("opentelemetry-api")
try:
    from opentelemetry import trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import (
        Link,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError(
        "durable_tracing needs the package opentelemetry-api: pip install 'celery-durable[otel]'",
        setting="durable_tracing",
    ) from error

__all__ = [
    "Context",
    "Link",
    "Span",
    "SpanContext",
    "SpanKind",
    "Status",
    "StatusCode",
    "TraceContextTextMapPropagator",
    "TraceFlags",
    "W3CBaggagePropagator",
    "attach",
    "detach",
    "trace",
]
