"""Rows and commits for the contract tests, with everything that does not matter filled in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import sqlalchemy as sa

from celery_durable.core.history import Event, EventKind, dump_events
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.draft import new_execution_id
from celery_durable.engine.records import ActivityAttemptId, Claim, InboxKind, Outcome, Recorded
from celery_durable.engine.writes import Committed, NewActivity, NewInbox, NewInstance, TurnCommit
from celery_durable.store import Store
from celery_durable.store.schema import archiving, history, inbox, instances, outbox, workers

T = TypeVar("T")
MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
SECOND = 1_000_000
TABLES = {
    "instances": instances,
    "history": history,
    "inbox": inbox,
    "outbox": outbox,
    "workers": workers,
    "archiving": archiving,
}


def new_instance(id_: str = "i", **values: Any) -> NewInstance:
    """Return an orchestration to insert."""
    given: dict[str, Any] = {
        "execution": new_execution_id(),
        "name": "orchestrator",
        "version": None,
        "input": "[[], {}]",
        "queue": None,
    }
    return NewInstance(id_, **{**given, **values})


def activity(command: int = 1, attempt: int = 1, **values: Any) -> NewActivity:
    """Return an activity to insert."""
    given: dict[str, Any] = {
        "kind": "activity",
        "name": "task",
        "message": '["[[], {}]", {}]',
        "queue": None,
    }
    return NewActivity(command, attempt, **{**given, **values})


def event(id_: str = "i", dedup: str | None = None, **values: Any) -> NewInbox:
    """Return an external event."""
    dedup = f"event:{uuid.uuid4().hex}" if dedup is None else dedup
    return NewInbox(
        id_, EventKind.EVENT_RAISED, dedup, **{"name": "e", "payload": "null", **values}
    )


def take(store: Store, ticket: ActivityAttemptId, worker: str | None, lease: int) -> bool:
    """Let a worker begin to run an activity; False if it is not wanted, or another has it."""
    start = store.attempts.begin(ticket, None, Claim(worker, lease))
    return start is not None and start.is_claimed


def hold(store: Store, worker: str | None, tickets: Iterable[ActivityAttemptId]) -> None:
    """Let a worker begin to run activities, as far as they are wanted and nobody else has them."""
    for ticket in tickets:
        store.attempts.begin(ticket, None, Claim(worker, 60 * SECOND))


def join_row(id_: str, execution: str, join: int) -> NewInbox:
    """Return the row that stands for a wait-all."""
    return NewInbox(
        id_,
        InboxKind.JOIN,
        f"join:{execution}:{join}",
        execution=execution,
        command=join,
        wakes=False,
        check_after=SECOND,
    )


def note() -> str:
    """Return a history row."""
    return dump_events([Event(EventKind.EXECUTION_RESUMED, 1)])


def next_turn(store: Store, id_: str = "i", **values: Any) -> TurnCommit:
    """Return a commit that takes the whole inbox of an instance as it is now."""
    snapshot = store.turns.load(id_, None)
    assert snapshot is not None
    given: dict[str, Any] = {
        "statuses": MOVING,
        "events": note(),
        "status": RuntimeStatus.RUNNING,
        "taken": [row.id for row in snapshot.inbox],
    }
    return TurnCommit(
        id_, snapshot.instance.execution, snapshot.instance.sequence, **{**given, **values}
    )


def commit(store: Store, id_: str = "i", **values: Any) -> Committed:
    """Commit a turn that nobody is in the way of."""
    committed = store.turns.commit(next_turn(store, id_, **values))
    assert committed is not None
    return committed


def begin(
    store: Store, id_: str = "i", activities: Sequence[NewActivity] = (), **values: Any
) -> str:
    """Start an instance, commit its first turn with these activities, and return its execution."""
    new = new_instance(id_)
    assert store.starts.insert(new)
    commit(store, id_, activities=list(activities), **values)
    return new.execution


def begin_join(store: Store, members: int, id_: str = "i", join: int = 1) -> str:
    """Start an instance that waits for all of some activities and return its execution."""
    new = new_instance(id_)
    assert store.starts.insert(new)
    commit(
        store,
        id_,
        activities=[activity(join + number, join_command=join) for number in range(members)],
        own_inbox=[join_row(id_, new.execution, join)],
    )
    return new.execution


def succeeded(execution: str, command: int = 1, attempt: int = 1, payload: str = "null") -> Outcome:
    """Return the outcome of an activity that went well."""
    return Outcome(ActivityAttemptId(execution, command, attempt), payload, has_failed=False)


def failed(execution: str, command: int = 1, attempt: int = 1) -> Outcome:
    """Return the outcome of an activity that went wrong."""
    payload = json.dumps({"module": "builtins", "type": "ValueError", "message": "no", "args": []})
    return Outcome(ActivityAttemptId(execution, command, attempt), payload, has_failed=True)


def record(store: Store, outcome: Outcome) -> Recorded | None:
    """Record an outcome of an activity that is in no window."""
    return store.outcomes.record(outcome, release=False)


def rows(store: Store, table: str, *conditions: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    """Return rows of a table, for looking at what the public methods cannot show."""
    chosen = TABLES[table]
    with store.database.engine.connect() as connection:
        found = connection.execute(
            sa.select(chosen).where(*conditions).order_by(*chosen.primary_key.columns)
        )
        return [dict(row._mapping) for row in found]


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    return {name: rows(store, name) for name in TABLES}


def kinds(store: Store, id_: str = "i") -> list[str]:
    """Return the kinds of what lies in an inbox, in order."""
    return [row["kind"] for row in rows(store, "inbox", inbox.c.instance == id_)]


def at_once(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Run calls in threads that all begin at the same moment.

    Return their results, or raise the first error.
    """
    calls = list(calls)
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(120) for future in [pool.submit(run, call) for call in calls]]
