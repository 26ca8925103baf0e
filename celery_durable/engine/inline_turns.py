"""Turns without a message of their own: together with a start, or with an activity's outcome.

Both are one commit: either the start (or the outcome) and the turn are in the store, or neither is,
and then the caller takes the longer way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._errors import StoreError
from ..core.history import EventKind
from ..core.machine import Machine
from ..core.status import RuntimeStatus
from .decide import Decided, Decider
from .dispatch import Dispatcher
from .intake import Message, event_of, in_order
from .parts import Parts
from .records import ActivityStart, InboxRow, InstanceRow, Outcome, Snapshot
from .registry import Definition
from .scope import at_turn
from .writes import Committed, NewInstance

__all__ = ["InlineTurns"]

log: logging.Logger = logging.getLogger("celery_durable.turn")
#: A first turn with more commands is left to a worker: it would keep its caller too long.
_LARGEST_BEGINNING = 20


@dataclass(slots=True)
class InlineTurns:
    """Takes them; ``run`` takes the turns of an instance by the long way."""

    parts: Parts
    decider: Decider
    dispatcher: Dispatcher
    run: Callable[[str], object]

    # -- with the start ----------------------------------------------------------------------------

    def begin(self, new: NewInstance) -> bool:
        """Start an orchestration and take its first turn, in the process that starts it.

        False when that is not possible or not wise; then nothing was committed, and it is to be
        started the usual way.

        Raises:
            StoreError: the store cannot be reached; nothing was started.
        """
        definition = self.parts.registry.get(new.name, new.version)
        if definition is None or new.start_at is not None or new.admission is not None:
            return False
        if self.parts.switches.current().of_turns(new.name, new.version, new.queue) is not None:
            return False
        snapshot = _as_if_started(new, self.parts.clock.now())
        with at_turn(snapshot):
            return self._begin(new, snapshot, definition)

    def _begin(self, new: NewInstance, snapshot: Snapshot, definition: Definition) -> bool:
        try:
            decided = self.decider.decide(snapshot, None, definition, in_order(snapshot))
        except Exception:
            log.debug("first turn of %r undone; it is left to a worker", new.id, exc_info=True)
            return False
        decision, commit = decided.decision, decided.commit
        try:
            is_large = len(decision.commands) > _LARGEST_BEGINNING
            if decision.suspend_reason is not None or is_large:
                return False
            committed = self.parts.store.starts.insert_with_turn(new, commit)
        finally:
            decided.execution.abandon()
        if committed is None:
            return False
        self.parts.notifier.started(new)
        self._announce(snapshot.instance, decided, committed)
        self.dispatcher.send(snapshot.instance, commit, committed)
        return True

    # -- with an outcome ---------------------------------------------------------------------------

    def complete(self, outcome: Outcome, start: ActivityStart, cached: Machine | None) -> bool:
        """Commit an activity's outcome and the turn that follows from it.

        False when that is not possible now; then nothing was committed, and the outcome is to be
        recorded alone.
        """
        instance = start.instance
        definition = self._code_now(instance)
        # it is abandoned rather than kept: a turn that another process takes would outdate it
        if definition is None or outcome.ticket.execution != instance.execution:
            if cached is not None:
                cached.abandon()
            return False
        row = _as_if_recorded(outcome, start.time_now())
        snapshot = Snapshot(instance, start.history, [row], row.visible_at)
        messages = [(row, event_of(row, snapshot, row.visible_at))]
        with at_turn(snapshot):
            return self._complete(outcome, snapshot, cached, definition, messages)

    def _code_now(self, instance: InstanceRow) -> Definition | None:
        """Return the code of an instance, if a turn of it may be taken here and now."""
        if instance.status is not RuntimeStatus.RUNNING:
            return None
        try:
            switched = self.parts.switches.current()
        except StoreError:
            return None
        if switched.of_turns(instance.name, instance.version, instance.queue) is not None:
            return None
        return self.parts.versions.code_of(instance)

    def _complete(
        self,
        outcome: Outcome,
        snapshot: Snapshot,
        cached: Machine | None,
        definition: Definition,
        messages: Sequence[Message],
    ) -> bool:
        instance = snapshot.instance
        try:
            decided = self.decider.decide(snapshot, cached, definition, messages)
        except Exception:
            log.debug(
                "turn of %r undone; its outcome is recorded alone", instance.id, exc_info=True
            )
            return False
        decision, commit = decided.decision, decided.commit
        # other messages would have to be heard in order with this one: then a turn reads them all
        commit.outcome, commit.requires_empty_inbox = outcome.ticket, True
        committed = self.decider.commit(decided)
        if committed is None:
            return False  # another turn was faster, or a message has come: nothing was written
        # from here on a crash costs only messages: recovery sends what this process does not
        self.after(instance, decided, committed)
        # a member whose outcome came in meanwhile counted for a join that is no more: without this
        # look its turn would wait for recovery
        changed_joins = bool(decision.joins_formed or decision.joins_ended or commit.join_changes)
        has_untaken = self.parts.store.turns.has_untaken
        if changed_joins and not commit.clears and has_untaken(instance.id):
            self.run(instance.id)
        return True

    # -- what all turns end with -------------------------------------------------------------------

    def after(self, instance: InstanceRow, decided: Decided, committed: Committed) -> None:
        """Keep the live execution and send what was committed."""
        execution = decided.execution
        execution.sequence += 1
        self._announce(instance, decided, committed)
        if decided.decision.final is not None:
            execution.abandon()
        else:
            self.parts.live.put(execution)
        self.dispatcher.send(instance, decided.commit, committed)

    def _announce(self, instance: InstanceRow, decided: Decided, committed: Committed) -> None:
        execution, decision, commit = decided
        self.parts.notifier.committed(
            instance, commit, committed, decision, lambda: execution.observed
        )


def _as_if_started(new: NewInstance, now: int) -> Snapshot:
    """Return what a turn would read right after the start."""
    instance = InstanceRow(
        id=new.id,
        execution=new.execution,
        name=new.name,
        version=new.version,
        status=RuntimeStatus.PENDING,
        sequence=0,
        parent_id=new.parent_id,
        parent_execution=new.parent_execution,
        parent_command=new.parent_command,
        parent_attempt=new.parent_attempt,
        root_id=new.root_id,
        queue=new.queue,
        crashes=0,
        input=new.input,
        canvas=new.canvas,
        policy=new.policy,
    )
    row = InboxRow(
        id=0,
        kind=EventKind.EXECUTION_STARTED,
        execution=new.execution,
        command=0,
        attempt=0,
        name=None,
        payload=None,
        facts=new.facts,
        visible_at=now,
        wake_at=now,
    )
    return Snapshot(instance, [], [row], now)


def _as_if_recorded(outcome: Outcome, now: int) -> InboxRow:
    """Return the message that recording the outcome alone would put into the inbox."""
    ticket = outcome.ticket
    return InboxRow(
        id=0,
        kind=outcome.kind,
        execution=ticket.execution,
        command=ticket.command,
        attempt=ticket.attempt,
        name=None,
        payload=outcome.payload,
        facts=outcome.facts,
        visible_at=now,
        wake_at=0,
    )
