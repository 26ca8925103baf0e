"""An application whose spans a test can look at.

Everything runs in this process, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Spans:
    """The spans that were exported, by name."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def names(self) -> list[str]:
        return sorted(span.name for span in self.all())

    def named(self, name: str) -> list[ReadableSpan]:
        return sorted(
            (span for span in self.all() if span.name == name),
            key=lambda span: span.start_time or 0,
        )

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


_exporter = InMemorySpanExporter()


@pytest.fixture(scope="session")
def provider() -> TracerProvider:
    """The tracer provider of this process; there can be only one."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[Spans]:
    _exporter.clear()
    yield Spans(_exporter)
    _exporter.clear()


@pytest.fixture
def traced(new_app: Callable[..., Any], spans: Spans) -> Any:
    """An application with tracing, in which everything runs in the caller."""
    return new_app(task_always_eager=True, durable_tracing=True)


@pytest.fixture
def begin() -> Callable[..., Any]:
    """Start an orchestration whose tasks were declared after its application was finalized."""

    def begin(app: Any, signature: Any, **options: Any) -> Any:
        app.durable._watch_tasks()
        return app.durable.start(signature, **options)

    return begin
