"""Limits of activities: what an attempt needs before it is sent, and what lets it in.

An attempt that needs slots is inserted by the commit of its turn with its gate closed, and with a
row that waits. It is admitted by a *pass*: one short transaction under one lock, which is tried and
never waited for. Who finds it locked leaves the work to the holder, who looks again after its own
commit. A pass is run by the process that committed such an attempt, by the one that recorded the
outcome of one, and, while any waits, by recovery once a second.

An attempt has its slots for as long as its row is in the outbox: so whatever ends it, also a
cancel or a purge, gives them back without a statement of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol

from .._errors import StoreError
from ..core.kinds import ScheduleActivity
from ..core.permits import Permit, TaskLimit, merged
from .records import ActivityRow
from .switches import SwitchBoard, Switched
from .tasks import Tasks
from .writes import Slot

__all__ = [
    "LIMIT_GATE",
    "LIMITED",
    "ActivityLimitRows",
    "ActivityLimits",
    "Standing",
    "MaximaOf",
    "Use",
    "full_in_words",
    "slots_in_words",
]

log: logging.Logger = logging.getLogger("celery_durable.flow")
#: What the column ``gate`` of an activity says that waits for slots.
LIMIT_GATE = "limit"
#: The header of a message whose attempt has slots: who records its outcome lets others in.
LIMITED = "durable_limited"
_LARGEST = 2**31 - 1
_TRIES = 3
#: So many passes one process makes in a row; recovery does the rest.
_ROUNDS = 10

#: Tells whether a task is paused, or the queue that its messages go to.
IsPaused = Callable[[str, str | None], bool]
#: The numbers that are declared now, by the labels of limits.
Numbers = Mapping[str, int]


#: Gives the numbers of an orchestrator's limits by their labels; None where its code is not known.
MaximaOf = Callable[[str], Mapping[str, int] | None]


class Standing(NamedTuple):
    """Where an attempt stands that waits for slots."""

    command: int
    attempt: int
    #: Each with how many are taken.
    slots: Sequence[tuple[Permit, int]]
    #: How many come before it of those that wait for the same slots.
    before: int


class Use(NamedTuple):
    """How many slots of a limit are taken and waited for, for one value of its key."""

    name: str
    key: str | None
    #: None where it is not known here.
    most: int | None
    #: Of a rate, the microseconds for which one counts.
    period: int | None
    taken: int
    waiting: int


class ActivityLimitRows(Protocol):
    """The attempts that wait for slots, and those that have some."""

    def may_admit(self, numbers: Numbers, is_paused: IsPaused) -> bool:
        """Tell whether one that waits has room; takes no lock."""

    def admit(
        self, numbers: Numbers, is_paused: IsPaused, *, notes_try: bool = False
    ) -> list[ActivityRow] | None:
        """Admit those that have room, by priority and age, and return what is to be sent.

        None if another process is about it, which looks again after its commit.
        """

    def is_due(self, every: int) -> bool:
        """Tell whether one waits, and no worker looked for ``every`` microseconds."""

    def standings(self, execution: str, numbers: Numbers) -> list[Standing]:
        """Return where the attempts of an execution stand."""

    def uses(self, numbers: Numbers) -> list[Use]:
        """Return what is taken and waited for."""

    def by_task(self) -> Sequence[tuple[str, str | None, int]]:
        """Return how many wait of each task in each queue."""

    def free_lost(self) -> int:
        """Delete what belongs to attempts that are over; return how many rows that were."""


class _Store(Protocol):
    @property
    def limits(self) -> ActivityLimitRows: ...


@dataclass(slots=True)
class ActivityLimits:
    """Limits of activities, as this process knows them."""

    store: _Store
    switches: SwitchBoard
    tasks: Tasks
    _numbers: tuple[Switched | None, Numbers] = field(default=(None, {}), init=False)

    def permits(self, command: ScheduleActivity) -> tuple[Permit, ...]:
        """Return the slots that an attempt needs: by its task's limits, and by its call's.

        Raises:
            StoreError: what is declared elsewhere is to be read, and the store cannot be reached.
        """
        declared = self.tasks.limits_of(command.subject)
        if declared is None:
            declared = self.switches.current().limits.get(command.subject, ())
        if not declared and not command.permits:
            return ()
        if command.subject != command.task:  # of a chunk, no key can be told
            declared = tuple(limit for limit in declared if limit.key is None)
        own = [
            permit
            for limit in declared
            if (permit := limit.permit(command.subject, command.args, command.kwargs)) is not None
        ]
        return merged([*own, *command.permits])

    def priority(self, command: ScheduleActivity) -> int:
        """Return the priority of an attempt: that of its message."""
        given = command.options.get("priority")
        chosen = self.tasks.priority_of(command.subject) if given is None else given
        return min(max(chosen, -_LARGEST), _LARGEST) if isinstance(chosen, int) else 0

    def numbers(self) -> Numbers:
        """Return the numbers that are declared: of one label with two numbers, the smaller.

        Raises:
            StoreError: they are to be read, and the store cannot be reached.
        """
        switched = self.switches.current()
        known, numbers = self._numbers
        if known is not switched:
            numbers = smallest(self.declared())
            self._numbers = switched, numbers
        return numbers

    def declared(self) -> dict[str, tuple[TaskLimit, ...]]:
        """Return what tasks declare: as the store has it, and as the code does of the others.

        Raises:
            StoreError: it is to be read, and the store cannot be reached.
        """
        return {**self.tasks.all_limits(), **self.switches.current().limits}

    def admit(
        self,
        send: Callable[[Sequence[ActivityRow]], None],
        *,
        is_likely: bool = True,
        notes_try: bool = False,
    ) -> None:
        """Admit attempts that have room, and send them; a failure is left to recovery.

        Args:
            send: hands activities to the broker.
            is_likely: whether to try at once, or to ask first whether there is room.
            notes_try: whether other workers may leave out their own try for a while.
        """
        rows, tries = self.store.limits, _TRIES
        try:
            numbers, is_paused = self.numbers(), _paused(self.switches.current())
            for _ in range(_ROUNDS):
                if not (is_likely or rows.may_admit(numbers, is_paused)):
                    return
                found = rows.admit(numbers, is_paused, notes_try=notes_try)
                if found is None:
                    return
                send(found)
                is_likely, tries = False, _TRIES if found else tries - 1
                if not tries:
                    return
        except StoreError:
            log.warning("no activity could be admitted; recovery will", exc_info=True)


def _paused(switched: Switched) -> IsPaused:
    return lambda task, queue: switched.of_activity(task, lambda: queue) is not None


def smallest(declared: Mapping[str, Sequence[TaskLimit]]) -> dict[str, int]:
    """Return the smallest number of each label."""
    numbers: dict[str, int] = {}
    for task, limits in declared.items():
        for limit in limits:
            label = limit.label(task)
            numbers[label] = min(limit.most, numbers.get(label, limit.most))
    return numbers


def slots_in_words(standing: Standing, *, shows_keys: bool = True) -> str:
    """Say for which slots an attempt waits; keys come from arguments, which may be hidden.

    Example:
        >>> from celery_durable.core.permits import Permit
        >>> from celery_durable.engine.activity_limits import Standing, slots_in_words
        >>> slots_in_words(Standing(3, 1, [(Permit("", None, 5, None, "crm"), 5)], 12))
        "a place: 5 of 5 of 'crm' are taken, 12 before it"
    """
    full = [
        full_in_words(slot, taken, "sends", repr(slot.name), shows_keys=shows_keys)
        for slot, taken in standing.slots
        if taken >= slot.most
    ]
    return f"a place: {'; '.join(full) or 'there is room'}, {standing.before} before it"


def full_in_words(
    slot: Permit | Slot, taken: int, what: str, whose: str, *, shows_keys: bool
) -> str:
    """Say that a limit has no slot left: of what in its period, and whose it is."""
    period = "" if slot.period is None else f" {what} in {timedelta(microseconds=slot.period)}"
    key = "" if slot.key is None else f" for key {slot.key!r}" if shows_keys else " for its key"
    return f"{taken} of {slot.most}{period} of {whose}{key} are taken"
