"""Bugs, put into the engine and the store from outside: one for each promise that the crash matrix is there to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from celery_durable.engine import decisions, turn
from celery_durable.engine.decisions import activity_rows
from celery_durable.engine.records import ActivityTicket
from celery_durable.engine.turn import TurnRunner
from celery_durable.store import turns
from celery_durable.store.database import Statement
from celery_durable.store.queries import Store
from celery_durable.worker import activity

from .probe import Mode
from .programs import app

Patch = Any
SQL = frozenset({"sql"})


@dataclass(frozen=True)
class Bug:
    """A bug: how it is planted, and the program and the mode that must bring it to light."""

    name: str
    patches: Callable[[], list[Patch]]
    program: str
    mode: Mode
    places: frozenset[str] | None = None

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the bug, for a while."""
        patches = self.patches()
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in reversed(patches):
                patch.stop()


def _publishes_before_commit() -> list[Patch]:
    commit = TurnRunner._commit

    def planted(self: Any, change: Any, execution: Any) -> Any:
        self.send_activities(activity_rows(change, change.instance_id))
        return commit(self, change, execution)

    return [mock.patch.object(TurnRunner, "_commit", planted)]


def _acknowledges_before_recording() -> list[Patch]:
    cls = app.tasks["faults.add"].Request
    accepted = cls.on_accepted

    def planted(self: Any, pid: int, time_accepted: float) -> None:
        self.acknowledge()
        accepted(self, pid, time_accepted)

    return [mock.patch.object(cls, "on_accepted", planted)]


def _keeps_the_outbox_row() -> list[Patch]:
    kept = Statement(
        turns.DELETE_ACTIVITY.sql.replace("DELETE FROM durable_outbox", "UPDATE durable_outbox SET sends = sends")
    )
    return [mock.patch.object(turns, "DELETE_ACTIVITY", kept)]


def _joins_in_an_old_snapshot() -> list[Patch]:
    record, finish = Store.record_outcome, Store.finish_join
    seen: dict[Any, bool] = {}

    def noting(self: Any, outcome: Any, *, release: bool = True) -> Any:
        execution, command, _ = outcome.ticket
        row = self.database.fetch_one(_JOIN_OF, execution=execution, command=command)
        if row is not None and row[0] is not None:
            seen[execution, row[0]] = (
                self.database.fetch_one(turns.OPEN_MEMBER, execution=execution, join=row[0]) is not None
            )
        return record(self, outcome, release=release)

    def planted(self: Any, execution: str, instance_id: str, join_command: int) -> bool:
        return not seen.get((execution, join_command)) and finish(self, execution, instance_id, join_command)

    return [mock.patch.object(Store, "record_outcome", noting), mock.patch.object(Store, "finish_join", planted)]


_JOIN_OF = Statement("SELECT join_command FROM durable_outbox WHERE execution = :execution AND command = :command")


def _commits_without_comparing() -> list[Patch]:
    commit = Store._commit

    def planted(self: Any, cursor: Any, change: Any) -> Any:
        row = self.database.run(cursor, _WHERE_IT_IS, id=change.instance_id).fetchone()
        change.sequence = change.sequence if row is None else row[0]
        return commit(self, cursor, change)

    return [mock.patch.object(Store, "_commit", planted)]


_WHERE_IT_IS = Statement("SELECT sequence FROM durable_instances WHERE id = :id")


def _ignores_the_outbox() -> list[Patch]:
    return [mock.patch.object(Store, "due_activities", lambda self, limit: [])]


def _ignores_the_inbox() -> list[Patch]:
    return [mock.patch.object(Store, "due_wakes", lambda self, limit: [])]


def _never_sets_check_at() -> list[Patch]:
    inbox, outbox = turns.inbox_values, turns.activity_values

    def never(values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "check_at": None}

    return [
        mock.patch.object(turns, "inbox_values", lambda *args: never(inbox(*args))),
        mock.patch.object(turns, "activity_values", lambda *args: never(outbox(*args))),
    ]


def _ignores_silent_workers() -> list[Patch]:
    return [mock.patch.object(Store, "free_abandoned", lambda self, lease: 0)]


def _asks_no_join_again() -> list[Patch]:
    from celery_durable.engine.recovery import Recovery

    return [
        mock.patch.object(Recovery, "_ask_join", lambda self, wake: self.store.move_wake(wake, 30_000_000) and None)
    ]


def _starts_what_is_not_wanted() -> list[Patch]:
    begin = Store.begin_activity
    known: dict[ActivityTicket, Any] = {}

    def planted(self: Any, ticket: ActivityTicket, live: Any) -> Any:
        start = begin(self, ticket, live)
        if start is not None:
            known[ticket] = start
        return start or known.get(ticket)

    return [mock.patch.object(Store, "begin_activity", planted)]


def _tells_the_parent_after_the_commit() -> list[Patch]:
    def planted(self: Any, change: Any, execution: Any) -> Any:
        others, change.other_inboxes = change.other_inboxes, []
        committed = self.store.commit_turn(change)
        if committed is None:
            execution.abandon()
        elif others:
            self.store.put(others)
        return committed

    return [mock.patch.object(TurnRunner, "_commit", planted)]


