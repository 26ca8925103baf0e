"""What recovery and the pass over schedules read: rows whose time to be looked at has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from .records import ActivityRow

__all__ = [
    "DueActivity",
    "DueSchedule",
    "DueWake",
    "Found",
    "Backlog",
    "Lost",
    "Move",
    "Overlap",
    "ScheduleRow",
    "Settling",
]


T = TypeVar("T")
_SECOND = 1_000_000
#: After what was sent last is due to be looked at, and the proof of that has come.
_SETTLED = 7 * _SECOND
#: A loss is another one when none was found for so long.
_ANOTHER = 10 * _SECOND

Overlap = Literal["skip", "buffer", "cancel", "allow"]


@dataclass(slots=True)
class DueWake:
    """An inbox row that recovery should look at; ``name`` is None when its instance is gone."""

    #: Number of the row.
    id: int
    #: Of the message.
    kind: str
    #: Whose inbox it lies in.
    instance: str
    #: For which execution; None is any.
    execution: str | None
    #: The number of the command that it answers, or 0.
    command: int
    #: When it is, or was, due; below zero if it was so at once.
    visible_at: int
    #: Since when the instance is to take a turn; None rides along.
    wake_at: int | None
    #: How often a turn message was sent for it; -1 is never.
    sends: int
    #: Of the Celery task that takes its turns; None when the instance is gone.
    name: str | None
    #: Where its turns are sent.
    queue: str | None
    #: The options of its Celery signature.
    canvas: str | None
    #: Of the instance; None when it is gone.
    status: str | None
    #: The store's clock.
    now: int
    #: When recovery was to look.
    check_at: int


@dataclass(slots=True)
class DueActivity:
    """An outbox row that recovery should look at."""

    #: The activity.
    row: ActivityRow
    #: When it was sent last; None if never.
    sent_at: int | None
    #: The worker that runs it; None is none.
    holder: str | None
    #: It has replaced itself by another task.
    is_delegated: bool
    #: Why it is due: recovery was to look then.
    check_at: int
    #: When it runs out; None is never.
    deadline_at: int | None
    #: Until when it must have begun; None is no limit.
    start_by: int | None
    #: Until when it must show progress; None is no limit.
    beat_by: int | None
    #: The packed mark of its runs, or how often it was sent after a crash.
    crashes: int
    #: The store's clock.
    now: int
    #: It waits for its completion by token.
    is_deferred: bool = False


class Found(NamedTuple, Generic[T]):
    """What a look found."""

    #: How many rows were looked at.
    looked_at: int
    #: Those whose message is to be sent.
    lacking: list[T]


@dataclass(slots=True)
class Settling:
    """How long a great loss is left alone, as when a broker has lost its queues.

    Of what was sent in the last seconds before, nothing is proven yet. Were the rest sent at once,
    that would be proven only when the rest has drained; so all is sent together, a moment later.
    That goes for turns and activities together, as the ones lead to the others.
    """

    #: When messages in bulk were first and last found to be lost: the store's clock.
    began: int = 0
    last: int = 0

    def holds(self, now: int, has_unproven: Callable[[], bool]) -> bool:
        """Tell whether a loss in bulk, found now, is left to a later look.

        Args:
            now: the store's clock.
            has_unproven: tells whether there are messages that may be lost as well, and were sent
                too lately to tell. Once there are none, what is sent then is no part of this loss.
        """
        if not 0 <= now - self.last < _ANOTHER:
            self.began = now
        self.last = now
        if now - self.began < _SETTLED and has_unproven():
            return True
        self.began = now - _SETTLED
        return False


@dataclass(frozen=True)
class Lost:
    """Up to when messages are known to be gone: a row whose look was due by then has none, on its
    queue or in anybody's hands.

    ``by_queue`` has a moment of the store's clock for each queue that can be judged; ``rest`` is
    for rows of unknown queues.
    """

    by_queue: Mapping[str, int] = field(default_factory=dict)
    rest: int = 0

    def of_turns(self, turn_queue_of: Callable[[str], str]) -> Lost:
        """Return the same of turn messages, by the queue of their orchestrations."""
        names = ((queue, turn_queue_of(queue)) for queue in self.by_queue)
        return Lost(
            {queue: self.by_queue[turns] for queue, turns in names if turns in self.by_queue},
            self.rest,
        )

    @property
    def latest(self) -> int:
        """The latest moment of any queue."""
        return max(self.by_queue.values(), default=self.rest)

    def has(self, queue: str | None, check_at: int) -> bool:
        """Tell whether the message of a row is lost."""
        return check_at <= (self.rest if queue is None else self.by_queue.get(queue, 0))


class Backlog(NamedTuple):
    """What recovery has to do: inbox rows, outbox rows and workers that went silent.

    ``schedule_in`` is how many microseconds from now a schedule is due, 0 or less if one is, None
    if none ever is; ``ready_in`` is the same for orchestrations that wait for admission.
    """

    has_wakes: bool
    has_activities: bool
    has_silent_workers: bool
    schedule_in: int | None = None
    ready_in: int | None = None
    has_slots: bool = False
    has_purges: bool = False
    now: int = 0
    has_claimed: bool = False
    #: A pause was lifted that may still hold something, or one ends by itself.
    has_lifted: bool = False
    #: An activity waits for a slot.
    has_limited: bool = False
    #: Whether outbox rows are due that do not merely wait for a worker; None where the store cannot
    #: tell these apart at no cost.
    has_others: bool | None = None

    @property
    def has_waiting(self) -> bool:
        """Tell whether an orchestration waits for a slot now."""
        return self.ready_in is not None and self.ready_in <= 0

    @property
    def has_due_schedule(self) -> bool:
        """Tell whether a schedule is due now."""
        return self.schedule_in is not None and self.schedule_in <= 0


@dataclass(frozen=True)
class ScheduleRow:
    """A schedule as it is stored; payloads are text.

    ``next_at`` is None while it is paused; ``waiting_at`` is a tick that waits for the instance
    before it. ``revision`` moves on with every change, and starts at the time of creation, so that
    one of the same name made later never repeats it. ``is_declared`` is None for one that code or a
    person has made; of ``beat_schedule`` it tells whether a living worker declares it. One that
    none does keeps its ``next_at``, and is not looked at.
    """

    name: str
    orchestrator: str
    input: str
    canvas: str | None
    queue: str | None
    cron: str | None
    every: int | None
    timezone: str
    anchor_at: int
    overlap: Overlap
    catch_up: int
    jitter: int
    is_paused: bool
    reason: str | None
    next_at: int | None
    waiting_at: int | None
    last_at: int | None
    last_id: str | None
    skipped: int
    check_at: int | None
    revision: int
    created_at: int
    updated_at: int
    is_declared: bool | None = None


class DueSchedule(NamedTuple):
    """A schedule that is to be looked at, and whether the instance that it started last
    still runs.
    """

    row: ScheduleRow
    is_running: bool
    now: int


@dataclass(slots=True)
class Move:
    """What a pass does to a schedule: the ticks it starts, and where the schedule stands then."""

    next_at: int | None
    check_at: int | None
    starts: list[int] = field(default_factory=list)
    waiting_at: int | None = None
    skipped: int = 0
    cancels_last: bool = False
