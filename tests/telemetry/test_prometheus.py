"""Metrics: what the store tells on every database, what events tell, and that no one can make them
grow without bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_durable.store.migrate import HEAD
from celery_durable.store.schema import inbox, outbox
from celery_durable.telemetry.names import METRICS
from celery_durable.telemetry.prometheus import EventMetrics, StoreCollector, metrics

COMPLETED = {
    "type": "durable-completed",
    "instance": "i",
    "orchestration": "shop.order",
    "turn": 3,
    "status": "COMPLETED",
    "begun": True,
    "age": 4.0,
    "seconds": 0.002,
    "lag": 0.3,
    "timers": [0.2],
    "nondeterminism": False,
    "attempts": [
        ["shop.charge", "failed", 0.5],
        ["shop.charge", "completed", 0.25],
        ["shop.mail", "failed", None],
    ],
    "timeouts": [["shop.charge", "attempt"], ["shop.order", "run"]],
    "retries": [["shop.charge"]],
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def app(new_app: Callable[..., Any], store_url: str) -> Any:
    app = new_app(durable_backend_url=store_url)
    app.durable.migrate()

    @app.task(name="shop.charge", queue="payments")
    def charge() -> None: ...

    @app.durable.orchestrator(name="shop.order")
    async def order(ctx: Any) -> None:
        timer = ctx.sleep(3600)
        await ctx.call(charge.s())
        await timer

    return app


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def change(app: Any, table: sa.Table, **values: Any) -> None:
    with app.durable.runtime.store.database.using() as engine, engine.begin() as connection:
        connection.execute(sa.update(table).values(**values))


# -- the store -------------------------------------------------------------------------------------


def test_the_store_tells_what_lives_and_what_is_late(app: Any, registry: CollectorRegistry) -> None:
    durable = app.durable
    begun = durable.start(app.tasks["shop.order"].s())
    durable.runtime.runner.run(begun.id)
    waiting = durable.start(
        app.tasks["shop.order"].s(), start_at=datetime.now(UTC) + timedelta(days=1)
    )
    durable.start(app.tasks["shop.order"].s()).terminate()
    durable.runtime.store.workers.heartbeat("w", "host")
    registry.register(StoreCollector(durable, cache=0))
    found = samples(registry)
    name = ("orchestration", "shop.order")
    assert found["celery_durable_up", ()] == 1
    assert found["celery_durable_instances", (name, ("status", "RUNNING"))] == 1
    assert found["celery_durable_instances", (name, ("status", "PENDING"))] == 1
    assert not [key for key in found if "TERMINATED" in str(key)], "only what lives is counted"
    created = waiting.refresh().created_at.timestamp()
    assert found["celery_durable_oldest_pending_timestamp_seconds", (name,)] == pytest.approx(
        created, abs=0.001
    )
    assert found["celery_durable_stuck_instances", (name,)] == 0
    assert found["celery_durable_history_turns_max", (name,)] == 1
    assert found["celery_durable_outbox_pending", (("queue", "payments"),)] == 1
    assert found["celery_durable_outbox_resent", (("queue", "payments"),)] == 0
    change(app, outbox, sends=3)
    later = CollectorRegistry()
    later.register(StoreCollector(durable, cache=0))
    assert samples(later)["celery_durable_outbox_resent", (("queue", "payments"),)] == 3
    oldest = found["celery_durable_outbox_oldest_timestamp_seconds", (("queue", "payments"),)]
    assert begun.refresh().created_at.timestamp() - 0.001 <= oldest <= created
    assert found["celery_durable_activities_running", ()] == 0
    assert found["celery_durable_timers_overdue", ()] == 0
    assert found["celery_durable_workers", ()] == 1
    assert found["celery_durable_schema_revision_info", (("revision", HEAD),)] == 1


def test_the_store_tells_what_is_stuck_overdue_and_running(
    app: Any, registry: CollectorRegistry
) -> None:
    durable = app.durable
    run = durable.start(app.tasks["shop.order"].s())
    durable.runtime.runner.run(run.id)
    change(app, inbox, visible_at=1, wake_at=1)
    change(app, outbox, holder="w")
    registry.register(StoreCollector(durable, cache=0))
    found = samples(registry)
    assert found["celery_durable_stuck_instances", (("orchestration", "shop.order"),)] == 1
    assert found["celery_durable_timers_overdue", ()] == 1
    assert found["celery_durable_activities_running", ()] == 1
    assert found["celery_durable_turns_waiting", ()] == 1
    assert found["celery_durable_turns_oldest_timestamp_seconds", ()] == 1e-6
    assert not [key for key in found if key[0] == "celery_durable_outbox_pending"]
    run.suspend()
    later = CollectorRegistry()
    later.register(StoreCollector(durable))
    found = samples(later)
    assert found["celery_durable_timers_overdue", ()] == 0, (
        "a suspended orchestration's timers are not late"
    )
    assert found["celery_durable_stuck_instances", (("orchestration", "shop.order"),)] == 0


def test_a_look_is_kept_for_a_while_and_longer_if_it_took_long(
    app: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 100.0, "snapshot": 1.0}
    looks = []
    monkeypatch.setattr("celery_durable.telemetry.readings.time.monotonic", lambda: clock["now"])

    def snapshot(store: Any, lease: int, **options: Any) -> Any:
        looks.append(clock["now"])
        clock["now"] += clock["snapshot"]
        return real(store, lease, **options)

    from celery_durable.telemetry import readings

    real = readings.take_snapshot
    monkeypatch.setattr(readings, "take_snapshot", snapshot)
    registry.register(StoreCollector(app.durable))
    for moment in (101, 151, 201, 203, 302):
        clock["now"] = moment
        samples(registry)
    assert looks == [101, 203], f"a look of a second is kept for a hundred: {looks}"
    clock.update(now=1000.0, snapshot=0.0)
    for moment in (0, 14, 16):
        clock["now"] = 1000.0 + moment
        samples(registry)
    assert [look for look in looks if look >= 1000] == [1000.0, 1016.0]


def test_a_store_that_cannot_be_read_is_down_and_no_error(
    new_app: Callable[..., Any], registry: CollectorRegistry
) -> None:
    app = new_app(durable_backend_url="sqlite:////nowhere/at/all.db")
    registry.register(StoreCollector(app.durable))
    assert samples(registry) == {("celery_durable_up", ()): 0.0}


@pytest.mark.sparse(3)
def test_the_page_is_in_the_format_that_was_asked_for(app: Any) -> None:
    body, content_type = metrics(app.durable)
    assert b"\ncelery_durable_up 1.0" in body and content_type.startswith("text/plain")
    body, content_type = metrics(app.durable, "application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n") and content_type.startswith("application/openmetrics-text")


# -- events ----------------------------------------------------------------------------------------


def test_events_are_counted(registry: CollectorRegistry) -> None:
    counted = EventMetrics(registry)
    counted.receive(COMPLETED)
    counted.receive(
        {
            **COMPLETED,
            "type": "durable-suspended",
            "status": "SUSPENDED",
            "begun": False,
            "attempts": [],
            "timeouts": [["shop.charge", "none"]],
            "retries": [],
            "nondeterminism": True,
        }
    )
    found = samples(registry)
    name, charge = ("orchestration", "shop.order"), ("activity", "shop.charge")
    assert found["celery_durable_instances_started_total", (name,)] == 1
    assert found["celery_durable_instances_finished_total", (name, ("outcome", "completed"))] == 1
    assert found["celery_durable_instance_duration_seconds_sum", (name,)] == 4.0
    assert found["celery_durable_turns_total", (name, ("outcome", "committed"))] == 1
    assert found["celery_durable_turns_total", (name, ("outcome", "suspended"))] == 1
    assert found["celery_durable_turn_duration_seconds_count", (name,)] == 2
    assert found["celery_durable_turn_lag_seconds_sum", (name,)] == 0.6
    assert found["celery_durable_activity_attempts_total", (charge, ("outcome", "failed"))] == 1
    assert found["celery_durable_activity_attempts_total", (charge, ("outcome", "completed"))] == 1
    assert found["celery_durable_activity_duration_seconds_sum", (charge,)] == 0.75
    mail = (("activity", "shop.mail"), ("outcome", "failed"))
    assert found["celery_durable_activity_attempts_total", mail] == 1
    assert ("celery_durable_activity_duration_seconds_count", mail[:1]) not in found, (
        "nobody saw it running"
    )
    assert found["celery_durable_timer_lag_seconds_count", ()] == 2
    late = ("kind", "attempt"), ("name", "shop.charge")
    assert found["celery_durable_timeouts_total", late] == 1
    assert found["celery_durable_timeouts_total", (("kind", "run"), ("name", "shop.order"))] == 1
    assert found["celery_durable_activity_retries_total", (charge,)] == 1
    assert found["celery_durable_nondeterminism_total", (name,)] == 1


def test_a_verb_of_a_client_is_no_turn(registry: CollectorRegistry) -> None:
    EventMetrics(registry).receive(
        {"type": "durable-terminated", "orchestration": "o", "status": "TERMINATED", "age": 9}
    )
    found = samples(registry)
    finished = (("orchestration", "o"), ("outcome", "terminated"))
    assert found["celery_durable_instances_finished_total", finished] == 1
    assert not [key for key in found if key[0] == "celery_durable_turns_total"]


STRANGE: list[Any] = [
    None,
    "x",
    -1,
    math.nan,
    math.inf,
    True,
    [],
    {},
    [None],
    [[1, 2, 3]],
    [{}],
    10**400,
    b"x",
]
SHOWN = [repr(value)[:20] for value in STRANGE]


@pytest.mark.parametrize("field", [*COMPLETED, "unknown"])
@pytest.mark.parametrize("value", STRANGE, ids=SHOWN)
def test_forged_events_do_no_harm(registry: CollectorRegistry, field: str, value: Any) -> None:
    counted = EventMetrics(registry)
    counted.receive({**COMPLETED, field: value})
    counted.receive({})
    assert all(math.isfinite(number) and number >= 0 for number in samples(registry).values())


def test_events_of_others_are_not_counted(registry: CollectorRegistry) -> None:
    counted = EventMetrics(registry)
    before = samples(registry)
    counted.receive({**COMPLETED, "type": "task-succeeded"})
    counted.receive({"type": "durable-something-else"})
    assert samples(registry) == before


def test_the_number_of_labels_is_limited(registry: CollectorRegistry) -> None:
    counted = EventMetrics(registry)
    for number in range(700):
        counted.receive(
            {
                **COMPLETED,
                "orchestration": f"o{number}",
                "attempts": [[f"a{number}", "completed", 1]],
                "retries": [],
            }
        )
    counted.receive({**COMPLETED, "orchestration": "o" * 10_000, "attempts": []})
    found = samples(registry)
    started = [
        value
        for (name, _), value in found.items()
        if name == "celery_durable_instances_started_total"
    ]
    assert (len(started), sum(started)) == (501, 701)
    assert found["celery_durable_instances_started_total", (("orchestration", "other"),)] == 201
    attempts = [key for key in found if key[0] == "celery_durable_activity_attempts_total"]
    assert len(attempts) == 501


# -- both ------------------------------------------------------------------------------------------


@pytest.mark.sparse(3)
def test_all_metrics_of_the_list_exist_and_no_others(app: Any, registry: CollectorRegistry) -> None:
    """In one registry, as in Flower's: no two families clash."""
    app.conf.durable_archive = "/nowhere"
    durable = app.durable
    durable.runtime.store.dispose()
    durable._runtime = None
    run = durable.start(app.tasks["shop.order"].s())
    durable.start(app.tasks["shop.order"].s())
    durable.runtime.runner.run(run.id)
    registry.register(StoreCollector(durable))
    EventMetrics(registry).receive({**COMPLETED, "nondeterminism": True})
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }
    found = {name: family for name, family in found.items() if not name.endswith("_created")}
    assert set(found) == set(METRICS)
    for name, family in found.items():
        metric = METRICS[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(metric.labels), name
