"""What is sent after a commit, and only then.

A message that cannot be sent is no error of whose commit it was: the row that wants it is in the
store, and recovery sends it once its time has come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from .._errors import ActivityError, DurableError, PayloadError
from ..core.plain_task import carrier_of
from ..core.status import RuntimeStatus
from .admission import AdmissionController
from .commit import activity_rows
from .parts import Parts
from .ports import SendFailure
from .records import ActivityAttemptId, ActivityRow, InstanceRow, Outcome, Recorded, TurnAddress
from .writes import Committed, NewInbox, TurnCommit

__all__ = ["Dispatcher", "address_of"]

log: logging.Logger = logging.getLogger("celery_durable.turn")
#: So many activities are handed to the broker before anything else is looked at.
_SENT_TOGETHER = 200
#: When recovery looks at an activity whose message cannot be sent now (microseconds).
_SOON = 1_000_000
#: The same, where people have to repair a damaged row first.
_AFTER_REPAIR = 60_000_000

#: Suspends an instance by its id, if it moves, because of an error.
Suspend = Callable[[str, Exception], None]
#: Takes the outcome of an activity in.
Accept = Callable[[Outcome], object]


def address_of(instance: InstanceRow) -> TurnAddress:
    """Return where the turns of an instance are sent."""
    return TurnAddress(
        instance.id,
        carrier_of(instance.name, instance.version),
        instance.queue,
        instance.canvas,
        instance.root_id,
    )


@dataclass(slots=True)
class Dispatcher:
    """Sends what commits have decided."""

    parts: Parts
    admission: AdmissionController
    suspend: Suspend
    accept: Accept

    def send(self, instance: InstanceRow, commit: TurnCommit, committed: Committed) -> None:
        """Send all that a commit decided."""
        root_id = instance.root_id or instance.id
        self.activities([*activity_rows(commit, root_id), *committed.released])
        if commit.has_limited:
            self.admit()
        elif commit.clears or commit.canceled_commands:
            self.admit_eagerly()
        self._own_turns(instance, commit, committed)
        self._children(instance, commit, committed)
        self.turns_of([*commit.other_inboxes, *committed.left], committed.now)
        if commit.revivals:
            self._turns(sorted({revival.child_id for revival in commit.revivals}))
        if commit.status is not None and commit.status.is_terminal:
            self._end(instance, commit, commit.status)
        self.admission.after(instance.name, commit, committed.started_children)

    def _own_turns(self, instance: InstanceRow, commit: TurnCommit, committed: Committed) -> None:
        publisher = self.parts.publisher
        for message in commit.own_inbox:
            due = message.visible_at
            # a negative time of the check is before the message is due: recovery sends its turn
            if due is not None and message.check_after is not None and message.check_after >= 0:
                address, delay = address_of(instance), max(0, due - committed.now)
                publisher.publish_turn(address, delay=delay, due=due)
        if commit.next_execution is not None and not commit.awaits_message:
            publisher.publish_turn(address_of(instance))

    def _children(self, instance: InstanceRow, commit: TurnCommit, committed: Committed) -> None:
        publisher = self.parts.publisher
        children = [child for child in committed.started_children if child.admission is None]
        with publisher.together() if len(children) > 1 else nullcontext():
            for child in children:
                delay = 0 if child.start_at is None else max(0, child.start_at - committed.now)
                publisher.publish_turn(
                    TurnAddress(child.id, child.name, child.queue, child.canvas, child.root_id),
                    delay=delay,
                )
        if len(committed.started_children) < len(commit.children) or commit.revivals:
            publisher.publish_turn(address_of(instance))  # it is told what was refused

    def _end(self, instance: InstanceRow, commit: TurnCommit, status: RuntimeStatus) -> None:
        self.parts.publisher.finish(
            address_of(instance),
            instance.execution,
            status,
            commit.output,
            commit.failure,
            commit.reason,
        )

    def turns_of(self, messages: Sequence[NewInbox], now: int) -> None:
        """Schedule turns of those who were sent messages, now or when these are due."""
        dues: dict[str, set[int]] = {}
        for message in messages:
            is_far = message.check_after is not None and message.check_after < 0
            if message.visible_at is None or not is_far:
                delay = max(0, (message.visible_at or 0) - now)
                dues.setdefault(message.instance, set()).add(delay)
        if not dues:
            return
        for other in self.parts.store.reads.turn_addresses(sorted(dues)):
            for delay in sorted(dues[other.id]):
                due = now + delay if delay else None
                self.parts.publisher.publish_turn(other, delay=delay, due=due)

    def turn_of(self, instance_id: str) -> None:
        """Send a turn message for an instance."""
        self._turns([instance_id])

    def _turns(self, instance_ids: Sequence[str]) -> None:
        for address in self.parts.store.reads.turn_addresses(instance_ids):
            self.parts.publisher.publish_turn(address)

    # -- what follows from an outcome --------------------------------------------------------------

    def follow(
        self, ticket: ActivityAttemptId, recorded: Recorded, take_turn: Callable[[str], None]
    ) -> None:
        """Send what an outcome has released, and have the turn taken that it wants.

        Args:
            ticket: of the attempt that has ended.
            recorded: what the store said.
            take_turn: takes or sends the turn of an instance.
        """
        if recorded.released:
            self.activities(recorded.released)
        join, wakes = recorded.join_command, recorded.wakes
        if join is not None:
            finish = self.parts.store.outcomes.finish_join
            wakes = finish(ticket.execution, recorded.instance, join) or wakes
        if wakes:
            take_turn(recorded.instance)

    # -- activities --------------------------------------------------------------------------------

    def admit(self, *, is_likely: bool = True, notes_try: bool = False) -> None:
        """Send activities that wait for slots, as far as there is room."""
        self.parts.limits.admit(self.activities, is_likely=is_likely, notes_try=notes_try)

    def admit_eagerly(self) -> None:
        """Do it where this process runs what it sends; elsewhere recovery soon does."""
        if self.parts.publisher.is_eager:
            self.admit(is_likely=False)

    def activities(self, rows: Sequence[ActivityRow]) -> None:
        """Send activities; recovery soon sends those that cannot be sent now."""
        kept_at = time.monotonic()
        for first in range(0, len(rows), _SENT_TOGETHER):
            if first and time.monotonic() - kept_at > self.parts.settings.resend_after / 3:
                kept_at = self._keep_unsent(rows[first:])
            batch = rows[first : first + _SENT_TOGETHER]
            if failed := self.parts.publisher.publish_activities(batch):
                self._note_unsent(batch, failed)

    def _keep_unsent(self, rows: Sequence[ActivityRow]) -> float:
        """Keep recovery from taking those for lost whose turn to be sent is still to come."""
        tickets = [row.ticket for row in rows]
        delay = int(self.parts.settings.resend_after * 1_000_000)
        with suppress(DurableError):
            self.parts.store.workers.keep(tickets, (), delay, is_due=False)
        return time.monotonic()

    def _note_unsent(
        self, rows: Sequence[ActivityRow], failed: Mapping[ActivityAttemptId, Exception]
    ) -> None:
        damaged = {
            row.instance: failed[row.ticket]
            for row in rows
            if isinstance(failed.get(row.ticket), PayloadError)
        }
        try:
            delay = _AFTER_REPAIR if damaged else _SOON
            self.parts.store.attempts.unsend(list(failed), delay)
            for instance_id, error in damaged.items():
                self.suspend(instance_id, error)
            for row in rows:
                if row.ticket in failed and row.instance not in damaged:
                    self._handle_unsent(row, failed[row.ticket])
        except DurableError:
            log.warning(
                "activities could not be sent nor marked unsent; recovery will find them",
                exc_info=True,
            )

    def _handle_unsent(self, row: ActivityRow, error: Exception) -> None:
        """Fail an attempt whose message can never be sent; report what else but the broker keeps it
        from being sent.
        """
        kind, store = type(error), self.parts.store
        text = f"activity {row.name} could not be sent: {kind.__name__}: {error}"
        match self.parts.publisher.classify(error):
            case SendFailure.IS_FINAL:
                problem = ActivityError(
                    text, type=f"{kind.__module__}.{kind.__qualname__}", message=str(error)
                )
                payload = self.parts.codec.encode_failure(problem)
                self.accept(Outcome(row.ticket, payload, has_failed=True))
            case SendFailure.IS_ODD:
                store.turns.note_waiting(row.instance, f"{text}. It is tried again each second")
