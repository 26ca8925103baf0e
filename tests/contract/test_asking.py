"""The answers that orchestrations give: written with a turn, read by whoever asks, gone in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import ConfigurationError, InstanceNotFound
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import UNANSWERED, Answer, Asked
from celery_durable.engine.writes import NewAnswer
from celery_durable.store import Store
from celery_durable.store.schema import answers, instances

from .builders import begin, commit, new_instance

HOUR = 3_600_000_000
RUNNING, COMPLETED = RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED


def said(store: Store, *given: tuple[str, Any, bool], **values: Any) -> None:
    commit(
        store,
        answers=[NewAnswer(key, Answer(text, failed)) for key, text, failed in given],
        **values,
    )


def age(store: Store, by: int, key: str) -> None:
    with store.database.using() as engine, engine.begin() as connection:
        change = sa.update(answers).where(answers.c.request == key)
        connection.execute(change.values(answered_at=answers.c.answered_at - by))
        connection.execute(sa.update(instances).values(created_at=0))


def keys(store: Store) -> list[str]:
    with store.database.using() as engine, engine.connect() as connection:
        return sorted(connection.scalars(sa.select(answers.c.request)))


def test_an_answer_is_read_by_its_key_and_outlives_the_end(store: Store) -> None:
    assert store.answers.read("i", "a") is None
    begin(store)
    assert store.answers.read("i", "a") == Asked(RUNNING, None)
    said(store, ("a", '"x"', False), ("b", "\u00fc\x00", True), ("c", None, True))
    said(store, ("a", '"y"', True), ("b", None, True), status=COMPLETED, clears=True)
    assert store.answers.read("i", "a") == Asked(COMPLETED, Answer('"y"', True))
    assert store.answers.read("i", "b") == Asked(COMPLETED, Answer("\u00fc\x00", True))
    assert store.answers.read("i", "c") == Asked(COMPLETED, UNANSWERED)
    assert store.answers.read("i", "d") == Asked(COMPLETED, None)


def test_they_go_after_an_hour_and_with_the_purge(store: Store) -> None:
    execution = begin(store)
    said(store, *((key, "1", False) for key in "abc"), status=COMPLETED)
    age(store, HOUR, "a")
    age(store, HOUR - 60_000_000, "b")
    assert store.answers.read("i", "a") == Asked(COMPLETED, None)
    assert store.answers.read("i", "b") == Asked(COMPLETED, Answer("1", False))
    assert store.answers.drop_old() is False
    assert keys(store) == ["b", "c"]
    assert store.cleanup.purge("i", execution)
    assert keys(store) == []


def test_they_go_where_retention_purges(store: Store) -> None:
    begin(store)
    said(store, ("a", "1", False), status=COMPLETED, keeps_for=0)
    store.cleanup.purge_due(10)
    assert keys(store) == []


def test_another_life_under_the_id_does_not_have_them(store: Store) -> None:
    begin(store)
    said(store, ("a", "1", False), status=COMPLETED)
    assert store.starts.replace(new_instance()) is not None
    assert store.answers.read("i", "a") == Asked(RuntimeStatus.PENDING, None)


def test_a_clock_that_was_set_back_hides_none(store: Store) -> None:
    begin(store)
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(sa.update(instances).values(created_at=store.now() + HOUR))
    said(store, ("a", "1", False))
    assert store.answers.read("i", "a") == Asked(RUNNING, Answer("1", False))


def test_what_only_a_transaction_knows_is_not_asked(new_app: Callable[..., Any]) -> None:
    app = new_app()
    durable = app.durable

    @durable.orchestrator(name="asked.waits")
    async def waits(ctx: Any) -> Any:
        return (await ctx.wait_request("x")).data

    engine = sa.create_engine(durable.runtime.store.database.url)
    with Session(engine) as session:
        run = durable.start(waits.s(), instance_id="i", session=session)
        with pytest.raises(ConfigurationError, match="begins when the transaction that starts it"):
            run.ask("x")
        session.rollback()
    with pytest.raises(InstanceNotFound):
        app.tasks["asked.waits"].AsyncResult("i").ask("x")
    with Session(engine) as session:
        run = durable.start(waits.s(), instance_id="i", session=session)
        session.commit()
    with pytest.raises(TimeoutError):
        run.ask("x", timeout=0)
    engine.dispose()