def _keeps_no_finish_row() -> list[Patch]:
    tell = decisions._tell

    def planted(commit: Any, *args: Any) -> None:
        tell(commit, *args)
        commit.activities = [new for new in commit.activities if new.kind != "finish"]

    return [mock.patch.object(decisions, "_tell", planted)]


def _leaves_rows_at_the_end() -> list[Patch]:
    return [mock.patch.object(Store, "_clear", lambda self, cursor, change: None)]


def _records_in_two_transactions() -> list[Patch]:
    def planted(self: Any, outcome: Any, *, release: bool = True) -> Any:
        found: list[Any] = []

        def take(cursor: Any) -> Any:
            row = self.database.run(cursor, turns.LOCK_OUTCOME, **outcome.ticket._asdict()).fetchone()
            self.database.run(cursor, turns.DELETE_ACTIVITY, **outcome.ticket._asdict())
            return row

        def put(cursor: Any) -> None:
            instance, join, window, now = found[0]
            wakes = join is None or outcome.has_failed
            message = turns.outcome_message(outcome, instance, wakes, self.resend_after)
            self.database.run(cursor, turns.INSERT_INBOX, **turns.inbox_values(message, now))

        found.append(self.database.transact(take))
        if found[0] is None:
            return None
        self.database.transact(put)
        instance, join, _, _ = found[0]
        return turns.Recorded(instance, join, join is None or outcome.has_failed)

    return [mock.patch.object(Store, "record_outcome", planted)]


def _swallows_a_failure_to_record() -> list[Patch]:
    def planted(runtime: Any, work: Callable[[], Any], patience: float | None = None) -> Any:
        try:
            return work()
        except activity.StoreError:
            return None

    return [
        mock.patch.object(activity, "with_patience", planted),
        mock.patch.object(Store, "was_recorded", lambda *_: False),
    ]


def _suspends_when_the_store_is_down() -> list[Patch]:
    def planted(self: Any, snapshot: Any, error: Exception) -> bool:
        return bool(self.suspend(snapshot, str(error)))

    original = turn.StoreError

    class Never(Exception):
        is_permanent = False

    assert issubclass(original, Exception)
    return [mock.patch.object(turn, "StoreError", Never), mock.patch.object(TurnRunner, "_suspend", planted)]


def _forgets_the_wake() -> list[Patch]:
    return [
        mock.patch.object(TurnRunner, "wake_after", lambda self, ticket, recorded, take_turn: None),
        *_ignores_the_inbox(),
    ]


def _is_suspended_for_ever() -> list[Patch]:
    wake = Statement(turns.WAKE_INBOX.sql.replace("WHERE instance", "WHERE 1 = 0 AND instance"))
    return [mock.patch.object(turns, "WAKE_INBOX", wake)]


BUGS = [
    Bug("publish before commit", _publishes_before_commit, "chain", Mode.DIES_BEFORE),
    Bug("acknowledge before recording", _acknowledges_before_recording, "gather", Mode.DIES_BEFORE),
    Bug("outcome recorded, outbox row kept", _keeps_the_outbox_row, "gather", Mode.DIES_BEFORE),
    Bug("outcome and outbox row in two transactions", _records_in_two_transactions, "gather", Mode.DIES_BEFORE, SQL),
    Bug(
        "a failure to record is swallowed, outcome dropped", _swallows_a_failure_to_record, "gather", Mode.FAILS_BEFORE
    ),
    Bug("the join's question in an old snapshot", _joins_in_an_old_snapshot, "gather", Mode.DIES_BEFORE),
    Bug("recovery asks no join's question", _asks_no_join_again, "gather", Mode.DIES_BEFORE),
    Bug(
        "turn committed without comparing the sequence",
        _commits_without_comparing,
        "gather with failures",
        Mode.IS_OVERTAKEN,
    ),
    Bug("recovery ignores outbox rows", _ignores_the_outbox, "chain", Mode.DIES_BEFORE),
    Bug("recovery ignores inbox rows", _ignores_the_inbox, "chain", Mode.DIES_BEFORE),
    Bug("check_at is never set", _never_sets_check_at, "chain", Mode.DIES_BEFORE),
    Bug("silent workers keep what they hold", _ignores_silent_workers, "lasting", Mode.DIES_BEFORE),
    Bug("an activity starts without asking whether it is wanted", _starts_what_is_not_wanted, "chain", Mode.FREEZES),
    Bug("the parent is told after the commit", _tells_the_parent_after_the_commit, "children", Mode.DIES_BEFORE),
    Bug("no row for the last message to Celery", _keeps_no_finish_row, "chain", Mode.DIES_BEFORE),
    Bug("the final commit leaves rows", _leaves_rows_at_the_end, "unawaited", Mode.DIES_BEFORE),
    Bug(
        "a turn is suspended while the store is down",
        _suspends_when_the_store_is_down,
        "chain by messages",
        Mode.FAILS_BEFORE,
    ),
    Bug("wakes are lost", _forgets_the_wake, "gather", Mode.DIES_BEFORE),
    Bug("resume does not look at the inbox", _is_suspended_for_ever, "suspend and resume", Mode.DIES_BEFORE),
]
