"""What a page of orchestrations waits for: in words, in two queries, by indexes, on every
database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import Limit
from celery_durable.inspection.views import current_waits
from celery_durable.store import queries
from celery_durable.store.waits import waits_statement
from tests.conftest import wait_until

LONG_AGO = 10**15
EVENTS = ("event", "event in time", "events in time")


@pytest.fixture
def app(new_app: Callable[..., Any], store_url: str) -> Any:
    """An application on each database, whose activities stay in the broker."""
    app = new_app(durable_backend_url=store_url, durable_start_inline=True)

    @app.task(name="charge")
    def charge(amount: int) -> int:
        return amount

    @app.durable.orchestrator(name="any")
    async def any_(ctx: Any, how: str) -> Any:
        match how:
            case "activity":
                await ctx.call(charge.s(1))
            case "activities":
                await ctx.all([ctx.call(charge.s(number)) for number in range(3)])
            case "timer":
                await ctx.sleep_until(datetime(2999, 1, 2, 3, 4, 5, tzinfo=UTC))
            case "event":
                await ctx.wait_event("go")
            case "event in time":
                await ctx.wait_event("go", timeout=timedelta(days=300_000))
            case "events in time":
                await ctx.any(
                    [
                        ctx.wait_event(name, timeout=timedelta(days=300_000))
                        for name in ("go", "stop")
                    ]
                )
            case "child":
                await ctx.call(any_.s("event").set(task_id="a-child"))
            case "both":
                await ctx.all(
                    [ctx.call(charge.s(1)), ctx.call(any_.s("event")), ctx.call(any_.s("event"))]
                )

    @app.durable.orchestrator(name="single", limit=Limit(1))
    async def single(ctx: Any) -> Any:
        await ctx.wait_event("go")

    app.durable.migrate()
    return app


def waits(app: Any) -> dict[str, str]:
    return current_waits(app.durable, app.durable.find(limit=100).items)


def test_every_wait_has_its_words(app: Any) -> None:
    durable, task = app.durable, app.tasks["any"]
    for how in ("activity", "activities", "timer", *EVENTS, "child", "both", "nothing"):
        durable.start(task.s(how), instance_id=how)
    durable.start(task.s("event"), instance_id="later", start_at=datetime(2999, 1, 1, tzinfo=UTC))
    durable.start(task.s("event"), instance_id="stopped").suspend("why")
    for number in (1, 2):
        durable.start(app.tasks["single"].s(), instance_id=f"single-{number}")
    wait_until(lambda: durable.get("nothing").runtime_status.is_terminal, what="an end")
    found = waits(app)
    assert found | {} == {
        "activity": "activity charge",
        "activities": "3 activities",
        "timer": "timer due 2999-01-02 03:04:05 UTC",
        "event": "event, request or code",
        "event in time": found["event in time"],
        "events in time": found["events in time"],
        "child": "child a-child",
        "a-child": found["a-child"],
        "both": "activity charge, 2 children",
        "nothing": "-",
        "later": "start due 2999-01-01 00:00:00 UTC",
        "stopped": "resume",
        "single-1": found["single-1"],
        "single-2": "admission",
        **{id_: words for id_, words in found.items() if id_.startswith("both:")},
    }
    assert re.fullmatch(
        r"event go, until 28\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", found["event in time"]
    )
    assert re.fullmatch(r"timer due 28\d\d-\d\d-\d\d .* UTC", found["events in time"])
    assert current_waits(durable, []) == {}


def test_a_page_takes_two_queries_however_long_it_is(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        app.durable.start(app.tasks["any"].s("activity"), instance_id=f"i{number}")
    runs = app.durable.find().items
    statements: list[str] = []
    query, now = queries.fetch, queries.now
    monkeypatch.setattr(
        queries, "fetch", lambda *given: statements.append("query") or query(*given)
    )
    monkeypatch.setattr(queries, "now", lambda *given: statements.append("now") or now(*given))
    assert set(current_waits(app.durable, runs).values()) == {"activity charge"}
    assert statements == ["now", "query"]


@pytest.mark.full
def test_the_statement_uses_indexes(app: Any) -> None:
    store = app.durable.runtime.store
    _fill(store, 3000)
    ids = [f"old-{number}" for number in range(100)]
    statement = waits_statement([f"e-{number}" for number in range(100)], ids, store.now())
    assert _tables_read_whole(store, statement) == set()
    whole = (
        sa.select(sa.func.count())
        .select_from(store_table("durable_inbox"))
        .where(sa.text("facts LIKE '%x%'"))
    )
    assert _tables_read_whole(store, whole), "this way of looking at plans sees nothing"


def store_table(name: str) -> sa.Table:
    from celery_durable.store.schema import metadata

    return metadata.tables[name]


def _fill(store: Any, number: int) -> None:
    engine = store.database.engine
    tables = ("durable_instances", "durable_outbox", "durable_inbox", "durable_waiting")
    instances, outbox, inbox, waiting = map(store_table, tables)
    rows = range(number)
    with engine.begin() as connection:
        connection.execute(
            instances.insert(),
            [
                {
                    "id": f"old-{n}",
                    "execution": f"e-{n}",
                    "name": "any",
                    "status": "COMPLETED",
                    "sequence": 1,
                    "crashes": 0,
                    "created_at": LONG_AGO + n,
                    "updated_at": LONG_AGO,
                    "parent_id": f"old-{n - 1}",
                }
                for n in rows
            ],
        )
        connection.execute(
            outbox.insert(),
            [
                {
                    "execution": f"e-{n}",
                    "command": 1,
                    "attempt": 1,
                    "instance": f"old-{n}",
                    "kind": "activity",
                    "name": "charge",
                    "is_held": False,
                    "is_delegated": False,
                    "sends": 0,
                }
                for n in rows
            ],
        )
        connection.execute(
            inbox.insert(),
            [
                {
                    "instance": f"old-{n}",
                    "dedup": "d",
                    "kind": "EventRaised",
                    "command": 0,
                    "attempt": 0,
                    "visible_at": LONG_AGO,
                    "sends": 0,
                }
                for n in rows
            ],
        )
        connection.execute(
            waiting.insert(),
            [
                {
                    "instance": f"old-{n}",
                    "execution": f"e-{n}",
                    "name": "any",
                    "lane": "",
                    "precedence": 0,
                    "ready_at": LONG_AGO,
                    "created_at": LONG_AGO,
                    "limits": "[]",
                }
                for n in rows
            ],
        )
        if store.database.family == "postgresql":
            connection.execute(sa.text("ANALYZE"))
        elif store.database.family == "mysql":
            connection.execute(sa.text(f"ANALYZE TABLE {', '.join(tables)}"))


def _tables_read_whole(store: Any, statement: Any) -> set[str]:
    """Return the tables of which a plan reads every row."""
    database = store.database
    text = str(
        statement.compile(dialect=database.engine.dialect, compile_kwargs={"literal_binds": True})
    )
    prefix = {
        "sqlite": "EXPLAIN QUERY PLAN ",
        "postgresql": "EXPLAIN (FORMAT JSON) ",
        "mysql": "EXPLAIN ",
    }[database.family]
    with database.engine.connect() as connection:
        # of tables as small as these it would rather read the whole
        if database.family == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
        rows = connection.exec_driver_sql(
            (prefix + text).replace("%", "%%") if database.family != "sqlite" else prefix + text
        )
        found = [dict(row._mapping) for row in rows]
    if database.family == "sqlite":
        return {row["detail"] for row in found if row["detail"].startswith("SCAN durable")}
    if database.family == "mysql":
        return {
            row["table"]
            for row in found
            if row["type"] == "ALL" and row["table"].startswith("durable")
        }
    (plan,) = found[0].values()
    return set(_sequential((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))


def _sequential(plan: dict[str, Any]) -> list[str]:
    reads_all = plan["Node Type"] == "Seq Scan" or (
        plan["Node Type"].startswith("Index") and "Index Cond" not in plan
    )
    own = [plan["Relation Name"]] if reads_all and "Relation Name" in plan else []
    return own + [table for child in plan.get("Plans", []) for table in _sequential(child)]
