"""The hot path on PostgreSQL: what a step needs in one round trip each.

Each class wraps a part of the store: it sends one statement where that means the same, to the
letter, and calls the plain part for everything else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from ..core.status import MOVING
from ..engine import store_ports as ports
from ..engine.audit import pending
from ..engine.records import (
    ActivityAttemptId,
    ActivityStart,
    Claim,
    Outcome,
    Recorded,
    ReplayPosition,
    Snapshot,
)
from ..engine.writes import Committed, NewInbox, NewInstance, TurnCommit
from . import inbox, inbox_reads
from . import postgres_statements as sql
from .attempts import activity_start, claim_values
from .commit_steps import ONE_STATEMENT, STEPS
from .inbox_reads import Found
from .instances import INSTANCE, insert_values, update_values
from .outbox import activity_values
from .runner import Cursor, Runner
from .store import Store
from .timing import Timing
from .values import blob, text_of

__all__ = ["FastAttempts", "FastOutcomes", "FastStarts", "FastTurns", "use_fast_path"]


def use_fast_path(store: Store) -> None:
    """Let a store on PostgreSQL use the one-statement forms; ``Store.through`` has none of them."""
    store.turns = FastTurns(store.turns, store.database, store.timing)
    store.starts = FastStarts(store.starts, store.database, store.timing)
    store.attempts = FastAttempts(store.attempts, store.database, store.timing)
    store.outcomes = FastOutcomes(store.outcomes, store.database, store.timing)


class FastTurns:
    """Turns whose look and whose simple commits are one statement each."""

    def __init__(self, plain: ports.Turns, database: Runner, timing: Timing) -> None:
        self.plain = plain
        self.database = database
        self.timing = timing
        self.has_untaken: Final = plain.has_untaken
        self.discard: Final = plain.discard
        self.count_crash: Final = plain.count_crash
        self.note_waiting: Final = plain.note_waiting
        self.change_tags: Final = plain.change_tags
        self.choose_version: Final = plain.choose_version

    def load(self, instance_id: str, known: ReplayPosition | None) -> Snapshot | None:
        """Look at an instance, its inbox and the unknown history, in one read."""
        known_execution, known_sequence = known or ("", 0)
        row = self.database.fetch_one(
            sql.LOAD, id=instance_id, known_execution=known_execution, known_sequence=known_sequence
        )
        if row is None:
            return None
        instance, (messages, payloads, events, now) = INSTANCE.take(row)
        found = [
            Found(id_, kind, execution, command, attempt, name, payload, *others)
            for (id_, kind, execution, command, attempt, name, _, *others), payload in zip(
                messages or (), payloads or (), strict=True
            )
        ]
        part = inbox_reads.read_part(self.database, instance_id, found)
        history = [text_of(each) or "" for each in events or ()]
        return Snapshot(instance, history, part.inbox, now, part.has_more, part.is_due)

    def commit(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn in one statement where that is enough."""
        if not _is_one_statement(commit):
            return self.plain.commit(commit)
        forms = sql.TURNS_BY_MESSAGE if commit.outcome is None else sql.TURNS_WITH_OUTCOME
        parameters = turn_parameters(commit, self.timing)
        row = self.database.fetch_one(forms[_form(commit)], **parameters)
        return None if row is None else Committed(*row)


#: What a commit says of the steps that are not in the one statement.
_OF_OTHERS = attrgetter(
    *sorted({name for step in STEPS if step.run not in ONE_STATEMENT for name in step.asked_by})
)


def does_all(commit: TurnCommit) -> bool:
    """Tell whether one statement can do all that a commit asks for."""
    return (
        not any(_OF_OTHERS(commit))
        and commit.events is not None
        and not commit.ends_unbegun
        and (not commit.own_inbox or _is_timer(commit.own_inbox))
    )


def _is_timer(own: Sequence[NewInbox]) -> bool:
    """Tell of messages to the instance itself whether it is one, whose times are all known before
    the commit.
    """
    return len(own) == 1 and own[0].visible_at is not None and own[0].aside is None


def _form(commit: TurnCommit) -> tuple[int, bool]:
    return min(len(commit.activities), 2), bool(commit.own_inbox)


def _is_one_statement(commit: TurnCommit) -> bool:
    """Tell whether one statement does all that the commit of a turn asks for."""
    if commit.statuses != MOVING or not does_all(commit):
        return False
    return commit.outcome is None or (not commit.taken and commit.requires_empty_inbox)


def turn_parameters(commit: TurnCommit, timing: Timing) -> dict[str, Any]:
    """Return the parameters of the turn statements."""
    rows = [activity_values(new, "", "", 0, timing.resend_after) for new in commit.activities]
    parameters: dict[str, Any] = {}
    if len(rows) == 1:
        (row,) = rows
        parameters = {name: row[name] for name in sql.COLUMNS}
    elif rows:
        parameters = {name: [row[name] for row in rows] for name in sql.COLUMNS}
    for message in commit.own_inbox:
        own = inbox.inbox_values(message, 0)
        parameters.update((f"own_{name}", own[name]) for name in sql.OWN_COLUMNS)
    parameters.update(update_values(commit))
    parameters.update(
        execution=commit.execution,
        sequence=commit.sequence,
        events=blob(commit.events),
        is_final=commit.status is not None and commit.status.is_terminal,
        keeps_for=commit.keeps_for,
    )
    if commit.outcome is None:
        # as text: the driver would look at each number of a list
        parameters["taken"] = f"{{{','.join(map(str, commit.taken))}}}"
    else:
        parameters.update(gone_command=commit.outcome.command, gone_attempt=commit.outcome.attempt)
    return parameters


