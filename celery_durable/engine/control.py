"""What all verbs share: looking at an instance, changing it from outside under the comparison of a
turn, putting a message into its inbox, and sending its turn.

Verbs that need no orchestrator code (suspend, resume, terminate) commit at once, from the calling
process, under the same comparison as a turn. Those that do (cancel, events) put a message into the
inbox and send a turn. Each is idempotent and keeps its reason in history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .._errors import DurableError, InstanceNotFound
from ..core.canvas_options import CanvasOptions
from ..core.guard import refuse_inside_orchestrator
from ..core.history import Event
from ..core.names import check_instance_id
from ..core.plain_task import TASK
from ..core.ports import Codec
from ..core.status import RuntimeStatus
from .archive import Archive, Archiver
from .audit import settled
from .auditor import Auditor
from .engine import Engine
from .listing import Filters, InstanceRecord
from .ports import NoTransactions, Publisher, Transactions
from .records import Snapshot
from .registry import Registry
from .replacing import refuse_unfinished
from .replay import events_of
from .start import StartRequest
from .store_ports import Store
from .verb import Verb
from .writes import NewInbox

__all__ = ["TRIES", "Control"]

#: So often a verb is tried again while turns of the same instance are faster.
TRIES = 60


@dataclass(slots=True)
class Control:
    """The parts of the engine that verbs work with, and the steps that they share."""

    store: Store
    registry: Registry
    codec: Codec
    #: Sends turns; only after a commit.
    publisher: Publisher
    #: Commits from outside a turn, and knows the admission and the observers of this process.
    runner: Engine
    #: Tells which transaction of the caller's an event joins.
    transactions: Transactions = field(default_factory=NoTransactions)
    #: What ended instances are handed to before they are deleted; None: nothing is.
    archive: Archive | None = None
    #: When this process, by its own clock, looks at old answers next.
    drops_answers_at: float = field(default=0.0, init=False)
    #: Lets verbs leave entries in the audit trail.
    auditor: Auditor = field(init=False)
    #: Archives and deletes ended instances; None: they are deleted at once.
    archiver: Archiver | None = field(init=False)

    def __post_init__(self) -> None:
        self.archiver = (
            None
            if self.archive is None
            else Archiver(self.store, self.runner.notifier, self.archive)
        )
        self.auditor = Auditor(self.store.audit, self.transactions)
        self.runner.starter.transactions = self.transactions  # starts and events join the same one

    # -- looking -----------------------------------------------------------------------------------

    def fetch(self, instance_id: str) -> InstanceRecord:
        """Return one instance.

        Raises:
            InstanceNotFound: there is none.
        """
        record: InstanceRecord | None = self.store.reads.fetch(check_instance_id(instance_id))
        if record is None:
            raise _not_found(instance_id)
        return record

    def snapshot(self, instance_id: str) -> Snapshot:
        """Return one instance as a turn reads it, with its history.

        Raises:
            InstanceNotFound: there is none.
        """
        snapshot: Snapshot | None = self.store.turns.load(check_instance_id(instance_id), None)
        if snapshot is None:
            raise _not_found(instance_id)
        return snapshot

    def history(self, instance_id: str) -> list[Event]:
        """Return the events of the current execution, in order.

        Raises:
            PayloadError: the history is damaged.
        """
        rows = self.store.reads.events(check_instance_id(instance_id))
        return [
            event
            for number, row in enumerate(rows, 1)
            for event in events_of(row, instance_id, number)
        ]

    def children(self, instance_id: str) -> list[InstanceRecord]:
        """Return the direct sub-orchestrations, oldest first."""
        found: list[InstanceRecord] = []
        cursor: str | None = None
        while True:
            page, cursor = self.store.reads.find(Filters(parent_id=instance_id), 500, cursor)
            found += page
            if cursor is None:
                return found[::-1]

    def kept_canvas(self, old: InstanceRecord) -> str | None:
        """Return what of an orchestration's canvas holds for another one: its callbacks are called
        once, for the old one.
        """
        kept = CanvasOptions.read(self.codec, old.canvas).for_another_start().kept
        return self.codec.encode(kept) if kept else None

    def start_again(self, old: InstanceRecord, new_id: str | None) -> str:
        """Start one more of an old orchestration, at once, and return the id."""
        args, kwargs = self.codec.decode(old.input or "[[], {}]")
        canvas = self.kept_canvas(old)
        request = StartRequest(
            old.name,
            args,
            kwargs,
            instance_id=old.id if new_id is None else new_id,
            tags=old.tags,
            queue=old.queue,
            canvas=self.codec.decode(canvas) if canvas else None,
            if_exists="restart" if new_id is None else "raise",
            version=TASK if old.version == TASK else None,
        )
        return self.runner.starter.start_alone(request).id

    # -- refusing ----------------------------------------------------------------------------------

    def refuse_unfinished(self, instance_id: str, execution: str, status: RuntimeStatus) -> None:
        """Refuse one that has ended while Celery has not been notified of the end.

        Raises:
            InvalidState: the message about the end is still under way.
        """
        refuse_unfinished(self.store, instance_id, execution, status)

    # -- changing ----------------------------------------------------------------------------------

    def change(self, instance_id: str, commit: Callable[[Snapshot], bool]) -> None:
        """Commit from here under the comparison of a turn, again while turns are faster.

        Args:
            instance_id: of the instance.
            commit: writes one commit upon the snapshot; False if the instance has moved since.

        Raises:
            InstanceNotFound: there is no such instance.
            DurableError: it moved each time.
        """
        refuse_inside_orchestrator("a verb")
        for _ in range(TRIES):
            if commit(self.snapshot(instance_id)):
                return
        raise DurableError(
            f"orchestration {instance_id!r} moves too fast to be changed; try again",
            instance_id=instance_id,
        )

    def send(self, message: NewInbox, verb: Verb) -> None:
        """Put a message into an inbox, and send the turn that reads it.

        Raises:
            InvalidState: the instance has ended, and the verb is refused there.
            InstanceNotFound: there is none.
        """
        if not self.store.inbox.put([message]):
            verb.acts(self.fetch(message.instance).status, message.instance)
        # a crash before the message is sent: recovery sends it after ``check_after``
        self.publish([message.instance])

    def publish(self, ids: Sequence[str]) -> None:
        """Send a turn of each instance."""
        with settled():
            for address in self.store.reads.turn_addresses(ids):
                self.publisher.publish_turn(address)


def _not_found(instance_id: str) -> InstanceNotFound:
    return InstanceNotFound(f"there is no orchestration {instance_id!r}", instance_id=instance_id)
