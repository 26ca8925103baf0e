"""Switches: what operators have set for all workers, kept in the store.

A *pause* keeps tasks, queues or orchestrators from beginning anything; a *ramp* gives a share of
new starts a version. Workers set one, too: a *limit* is what a task declares, for processes without
its code. Each process reads them at most every ``durable_heartbeat_interval``, so they hold
everywhere within that; what has never been set costs one small read in that time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from ..core.entity_names import ORCHESTRATORS
from ..core.permits import TaskLimit, load_limits
from ..core.plain_task import TASK
from .cursor import Cursor
from .records import ActivityAttemptId

__all__ = [
    "GATED",
    "PAUSES",
    "Ramp",
    "Switch",
    "SwitchBoard",
    "SwitchKind",
    "SwitchRows",
    "Switched",
    "until_of",
]

log: logging.Logger = logging.getLogger("celery_durable.flow")
#: What the column ``gate`` of an activity says that a pause holds.
GATED = "paused"


class SwitchKind(StrEnum):
    """What a switch is about."""

    TASK = "task"
    QUEUE = "queue"
    ORCHESTRATOR = "orchestrator"
    RAMP = "ramp"
    #: Set by workers: the limits that a task declares.
    LIMIT = "limit"
    #: Set by workers: when attempts of a task have failed that may be paused by itself.
    FAILURES = "failures"


PAUSES = (SwitchKind.TASK, SwitchKind.QUEUE, SwitchKind.ORCHESTRATOR)


class Switch(NamedTuple):
    """A row of ``durable_switches``."""

    kind: str
    #: Of what it is about; of a pause also a pattern, as of ``fnmatch``.
    name: str
    #: JSON; of a ramp, its version and share; of a pause, until when it is, or None.
    value: str | None
    reason: str | None
    #: Microseconds since the epoch.
    since: int
    #: From when on it holds nothing more; None while it is in force.
    lifted_at: int | None


def until_of(pause: Switch) -> int | None:
    """Return when a pause ends by itself, in microseconds since the epoch; None if it does not."""
    try:
        found = json.loads(pause.value or "{}").get("until")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, int) else None


class Ramp(NamedTuple):
    """A share of the new starts of a name gets a version."""

    version: str | None
    share: float

    def has(self, name: str, instance_id: str) -> bool:
        """Tell whether a start is in the share: always alike for the same id, and a larger share
        takes none out.
        """
        digest = hashlib.sha256(json.dumps([name, instance_id]).encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def to_text(self) -> str:
        """Return what is stored."""
        return json.dumps({"version": self.version, "share": self.share})

    @classmethod
    def parse(cls, text: str | None) -> Ramp:
        """Return what was stored."""
        facts = json.loads(text or "{}")
        return cls(facts.get("version"), float(facts.get("share", 0)))


class SwitchRows(Protocol):
    """The switches in the store, and what pauses hold."""

    def read(self) -> list[Switch]:
        """Return all switches, also those that are lifted and still hold something."""

    def read_within(self, cursor: Cursor) -> list[Switch]:
        """Return the same on a cursor inside a caller's transaction."""

    def set(self, kind: str, name: str, value: str | None, reason: str | None) -> Switch:
        """Set a switch; one that is in force keeps its time."""

    def lift(self, kind: str, name: str) -> bool:
        """Let a pause hold nothing more; False if none of this name is in force."""

    def delete(self, kind: str, name: str) -> bool:
        """Delete a switch that holds nothing; False if there is none."""

    def held(self, kind: str, name: str) -> int:
        """Return how many attempts and instances a pause holds."""

    def queue_of(self, ticket: ActivityAttemptId) -> str | None:
        """Return where the messages of an activity go."""

    def hold_activity(self, ticket: ActivityAttemptId, pause: Switch, lease: int) -> bool:
        """Keep an attempt from beginning; False if the pause is lifted, or it is not free."""

    def hold_turns(self, instance_id: str, execution: str, pause: Switch) -> bool:
        """Keep an instance from taking turns; False if the pause is lifted."""

    def count_failure(
        self, task: str, most: int, window: int, length: int | None, reason: str
    ) -> Switch | None:
        """Note that an attempt of a task has failed; return the pause that this set.

        That is set once there are ``most`` failures within ``window`` microseconds; it ends by
        itself after ``length``, unless that is None. One that is in force stays as it is.
        """

    def release(self, limit: int) -> int:
        """Lift pauses that are to end by now, and let so much of what lifted pauses hold go on, the
        oldest first; return how much.
        """


@dataclass(frozen=True, slots=True)
class Switched:
    """What was read, as it is asked for."""

    pauses: Mapping[str, Sequence[Switch]] = field(default_factory=dict)
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    #: What each task declares, as the worker that began last has it.
    limits: Mapping[str, tuple[TaskLimit, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Switch]) -> Switched:
        """Return what holds by these rows."""
        pauses: dict[str, list[Switch]] = {}
        for row in rows:
            if row.kind in PAUSES and row.lifted_at is None:
                pauses.setdefault(row.kind, []).append(row)
        ramps = {row.name: Ramp.parse(row.value) for row in rows if row.kind == SwitchKind.RAMP}
        limits = {row.name: _limits(row) for row in rows if row.kind == SwitchKind.LIMIT}
        return cls(pauses, ramps, limits)

    def pause(self, kind: SwitchKind, name: str | None) -> Switch | None:
        """Return the pause that holds a name; one of this very name first."""
        found = self.pauses.get(kind)
        if not found or name is None:
            return None
        matching = [each for each in found if each.name == name or fnmatchcase(name, each.name)]
        return min(matching, key=lambda each: (each.name != name, each.name), default=None)

    def of_turns(self, name: str, version: str | None, queue: str | None) -> Switch | None:
        """Return the pause that keeps instances of a name from taking turns."""
        if not self.pauses:
            return None
        is_other = version == TASK or name.startswith(ORCHESTRATORS)
        own = None if is_other else self.pause(SwitchKind.ORCHESTRATOR, name)
        return own or self.pause(SwitchKind.QUEUE, queue)

    def of_activity(self, task: str, queue: Callable[[], str | None]) -> Switch | None:
        """Return the pause that keeps attempts of a task from beginning."""
        if not self.pauses:
            return None
        own = self.pause(SwitchKind.TASK, task)
        if own is None and SwitchKind.QUEUE in self.pauses:
            own = self.pause(SwitchKind.QUEUE, queue())
        return own


def _limits(row: Switch) -> tuple[TaskLimit, ...]:
    try:
        return load_limits(row.value)
    except (ValueError, TypeError, RecursionError):
        log.warning("the limits of task %r in the store cannot be read: %.80r", row.name, row.value)
        return ()


@dataclass(slots=True)
class SwitchBoard:
    """The switches as this process knows them."""

    rows: SwitchRows
    #: They are read again after so many seconds.
    interval: float
    _switched: Switched = field(default_factory=Switched, init=False)
    _read_at: float = field(default=float("-inf"), init=False)

    @property
    def is_due(self) -> bool:
        """Whether the switches are to be read again."""
        return time.monotonic() - self._read_at >= self.interval

    def current(self) -> Switched:
        """Return what holds now.

        Raises:
            StoreError: it is to be read, and the store cannot be reached.
        """
        return self.refresh() if self.is_due else self._switched

    def refresh(self, rows: Sequence[Switch] | None = None) -> Switched:
        """Read the switches, unless ``rows`` are what was read already.

        Raises:
            StoreError: the store cannot be reached.
        """
        began = time.monotonic()
        self._switched = Switched.of(self.rows.read() if rows is None else rows)
        self._read_at = began
        return self._switched