class FastStarts:
    """Starts that are one statement each, where nothing has to be waited for."""

    def __init__(self, plain: ports.Starts, database: Runner, timing: Timing) -> None:
        self.plain = plain
        self.database = database
        self.timing = timing
        self.insert_within: Final = plain.insert_within
        self.insert_all: Final = plain.insert_all
        self.insert_all_within: Final = plain.insert_all_within
        self.insert_fork: Final = plain.insert_fork
        self.repeated_start: Final = plain.repeated_start
        self.is_ours: Final = plain.is_ours
        self.replace: Final = plain.replace
        self.merge: Final = plain.merge

    def insert(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""
        if not _is_plain(instance):
            return self.plain.insert(instance)
        message = inbox.start_message(instance)
        values = insert_values(instance)
        for name in ("parent_id", "parent_execution", "parent_command", "parent_attempt"):
            del values[name]
        is_new = self.database.change_one(
            sql.START,
            **values,
            dedup=message.dedup,
            kind=message.kind,
            check_after=instance.check_after,
            facts=json.dumps(message.facts) if message.facts else None,
        )
        return is_new or self.is_ours(instance)

    def insert_with_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn in one statement."""
        if not (_is_plain(instance) and does_all(commit)):
            return self.plain.insert_with_turn(instance, commit)
        values = insert_values(instance)
        row = self.database.fetch_one(
            sql.STARTS_WITH_TURN[_form(commit)],
            **turn_parameters(commit, self.timing),
            orchestrator=instance.name,
            own_queue=instance.queue,
            **{name: values[name] for name in _OF_INSTANCE},
        )
        return self.repeated_start(instance, commit) if row is None else Committed(*row)


_OF_INSTANCE = ("version", "input", "root_id", "tags", "canvas", "policy")


def _is_plain(new: NewInstance) -> bool:
    """Tell of one without a parent that waits for nothing."""
    return (
        new.parent_id is None
        and new.start_at is None
        and new.admission is None
        and not new.awaits_message
    ) and pending() is None


class FastAttempts:
    """Attempts that begin by one statement."""

    def __init__(self, plain: ports.Attempts, database: Runner, timing: Timing) -> None:
        self.plain = plain
        self.database = database
        self.timing = timing
        self.begin_once: Final = plain.begin_once
        self.postpone: Final = plain.postpone
        self.postpone_once: Final = plain.postpone_once
        self.delegate: Final = plain.delegate
        self.delegate_once: Final = plain.delegate_once
        self.find_begun: Final = plain.find_begun
        self.find_instance_of: Final = plain.find_instance_of
        self.interrupt: Final = plain.interrupt
        self.heartbeat: Final = plain.heartbeat
        self.heartbeat_outside: Final = plain.heartbeat_outside
        self.heartbeat_within: Final = plain.heartbeat_within
        self.hold_within: Final = plain.hold_within
        self.hold_in_session: Final = plain.hold_in_session
        self.unsend: Final = plain.unsend
        self.note_refusal: Final = plain.note_refusal

    def begin(
        self, ticket: ActivityAttemptId, known: ReplayPosition | None, claim: Claim | None = None
    ) -> ActivityStart | None:
        """Look at an activity, its instance and the unknown history in one read, and take it."""
        if claim is not None and claim.worker is None:
            return self.plain.begin(ticket, known, claim)
        known_execution, known_sequence = known or ("", 0)
        values = {
            **ticket._asdict(),
            "known_execution": known_execution,
            "known_sequence": known_sequence,
        }
        row = None if claim is None else self._take(ticket, claim, values)
        is_claimed = row is not None
        if row is None and (row := self.database.fetch_one(sql.BEGIN, **values)) is None:
            return None
        instance, (*columns, events) = INSTANCE.take(row)
        history = [text_of(each) or "" for each in events or ()]
        start = activity_start(instance, history, columns)
        start.is_claimed = is_claimed
        return start

    def _take(self, ticket: ActivityAttemptId, claim: Claim, values: dict[str, Any]) -> Any:
        tries = [claim.is_again]

        def take(cursor: Cursor) -> Any:
            # a repeated statement may meet what its first try has committed
            own, tries[0] = claim._replace(is_again=tries[0]), True
            claimed = {**values, **claim_values(ticket, own)}
            return self.database.run(cursor, sql.TAKE_AND_BEGIN, **claimed).fetchone()

        return self.database.read(take)


class FastOutcomes:
    """Outcomes that are recorded by one statement."""

    def __init__(self, plain: ports.Outcomes, database: Runner, timing: Timing) -> None:
        self.plain = plain
        self.database = database
        self.timing = timing
        self.record_within: Final = plain.record_within
        self.finish_join: Final = plain.finish_join
        self.was_recorded: Final = plain.was_recorded
        self.defer: Final = plain.defer
        self.is_deferred: Final = plain.is_deferred
        self.transact_with_session: Final = plain.transact_with_session

    def record(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome in one statement where no slot is to be released."""
        if release or pending() is not None:
            return self.plain.record(outcome, release=release)
        resend_after = self.timing.resend_after
        message = inbox.inbox_values(inbox.outcome_message(outcome, "", True, resend_after), 0)
        row = self.database.fetch_one(
            sql.RECORD,
            **outcome.ticket._asdict(),
            dedup=message["dedup"],
            kind=message["kind"],
            payload=message["payload"],
            facts=message["facts"],
            has_failed=outcome.has_failed,
            resend_after=resend_after,
        )
        if row is None:
            return None
        instance, join = row
        return Recorded(instance, join, join is None or outcome.has_failed)
