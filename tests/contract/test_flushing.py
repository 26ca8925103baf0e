"""Which commits wait for the disk: all, but those whose loss a later message makes good."""

from __future__ import annotations

import pytest

from celery_durable.app.callers_driver import CallersDriver
from celery_durable.engine.records import ActivityAttemptId, Claim
from celery_durable.store import Store
from celery_durable.store.attempts import claim_values
from celery_durable.store.outbox import FINISH_DONE
from celery_durable.store.postgres_statements import RECORD, TAKE_AND_BEGIN, TURNS_WITH_OUTCOME
from celery_durable.store.runner import Cursor, Runner
from celery_durable.store.statements import Statement

from .builders import activity, begin


def flushes_after(cursor: Cursor, runner: Runner, statement: Statement, **values: object) -> str:
    """Return whether a transaction waits for the disk that this statement is a part of."""
    cursor.execute("BEGIN")
    cursor.execute("SET LOCAL synchronous_commit = on")
    assert runner.run(cursor, statement, **values).rowcount == 1
    cursor.execute("SHOW synchronous_commit")
    (found,) = cursor.fetchone()
    cursor.execute("ROLLBACK")
    return str(found)


@pytest.fixture
def execution(postgres_store: Store) -> str:
    """Return the execution of one that has ended, and of an activity that waits."""
    last = activity(0, 0, kind="finish", name="orchestrator", message="")
    return begin(postgres_store, activities=[activity(1), last])


def test_no_commit_waits_for_the_disk_only_to_say_that_a_message_has_done_its_work(
    postgres_store: Store, execution: str
) -> None:
    database = postgres_store.database
    with database.cursor() as cursor:
        gone = flushes_after(cursor, database, FINISH_DONE, id="i", execution=execution)
    assert gone == "off"


def test_the_claim_of_an_activity_does_not_wait_for_the_disk(
    postgres_store: Store, execution: str
) -> None:
    database = postgres_store.database
    claim = claim_values(ActivityAttemptId(execution, 1, 1), Claim("w1", 1, is_again=False))
    with database.cursor() as cursor:
        found = flushes_after(
            cursor, database, TAKE_AND_BEGIN, **claim, known_execution="", known_sequence=0
        )
    assert found == "off"


def test_a_transaction_of_the_callers_waits_whatever_it_drops(
    postgres_store: Store, execution: str
) -> None:
    database = postgres_store.database
    callers = CallersDriver(database, database.dialect)
    with database.cursor() as cursor:
        gone = flushes_after(cursor, callers, FINISH_DONE, id="i", execution=execution)
    assert gone == "on"


@pytest.mark.parametrize("statement", [RECORD, *TURNS_WITH_OUTCOME.values()])
def test_outcomes_and_turns_always_wait(statement: Statement) -> None:
    assert "unhurried" not in statement.sql
    assert "synchronous_commit" not in statement.sql
