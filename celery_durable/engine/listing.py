"""What clients read: instances as they are listed, and what an instance waits for.

Payloads are text; times are microseconds since the epoch by the store's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.flags import is_whole
from ..core.status import RuntimeStatus

__all__ = [
    "Filters",
    "InstanceRecord",
    "Outstanding",
    "OwedEnd",
    "Pending",
    "Tally",
    "VersionUse",
    "Waits",
    "check_page_size",
]


@dataclass(slots=True)
class InstanceRecord:
    """One row of ``durable_instances`` as clients see it; payloads are None unless asked for."""

    id: str
    execution: str
    name: str
    version: str | None
    status: RuntimeStatus
    reason: str | None
    sequence: int
    parent_id: str | None
    root_id: str | None
    tags: dict[str, str]
    created_at: int
    started_at: int | None
    updated_at: int
    completed_at: int | None
    queue: str | None = None
    input: str | None = None
    output: str | None = None
    failure: str | None = None
    custom_status: str | None = None
    canvas: str | None = None
    #: When the time of the run is over; read with a single instance.
    deadline: int | None = None


@dataclass(frozen=True)
class Filters:
    """What ``find`` and ``count`` select by; times are microseconds.

    ``entities`` False leaves them out, True is only these.
    """

    statuses: tuple[RuntimeStatus, ...] = ()
    name: str | None = None
    version: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    id_prefix: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    parent_id: str | None = None
    stuck: bool | None = None
    roots: bool | None = None
    entities: bool | None = None
    #: False leaves plain tasks out, True is only these.
    tasks: bool | None = None


@dataclass(frozen=True)
class Tally:
    """How many orchestrations have a status; where that is not exact, there may be more."""

    count: int
    is_exact: bool


@dataclass(frozen=True)
class Outstanding:
    """One activity that is under way.

    ``worker`` is the host name of its holder, None if that was not seen lately.
    """

    name: str
    command: int
    attempt: int
    queue: str | None
    is_held: bool
    holder: str | None
    worker: str | None
    sent_at: int | None
    sends: int
    #: Its body has ended with ``Ignore``: who it left its outcome to reports that later.
    is_delegated: bool = False
    #: Since when it waits for its completion by token; None if it does not.
    deferred_at: int | None = None
    #: What else keeps it from beginning; None is nothing.
    gate: str | None = None


@dataclass(frozen=True)
class Pending:
    """What lies in the store for an instance: what it waits for, and since when its next turn is
    due.
    """

    activities: list[Outstanding]
    children: list[InstanceRecord]
    next_timer: int | None
    overdue_since: int | None


@dataclass(frozen=True)
class OwedEnd:
    """The end of an instance that Celery has not been told of yet.

    ``refusal`` is why, as far as that is known.
    """

    sends: int
    refusal: str | None


@dataclass(frozen=True)
class VersionUse:
    """How many instances that are not over need one version of an orchestrator."""

    name: str
    version: str | None
    live: int
    is_registered: bool
    #: Of the new starts of the name, 0 to 1, that get it.
    share: float = 0.0
    is_ramped: bool = False

    @property
    def is_safe_to_remove(self) -> bool:
        """True once no instance needs it any more, and no ramp names it."""
        return self.live == 0 and not self.is_ramped


@dataclass(slots=True)
class Waits:
    """What rows say of one instance; times are microseconds since the epoch.

    ``activity`` and ``child`` are one of them.

    ``awaits`` is what the one timer bounds the wait for: "event" or "request", and its name.
    """

    activities: int = 0
    activity: str = ""
    attempt: int = 0
    #: How many of the activities wait for their completion by token.
    deferred: int = 0
    #: How many of them wait for slots of limits.
    limited: int = 0
    children: int = 0
    child: str = ""
    timer: int | None = None
    awaits: tuple[str, str] | None = None
    start: int | None = None
    turn: int | None = None
    is_waiting_for_admission: bool = False


def check_page_size(limit: int) -> None:
    """Refuse a page that is too long, or of no length.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is not from 1 to 1000.
    """
    if not is_whole(limit):
        raise TypeError(f"limit must be a whole number, not {limit!r}")
    if not 1 <= limit <= 1000:
        raise ValueError(f"limit must be from 1 to 1000, not {limit!r}")
