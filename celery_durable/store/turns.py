"""What moves instances: looks without locks, and commits that compare before they write.

A turn reads a snapshot, runs the orchestrator with no transaction open, and commits only if the instance is still at the
sequence it was read at; so user code never holds a lock, and a frozen process holds nothing. A transaction locks at most
one instance row, tries and never waits for it, and takes outbox rows only after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..core.status import RuntimeStatus
from ..engine.records import (
    ActivityRow,
    ActivityStart,
    ActivityTicket,
    ChildInstance,
    Committed,
    InboxRow,
    InstanceEnd,
    InstanceRow,
    Known,
    NewActivity,
    NewInbox,
    NewInstance,
    Outcome,
    Recorded,
    Revival,
    Snapshot,
    TurnCommit,
)
from .admissions import FAR, TRY_INSTANCE, AdmissionTables
from .database import Cursor, Runner, Statement

__all__ = ["TurnTables"]

RESEND_AFTER = 5_000_000
TIMER_HORIZON = 30_000_000

INSTANCE_COLUMNS = (
    "i.id, i.execution, i.name, i.version, i.status, i.sequence, i.parent_id, i.parent_execution, i.parent_command, "
    "i.parent_attempt, i.root_id, i.queue, i.crashes, i.input, i.canvas, i.policy"
)
INSTANCE_WIDTH = 16

LOAD_INSTANCE = Statement(f"SELECT {INSTANCE_COLUMNS}, {{now}} FROM durable_instances i WHERE i.id = :id")
LOAD_INBOX = Statement(
    "SELECT id, kind, execution, command, attempt, name, payload, facts, visible_at, wake_at, sends FROM durable_inbox "
    "WHERE instance = :id AND visible_at <= {now} ORDER BY visible_at, id"
)
LOAD_HISTORY = Statement(
    "SELECT h.sequence, h.events FROM durable_history h JOIN durable_instances i ON i.id = h.instance "
    "AND i.execution = h.execution WHERE h.instance = :id "
    "AND h.sequence > CASE WHEN h.execution = :known_execution THEN :known_sequence ELSE 0 END ORDER BY h.sequence"
)
BEGIN_ACTIVITY = Statement(
    f"SELECT {INSTANCE_COLUMNS}, o.join_command, o.window_command, o.holder, o.sends, o.start_by, o.beat_timeout, o.details, "
    "o.deadline_at, o.sent_at, {now} FROM durable_outbox o JOIN durable_instances i ON i.id = o.instance "
    "AND i.execution = o.execution WHERE o.execution = :execution AND o.command = :command AND o.attempt = :attempt "
    "AND o.kind = 'activity'"
)
# the next look at an activity that runs: its deadline or its next heartbeat, whichever is first
NEXT_LOOK = (
    "CASE WHEN beat_timeout IS NULL THEN deadline_at "
    "WHEN deadline_at IS NULL OR {now} + beat_timeout < deadline_at THEN {now} + beat_timeout ELSE deadline_at END"
)
INSTANCE_OF = Statement(
    "SELECT instance FROM durable_outbox WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
_IS_FREE = (
    "execution = :execution AND command = :command AND attempt = :attempt "
    "AND (holder IS NULL OR (:is_again = 1 AND holder = :worker) OR NOT EXISTS "
    "(SELECT 1 FROM durable_workers w WHERE w.id = durable_outbox.holder AND w.last_seen > {now} - :lease))"
)
CLAIM = Statement(
    f"UPDATE durable_outbox SET holder = :worker, start_by = NULL, check_at = {NEXT_LOOK}, "
    f"beat_by = {{now}} + beat_timeout WHERE {_IS_FREE}"
)
# a process that is no worker shows no heartbeat: it may run the activity, and recovery goes on looking
RUN_UNCLAIMED = Statement(f"UPDATE durable_outbox SET start_by = NULL WHERE {_IS_FREE}")

GATE = Statement(
    "SELECT status, {now} FROM durable_instances WHERE id = :id AND execution = :execution AND sequence = :sequence "
    "{lock_instance}"
)
HAS_UNTAKEN = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {now} AND kind <> 'Join' LIMIT 1"
)
HAS_VISIBLE = Statement("SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {now} LIMIT 1")
DELETE_ACTIVITY = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
INSERT_HISTORY = Statement(
    "INSERT INTO durable_history (instance, execution, sequence, events) VALUES (:id, :execution, :sequence, :events)"
)
INSERT_ACTIVITY = Statement(
    "INSERT INTO durable_outbox (execution, command, attempt, instance, kind, name, message, queue, join_command, "
    "window_command, is_held, is_delegated, sent_at, sends, holder, check_at, deadline_at, start_by, beat_by, beat_timeout, "
    "details) VALUES (:execution, :command, :attempt, :instance, :kind, :name, :message, :queue, :join_command, "
    ":window_command, :is_held, {false}, :sent_at, 0, NULL, :check_at, :deadline_at, :start_by, NULL, :beat_timeout, NULL)"
)
UPDATE_INSTANCE = Statement(
    "UPDATE durable_instances SET sequence = sequence + 1, status = COALESCE(:status, status), "
    "output = COALESCE(:output, output), failure = COALESCE(:failure, failure), "
    "custom_status = COALESCE(:custom_status, custom_status), reason = :reason, crashes = 0, "
    "started_at = COALESCE(started_at, :started_at), "
    "completed_at = COALESCE(:completed_at, completed_at), purge_at = :purge_at, updated_at = :now WHERE id = :id"
)
RENEW_INSTANCE = Statement(
    "UPDATE durable_instances SET execution = :execution, sequence = 0, input = :input, updated_at = :now WHERE id = :id"
)
DELETE_HISTORY = Statement("DELETE FROM durable_history WHERE instance = :id AND execution = :execution")
RESET_JOIN = Statement("UPDATE durable_inbox SET wake_at = NULL, check_at = :check_at WHERE id = :row")
CANCEL_COMMAND = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND command = :command AND kind = 'activity'"
)
CANCEL_DEDUP = Statement("DELETE FROM durable_inbox WHERE instance = :id AND dedup = :dedup")
CHANGE_JOIN = Statement(
    "UPDATE durable_outbox SET join_command = :join_command WHERE execution = :execution AND command = :command"
)
CLEAR_OUTBOX = Statement("DELETE FROM durable_outbox WHERE execution = :execution AND kind = 'activity'")
CLEAR_INBOX = Statement("DELETE FROM durable_inbox WHERE instance = :id")
CLEAR_EXECUTION = Statement("DELETE FROM durable_inbox WHERE instance = :id AND execution = :execution")
PARK_INBOX = Statement("UPDATE durable_inbox SET check_at = NULL WHERE instance = :id")
WAKE_INBOX = Statement(
    "UPDATE durable_inbox SET check_at = CASE WHEN visible_at > :far THEN visible_at - :horizon ELSE :check_at END "
    "WHERE instance = :id AND (wake_at IS NOT NULL OR kind = 'Join')"
)
LIFE_IS_OVER = (
    "EXISTS (SELECT 1 FROM durable_instances i WHERE i.id = :id AND i.execution = :execution "
    "AND i.status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED'))"
)

_INBOX_COLUMNS = (
    "instance, dedup, kind, execution, command, attempt, name, payload, facts, visible_at, wake_at, check_at, sends"
)
_INBOX_VALUES = (
    ":instance, :dedup, :kind, :execution, :command, :attempt, :name, :payload, :facts, "
    ":visible_at, :wake_at, :check_at, 0"
)
INSERT_INBOX = Statement(f"{{insert_new}} durable_inbox ({_INBOX_COLUMNS}) VALUES ({_INBOX_VALUES}) {{if_new}}")
# only to instances that can still take it; also the one statement by which anything reaches another instance
SEND_INBOX = Statement(
    f"{{insert_new}} durable_inbox ({_INBOX_COLUMNS}) SELECT "
    "i.id, :dedup, :kind, :execution, CAST(:command AS {integer}), CAST(:attempt AS {integer}), :name, "
    "CAST(:payload AS {bytes}), :facts, CAST(:visible_at AS {bigint}), CAST(:wake_at AS {bigint}), "
    "CAST(:check_at AS {bigint}), 0 FROM durable_instances i "
    "WHERE i.id = :instance AND i.status IN ('PENDING', 'RUNNING', 'SUSPENDED') {if_new}"
)
# a wish to rewind reaches only what has failed
SEND_REWIND = Statement(SEND_INBOX.sql.replace("IN ('PENDING', 'RUNNING', 'SUSPENDED')", "= 'FAILED'"))
END_OF = Statement(
    "SELECT status, output, failure, reason, parent_id, parent_execution FROM durable_instances WHERE id = :id"
)
REOPEN_INSTANCE = Statement(
    "UPDATE durable_instances SET output = NULL, failure = NULL, completed_at = NULL WHERE id = :id"
)
DROP_FINISH = Statement("DELETE FROM durable_outbox WHERE execution = :execution AND kind = 'finish'")
BEGIN_FORK = Statement(
    "UPDATE durable_instances SET status = 'RUNNING', sequence = :sequence, started_at = created_at WHERE id = :id"
)
INSERT_INSTANCE = Statement(
    "{insert_new} durable_instances (id, execution, name, version, status, sequence, input, parent_id, parent_execution, "
    "parent_command, parent_attempt, root_id, tags, canvas, queue, policy, crashes, created_at, updated_at) VALUES (:id, "
    ":execution, :name, :version, 'PENDING', 0, :input, :parent_id, :parent_execution, :parent_command, :parent_attempt, "
    ":root_id, :tags, :canvas, :queue, :policy, 0, {now}, {now}) {if_new}"
)
EXECUTION_OF = Statement("SELECT execution FROM durable_instances WHERE id = :id")
NOW = Statement("SELECT {now}")

LOCK_OUTCOME = Statement(
    "SELECT instance, join_command, window_command, {now} FROM durable_outbox WHERE execution = :execution "
    "AND command = :command AND attempt = :attempt AND kind = 'activity' {lock}"
)
NEXT_HELD = Statement(
    "SELECT command, attempt, instance, kind, name, message, queue, sends, deadline_at, start_by FROM durable_outbox "
    "WHERE execution = :execution "
    "AND window_command = :window AND is_held = {true} ORDER BY command LIMIT 1 {skip_locked}"
)
RELEASE = Statement(
    "UPDATE durable_outbox SET is_held = {false}, sent_at = :now, check_at = :check_at, deadline_at = :deadline_at, "
    "start_by = :start_by "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
COUNT_LET_GO = Statement(
    "SELECT COUNT(*) FROM durable_outbox WHERE execution = :execution AND window_command = 0 AND is_held = {false}"
)
OPEN_MEMBER = Statement(
    "SELECT 1 FROM durable_outbox WHERE execution = :execution AND join_command = :join ORDER BY command DESC LIMIT 1"
)
WAKE_JOIN = Statement(
    "UPDATE durable_inbox SET wake_at = {now}, check_at = {now} + :resend_after "
    "WHERE instance = :id AND dedup = :dedup AND wake_at IS NULL"
)
LOCK_INSTANCE = Statement("SELECT execution, policy, {now} FROM durable_instances WHERE id = :id {lock_instance}")
OPEN_CHILDREN = Statement(
    "SELECT id FROM durable_instances WHERE parent_id = :id AND status IN ('PENDING', 'RUNNING', 'SUSPENDED') ORDER BY id"
)
WHOLE_HISTORY = Statement(
    "SELECT events FROM durable_history WHERE instance = :id AND execution = :execution ORDER BY sequence"
)
CLEAR_HISTORY = Statement("DELETE FROM durable_history WHERE instance = :id")
DELETE_ENDED = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED')"
)
DELETE_INSTANCE = Statement("DELETE FROM durable_instances WHERE id = :id")
NOTE_WAITING = Statement(
    "UPDATE durable_instances SET reason = :reason WHERE id = :id AND status IN ('PENDING', 'RUNNING') "
    "AND (reason IS NULL OR reason <> :reason)"
)
WAS_RECORDED = Statement("SELECT 1 FROM durable_inbox WHERE dedup = :dedup AND instance = :id LIMIT 1")


def blob(text: str | None) -> bytes | None:
    """Return a payload as the store keeps it."""
    return None if text is None else text.encode()


def text_of(data: Any) -> str | None:
    """Return a stored payload as text; damage is left to the decoder to report."""
    return None if data is None else bytes(data).decode("utf-8", "replace")


def readable(text: str | None) -> str | None:
    """Return text for people as any database takes it: no NUL, no half characters, not too long."""
    if text is None:
        return None
    return text[:10_000].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def join_dedup(execution: str, join: int) -> str:
    """Return the key of a join's inbox row."""
    return f"join:{execution}:{join}"


