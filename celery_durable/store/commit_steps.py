"""What the commit of a turn does, step by step.

``STEPS`` is the order, and part of the protocol. Each names the fields of the commit that ask for
it, and is left out where none does. All run in the one transaction that ``turns`` has begun, after
the instance's row is locked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from ..core.history import Event, dump_events, load_events
from ..core.status import RuntimeStatus
from ..engine.records import ActivityAttemptId, ActivityRow, InboxKind, InstanceEnd
from ..engine.writes import ChildInstance, Committed, NewInbox, Revival, TurnCommit
from . import activity_limits, admission, answers, creation, history, inbox, instances, outbox
from .creation import LockedError
from .runner import Cursor, Runner
from .timing import Timing
from .values import blob, text_of

__all__ = ["ONE_STATEMENT", "STEPS", "Step", "Work", "carry_out"]


class Work:
    """A commit under way: the transaction, what is asked for, and what the steps hand on."""

    __slots__ = (
        "commit",
        "cursor",
        "database",
        "left",
        "notes",
        "now",
        "released",
        "slots",
        "started",
        "timing",
    )

    def __init__(
        self, database: Runner, cursor: Cursor, timing: Timing, commit: TurnCommit, now: int
    ) -> None:
        self.database: Runner = database
        self.cursor: Cursor = cursor
        self.timing: Timing = timing
        self.commit: TurnCommit = commit
        #: The clock of the store, read under the lock.
        self.now: int = now
        #: How many activities of each window may begin.
        self.slots: dict[int, int] = dict(commit.released_slots)
        #: Events that the row of this turn gets in addition.
        self.notes: list[Event] = []
        #: Activities that may begin now, and are sent after the commit.
        self.released: list[ActivityRow] = []
        #: Children that were started.
        self.started: list[ChildInstance] = []
        #: What replaced instances have left to others.
        self.left: list[NewInbox] = []

    def result(self) -> Committed:
        """Return what is to be published after the commit."""
        return Committed(self.now, self.released, self.started, self.left)


class Step(NamedTuple):
    """A step of a commit, and what asks for it."""

    #: Carries it out.
    run: Callable[[Work], None]
    #: What the commit says of it; one that is set asks for the step. Without any it is always done.
    asked_by: tuple[str, ...] = ()
    #: What else the commit says of it.
    uses: tuple[str, ...] = ()


def free_slots(work: Work) -> None:
    """Give up the admission slots of an instance that ends."""
    admission.free_slots(work.database, work.cursor, work.commit.instance_id)


def cancel_activities(work: Work) -> None:
    """Delete canceled activities, count the slots that they free, and note those that must not run
    again.
    """
    commit = work.commit
    commands = sorted(commit.canceled_commands)
    rows = outbox.cancel(work.database, work.cursor, commit.execution, commands)
    for command, (window, attempt) in commit.vacated.items():
        row = rows.get(command)
        if row is not None:
            is_free = not row.is_held
        else:  # its outcome is there; a success has freed the slot already
            dedup = inbox.outcome_dedup(ActivityAttemptId(commit.execution, command, attempt))
            values = {"id": commit.instance_id, "dedup": dedup}
            failed = work.database.run(work.cursor, inbox.FAILED_OUTCOME, **values).fetchone()
            is_free = failed is not None
        work.slots[window] = work.slots.get(window, 0) + int(is_free)
    work.notes += outbox.notes_of(rows.values(), work.now)


def take_messages(work: Work) -> None:
    """Delete the messages that the turn takes into history."""
    inbox.delete(work.cursor, work.commit.taken)


def drop_messages(work: Work) -> None:
    """Delete messages that nothing awaits any more."""
    values = {"id": work.commit.instance_id, "until": work.commit.drops_until}
    work.database.run(work.cursor, inbox.DROP_INBOX, **values)


def reset_joins(work: Work) -> None:
    """Let joins sleep again that were woken, and whose members are not all in."""
    for row in work.commit.reset_joins:
        check_at = work.now + 2 * work.timing.resend_after
        work.database.run(work.cursor, inbox.RESET_JOIN, row=row, check_at=check_at)


def withdraw_messages(work: Work) -> None:
    """Delete messages that are not wanted any more, by their keys."""
    commit = work.commit
    for dedup in (*commit.canceled_dedups, *commit.withdrawn):
        work.database.run(work.cursor, inbox.CANCEL_DEDUP, id=commit.instance_id, dedup=dedup)


def clear(work: Work) -> None:
    """Delete what is under way of an execution that ends."""
    commit = work.commit
    run, cursor, execution = work.database.run, work.cursor, commit.execution
    if commit.next_execution is not None:
        outbox.clear(work.database, cursor, execution)
        run(cursor, inbox.CLEAR_EXECUTION, id=commit.instance_id, execution=execution)
    elif commit.status is not RuntimeStatus.FAILED:
        outbox.clear(work.database, cursor, execution)
        run(cursor, inbox.CLEAR_INBOX, id=commit.instance_id)
    else:  # a rewind hears what has arrived, and must know which runs had begun
        work.notes += outbox.clear_noting(work.database, cursor, execution, work.now)
        lapsing = [(kind,) for kind in InboxKind.lapsing()]
        inbox.DROP_LAPSING.run(work.database, cursor, lapsing, id=commit.instance_id)
        run(cursor, inbox.PARK_INBOX, id=commit.instance_id)


def append_history(work: Work) -> None:
    """Insert the events of the turn."""
    commit, events = work.commit, work.commit.events
    if events is None:
        return  # some turns only change their instance
    if work.notes:
        events = dump_events([*load_events(events), *work.notes])
    history.append(
        work.database,
        work.cursor,
        commit.instance_id,
        commit.execution,
        commit.sequence + 1,
        events,
    )


def change_joins(work: Work) -> None:
    """Let activities that are under way count for another join, or for none."""
    commit = work.commit
    for command, join in sorted(commit.join_changes.items()):
        values = {"execution": commit.execution, "command": command, "join_command": join}
        work.database.run(work.cursor, outbox.CHANGE_JOIN, **values)


def add_activities(work: Work) -> None:
    """Insert the activities that the turn decided."""
    commit = work.commit
    rows = [
        outbox.activity_values(
            new, commit.instance_id, commit.execution, work.now, work.timing.resend_after
        )
        for new in commit.activities
    ]
    outbox.insert(work.database, work.cursor, rows)


def let_activities_wait(work: Work) -> None:
    """Note which of the new activities wait for slots."""
    activity_limits.insert_waiting(
        work.database, work.cursor, work.commit.execution, work.commit.activities, work.now
    )


def put_own(work: Work) -> None:
    """Insert messages to the instance itself: timers, joins, what is put aside."""
    inbox.insert_many(work.database, work.cursor, work.commit.own_inbox, work.now)


def put_answers(work: Work) -> None:
    """Keep the answers to requests for their askers."""
    commit = work.commit
    answers.put(work.database, work.cursor, commit.instance_id, commit.answers, work.now)


def show_aside(work: Work) -> None:
    """Show messages that were put aside."""
    last = inbox.FAR + (work.commit.shows or 0)
    values = {"sum": last + 1 - work.now, "begin": inbox.FAR, "end": last}
    work.database.run(work.cursor, inbox.SHOW_INBOX, id=work.commit.instance_id, **values)


def park_inbox(work: Work) -> None:
    """Let recovery leave the inbox of a suspended instance alone."""
    work.database.run(work.cursor, inbox.PARK_INBOX, id=work.commit.instance_id)


def wake_inbox(work: Work) -> None:
    """Let recovery look at an inbox again that was left alone."""
    horizon = work.timing.timer_horizon
    work.database.run(
        work.cursor,
        inbox.WAKE_INBOX,
        id=work.commit.instance_id,
        check_at=work.now + work.timing.resend_after,
        far=work.now + horizon,
        horizon=horizon,
    )


def update_instance(work: Work) -> None:
    """Move the instance to the next sequence."""
    instances.update(work.database, work.cursor, work.commit, work.now)


def change_tags(work: Work) -> None:
    """Set and remove the tags that the turn says."""
    commit = work.commit
    instances.change_tags(work.database, work.cursor, commit.instance_id, commit.tag_changes)


def begin_next_execution(work: Work) -> None:
    """Let the instance begin again under another execution, without its history."""
    commit = work.commit
    work.database.run(
        work.cursor,
        instances.RENEW_INSTANCE,
        id=commit.instance_id,
        execution=commit.next_execution,
        input=blob(commit.next_input),
        version=commit.next_version,
        now=work.now,
    )
    values = {"id": commit.instance_id, "execution": commit.execution}
    work.database.run(work.cursor, history.DELETE_HISTORY, **values)


def reopen(work: Work) -> None:
    """Take back the end of an instance that is rewound."""
    commit = work.commit
    work.database.run(work.cursor, instances.REOPEN_INSTANCE, id=commit.instance_id)
    work.database.run(work.cursor, outbox.DROP_FINISH, execution=commit.execution)


def fill_window(work: Work) -> None:
    """Free as many slots of the execution as its limit has left."""
    execution, most = work.commit.execution, work.commit.max_activities or 0
    count = work.database.run(work.cursor, outbox.COUNT_LET_GO, execution=execution)
    (running,) = count.fetchone()
    work.slots[0] = max(0, most - running)


def release_slots(work: Work) -> None:
    """Let activities begin that waited for the slots that are free now."""
    if work.slots:
        work.released = outbox.release_slots(
            work.database,
            work.cursor,
            work.commit.execution,
            work.slots,
            work.now,
            work.timing.resend_after,
        )


def start_children(work: Work) -> None:
    """Insert children; the parent is told of one whose id is taken."""
    database, cursor = work.database, work.cursor
    for child in sorted(work.commit.children, key=lambda child: child.id):
        is_new = creation.insert_instance(database, cursor, child, work.now)
        if is_new or creation.take_over(database, cursor, child, work.left):
            work.started.append(child)
        elif child.refusal is not None:
            inbox.insert(database, cursor, child.refusal, work.now)


def put_others(work: Work) -> None:
    """Send messages to other instances, those to one of them in order."""
    for message in sorted(work.commit.other_inboxes, key=lambda message: message.instance):
        creation.send(work.database, work.cursor, message, work.now)


def ask_children(work: Work) -> None:
    """Ask the children of a rewound instance for their outcomes."""
    for revival in work.commit.revivals:
        ask_child(work, revival)


def ask_child(work: Work, revival: Revival) -> None:
    """Ask a child for its outcome, under its lock: what ends, purges or replaces it comes before
    this, or after.

    Raises:
        LockedError: another transaction holds the child.
    """
    run, cursor, now = work.database.run, work.cursor, work.now
    commit, id_, end = work.commit, revival.child_id, None
    row = run(cursor, instances.ASK_CHILD, id=id_).fetchone()
    if row is not None:
        status, output, failure, reason, *parent = row
        end = InstanceEnd(RuntimeStatus(status), text_of(output), text_of(failure), reason)
        is_ours = tuple(parent) == (commit.instance_id, commit.execution)
        if is_ours and not end.status.is_terminal:
            return  # it tells us when it ends
        if is_ours and end.status is RuntimeStatus.FAILED and revival.request is not None:
            inbox.insert(work.database, cursor, revival.request, now)
            run(cursor, instances.KEEP_CHILD, id=id_)
            return
        if not end.status.is_terminal:
            end = None  # another execution under its id tells us nothing when it ends
    elif run(cursor, instances.END_OF, id=id_).fetchone() is not None:
        raise LockedError
    inbox.insert(work.database, cursor, revival.answer(end), now)


# The order, and why:
# * The waiting row of admission comes first: admission itself takes it before any other row of an
#   instance, so neither waits for the other.
# * Everything that is deleted or canceled comes before history: rows that had begun and must not
#   run again are noted in the events of this very turn.
# * Messages are shown after what is put aside in the same turn, and an inbox is parked or woken
#   only when all of the instance's own messages are in it.
# * The instance is updated before slots are released and other instances are touched: to them its
#   new status is what counts.
# * Other instances come last, each kind in the order of their ids: children, messages, and then
#   the children of a rewind, whose rows are locked, or else the whole commit is tried again.
STEPS: tuple[Step, ...] = (
    Step(free_slots, ("frees_slots",)),
    Step(cancel_activities, ("canceled_commands", "vacated")),
    Step(take_messages, ("taken",)),
    Step(drop_messages, ("drops_until",)),
    Step(reset_joins, ("reset_joins",)),
    Step(withdraw_messages, ("canceled_dedups", "withdrawn")),
    Step(clear, ("clears",)),
    Step(append_history, ("events",)),
    Step(change_joins, ("join_changes",)),
    Step(add_activities, ("activities",)),
    Step(let_activities_wait, ("has_limited",)),
    Step(put_own, ("own_inbox",)),
    Step(put_answers, ("answers",)),
    Step(show_aside, ("shows",)),
    Step(park_inbox, ("parks_inbox",)),
    Step(wake_inbox, ("wakes_all",)),
    Step(
        update_instance,
        uses=("status", "output", "failure", "custom_status", "reason", "keeps_for"),
    ),
    Step(change_tags, ("tag_changes",)),
    Step(
        begin_next_execution, ("next_execution",), ("next_input", "next_version", "awaits_message")
    ),
    Step(reopen, ("reopens",)),
    Step(fill_window, ("max_activities",)),
    Step(release_slots, ("released_slots", "vacated", "max_activities")),
    Step(start_children, ("children",)),
    Step(put_others, ("other_inboxes",)),
    Step(ask_children, ("revivals",)),
)

_NAMES = sorted({name for step in STEPS for name in step.asked_by})
_VALUES = attrgetter(*_NAMES)


@cache
def _asked_by(*names: bool) -> list[Callable[[Work], None]]:
    """Return the steps that are taken where a commit says these of all that it may say."""
    asked = {name for name, is_asked in zip(_NAMES, names, strict=True) if is_asked}
    return [step.run for step in STEPS if not step.asked_by or asked.intersection(step.asked_by)]


def carry_out(work: Work) -> None:
    """Take the steps that the commit asks for, in their order."""
    for run in _asked_by(*map(bool, _VALUES(work.commit))):
        run(work)


#: What one statement can do as well, on PostgreSQL (``postgres``); ``put_own`` for one timer.
ONE_STATEMENT = frozenset({take_messages, append_history, add_activities, put_own, update_instance})
