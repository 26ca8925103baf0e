"""The archive: what retention and ``purge`` wait for before they delete an orchestration.

The hook is given the whole export of an ended instance, and a key; the instance is deleted only
after it has returned, and only if it has not moved since it was read. A crash in between lets the
same document come again under the same key: the hook is called at least once. While the hook fails,
the instance stays and is tried again, each time later; the store knows how many wait, and why.

A worker claims an instance before it calls the hook, by setting its time to be deleted ahead: so
several share the work, and what one dies over is found when that time has come.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .._errors import InvalidState, StoreError
from .archive_rows import DueInstance
from .audit import settled
from .listing import InstanceRecord
from .observers import Notifier
from .store_ports import Store
from .verify import export_history

__all__ = ["Archive", "Archiver", "key_of"]

log: logging.Logger = logging.getLogger("celery_durable.archive")
#: Takes the document and its key; what it raises keeps the instance.
Archive = Callable[[str, str], object]
#: For so many microseconds an instance is this worker's to archive.
LEASE = 600_000_000
_FIRST_PAUSE, _LONGEST_PAUSE = 60_000_000, 3_600_000_000
_BATCH = 50


@runtime_checkable
class Checked(Protocol):
    """A hook that can tell whether it can be used."""

    def check(self) -> None:
        """Raise if it cannot."""


def key_of(record: InstanceRecord) -> str:
    """Return the key of what is archived: the same for the same end of the same instance, and for
    no other.
    """
    return f"{record.id}@{record.execution}.{record.sequence}"


@dataclass(slots=True)
class Archiver:
    """Hands ended instances to the hook, and deletes them."""

    store: Store
    notifier: Notifier
    hook: Archive

    def check(self) -> None:
        """Let a hook that knows how to do that find out whether it can be used.

        Raises:
            ConfigurationError: it cannot.
        """
        if isinstance(self.hook, Checked):
            self.hook.check()

    def archive(self, record: InstanceRecord) -> None:
        """Hand an ended instance to the hook; it is deleted by the caller.

        Raises:
            InvalidState: the hook failed: the instance stays, and is tried again.
        """
        try:
            document = self.document_of(record)
            with settled():  # what the hook does is its own
                self.hook(document, key_of(record))
        except StoreError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            delay = self._delay(record)
            if self.store.archiving.note_failure(record, text, delay):
                log.warning(
                    "orchestration %r is not archived, and kept: %s. It is tried again in %d s",
                    record.id,
                    text,
                    delay // 1_000_000,
                )
            raise InvalidState(
                f"orchestration {record.id!r} is kept, as it could not be archived: {text}. It is"
                f" tried again in {delay // 1_000_000} s, and deleted when it is archived",
                instance_id=record.id,
                status=record.status,
            ) from error

    def document_of(self, record: InstanceRecord) -> str:
        """Return the export of an instance."""
        return export_history(record, self.store.reads.events(record.id))

    def _delay(self, record: InstanceRecord) -> int:
        tries = self.store.archiving.tries(record.id, record.execution)
        return int(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries, 10)))

    def run(self, limit: int = _BATCH) -> bool:
        """Archive and delete what is due, a bounded number; True if there may be more."""
        rows = self.store.archiving
        due = rows.due(limit)
        deleted = sum(rows.claim(each, LEASE) and self._take(each) for each in due)
        if not due:
            rows.forget_gone()
        # a parent is due once its last child is gone
        return rows.mark_children(limit) or deleted > 0 or len(due) == limit

    def _take(self, due: DueInstance) -> bool:
        record = self.store.reads.fetch(due.id)
        if record is None or (record.execution, record.sequence) != (due.execution, due.sequence):
            return False
        try:
            self.archive(record)
        except InvalidState:
            return False
        # a crash here: it is archived once more when the claim has run out
        is_gone = self.store.cleanup.purge(record.id, record.execution, record.sequence)
        if is_gone:
            self.notifier.purged(record.id, record.name)
        return is_gone
