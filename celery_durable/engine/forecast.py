"""Looking ahead, and cutting history: what rewinds, forks and repairs need beside a turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .._errors import DurableError
from ..core.commands import Command
from ..core.decision import Decision
from ..core.flags import is_whole
from ..core.history import NOTES, Event, EventKind, dump_events, event_kind
from ..core.kinds import CALLS_ASKED, INPUTS
from ..core.machine import Machine
from ..core.rewind import last_outcome
from ..core.status import RuntimeStatus
from .engine import Engine
from .entities import locks_in
from .intake import undelivered_events
from .records import InboxKind, InboxRow, Snapshot
from .registry import Definition
from .replay import current_events, current_rows, events_of, replay_rows

__all__ = ["Forecast", "call_in", "forecast", "fork_rows"]

_ENDS = {
    EventKind.EXECUTION_COMPLETED: RuntimeStatus.COMPLETED,
    EventKind.EXECUTION_FAILED: RuntimeStatus.FAILED,
    EventKind.EXECUTION_CANCELED: RuntimeStatus.CANCELED,
}


@dataclass(frozen=True)
class Forecast:
    """What an orchestrator would do next: the commands, in words, and the status that it would have
    then.
    """

    #: The status that it would have then.
    status: RuntimeStatus
    #: What it would ask for, in words, with its command numbers.
    commands: list[str] = field(default_factory=list)
    #: Why it would be suspended; None if it would not.
    reason: str | None = None

    def __str__(self) -> str:
        because = f" ({self.reason})" if self.reason else ""
        return "\n".join(
            [f"it would be {self.status}{because}", *(f"  {command}" for command in self.commands)]
        )


def forecast(runner: Engine, snapshot: Snapshot, message: InboxRow) -> Forecast:
    """Tell what would come of a message, by the code of this process; nothing is committed or sent.

    Functions under ``ctx.run`` that have not run yet are not run: the forecast ends where their
    results are awaited.

    Raises:
        DurableError: the code is not registered here.
        NonDeterminismError: it does not fit the history.
    """
    instance = snapshot.instance
    definition = runner.registry.get(instance.name, instance.version)
    if definition is None:
        raise DurableError(
            f"a dry run of {instance.id!r} needs its orchestrator {instance.name!r} in this"
            " process",
            instance_id=instance.id,
        )
    decision = runner.watchdog.watch(
        instance.id, lambda: _decided(runner, definition, snapshot, message)
    )
    kinds = {event.kind for event in decision.events}
    ended = next((status for kind, status in _ENDS.items() if kind in kinds), None)
    status = ended or (
        RuntimeStatus.SUSPENDED if decision.suspend_reason else RuntimeStatus.RUNNING
    )
    return Forecast(
        status, [_in_words(command) for command in decision.commands], decision.suspend_reason
    )


def _decided(
    runner: Engine, definition: Definition, snapshot: Snapshot, message: InboxRow
) -> Decision:
    if message.kind != InboxKind.REWIND:
        return _taken(
            runner.replayer.new(snapshot.instance, definition, is_dry=True), snapshot, message
        )
    execution, decision = runner.replayer.rewound(
        snapshot, definition, message, undelivered_events(snapshot), is_dry=True
    )
    execution.abandon()
    return decision


def _taken(execution: Machine, snapshot: Snapshot, message: InboxRow) -> Decision:
    event = Event(
        event_kind(message.kind),
        message.visible_at,
        message.command,
        message.attempt,
        payload=message.payload,
        facts=message.facts if isinstance(message.facts, dict) else None,
    )
    try:
        replay_rows(execution, snapshot.history)
        return execution.take([event])
    finally:
        execution.abandon()


def _in_words(command: Command) -> str:
    return f"{command.command}: {command.describe()}"


def call_in(events: Sequence[Event], command: int, instance_id: str) -> tuple[Event, Event | None]:
    """Return the event that asked for a call, and its last outcome if there is one.

    Raises:
        ValueError: the command is no activity or sub-orchestration of this history.
    """
    asked = [event for event in events if event.kind in CALLS_ASKED]
    found = next((event for event in asked if event.command == command), None)
    if found is None:
        known = ", ".join(
            f"{number} ({name})"
            for number, name in {e.command: e.name for e in asked[-20:]}.items()
        )
        raise ValueError(
            f"{command!r} is no activity or sub-orchestration of {instance_id!r}: those are"
            f" {known or 'none so far'}"
        )
    place = last_outcome(events, command)
    return found, None if place is None else events[place]


def fork_rows(snapshot: Snapshot, at: int) -> list[str]:
    """Return the rows of a history up to its event number ``at``, with what the orchestrator asked
    for upon that.

    Raises:
        ValueError: there is no such event, or the orchestrator had ended by then.
        PayloadError: the history is damaged.
    """
    instance = snapshot.instance
    rows = [events_of(row, instance.id, number) for number, row in enumerate(snapshot.history, 1)]
    total = sum(map(len, rows))
    if not is_whole(at) or not 1 <= at <= total:
        raise ValueError(
            f"{instance.id!r} has no event {at!r} to fork at: its history has the events 1 to"
            f" {total}"
            if total
            else f"{instance.id!r} has no history to fork yet"
        )
    kept: list[str] = []
    left = at
    for row, text in zip(rows, snapshot.history, strict=True):
        if left > len(row):
            left -= len(row)
            kept.append(_with_seed(row, text, instance.execution))
            continue
        cut = next(
            (place for place in range(left, len(row)) if row[place].kind in INPUTS), len(row)
        )
        kept.append(_with_seed(row[:cut], None, instance.execution))
        break
    living = current_events(kept, instance.id)
    if not any(event.kind not in NOTES for event in living):
        raise ValueError(
            f"{instance.id!r} was being rewound at event {at}: fork it before or after that"
        )
    if over := next(
        (e for e in living if e.kind in _ENDS or e.kind is EventKind.CONTINUED_AS_NEW), None
    ):
        raise ValueError(
            f"{instance.id!r} was over at event {at} ({over.kind}): fork it at an earlier one"
        )
    if held := locks_in(instance.id, kept[current_rows(kept) :]):
        raise ValueError(
            f"{instance.id!r} held or wanted the lock of {', '.join(sorted(set(held.values())))} at"
            f" event {at}: fork it before or after that"
        )
    return kept


def _with_seed(row: Sequence[Event], text: str | None, seed: str) -> str:
    """Return a row whose start keeps the seed of the execution that it was recorded by."""
    starts = [
        event
        for event in row
        if event.kind is EventKind.EXECUTION_STARTED and "seed" not in (event.facts or {})
    ]
    if not starts and text is not None:
        return text
    return dump_events(
        event._replace(facts={**(event.facts or {}), "seed": seed}) if event in starts else event
        for event in row
    )