def outcome_dedup(ticket: ActivityTicket) -> str:
    """Return the key of an outcome's inbox row."""
    return f"outcome:{ticket.execution}:{ticket.command}:{ticket.attempt}"


def instance_row(row: Sequence[Any]) -> InstanceRow:
    """Build the engine's view of an instance from the columns of ``INSTANCE_COLUMNS``."""
    (id_, execution, name, version, status, sequence, parent_id, parent_execution, parent_command, parent_attempt,
     root_id, queue, crashes, input_, canvas, policy) = row[:INSTANCE_WIDTH]  # fmt: skip
    return InstanceRow(
        id_, execution, name, version, RuntimeStatus(status), sequence, parent_id, parent_execution, parent_command,
        parent_attempt, root_id, queue, crashes, text_of(input_), text_of(canvas), policy,
    )  # fmt: skip


def inbox_values(message: NewInbox, now: int) -> dict[str, Any]:
    """Return the parameters of ``INSERT_INBOX``."""
    visible_at = now if message.visible_at is None else message.visible_at
    check_at = None if message.check_after is None else visible_at + message.check_after
    return {
        "instance": message.instance, "dedup": message.dedup, "kind": str(message.kind), "execution": message.execution,
        "command": message.command, "attempt": message.attempt, "name": message.name, "payload": blob(message.payload),
        "facts": json.dumps(message.facts) if message.facts else None,
        "visible_at": visible_at, "wake_at": visible_at if message.wakes else None, "check_at": check_at,
    }  # fmt: skip


