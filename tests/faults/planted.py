"""Bugs, put into the engine and the store from outside: one for each promise that the crash matrix
is there to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from celery_durable.engine import turn
from celery_durable.engine.commit import activity_rows
from celery_durable.engine.compilers import execution
from celery_durable.engine.decide import Decider
from celery_durable.engine.dispatch import Dispatcher
from celery_durable.engine.lifecycle import Lifecycle
from celery_durable.engine.records import ActivityAttemptId, Recorded
from celery_durable.errors import StoreError
from celery_durable.store import commit_steps, inbox, outbox
from celery_durable.store.database import Statement
from celery_durable.store.outcomes import Outcomes
from celery_durable.store.recovery import RecoveryRows
from celery_durable.store.runs import Attempts
from celery_durable.store.turns import Turns
from celery_durable.store.workers import Workers
from celery_durable.worker import attempt, delivery

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
    commit = Decider.commit

    def planted(self: Any, decided: Any) -> Any:
        change = decided.commit
        self.parts.dispatcher.activities(activity_rows(change, change.instance_id))
        return commit(self, decided)

    return [mock.patch.object(Decider, "commit", planted)]


def _acknowledges_before_recording() -> list[Patch]:
    cls = app.tasks["faults.add"].Request
    accepted = cls.on_accepted

    def planted(self: Any, pid: int, time_accepted: float) -> None:
        self.acknowledge()
        accepted(self, pid, time_accepted)

    return [mock.patch.object(cls, "on_accepted", planted)]


def _keeps_the_outbox_row() -> list[Patch]:
    kept = Statement(
        outbox.DELETE_ACTIVITY.sql.replace(
            "DELETE FROM durable_outbox", "UPDATE durable_outbox SET sends = sends"
        )
    )
    return [mock.patch.object(outbox, "DELETE_ACTIVITY", kept)]


def _joins_in_an_old_snapshot() -> list[Patch]:
    record, finish = Outcomes.record, Outcomes.finish_join
    seen: dict[Any, bool] = {}

    def noting(self: Any, outcome: Any, *, release: bool = True) -> Any:
        execution, command, _ = outcome.ticket
        row = self.database.fetch_one(_JOIN_OF, execution=execution, command=command)
        if row is not None and row[0] is not None:
            seen[execution, row[0]] = (
                self.database.fetch_one(outbox.OPEN_MEMBER, execution=execution, join=row[0])
                is not None
            )
        return record(self, outcome, release=release)

    def planted(self: Any, execution: str, instance_id: str, join_command: int) -> bool:
        return not seen.get((execution, join_command)) and finish(
            self, execution, instance_id, join_command
        )

    return [
        mock.patch.object(Outcomes, "record", noting),
        mock.patch.object(Outcomes, "finish_join", planted),
    ]


_JOIN_OF = Statement(
    "SELECT join_command FROM durable_outbox WHERE execution = :execution AND command = :command"
)


def _commits_without_comparing() -> list[Patch]:
    commit = Turns.commit_within

    def planted(self: Any, cursor: Any, change: Any) -> Any:
        row = self.database.run(cursor, _WHERE_IT_IS, id=change.instance_id).fetchone()
        change.sequence = change.sequence if row is None else row[0]
        return commit(self, cursor, change)

    return [mock.patch.object(Turns, "commit_within", planted)]


_WHERE_IT_IS = Statement("SELECT sequence FROM durable_instances WHERE id = :id")


def _ignores_the_outbox() -> list[Patch]:
    return [mock.patch.object(RecoveryRows, "due_activities", lambda self, limit, lost=None: [])]


def _ignores_the_inbox() -> list[Patch]:
    return [mock.patch.object(RecoveryRows, "due_wakes", lambda self, limit, lost=None: [])]


def _never_sets_check_at() -> list[Patch]:
    of_message, of_activity = inbox.inbox_values, outbox.activity_values

    def never(values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "check_at": None}

    return [
        mock.patch.object(inbox, "inbox_values", lambda *args: never(of_message(*args))),
        mock.patch.object(outbox, "activity_values", lambda *args: never(of_activity(*args))),
    ]


def _ignores_silent_workers() -> list[Patch]:
    return [mock.patch.object(Workers, "free_abandoned", lambda self, lease, is_dead=None: 0)]


def _asks_no_join_again() -> list[Patch]:
    from celery_durable.engine.inbox_recovery import InboxRecovery

    return [
        mock.patch.object(
            InboxRecovery,
            "_ask_join",
            lambda self, wake: self.store.recovery.move_wake(wake, 30_000_000) and None,
        )
    ]


def _starts_what_is_not_wanted() -> list[Patch]:
    begin = Attempts.begin
    known: dict[ActivityAttemptId, Any] = {}

    def planted(self: Any, ticket: ActivityAttemptId, live: Any, claim: Any = None) -> Any:
        start = begin(self, ticket, live, claim)
        if start is not None:
            known[ticket] = start
        return start or known.get(ticket)

    return [mock.patch.object(Attempts, "begin", planted)]


def _tells_the_parent_after_the_commit() -> list[Patch]:
    def planted(self: Any, decided: Any) -> Any:
        change, store = decided.commit, self.parts.store
        others, change.other_inboxes = change.other_inboxes, []
        committed = store.turns.commit(change)
        if committed is None:
            decided.execution.abandon()
        elif others:
            store.inbox.put(others)
        return committed

    return [mock.patch.object(Decider, "commit", planted)]


def _keeps_no_finish_row() -> list[Patch]:
    tell = execution.notify_parent

    def planted(commit: Any, *args: Any) -> None:
        tell(commit, *args)
        commit.activities = [new for new in commit.activities if new.kind != "finish"]

    return [mock.patch.object(execution, "notify_parent", planted)]


def _leaves_rows_at_the_end() -> list[Patch]:
    asked_by = commit_steps._asked_by

    def planted(*names: bool) -> list[Any]:
        return [step for step in asked_by(*names) if step is not commit_steps.clear]

    return [mock.patch.object(commit_steps, "_asked_by", planted)]


def _records_in_two_transactions() -> list[Patch]:
    def planted(self: Any, outcome: Any, *, release: bool = True) -> Any:
        found: list[Any] = []

        def take(cursor: Any) -> Any:
            row = self.database.run(
                cursor, outbox.LOCK_OUTCOME, **outcome.ticket._asdict()
            ).fetchone()
            self.database.run(cursor, outbox.DELETE_ACTIVITY, **outcome.ticket._asdict())
            return row

        def put(cursor: Any) -> None:
            instance, join, window, now = found[0]
            wakes = join is None or outcome.has_failed
            message = inbox.outcome_message(outcome, instance, wakes, self.timing.resend_after)
            self.database.run(cursor, inbox.INSERT_INBOX, **inbox.inbox_values(message, now))

        found.append(self.database.transact(take))
        if found[0] is None:
            return None
        self.database.transact(put)
        instance, join, _, _ = found[0]
        return Recorded(instance, join, join is None or outcome.has_failed)

    return [mock.patch.object(Outcomes, "record", planted)]


def _swallows_a_failure_to_record() -> list[Patch]:
    def planted(runtime: Any, work: Callable[[], Any], patience: float | None = None) -> Any:
        try:
            return work()
        except StoreError:
            return None

    return [
        mock.patch.object(attempt, "with_patience", planted),
        mock.patch.object(delivery, "with_patience", planted),
        mock.patch.object(Outcomes, "was_recorded", lambda *_: False),
    ]


def _suspends_when_the_store_is_down() -> list[Patch]:
    def planted(self: Any, snapshot: Any, error: Exception) -> bool:
        return bool(self.suspend(snapshot, str(error)))

    original = turn.StoreError

    class Never(Exception):
        is_permanent = False

    assert issubclass(original, Exception)
    return [
        mock.patch.object(turn, "StoreError", Never),
        mock.patch.object(turn, "is_passing", lambda error: False),
        mock.patch.object(Lifecycle, "suspend_for", planted),
    ]


def _forgets_the_wake() -> list[Patch]:
    return [
        mock.patch.object(Dispatcher, "follow", lambda self, ticket, recorded, take_turn: None),
        *_ignores_the_inbox(),
    ]


def _is_suspended_for_ever() -> list[Patch]:
    wake = Statement(inbox.WAKE_INBOX.sql.replace("WHERE instance", "WHERE 1 = 0 AND instance"))
    return [mock.patch.object(inbox, "WAKE_INBOX", wake)]


BUGS = [
    Bug("publish before commit", _publishes_before_commit, "chain", Mode.DIES_BEFORE),
    Bug("acknowledge before recording", _acknowledges_before_recording, "gather", Mode.DIES_BEFORE),
    Bug("outcome recorded, outbox row kept", _keeps_the_outbox_row, "gather", Mode.DIES_BEFORE),
    Bug(
        "outcome and outbox row in two transactions",
        _records_in_two_transactions,
        "gather",
        Mode.DIES_BEFORE,
        SQL,
    ),
    Bug(
        "a failure to record is swallowed, outcome dropped",
        _swallows_a_failure_to_record,
        "gather",
        Mode.FAILS_BEFORE,
    ),
    Bug(
        "the join's question in an old snapshot",
        _joins_in_an_old_snapshot,
        "gather",
        Mode.DIES_BEFORE,
    ),
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
    Bug(
        "an activity starts without asking whether it is wanted",
        _starts_what_is_not_wanted,
        "chain",
        Mode.FREEZES,
    ),
    Bug(
        "the parent is told after the commit",
        _tells_the_parent_after_the_commit,
        "children",
        Mode.DIES_BEFORE,
    ),
    Bug("no row for the last message to Celery", _keeps_no_finish_row, "chain", Mode.DIES_BEFORE),
    Bug("the final commit leaves rows", _leaves_rows_at_the_end, "unawaited", Mode.DIES_BEFORE),
    Bug(
        "a turn is suspended while the store is down",
        _suspends_when_the_store_is_down,
        "chain by messages",
        Mode.FAILS_BEFORE,
    ),
    Bug("wakes are lost", _forgets_the_wake, "gather", Mode.DIES_BEFORE),
    Bug(
        "resume does not look at the inbox",
        _is_suspended_for_ever,
        "suspend and resume",
        Mode.DIES_BEFORE,
    ),
]
