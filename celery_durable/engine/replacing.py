"""A start whose id is taken: by whom, and may the new one take its place?"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._errors import InstanceExists, InvalidState, PayloadError
from ..core.canvas_options import CanvasOptions
from ..core.status import RuntimeStatus
from .dispatch import Dispatcher
from .entities import releases_in
from .lifecycle import Lifecycle
from .listing import InstanceRecord
from .parts import Parts
from .store_ports import Store
from .summary import summary_of
from .termination import termination
from .verb import ENDED, refusal
from .writes import Committed, NewInbox, NewInstance

__all__ = ["Replacing", "refuse_unfinished"]

log: logging.Logger = logging.getLogger("celery_durable.client")
_REPLACED = "replaced by another start"
#: So often an instance is read again that moves while it is replaced.
_TRIES = 60
#: Pauses, in seconds, while Celery is told of the end of the old one.
_PATIENCE = (0.0, 0.05, 0.2, *(0.25,) * 12)


class _HasMovedError(Exception):
    """An instance is not what it was when it was read."""


@dataclass(slots=True)
class Replacing:
    """Deals with the instance that has the id of a new one."""

    parts: Parts
    lifecycle: Lifecycle
    dispatcher: Dispatcher

    def meet_existing(
        self, new: NewInstance, if_exists: Literal["return", "raise", "restart", "replace"]
    ) -> bool:
        """Deal with an id that is taken; True if the new orchestration took the old one's place.

        Raises:
            InstanceExists: ``if_exists`` is "raise".
            InvalidState: ``if_exists`` is "restart" and the one there has not ended; or it could
                not be replaced in time.
        """
        store = self.parts.store
        old = store.reads.fetch(new.id)
        if old is None:  # purged since the insert
            return store.starts.insert(new)
        if if_exists == "raise":
            raise InstanceExists(
                f"there is an orchestration {new.id!r} already, {old.status}", instance_id=new.id
            )
        if if_exists == "return":
            if old.input != new.input or old.name != new.name:
                log.warning(
                    "orchestration %r exists already, with another input; that one is returned",
                    new.id,
                )
            return False
        if if_exists == "restart" and not old.status.is_terminal:
            raise refusal("restart", ENDED, old.status, new.id)
        if not old.status.is_terminal and self._has_callbacks(old):
            # Celery is told of an end while it can be looked up: so it ends first, by itself
            old = self._ended(old)
        if old.status.is_terminal:
            self._await_reported(old)
        for _ in range(_TRIES):
            if self._replace(new):
                return True
        raise InvalidState(
            f"orchestration {new.id!r} changed while it was replaced; try again", instance_id=new.id
        )

    def _ended(self, old: InstanceRecord) -> InstanceRecord:
        """Terminate an instance, and return it as it is then."""
        store = self.parts.store
        for _ in range(_TRIES):
            snapshot = store.turns.load(old.id, None)
            if (
                snapshot is None
                or snapshot.instance.status.is_terminal
                or self.lifecycle.end(snapshot, _REPLACED, None)
            ):
                return store.reads.fetch(old.id) or old
        raise InvalidState(
            f"orchestration {old.id!r} moves too fast to be replaced; try again", instance_id=old.id
        )

    def _replace(self, new: NewInstance) -> bool:
        """End what runs under an id and put the new instance in its place, in one commit.

        False if it has moved meanwhile.
        """
        parts = self.parts
        snapshot = parts.store.turns.load(new.id, None)
        if snapshot is None:
            return parts.store.starts.insert(new)
        instance, commit = snapshot.instance, None
        if instance.status.is_terminal:
            left: Sequence[NewInbox] = releases_in(new.id, snapshot.history, parts.codec)
        else:
            commit = termination(snapshot, _REPLACED, None, parts.publisher, parts.codec, ())
            left = commit.other_inboxes

        def release_locks(execution: str, rows: Sequence[str]) -> Sequence[NewInbox]:
            if execution != instance.execution or len(rows) != len(snapshot.history):
                raise _HasMovedError
            return left

        try:
            sent = parts.store.starts.replace(new, release_locks)
        except _HasMovedError:
            return False
        if sent is None:
            return False
        now = parts.store.now() if sent or commit else 0
        if commit is not None:
            parts.notifier.committed(
                instance, commit, Committed(now), summary=lambda: summary_of(snapshot.history)
            )
        self.dispatcher.turns_of(sent, now)
        return True

    def _has_callbacks(self, record: InstanceRecord) -> bool:
        try:
            return bool(CanvasOptions.read(self.parts.codec, record.canvas).finish)
        except PayloadError:
            return False

    def _await_reported(self, record: InstanceRecord) -> None:
        """Wait until Celery has been told of an end: once the instance is replaced, its result
        could not be looked up.

        Raises:
            InvalidState: it could not be told in time.
        """
        for number, pause in enumerate(_PATIENCE):
            time.sleep(pause)
            if self.parts.store.reads.is_finished_for_celery(record.execution):
                return
            if number == 2:  # the message may never have been sent
                self.parts.publisher.finish_owed(record)
        refuse_unfinished(self.parts.store, record.id, record.execution, record.status)


def refuse_unfinished(
    store: Store, instance_id: str, execution: str, status: RuntimeStatus
) -> None:
    """Refuse to take an instance away of whose end Celery has not been told.

    Raises:
        InvalidState: it has not.
    """
    if store.reads.is_finished_for_celery(execution):
        return
    owed = store.reads.owed_end(execution)
    why = f" (it was refused: {owed.refusal})" if owed is not None and owed.refusal else ""
    raise InvalidState(
        f"orchestration {instance_id!r} is {status}, but its last message to Celery is still"
        f" under way{why}; try again in a moment",
        instance_id=instance_id,
        status=status,
    )
