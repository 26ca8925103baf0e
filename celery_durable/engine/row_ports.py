"""What the engine needs of a store beside turns and outcomes: what clients read, what recovery
sweeps, and the tables that belong to workers, schedules and admission.

``store_ports`` has the other parts, and what holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from ..core.status import RuntimeStatus
from .activity_limits import MaximaOf, Use
from .cursor import Cursor
from .due import Backlog, DueActivity, DueSchedule, DueWake, Lost, Move, ScheduleRow
from .listing import Filters, InstanceRecord, OwedEnd, Pending, Tally, Waits
from .records import ActivityAttemptId, TurnAddress
from .writes import NewInbox, NewInstance, Waiting

__all__ = ["AdmissionRows", "Cleanup", "Reads", "RecoveryRows", "Schedules", "Upkeep", "Workers"]


class Overview(Protocol):
    """What stands above and beside lists; few rows are read, however many there are."""

    def tally(self) -> dict[RuntimeStatus, Tally]:
        """Count orchestrations by status, as far as that is cheap; entities are left out."""

    def names(self, limit: int) -> list[str]:
        """Return the names that instances have, in order, at most so many."""

    def custom_statuses(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the encoded custom statuses of these instances, of those that have a short one."""


class Reads(Overview, Protocol):
    """What clients ask; nothing is changed."""

    def fetch(self, instance_id: str) -> InstanceRecord | None:
        """Return an instance as clients see it, or None."""

    def fetch_many(self, ids: Sequence[str]) -> dict[str, InstanceRecord]:
        """Return those of these instances that are there, with payloads and deadlines, by id."""

    def status_of(self, instance_id: str) -> RuntimeStatus | None:
        """Return the status alone, cheaply enough to poll."""

    def statuses_of(self, ids: Sequence[str]) -> dict[str, RuntimeStatus]:
        """Return the status of each of these instances that is there, by its id."""

    def status_within(self, cursor: Cursor, instance_id: str) -> RuntimeStatus | None:
        """Return a status as a caller's transaction sees it."""

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""

    def open_children(self, instance_id: str) -> list[str]:
        """Return the children of an instance that are not over."""

    def find(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None]:
        """Return a page, newest first, and the cursor of the next one."""

    def find_page(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None, str | None]:
        """Return a page, newest first, and the cursors of the next one (older) and of the one
        before (newer).
        """

    def count(self, filters: Filters) -> int:
        """Return how many instances match."""

    def count_versions(
        self, statuses: Sequence[RuntimeStatus]
    ) -> list[tuple[str, str | None, int]]:
        """Return names, versions and how many instances with one of these statuses have them."""

    def events(self, instance_id: str) -> list[str]:
        """Return the history rows of the current execution, in order."""

    def pending(self, instance_id: str) -> Pending:
        """Return what an instance waits for."""

    def waits(self, records: Sequence[InstanceRecord]) -> dict[str, Waits]:
        """Return what these instances wait for, as far as rows tell, by id.

        Nothing for one of which they tell nothing.
        """

    def is_finished_for_celery(self, execution: str) -> bool:
        """Tell whether no last message is under way."""

    def owed_end(self, execution: str) -> OwedEnd | None:
        """Return what is known of a last message that is under way, or None."""


class RecoveryRows(Protocol):
    """What is due to be looked at, and marking that it was."""

    def read_backlog(self, lease: int, worker: str = "") -> Backlog:
        """Tell what there is to repair, and whether a worker has taken anything: the one query of
        an idle second.
        """

    def check_sooner(self, most: int) -> None:
        """Let nothing wait for recovery longer than ``most`` microseconds but what waits for its
        time.
        """

    def due_wakes(self, limit: int, lost: Lost | None = None) -> list[DueWake]:
        """Return inbox rows whose ``check_at`` has come.

        Those that only lack a message only if it is ``lost`` (None: any).
        """

    def has_fresh_wakes(self, after: int) -> bool:
        """Tell whether turn messages were sent so lately that nothing is proven of them: their
        looks are due after ``after``, and within seconds.
        """

    def has_fresh_activities(self, after: int) -> bool:
        """Tell the same of activities that wait for a worker."""

    def move_wake(self, due: DueWake, after: int | None, *, sends: int | None = None) -> bool:
        """Look at the row again later; False if another sweeper was first.

        ``sends`` -1 is: its message was never sent.
        """

    def resend_wakes(self, due: Sequence[DueWake], back_off: Callable[[int], int]) -> list[DueWake]:
        """Take the rows whose turn messages are to be sent again, in one transaction; return those
        that no other sweeper has.

        Each counts one send more. ``back_off`` of how often it was sent before is after how many
        microseconds it is looked at again.
        """

    def drop_wake(self, due: DueWake) -> None:
        """Delete a row whose instance is gone or over."""

    def due_activities(self, limit: int, lost: Lost | None = None) -> list[DueActivity]:
        """Return outbox rows whose ``check_at`` has come.

        Those that only lack a message only if it is ``lost`` (None: any).
        """

    def move_activity(
        self, due: DueActivity, after: int | None, *, sends: int = 0, is_sent: bool = False
    ) -> bool:
        """Look at the row again later; False if another sweeper was first."""

    def resend_activities(
        self, due: Sequence[DueActivity], back_off: Callable[[int], int]
    ) -> list[DueActivity]:
        """The same as ``resend_wakes`` for activities: those that were never sent count none."""

    def drop_finish(self, instance_id: str, execution: str) -> bool:
        """Delete the last message of an instance: it has done its work."""

    def drop_finishes(self, ends: Sequence[tuple[str, str]]) -> None:
        """Delete the last messages of many: ids of instances, each with its execution."""


