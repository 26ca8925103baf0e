"""What can be seen of the engine from outside: one door, behind every commit that moves an
instance.

Observers (traces, events for metrics) are told what was committed, after the commit and never on
replay; nothing that they do or fail to do changes what the engine does. What has to travel with
messages (trace context) is asked of them before the commit. With no observer, all this costs a few
comparisons; one log line per change of status is written in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..core.entity import ORCHESTRATORS
from ..core.history import Event, EventKind, load_events
from ..core.status import RuntimeStatus
from .scope import Scope, here
from .summary import ExecutionSummary, PendingCall

if TYPE_CHECKING:
    from ..core.decision import Decision
    from ..core.machine import Machine
    from .records import InstanceRow, Snapshot
    from .writes import Committed, NewInstance, TurnCommit

__all__ = ["PropagatedContext", "Notifier", "Observer", "CommitNotice", "change_of"]

log: logging.Logger = logging.getLogger("celery_durable.observation")
state_log: logging.Logger = logging.getLogger("celery_durable.state")
_LONGEST_REASON = 300


# -- what observers are asked and told -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PropagatedContext:
    """What travels with what a turn sends: headers of activities, facts of the starts of children
    and of the next execution.
    """

    headers: Mapping[str, Any] = field(default_factory=dict)
    child: Mapping[str, Any] = field(default_factory=dict)
    successor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class CommitNotice:
    """One commit that moved an instance. ``instance`` is as it was before; times are microseconds.

    ``change`` is the new state in a word ("running", "completed", ...), None if it is the old one.
    ``came`` is what came in by this commit, with what it answers; it and ``summary`` are there for
    observers that need it. ``scope`` is the turn in which it was made, None if it was a
    client's verb.
    """

    instance: InstanceRow
    commit: TurnCommit
    now: int
    change: str | None
    came: list[tuple[Event, PendingCall | None]]
    fired: set[int]
    summary: ExecutionSummary | None
    begins: bool
    scope: Scope | None


class Observer(Protocol):
    """One who is told of commits. What it raises is logged and goes no further."""

    #: Whether it is given the summary of an execution, which has to be read from history where
    #: it is not known.
    needs_summary: bool

    @property
    def is_on(self) -> bool:
        """Tell whether it wants to know anything now."""

    def starting(self, new: NewInstance) -> Mapping[str, Any]:
        """Return facts for the start of an instance that is about to be inserted."""

    def started(self, new: NewInstance) -> None:
        """An instance was inserted."""

    def carried(self, instance: InstanceRow, summary: ExecutionSummary) -> PropagatedContext:
        """Return what is to travel with what a turn is about to send."""

    def committed(self, seen: CommitNotice) -> None:
        """A commit moved an instance."""


def change_of(instance: InstanceRow, commit: TurnCommit) -> str | None:
    """Say in a word what a commit makes of the state of an instance.

    None if it stays what it was.
    """
    if commit.next_execution is not None:
        return None if commit.awaits_message else "continued as new"
    if commit.reopens:
        return "rewound"
    if commit.status is None:
        return None
    if commit.status in (RuntimeStatus.RUNNING, RuntimeStatus.PENDING):
        return "resumed" if instance.status is RuntimeStatus.SUSPENDED else "running"
    return str(commit.status).lower()


class Notifier:
    """The door of one process; ``observers`` are put there when the engine is made."""

    def __init__(self) -> None:
        self.observers: list[Observer] = []

    def _awake(self) -> list[Observer]:
        return [observer for observer in self.observers if observer.is_on]

    def starting(self, new: NewInstance) -> None:
        """Let observers add to the start of an instance that is about to be inserted."""
        for observer in self._awake():
            new.facts = {**(new.facts or {}), **(_guarded(observer.starting, new) or {})} or None

    def started(self, new: NewInstance) -> None:
        """Say that an instance was inserted; once, however often it is called."""
        if new.is_notified:
            return
        new.is_notified = True
        _log_change(new.id, new.name, 0, "started")
        for observer in self._awake():
            _guarded(observer.started, new)

    def purged(self, instance_id: str, name: str) -> None:
        """Say that an instance was deleted."""
        _log_change(instance_id, name, 0, "purged")

    def carried(
        self,
        execution: Machine,
        snapshot: Snapshot,
        history: Sequence[str],
        decision: Decision,
        load: Callable[[], Snapshot | None],
    ) -> PropagatedContext | None:
        """Bring the summary of an execution up to what is about to be committed, and return what
        is to travel.

        Args:
            execution: the live execution; it is given up if the commit fails.
            snapshot: the look at its instance.
            history: the rows that this execution had not seen before the look.
            decision: what is about to be committed.
            load: gives the whole history, for an execution that was not observed from its
                beginning.

        Returns:
            None if there is no observer.
        """
        awake = [each for each in self.observers if each.needs_summary and each.is_on]
        if not awake:
            return None
        instance = snapshot.instance
        summary: ExecutionSummary | None = _guarded(_caught_up, execution, instance, history, load)
        if summary is None:
            return None
        _guarded(summary.note, decision.events)
        found = [
            _guarded(observer.carried, instance, summary) or PropagatedContext()
            for observer in awake
        ]
        return PropagatedContext(
            {name: value for each in found for name, value in each.headers.items()},
            {name: value for each in found for name, value in each.child.items()},
            {name: value for each in found for name, value in each.successor.items()},
        )

    def committed(
        self,
        instance: InstanceRow,
        commit: TurnCommit,
        committed: Committed,
        decision: Decision | None = None,
        summary: Callable[[], ExecutionSummary | None] = lambda: None,
    ) -> None:
        """Say what was committed: a log line for a change of state, and whatever observers make of
        it.

        Args:
            instance: as it was before.
            commit: what was committed.
            committed: what came of it.
            decision: of the turn; None for what no turn decides.
            summary: gives the summary of the execution, if it is known.
        """
        change = change_of(instance, commit)
        if change is not None:
            _log_change(instance.id, instance.name, commit.sequence + 1, change, commit.reason)
        for child in committed.started_children:
            _log_change(child.id, child.name, 0, "started")
        if not (awake := self._awake()):
            return
        known: ExecutionSummary | None = (
            _guarded(summary) if any(observer.needs_summary for observer in awake) else None
        )
        is_current = (
            known is not None and decision is not None and known.sequence == commit.sequence + 1
        )
        begins = (
            instance.status is RuntimeStatus.PENDING
            and decision is not None
            and any(event.kind is EventKind.EXECUTION_STARTED for event in decision.events)
        )
        seen = CommitNotice(
            instance,
            commit,
            committed.now,
            change,
            known.came if known is not None and is_current else [],
            decision.fired if decision is not None else set(),
            known,
            begins,
            here(),
        )
        for observer in awake:
            _guarded(observer.committed, seen)
        if known is not None:
            known.came = []  # results may be large, and the execution may wait for long


def _caught_up(
    execution: Machine,
    instance: InstanceRow,
    history: Sequence[str],
    load: Callable[[], Snapshot | None],
) -> ExecutionSummary:
    summary: ExecutionSummary | None = execution.observed
    if summary is None or summary.sequence + len(history) != instance.sequence:
        if len(history) != instance.sequence and (whole := load()) is not None:
            history = whole.history[: instance.sequence]
        summary = ExecutionSummary()
    for row in history:
        summary.note(load_events(row))
    execution.observed = summary
    return summary


def _log_change(
    instance_id: str, name: str, turn: int, change: str, reason: str | None = None
) -> None:
    level = logging.DEBUG if name.startswith(ORCHESTRATORS) else logging.INFO
    if not state_log.isEnabledFor(level):
        return
    because = f": {_on_one_line(reason[:_LONGEST_REASON])}" if reason else ""
    state_log.log(
        level,
        "orchestration %r (%s) is %s%s",
        instance_id,
        name,
        change,
        because,
        extra={
            "durable_instance": instance_id,
            "durable_orchestration": name,
            "durable_turn": turn,
            "durable_change": change,
        },
    )


def _on_one_line(text: str) -> str:
    """Return text that passes for no other line of a log, and steers no terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _guarded(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception:
        log.warning("an observer failed; what it observes is not touched by that", exc_info=True)
        return None