def activity_values(new: NewActivity, instance: str, execution: str, now: int, resend_after: int) -> dict[str, Any]:
    """Return the parameters of ``INSERT_ACTIVITY``; the time limits of a held one count from its release."""
    base = 0 if new.is_held else now
    deadline_at = None if new.timeout is None else base + new.timeout
    start_by = None if new.start_timeout is None else base + new.start_timeout
    look = now + resend_after if new.is_sent else now
    looks = [] if new.is_held else [moment for moment in (look, deadline_at, start_by) if moment is not None]
    return {
        "execution": execution, "command": new.command, "attempt": new.attempt, "instance": instance, "kind": new.kind,
        "name": new.name, "message": blob(new.message), "queue": new.queue, "join_command": new.join_command,
        "window_command": new.window_command, "is_held": new.is_held,
        "sent_at": now if new.is_sent and not new.is_held else None, "check_at": min(looks, default=None),
        "deadline_at": deadline_at, "start_by": start_by, "beat_timeout": new.heartbeat_timeout,
    }  # fmt: skip


class TurnTables(AdmissionTables):
    """The part of the store that turns and outcomes go through (``engine.records.TurnStore``)."""

    def __init__(
        self, database: Runner, *, resend_after: int = RESEND_AFTER, timer_horizon: int = TIMER_HORIZON
    ) -> None:
        self.database = database
        self.timer_horizon = timer_horizon
        self.resend_after = resend_after

    # -- looks ----------------------------------------------------------------------------------------

    def load(self, instance_id: str, known: Known | None) -> Snapshot | None:
        """Look at an instance; see ``TurnStore``."""
        run = self.database.run
        known_execution, known_sequence = known or ("", 0)

        def look(cursor: Cursor) -> Snapshot | None:
            row = run(cursor, LOAD_INSTANCE, id=instance_id).fetchone()
            if row is None:
                return None
            inbox = run(cursor, LOAD_INBOX, id=instance_id).fetchall()
            rows = run(
                cursor, LOAD_HISTORY, id=instance_id, known_execution=known_execution, known_sequence=known_sequence
            ).fetchall()
            instance = instance_row(row)
            return Snapshot(instance, _texts(rows, instance.sequence), [inbox_row(r) for r in inbox], row[-1])

        return self.database.read(look)

    def begin_activity(self, ticket: ActivityTicket, known: Known | None) -> ActivityStart | None:
        """Look at an activity about to run; see ``TurnStore``."""
        run = self.database.run
        known_execution, known_sequence = known or ("", 0)

        def look(cursor: Cursor) -> ActivityStart | None:
            row = run(cursor, BEGIN_ACTIVITY, **ticket._asdict()).fetchone()
            if row is None:
                return None
            instance = instance_row(row)
            rows: list[Any] = []
            if row[INSTANCE_WIDTH] is None:  # a member of a join does not take the turn with its own outcome
                rows = run(
                    cursor, LOAD_HISTORY, id=instance.id, known_execution=known_execution, known_sequence=known_sequence
                ).fetchall()
            return activity_start(instance, _texts(rows, instance.sequence), row[INSTANCE_WIDTH:], self.resend_after)

        return self.database.read(look)

    def find_instance_of(self, ticket: ActivityTicket) -> str | None:
        """Return whose activity this is; see ``TurnStore``."""
        row = self.database.fetch_one(INSTANCE_OF, **ticket._asdict())
        return None if row is None else str(row[0])

    def has_untaken(self, instance_id: str) -> bool:
        """Tell whether anything visible lies in the inbox."""
        row = self.database.fetch_one(HAS_UNTAKEN, id=instance_id)
        return row is not None

    def now(self) -> int:
        """Return the store's clock."""
        return int(self.database.fetch_one(NOW)[0])

    def discard(self, instance_id: str, execution: str, rows: Sequence[int]) -> None:
        """Delete inbox rows that nobody will take: this very life of the instance is over."""
        if not rows:
            return
        for start in range(0, len(rows), 500):
            numbers = _numbers(rows[start : start + 500])
            statement = Statement(f"DELETE FROM durable_inbox WHERE id IN ({numbers}) AND {LIFE_IS_OVER}")
            self.database.change_one(statement, id=instance_id, execution=execution)

    def note_waiting(self, instance_id: str, reason: str) -> None:
        """Let people see what an instance waits for that no turn can tell."""
        self.database.transact(
            lambda cursor: self.database.run(cursor, NOTE_WAITING, id=instance_id, reason=readable(reason))
        )

    def was_recorded(self, ticket: ActivityTicket, instance_id: str) -> bool:
        """Tell whether an outcome of this very attempt lies in the inbox."""
        row = self.database.fetch_one(WAS_RECORDED, dedup=outcome_dedup(ticket), id=instance_id)
        return row is not None

    def claim(self, ticket: ActivityTicket, worker: str | None, lease: int, *, is_again: bool = False) -> bool:
        """Take an activity for this worker; see ``TurnStore``."""
        tries = [int(is_again)]

        def take(cursor: Cursor) -> bool:
            is_second, tries[0] = tries[0], 1
            values = {**ticket._asdict(), "worker": worker, "lease": lease, "is_again": is_second}
            statement = RUN_UNCLAIMED if worker is None else CLAIM
            return self.database.run(cursor, statement, **values).rowcount == 1  # type: ignore[no-any-return]

        return self.database.read(take)

    # -- commits --------------------------------------------------------------------------------------

    def commit_turn(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn; see ``TurnStore``."""
        return self.database.transact(lambda cursor: self._commit(cursor, commit))

    def _commit(self, cursor: Cursor, commit: TurnCommit) -> Committed | None:
        run, id_, execution = self.database.run, commit.instance_id, commit.execution
        row = run(cursor, GATE, id=id_, execution=execution, sequence=commit.sequence).fetchone()
        if row is None or RuntimeStatus(row[0]) not in commit.statuses:
            return None
        if commit.requires_empty_inbox and run(cursor, HAS_VISIBLE, id=id_).fetchone() is not None:
            return None
        if commit.outcome is not None and not run(cursor, DELETE_ACTIVITY, **commit.outcome._asdict()).rowcount:
            return None
        now = row[1]
        if commit.frees_place:
            self._free_place(cursor, id_)
        self._take(cursor, commit.taken)
        for row_id in commit.reset_joins:
            run(cursor, RESET_JOIN, row=row_id, check_at=now + 2 * self.resend_after)
        if commit.events is not None:
            run(
                cursor, INSERT_HISTORY,
                id=id_, execution=execution, sequence=commit.sequence + 1, events=blob(commit.events),
            )  # fmt: skip
        for command in commit.canceled_commands:
            run(cursor, CANCEL_COMMAND, execution=execution, command=command)
        for dedup in commit.canceled_dedups:
            run(cursor, CANCEL_DEDUP, id=id_, dedup=dedup)
        if commit.clears:
            self._clear(cursor, commit)
        for command, join in sorted(commit.join_changes.items()):
            run(cursor, CHANGE_JOIN, execution=execution, command=command, join_command=join)
        self._insert_activities(cursor, commit, now)
        self.database.run_many(cursor, INSERT_INBOX, [inbox_values(message, now) for message in commit.own_inbox])
        if commit.parks_inbox:
            run(cursor, PARK_INBOX, id=id_)
        if commit.wakes_all:
            horizon = self.timer_horizon
            run(cursor, WAKE_INBOX, id=id_, check_at=now + self.resend_after, far=now + horizon, horizon=horizon)
        self._update_instance(cursor, commit, now)
        if commit.reopens:
            run(cursor, REOPEN_INSTANCE, id=id_)
            run(cursor, DROP_FINISH, execution=execution)
        slots = dict(commit.released_slots)
        if commit.max_activities is not None:
            (running,) = run(cursor, COUNT_LET_GO, execution=execution).fetchone()
            slots[0] = max(0, commit.max_activities - running)
        released = self._release_slots(cursor, execution, slots, now)
        started = self._start_children(cursor, commit.children, now)
        unheard: list[NewInbox] = []
        for message in sorted(commit.other_inboxes, key=lambda message: message.instance):  # to one, in order
            if not self._send(cursor, message, now):
                unheard.append(message)
        for revival in commit.revivals:
            self._revive(cursor, commit, revival, now)
        return Committed(now, released, started, unheard)

    def _revive(self, cursor: Cursor, commit: TurnCommit, revival: Revival, now: int) -> None:
        run, end = self.database.run, None
        for _ in range(3):  # it may move between the look and the wish
            row = run(cursor, END_OF, id=revival.child_id).fetchone()
            if row is None:
                end = None
                break
            status, output, failure, reason, *parent = row
            end = InstanceEnd(RuntimeStatus(status), text_of(output), text_of(failure), reason)
            is_ours = tuple(parent) == (commit.instance_id, commit.execution)
            if not end.status.is_terminal:
                if is_ours:
                    return
                end = None  # another life under its id tells us nothing when it ends
                break
            if end.status is not RuntimeStatus.FAILED or revival.wish is None or not is_ours:
                break
            if run(cursor, SEND_REWIND, **inbox_values(revival.wish, now)).rowcount:
                return
        run(cursor, INSERT_INBOX, **inbox_values(revival.answer(end), now))

    def _take(self, cursor: Cursor, rows: Sequence[int]) -> None:
        for start in range(0, len(rows), 500):
            cursor.execute(f"DELETE FROM durable_inbox WHERE id IN ({_numbers(rows[start : start + 500])})")

    def _clear(self, cursor: Cursor, commit: TurnCommit) -> None:
        run = self.database.run
        run(cursor, CLEAR_OUTBOX, execution=commit.execution)
        if commit.next_execution is None:
            run(cursor, CLEAR_INBOX, id=commit.instance_id)
        else:
            run(cursor, CLEAR_EXECUTION, id=commit.instance_id, execution=commit.execution)

    def _insert_activities(self, cursor: Cursor, commit: TurnCommit, now: int) -> None:
        rows = [
            activity_values(new, commit.instance_id, commit.execution, now, self.resend_after)
            for new in commit.activities
        ]
        self.database.run_many(cursor, INSERT_ACTIVITY, rows)

    def _update_instance(self, cursor: Cursor, commit: TurnCommit, now: int) -> None:
        self.database.run(cursor, UPDATE_INSTANCE, **update_values(commit), now=now, started_at=now, completed_at=(
            now if commit.status is not None and commit.status.is_terminal else None
        ), purge_at=None if commit.keeps_for is None else now + commit.keeps_for)  # fmt: skip
        if commit.next_execution is not None:
            run = self.database.run
            run(
                cursor, RENEW_INSTANCE,
                id=commit.instance_id, execution=commit.next_execution, input=blob(commit.next_input), now=now,
            )  # fmt: skip
            run(cursor, DELETE_HISTORY, id=commit.instance_id, execution=commit.execution)

    def _release_slots(self, cursor: Cursor, execution: str, slots: dict[int, int], now: int) -> list[ActivityRow]:
        released: list[ActivityRow] = []
        for window, count in sorted(slots.items()):
            for _ in range(count):
                if (row := self._release_next(cursor, execution, window, now)) is None:
                    break
                released.append(row)
        return released

    def _release_next(self, cursor: Cursor, execution: str, window: int, now: int) -> ActivityRow | None:
        row = self.database.run(cursor, NEXT_HELD, execution=execution, window=window).fetchone()
        if row is None:
            return None
        command, attempt, instance, kind, name, message, queue, sends, timeout, start_timeout = row
        ticket = ActivityTicket(execution, command, attempt)
        deadline_at, start_by = (None if limit is None else now + limit for limit in (timeout, start_timeout))
        look = min(moment for moment in (now + self.resend_after, deadline_at, start_by) if moment is not None)
        self.database.run(
            cursor, RELEASE, **ticket._asdict(), now=now, check_at=look, deadline_at=deadline_at, start_by=start_by
        )
        return ActivityRow(ticket, instance, kind, name, text_of(message) or "", queue, sends)

    def _start_children(self, cursor: Cursor, children: Sequence[ChildInstance], now: int) -> list[ChildInstance]:
        started: list[ChildInstance] = []
        for child in sorted(children, key=lambda child: child.id):
            if self._insert_instance(cursor, child, now):
                started.append(child)
            elif child.refusal is not None:
                self.database.run(cursor, INSERT_INBOX, **inbox_values(child.refusal, now))
        return started

    def replace_instance(
        self, new: NewInstance, farewell: Callable[[str, Sequence[str]], Sequence[NewInbox]] | None = None
    ) -> bool:
        """Put a fresh life in the place of an instance; False if it moved meanwhile.

        The old life ends unheard: its children are asked to end, its history and messages are deleted. ``farewell`` is given its
        execution and its history, and returns what it leaves to others.
        """
        run = self.database.run

        def replace(cursor: Cursor) -> bool:
            row = run(cursor, LOCK_INSTANCE, id=new.id).fetchone()
            if row is None:
                return False
            execution, policy, now = row
            if policy is not None or new.admission is not None:
                self._free_place(cursor, new.id)
            children = run(
                cursor, OPEN_CHILDREN, id=new.id
            ).fetchall()  # under the lock: no turn starts another one now
            rows = run(cursor, WHOLE_HISTORY, id=new.id, execution=execution).fetchall() if farewell is not None else []
            texts = [bytes(each).decode("utf-8", "replace") for (each,) in rows]
            left = farewell(execution, texts) if farewell is not None else []
            run(cursor, CLEAR_OUTBOX, execution=execution)
            run(cursor, CLEAR_INBOX, id=new.id)
            run(cursor, CLEAR_HISTORY, id=new.id)
            run(cursor, DELETE_INSTANCE, id=new.id)
            facts = {"reason": f"its parent {new.id} was replaced", "recursive": True}
            for (child,) in children:
                wish = NewInbox(child, "TerminateRequested", "terminate", facts=facts, check_after=0)
                run(cursor, SEND_INBOX, **inbox_values(wish, now))
            for message in sorted(left, key=lambda message: message.instance):
                self._send(cursor, message, now)
            return self._insert_instance(cursor, new, now)

        return self.database.transact(replace)

    # -- outcomes -------------------------------------------------------------------------------------

    def record_outcome(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome once; see ``TurnStore``."""
        return self.database.transact(lambda cursor: self.record_with(cursor, outcome))

    def record_with(self, cursor: Cursor, outcome: Outcome) -> Recorded | None:
        """Record an outcome on a cursor inside somebody's transaction; None if it is not wanted any more."""
        run, ticket = self.database.run, outcome.ticket
        row = run(cursor, LOCK_OUTCOME, **ticket._asdict()).fetchone()
        if row is None:
            return None
        instance, join, window, now = row
        run(cursor, DELETE_ACTIVITY, **ticket._asdict())
        wakes = join is None or outcome.has_failed
        run(cursor, INSERT_INBOX, **inbox_values(outcome_message(outcome, instance, wakes, self.resend_after), now))
        released: list[ActivityRow] = []
        if window is not None and not outcome.has_failed:
            released = self._release_slots(cursor, ticket.execution, {window: 1}, now)
        return Recorded(instance, join, wakes, released)

    def finish_join(self, execution: str, instance_id: str, join_command: int) -> bool:
        """Wake a join whose last member is in; see ``TurnStore``."""
        if self.database.fetch_one(OPEN_MEMBER, execution=execution, join=join_command):
            return False
        dedup = join_dedup(execution, join_command)
        return self.database.change_one(WAKE_JOIN, id=instance_id, dedup=dedup, resend_after=self.resend_after)

    # -- arrivals -------------------------------------------------------------------------------------

    def put(self, messages: Sequence[NewInbox]) -> int:
        """Insert messages for instances that can still take them; return how many were new."""
        return self.database.transact(lambda cursor: self.put_with(cursor, messages))

    def put_into(self, message: NewInbox, execution: str) -> bool:
        """Insert a message under the lock of its instance; False if that is over, another execution, or held just now."""
        run = self.database.run

        def put(cursor: Cursor) -> bool:
            if run(cursor, TRY_INSTANCE, id=message.instance, execution=execution).fetchone() is None:
                return False
            self.put_with(cursor, [message])
            status = self.status_with(cursor, message.instance)
            return status is not None and not status.is_terminal

        return self.database.transact(put)

    def put_with(self, cursor: Cursor, messages: Sequence[NewInbox]) -> int:
        """Insert messages on a cursor inside somebody's transaction."""
        now = self.database.run(cursor, NOW).fetchone()[0]
        ordered = sorted(messages, key=lambda message: (message.instance, message.dedup))
        return sum(self._send(cursor, message, now) for message in ordered)

    def _send(self, cursor: Cursor, message: NewInbox, now: int) -> int:
        """Insert a message, with its receiver where that is to be made; return 1 if it is new, else 0."""
        run, values, new = self.database.run, inbox_values(message, now), message.creates
        sent = int(run(cursor, SEND_INBOX, **values).rowcount)
        if sent or new is None:
            return sent
        if not self._insert_instance(cursor, new, now) and run(cursor, DELETE_ENDED, id=new.id).rowcount:
            run(cursor, CLEAR_HISTORY, id=new.id)
            self._insert_instance(cursor, new, now)
        return int(run(cursor, SEND_INBOX, **values).rowcount)

    def status_with(self, cursor: Cursor, instance_id: str) -> RuntimeStatus | None:
        """Return a status as somebody's transaction sees it."""
        row = self.database.run(cursor, END_OF, id=instance_id).fetchone()
        return None if row is None else RuntimeStatus(row[0])

    def insert_instance(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""

        def insert(cursor: Cursor) -> bool:
            return self.insert_instance_with(cursor, instance)

        return self.database.transact(insert) or self.is_ours(instance)

    def insert_fork(self, instance: NewInstance, history: Sequence[str], message: NewInbox) -> bool:
        """Insert an orchestration that has a history already; see ``TurnStore``."""
        run = self.database.run

        def insert(cursor: Cursor) -> bool:
            now = run(cursor, NOW).fetchone()[0]
            if not self._insert_row(cursor, instance):
                return False
            run(cursor, BEGIN_FORK, id=instance.id, sequence=len(history))
            rows = [
                {"id": instance.id, "execution": instance.execution, "sequence": number, "events": blob(row)}
                for number, row in enumerate(history, 1)
            ]
            self.database.run_many(cursor, INSERT_HISTORY, rows)
            run(cursor, INSERT_INBOX, **inbox_values(message, now))
            return True

        return self.database.transact(insert) or self.is_ours(instance)

    def start_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn; see ``TurnStore``."""
        commit.canceled_dedups.append(start_message(instance).dedup)

        def start(cursor: Cursor) -> Committed | None:
            return self._commit(cursor, commit) if self.insert_instance_with(cursor, instance) else None

        return self.database.transact(start) or self.repeated_start(instance, commit)

    def repeated_start(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Return what a commit whose answer was lost would have returned, if it took place."""
        return Committed(self.now(), [], commit.children) if self.is_ours(instance) else None

    def is_ours(self, instance: NewInstance) -> bool:
        """Tell whether the instance there is this very one: a commit whose answer was lost may have been ours."""
        row = self.database.fetch_one(EXECUTION_OF, id=instance.id)
        return row is not None and row[0] == instance.execution

    def insert_instance_with(self, cursor: Cursor, instance: NewInstance) -> bool:
        """Insert an orchestration on a cursor inside somebody's transaction."""
        now = self.database.run(cursor, NOW).fetchone()[0]
        return self._insert_instance(cursor, instance, now)

    def _insert_instance(self, cursor: Cursor, new: NewInstance, now: int) -> bool:
        if not self._insert_row(cursor, new):
            return False
        self.database.run(cursor, INSERT_INBOX, **inbox_values(start_message(new), now))
        if new.admission is not None:
            self._insert_waiting(cursor, new, now)
        return True

    def _insert_row(self, cursor: Cursor, new: NewInstance) -> bool:
        values = {
            "id": new.id, "execution": new.execution, "name": new.name, "version": new.version, "input": blob(new.input),
            "parent_id": new.parent_id, "parent_execution": new.parent_execution, "parent_command": new.parent_command,
            "parent_attempt": new.parent_attempt, "root_id": new.root_id, "tags": tags_text(new.tags),
            "canvas": blob(new.canvas), "queue": new.queue, "policy": new.policy,
        }  # fmt: skip
        return bool(self.database.run(cursor, INSERT_INSTANCE, **values).rowcount)


def _numbers(rows: Sequence[int]) -> str:
    return ", ".join(str(int(number)) for number in rows)


def start_message(new: NewInstance) -> NewInbox:
    """Return the message that makes a new orchestration begin; one that waits for admission does not see it."""
    if new.admission is not None:
        dedup = f"start:{new.execution}"
        return NewInbox(
            new.id, "ExecutionStarted", dedup, execution=new.execution, facts=new.facts, visible_at=FAR, wakes=False
        )
    return NewInbox(
        new.id, "ExecutionStarted", f"start:{new.execution}", execution=new.execution, facts=new.facts,
        visible_at=new.start_at, wakes=not new.rests, check_after=new.check_after,
    )  # fmt: skip


def outcome_message(outcome: Outcome, instance: str, wakes: bool, resend_after: int) -> NewInbox:
    """Return the inbox row of an outcome."""
    ticket = outcome.ticket
    return NewInbox(
        instance, "ActivityFailed" if outcome.has_failed else "ActivityCompleted", outcome_dedup(ticket),
        execution=ticket.execution, command=ticket.command, attempt=ticket.attempt, payload=outcome.payload,
        facts=outcome.facts, wakes=wakes, check_after=resend_after if wakes else None,
    )  # fmt: skip


def tags_text(tags: dict[str, str] | None) -> str | None:
    """Return tags as text in which each pair can be found by itself."""
    if not tags:
        return None
    pairs = (json.dumps([name, value], ensure_ascii=True) for name, value in sorted(tags.items()))
    return "\n" + "\n".join(pairs) + "\n"


def update_values(commit: TurnCommit) -> dict[str, Any]:
    """Return the parameters by which a commit changes its instance."""
    return {
        "id": commit.instance_id, "status": None if commit.status is None else str(commit.status),
        "output": blob(commit.output), "failure": blob(commit.failure), "custom_status": blob(commit.custom_status),
        "reason": readable(commit.reason),
    }  # fmt: skip


def activity_start(instance: InstanceRow, history: list[str], row: Sequence[Any], resend_after: int) -> ActivityStart:
    """Build the engine's view of an activity from the columns that follow the instance's.

    One that recovery may have looked for already claims before it runs: its message may be sent again at any moment.
    """
    join, window, holder, sends, start_by, beat_timeout, details, deadline_at, sent_at, now = row[:10]
    is_late = sent_at is not None and now - sent_at >= resend_after
    must_claim = start_by is not None or beat_timeout is not None or sends > 0 or is_late
    return ActivityStart(instance, history, join, window, holder, sends, must_claim, text_of(details), deadline_at, now)


def _texts(rows: Sequence[Any], up_to: int) -> list[str]:
    return [bytes(events).decode("utf-8", "replace") for sequence, events in rows if sequence <= up_to]


def inbox_row(row: Sequence[Any]) -> InboxRow:
    """Build the engine's view of an inbox row from the columns of ``LOAD_INBOX``."""
    id_, kind, execution, command, attempt, name, payload, facts, visible_at, wake_at, sends = row
    return InboxRow(
        id_, kind, execution, command, attempt, name, text_of(payload), _facts(facts) if facts else None, visible_at,
        wake_at, sends,
    )  # fmt: skip


def _facts(text: str) -> dict[str, Any] | str:
    """Decode facts; damage is left to the engine to report."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text