class Workers(Protocol):
    """Which workers live, and what they hold."""

    def heartbeat(self, worker: str, hostname: str) -> None:
        """Say that a worker lives."""

    def unregister(self, worker: str) -> None:
        """Forget a worker that stops in good order; what it held is free at once."""

    def claimed_by(self, worker: str) -> list[ActivityAttemptId]:
        """Return the activities that a worker has taken."""

    def keep(
        self,
        activities: Collection[ActivityAttemptId],
        instances: Collection[str],
        delay: int,
        *,
        is_due: bool = True,
    ) -> None:
        """Look at rows that are due, or will be within ``delay``, ``delay`` microseconds later:
        a worker has their messages.
        """

    def report(self, worker: str, moment: int) -> None:
        """Note that a worker has said what it has, as of a moment of the store's clock."""

    def reported_since(self, lease: int) -> int | None:
        """Return up to when all living workers have said what they have; None if none lives."""

    def free_abandoned(
        self, lease: int, is_dead: Callable[[str, int | None, int], bool] | None = None
    ) -> int:
        """Free what dead and forgotten workers hold; return how many rows became due.

        ``is_dead`` is asked of each worker that may be: its id, when it was seen last (None: it is
        not registered any more), and for how long it has been silent by the store's clock.
        """

    def free_claimed(self, ticket: ActivityAttemptId, worker: str) -> bool:
        """Free an activity that a living worker has taken and does not run."""

    def declare(self, worker: str, names: Sequence[str]) -> None:
        """Note which schedules a worker declares, until it is unregistered."""

    def declared_by(self, worker: str = "") -> tuple[frozenset[str], bool]:
        """Return the schedules that registered workers declare, and whether this one has said what
        it does, also if that is nothing.
        """

    def living_workers(self, lease: int) -> list[str]:
        """Return the host names of workers that were seen within ``lease`` microseconds."""


class Schedules(Protocol):
    """Schedules, and moving one on together with the instances that it starts."""

    def get(self, name: str) -> ScheduleRow | None:
        """Return one schedule, or None."""

    def list_all(self) -> list[ScheduleRow]:
        """Return all schedules, by name."""

    def insert(self, row: ScheduleRow) -> bool:
        """Insert a schedule; False if the name is taken."""

    def change(self, row: ScheduleRow) -> bool:
        """Write a schedule whose ``revision`` is the one that it was read at.

        False if it has changed since.
        """

    def delete(self, name: str) -> bool:
        """Delete a schedule; what it started is left alone."""

    def delete_undeclared(self, name: str) -> bool:
        """Delete a schedule of ``beat_schedule`` that no living worker declares.

        False if it is gone, or one declares it again.
        """

    def declared(self) -> list[str]:
        """Return the names of the schedules of ``beat_schedule`` that were declared by a living
        worker when it was looked at last.
        """

    def due(self, limit: int) -> list[DueSchedule]:
        """Return schedules whose ``check_at`` has come."""

    def advance(
        self,
        row: ScheduleRow,
        move: Move,
        instances: Sequence[NewInstance],
        request: NewInbox | None,
    ) -> list[NewInstance] | None:
        """Move a schedule on and start instances, in one transaction; return the new ones.

        None tells that the schedule has changed since it was read, and nothing was done.
        """

    def postpone(self, row: ScheduleRow, delay: int) -> bool:
        """Look at a schedule again ``delay`` microseconds from now; False if it has changed."""


class AdmissionRows(Protocol):
    """Who waits for a slot, and who has one."""

    def admit(
        self, name: str, maxima: Mapping[str, int] | None, *, notes_try: bool = False
    ) -> list[str] | None:
        """Admit those of an orchestrator that have room; None if another is about it."""

    def may_admit(self, name: str, maxima: Mapping[str, int] | None) -> bool:
        """Tell whether one of an orchestrator that waits has room."""

    def names_waiting(self, every: int) -> list[str]:
        """Return the orchestrators of which some wait, and at which no worker looked lately."""

    def find_waiting(self, instance_id: str, maxima: Mapping[str, int] | None) -> Waiting | None:
        """Return where an instance stands that waits for admission; None if it does not."""

    def uses(self, maxima_of: MaximaOf) -> list[Use]:
        """Return what is taken and waited for; ``maxima_of`` gives the numbers that hold now."""

    def free_lost_slots(self) -> int:
        """Delete slots that no instance has any more; return how many."""


class Upkeep(Protocol):
    """Keeping lists of what lives short."""

    def list_lasting(self, limit: int) -> bool:
        """List those that have lived for a while, of the next ``limit`` that were created.

        True if there may be more.
        """


class LargePayloadRows(Protocol):
    """What lies in the payload store."""

    def sweep(self, limit: int) -> bool:
        """Delete payloads that no row refers to; True if there may be more.

        Each is one worker's to look at, and is deleted with its row, or is looked at again.

        Raises:
            StoreError: the payload store has failed; what was to be deleted is tried again.
        """


class Cleanup(Protocol):
    """Deleting what is over."""

    def clean_entity(self, instance_id: str, execution: str) -> bool:
        """Delete an entity that still is as it was seen, and that no message waits for.

        False if that is not so.
        """

    def purge(self, instance_id: str, execution: str, sequence: int | None = None) -> bool:
        """Delete a terminal instance with all its rows; False if it has moved meanwhile.

        One that was archived is deleted only at the ``sequence`` at which it was read for that. The
        outbox goes first: that is the row which recorders of late outcomes take.
        """

    def purge_due(self, limit: int) -> bool:
        """Delete finished instances whose time has come; True if there may be more."""
