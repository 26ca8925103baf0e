"""What a turn takes from the inbox, in which order, and what it leaves there."""

from __future__ import annotations

from collections.abc import Container, Sequence

from .._errors import PayloadError
from ..core.decision import Decision
from ..core.history import Event, EventKind, event_kind
from ..core.kinds import INPUTS
from ..core.status import RuntimeStatus
from .compilers.request import dropped
from .records import InboxKind, InboxRow, Snapshot
from .replay import facts_of
from .writes import EXPIRES, TurnCommit

__all__ = [
    "Message",
    "changes_joins",
    "event_of",
    "in_order",
    "leaves_more",
    "portion",
    "settle_inbox",
    "undelivered_events",
]

#: A row of the inbox, and the event that it becomes.
Message = tuple[InboxRow, Event]
#: Bytes of payloads that one turn takes: a commit and its history row stay of bounded size.
_LARGEST_TURN = 4_000_000
#: By how many microseconds a time may lie before that of an earlier message, before the clock is
#: taken to have been set back between the two.
_STEP = 1_000_000


def in_order(snapshot: Snapshot) -> list[Message]:
    """Return what the inbox holds as events, in the order in which they happened.

    Raises:
        PayloadError: a row is damaged.
    """
    instance, latest = snapshot.instance, 0
    found: list[tuple[tuple[int, bool, int], InboxRow, Event]] = []
    for place, row in enumerate(sorted(snapshot.inbox, key=_arrival)):
        at = row.visible_at
        if row.is_at_once:  # the clock may have been set back between two
            at = latest if at < latest - _STEP else at
            latest = max(latest, at)
        is_of_here = row.execution in (None, instance.execution)
        if row.kind in (InboxKind.JOIN, InboxKind.REWIND) or not is_of_here:
            continue
        event = event_of(row, snapshot, at)
        # a timer comes after what else is of its time: its number is no arrival
        found.append(((at, event.kind is EventKind.TIMER_FIRED, place), row, event))
    return [(row, event) for _, row, event in sorted(found, key=lambda entry: entry[0])]


def _arrival(row: InboxRow) -> tuple[bool, int, int]:
    """Return the place of a row in the order of arrival.

    What an execution has kept for the next one had been taken before everything else that is still
    there. Its times are those of the arrival, each later than the one before.
    """
    is_first = row.is_carried_over
    return not is_first, row.visible_at if is_first else 0, row.id


def event_of(row: InboxRow, snapshot: Snapshot, at: int) -> Event:
    """Return the event that a message becomes, as of a time.

    Raises:
        PayloadError: the row is damaged.
    """
    if row.kind not in INPUTS or isinstance(row.facts, str):
        raise PayloadError(
            f"message {row.id} in the inbox of {snapshot.instance.id!r} is damaged: kind"
            f" {row.kind!r}, facts {row.facts!r:.80}. If a later release sent it, resume the"
            " orchestration once only workers of that one are left"
        )
    kind = event_kind(row.kind)
    is_start = kind is EventKind.EXECUTION_STARTED
    if is_start and _has_expired(row, snapshot.now):
        return Event(EventKind.CANCEL_REQUESTED, at, facts={"reason": "expired"})
    payload = snapshot.instance.input if is_start else row.payload
    attempt = 0 if row.is_carried_over else row.attempt
    return Event(kind, at, row.command, attempt, row.name or "", payload, row.facts)


def undelivered_events(snapshot: Snapshot) -> list[Event]:
    """Return what has arrived and is not in history, in order.

    Raises:
        PayloadError: a row is damaged.
    """
    return [event for _, event in in_order(snapshot)]


def _has_expired(start: InboxRow, now: int) -> bool:
    deadline = facts_of(start).get(EXPIRES)
    return isinstance(deadline, int) and now > deadline


def portion(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Split what one turn takes from what the next one takes."""
    size = 0
    for number, (row, _) in enumerate(messages):
        size += len(row.payload or "") + 100
        if number and size > _LARGEST_TURN:
            return messages[:number], messages[number:]
    return messages, []


def settle_inbox(
    snapshot: Snapshot,
    decision: Decision,
    commit: TurnCommit,
    messages: Sequence[Message],
    rest: Sequence[Message],
) -> None:
    """Say in a commit which rows of the inbox it deletes, and which stay.

    Args:
        snapshot: what was read.
        decision: what the turn decided.
        commit: is completed.
        messages: what the turn was given.
        rest: what was more than one turn takes.
    """
    left = _left(messages, rest, decision, commit)
    commit.clears |= bool(left) and commit.status is RuntimeStatus.FAILED
    if commit.next_execution is not None and not decision.keeps_events:
        commit.answers += dropped(event for _, event in [*messages[decision.applied :], *rest])
    if snapshot.has_more and decision.final is not None:
        _leave_unseen(snapshot, decision, commit)
    commit.taken, commit.reset_joins = _taken(snapshot, decision, left)


def _left(
    messages: Sequence[Message], rest: Sequence[Message], decision: Decision, commit: TurnCommit
) -> set[int]:
    """Return which rows stay for a later turn, for the next execution, or for a rewind."""
    if commit.status is RuntimeStatus.FAILED:
        unapplied = [*messages[decision.applied :], *rest]
        return {row.id for row, _ in unapplied if InboxKind.is_kept(row.kind)}
    if commit.next_execution is not None and decision.keeps_events:
        unapplied = [*messages[decision.applied :], *rest]
        return {row.id for row, _ in unapplied if row.execution is None}
    return {row.id for row, _ in rest} if decision.final is None else set()


def leaves_more(
    snapshot: Snapshot, rest: Sequence[Message], decision: Decision, commit: TurnCommit
) -> bool:
    """Tell whether the next turn has something to take: what was more than one takes, or what a
    commit has shown.
    """
    is_open = decision.final is None or commit.awaits_message
    return is_open and (bool(rest) or snapshot.has_more or commit.shows is not None)


def changes_joins(decision: Decision, commit: TurnCommit) -> bool:
    """Tell whether an outcome may have come in whose join was formed only by this turn: it waits
    for no message.
    """
    formed = decision.joins_formed or decision.joins_ended
    return bool(commit.join_changes or commit.reset_joins or formed) and not commit.clears


def _leave_unseen(snapshot: Snapshot, decision: Decision, commit: TurnCommit) -> None:
    """Deal, at the end of an execution, with what had arrived and was more than one read takes."""
    if commit.next_execution is None:
        commit.clears = True
    elif not decision.keeps_events:
        commit.drops_until = snapshot.now


def _taken(
    snapshot: Snapshot, decision: Decision, left: Container[int]
) -> tuple[list[int], list[int]]:
    """Split the rows that were read and are not left: those to delete, and woken joins that wait
    on.
    """
    still_joined = {f"{join}" for join in decision.joins.values()}
    taken: list[int] = []
    reset: list[int] = []
    for row in snapshot.inbox:
        if row.id in left:
            continue
        if row.kind != InboxKind.JOIN or row.execution != snapshot.instance.execution:
            taken.append(row.id)
        elif f"{row.command}" in still_joined:
            if row.wake_at is not None:
                reset.append(row.id)
        else:
            taken.append(row.id)
    return taken, reset
