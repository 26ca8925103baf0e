"""Turn messages that should exist and do not, found by the rows of inboxes that are due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.status import RuntimeStatus
from .draft import new_execution_id
from .due import DueWake, Found, Lost
from .entities import entity_of
from .ports import Publisher
from .records import InboxKind, TurnAddress
from .registry import Registry
from .store_ports import Store

__all__ = ["InboxRecovery", "back_off"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")
_SECOND = 1_000_000
_LONGEST = 3_600 * _SECOND
_UNSENT = -1


@dataclass(slots=True)
class InboxRecovery:
    """Sends the messages of turns again."""

    store: Store
    publisher: Publisher
    registry: Registry

    def repair(self, limit: int) -> int:
        """Send the turn messages that may be missing; return how many rows were looked at."""
        found = self.find(limit, None)
        self.send(found.lacking)
        return found.looked_at

    def find(self, limit: int, lost: Lost | None) -> Found[DueWake]:
        """Do what is due without a message, and return the rest: the turns whose messages are
        missing, without ``lost`` all that may be.
        """
        # each row is taken by the first case that it is in; a crash in the middle leaves the rest
        # due, for the next look of any worker
        turns = list[DueWake]()
        due = self.store.recovery.due_wakes(limit, lost)
        for wake in due:
            if (
                wake.name is None
                and (entity := entity_of(wake.instance, new_execution_id(), self.publisher))
                is not None
            ):
                # its message was under way when it was cleaned away
                if self.store.starts.insert(entity):
                    self._wake(replace(wake, name=entity.name, queue=entity.queue))
            # what nothing will ever take
            elif _is_left_over(wake):
                self.store.recovery.drop_wake(wake)
            # what waits for people: resume and rewind let recovery look again
            elif wake.status == RuntimeStatus.SUSPENDED or _is_kept(wake):
                self.store.recovery.move_wake(wake, None)
            # the last member came in, and its process died before it woke the join
            elif wake.kind == InboxKind.JOIN and wake.wake_at is None:
                self._ask_join(wake)
            # a timer that is so near that its message may wait in a worker
            elif wake.visible_at > wake.now:
                self._announce(wake)
            elif self._may_send(wake, lost):
                turns.append(wake)
        return Found(len(due), turns)

    def _announce(self, wake: DueWake) -> None:
        """Send the message of a timer that is due soon.

        What cannot be sent is sent when it is due.
        """
        delay = wake.visible_at - wake.now
        # moved first: from here on no other worker sends it, and if this one dies before it does,
        # the look after the timer is due finds that
        after = delay + 2 * _SECOND
        if self.store.recovery.move_wake(wake, after) and not self._wake(wake, delay=delay):
            self._note_unsent(wake, after, delay)

    def _ask_join(self, wake: DueWake) -> None:
        if not self.store.recovery.move_wake(wake, 30 * _SECOND):
            return
        if self.store.outcomes.finish_join(wake.execution or "", wake.instance, wake.command):
            log.debug(
                "join %d of %r was complete, and its turn had not been scheduled",
                wake.command,
                wake.instance,
            )
            self._wake(wake)

    def _may_send(self, wake: DueWake, lost: Lost | None) -> bool:
        if wake.sends >= 0 and lost is not None and not lost.has(wake.queue, wake.check_at):
            return False
        if wake.name in self.registry:
            return True
        if self.store.recovery.move_wake(wake, 10 * _SECOND):
            self.store.turns.note_waiting(
                wake.instance, f"waits for a worker that knows the orchestrator {wake.name!r}"
            )
        return False

    def send(self, wakes: Sequence[DueWake]) -> None:
        """Send one message for each instance, whatever the number of rows that want it."""
        # counted and moved before anything is sent: a crash here sends it later, not twice
        taken = self.store.recovery.resend_wakes(wakes, back_off)
        for wake in {wake.instance: wake for wake in taken}.values():
            sends = max(wake.sends, 0)
            if not self._wake(wake, tries=sends + 1):
                self._note_unsent(wake, back_off(sends), _SECOND)

    def _note_unsent(self, wake: DueWake, moved: int, after: int) -> None:
        """Look at a row that was ``moved`` already, and whose message could not be sent, in
        ``after`` microseconds.
        """
        self.store.recovery.move_wake(
            replace(wake, check_at=wake.now + moved), after, sends=_UNSENT
        )

    def _wake(self, wake: DueWake, delay: int = 0, tries: int = 0) -> bool:
        due = wake.visible_at if delay else None
        address = TurnAddress(wake.instance, wake.name or "", wake.queue, wake.canvas)
        return self.publisher.publish_turn(address, delay=delay, due=due, tries=tries)


def _is_left_over(wake: DueWake) -> bool:
    """Tell whether no turn will ever take it: its instance is gone or has ended."""
    if wake.name is None or wake.status is None:
        return wake.name is None
    is_rewind = wake.kind == InboxKind.REWIND and wake.status == RuntimeStatus.FAILED
    return RuntimeStatus(wake.status).is_terminal and not is_rewind and not _is_kept(wake)


def _is_kept(wake: DueWake) -> bool:
    """Tell whether an instance that has failed keeps it for a rewind."""
    return wake.status == RuntimeStatus.FAILED and InboxKind.is_kept(wake.kind)


def back_off(sends: int) -> int:
    """Return after how many microseconds a message that was sent so often is looked at again."""
    return int(min(10 * _SECOND * 2 ** min(sends, 20), _LONGEST))
