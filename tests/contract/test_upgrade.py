"""Processes of this release beside a later one, whose migration has run: those that can, go on.

The others lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from celery.app.trace import build_tracer
from celery.exceptions import Reject

from celery_durable.cli.installation import _check_schema
from celery_durable.errors import ConfigurationError
from celery_durable.store import Store
from celery_durable.store.database import Database
from celery_durable.store.migrate import (
    HEAD,
    WORKS_SINCE,
    check_schema,
    found_revision,
    migrate,
    migration_sql,
    mismatch_in,
)

LATER = f"{int(HEAD) + 1:04}"
EARLIER = f"{int(HEAD) - 1:04}"
WORKS = {
    "this one": f"{LATER}:{HEAD}",
    "an earlier one": f"{LATER}:{EARLIER}",
    "a later one": f"{LATER}:{LATER}",
    "of other tables": f"{HEAD}:{HEAD}",
    "nobody has said": None,
}


def as_of_later_release(engine: sa.Engine, works_since: str | None) -> None:
    """Let the tables be as a later release leaves them that only adds to them."""
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE durable_alembic_version SET version_num = '{LATER}'"))
        connection.execute(sa.text("DELETE FROM durable_meta WHERE name = 'works_since'"))
        if works_since is not None:
            connection.execute(
                sa.text(f"INSERT INTO durable_meta VALUES ('works_since', '{works_since}')")
            )
        connection.execute(sa.text("ALTER TABLE durable_outbox ADD COLUMN later INTEGER"))


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """Tables of this test's own, in a process that has not looked at them yet."""
    made = Database(store_url, on_first_use=check_schema)
    migrate(made)
    yield made
    made.dispose()


@pytest.mark.parametrize("since", WORKS)
def test_tables_of_a_later_release_are_taken_if_they_may_be(database: Database, since: str) -> None:
    works_since = WORKS[since]
    as_of_later_release(database.schema_engine(), works_since)
    if since in ("this one", "an earlier one"):
        assert mismatch_in(database) is None
        migrate(database)
        assert migration_sql(database) == ""
        Store(database).workers.heartbeat("w", "h")
        assert Store(database).workers.living_workers(60_000_000) == ["h"]
    else:
        for look in (
            lambda: migrate(database),
            lambda: Store(database).workers.heartbeat("w", "h"),
        ):
            with pytest.raises(ConfigurationError, match="of a later release"):
                look()
    assert found_revision(database) == LATER


def test_this_release_says_since_which_one_its_tables_can_be_worked_with(
    database: Database,
) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT value FROM durable_meta WHERE name = 'works_since'")
        assert cursor.fetchone()[0] == f"{HEAD}:{WORKS_SINCE}"
    assert WORKS_SINCE <= HEAD


@pytest.mark.parametrize(
    "works_since", [f"{LATER}:{HEAD}", None], ids=["compatible", "not compatible"]
)
def test_messages_are_put_back_and_not_dropped(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, works_since: str | None
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    app = new_app(durable_inline_turns=False)

    @app.task(name="charge", shared=False)
    def charge() -> str:
        return "paid"

    @app.durable.orchestrator(name="sale", shared=False)
    async def sale(ctx: Any) -> Any:
        return await ctx.call(charge.s())

    run = app.durable.start(sale.s(), instance_id="i")
    app.durable.runtime.runner.run("i")
    execution = run.refresh()._known.execution
    database = app.durable.runtime.store.database
    as_of_later_release(database.schema_engine(), works_since)
    app.durable._runtime = None  # as another process
    sent = {"charge": (f"d-{execution}-1-1", {"n": 0}), "sale": ("i", {"t": "turn"})}

    def take(name: str) -> Any:
        id_, header = sent[name]
        request = {
            "id": id_,
            "task": name,
            "called_directly": False,
            "delivery_info": {},
            "durable": header,
        }
        return build_tracer(name, app.tasks[name], app=app)(
            id_, (), {}, {**request, "ignore_result": True}
        )

    for name in sent:
        done = take(name)
        assert isinstance(done.info.retval if done.info else None, Reject) is (
            works_since is None
        ), done
    if works_since is None:
        with pytest.raises(ConfigurationError, match="later release"):
            _check_schema(app.durable)
        as_of_this_release = "UPDATE durable_alembic_version SET version_num = :head"
        with database.schema_engine().begin() as connection:
            connection.execute(sa.text(as_of_this_release), {"head": HEAD})
        for name in sent:
            take(name)
    assert _check_schema(app.durable)
    assert run.refresh().output == "paid"
