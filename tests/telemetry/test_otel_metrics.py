"""Metrics by OpenTelemetry: the same numbers as for Prometheus, under the names that a collector
makes the same of.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from celery_durable.telemetry import otel_metrics
from celery_durable.telemetry.names import METRICS
from celery_durable.telemetry.otel_metrics import OtelMetrics

from .test_prometheus import COMPLETED, STRANGE


class Collected:
    """What a provider would export."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def collected() -> Any:
    found = Collected()
    yield found
    found.provider.shutdown()


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app(durable_archive="/nowhere")

    @app.durable.orchestrator(name="shop.order")
    async def order(ctx: Any) -> None:
        await ctx.wait_event("go")

    return app


def test_the_store_is_looked_at_when_it_is_collected(app: Any, collected: Collected) -> None:
    OtelMetrics(app.durable, collected.provider, cache=0)
    run = app.durable.start(app.tasks["shop.order"].s())
    app.durable.runtime.runner.run(run.id)
    found = collected.points()
    (living,) = found["celery_durable_instances"]
    assert (living.value, dict(living.attributes)) == (
        1,
        {"orchestration": "shop.order", "status": "RUNNING"},
    )
    waiting = {point.attributes["cause"]: point.value for point in found["celery_durable_waiting"]}
    assert waiting["message"] == 1
    assert found["celery_durable_up"][0].value == 1


def test_a_store_that_cannot_be_read_is_down(
    new_app: Callable[..., Any], collected: Collected
) -> None:
    app = new_app(durable_backend_url="sqlite:////nowhere/at/all.db")
    OtelMetrics(app.durable, collected.provider)
    found = collected.points()
    assert found.pop("celery_durable_up")[0].value == 0
    assert not any(found.values())


def test_events_are_counted_as_for_prometheus(app: Any, collected: Collected) -> None:
    counted = OtelMetrics(app.durable, collected.provider)
    counted.receive(COMPLETED)
    found = collected.points()
    late = {
        tuple(point.attributes.items()): point.value for point in found["celery_durable_timeouts"]
    }
    assert late == {
        (("name", "shop.charge"), ("kind", "attempt")): 1,
        (("name", "shop.order"), ("kind", "run")): 1,
    }
    (age,) = found["celery_durable_instance_duration"]
    assert (age.sum, age.count) == (4.0, 1)
    if "explicit_bucket_boundaries_advisory" in signature(Meter.create_histogram).parameters:
        buckets = METRICS["celery_durable_instance_duration_seconds"].buckets
        assert tuple(age.explicit_bounds) == buckets


def test_every_metric_has_an_instrument(app: Any, collected: Collected) -> None:
    counted = OtelMetrics(app.durable, collected.provider)
    run = app.durable.start(app.tasks["shop.order"].s())
    app.durable.start(app.tasks["shop.order"].s())
    app.durable.runtime.runner.run(run.id)
    counted.receive({**COMPLETED, "nondeterminism": True})
    found = collected.points()
    stripped = {
        name.removesuffix("_total")
        if metric.kind == "counter"
        else name.removesuffix("_seconds")
        if metric.kind == "histogram"
        else name
        for name, metric in METRICS.items()
    }
    quiet = {
        "outbox_pending",
        "outbox_oldest_timestamp_seconds",
        "outbox_resent",
        "turns_oldest_timestamp_seconds",
    }
    assert stripped - set(found) <= {f"celery_durable_{name}" for name in quiet}
    assert set(found) <= stripped


@pytest.mark.parametrize("field", ["timeouts", "retries", "attempts", "type"])
def test_forged_events_do_no_harm(app: Any, collected: Collected, field: str) -> None:
    counted = OtelMetrics(app.durable, collected.provider)
    for value in STRANGE:
        counted.receive({**COMPLETED, field: value})
    collected.points()


def test_without_a_provider_nothing_would_be_sent() -> None:
    assert not otel_metrics.is_provided()
