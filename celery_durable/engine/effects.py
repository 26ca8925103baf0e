"""What an activity's effects need beyond its outcome: marks of runs that must not be repeated, and joint commits.

The mark of an ``at_most_once`` activity lives in the column ``crashes`` of its outbox row, as a number no count reaches. It
says how often the body has asked to be run again (its level) and, while it runs, which run it is; a run is begun only by the
one who could set its mark. A body that asks for another run leaves a mark that the next message takes.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

from .records import ActivityTicket

__all__ = [
    "CommitInDoubt",
    "EffectStore",
    "OutcomeRefused",
    "counted_crashes",
    "is_begun",
    "level_of",
    "may_begin",
    "new_mark",
    "waiting_mark",
]

_MARKED = 1 << 30
_LEVEL = 1 << 20
_RUNS = 1 << 19  # half of a level: a count that is added to a mark stays within it
_MOST_RETRIES, _MOST_NESTED = 63, 14


class OutcomeRefused(Exception):
    """An outcome is late, a duplicate or canceled: nothing of its transaction was committed."""


class CommitInDoubt(Exception):
    """The connection ended while rows and outcome were committed: both are there, or neither."""

    def __init__(self, result: Any) -> None:
        super().__init__("the answer of a commit was lost")
        self.result = result


class EffectStore(Protocol):
    """What activities that run at most once need of a store."""

    def begin_once(
        self, ticket: ActivityTicket, worker: str | None, level: int, mark: int, *, is_again: bool = False
    ) -> int | None:
        """Mark an activity as begun by this run, and return the mark; None if it must not run, or is not wanted any more.

        ``is_again`` tells that a try before this one may have succeeded without an answer.
        """

    def find_begun(self, ticket: ActivityTicket) -> tuple[str, str] | None:
        """Return the instance and the task of an activity whose run has begun and must not be repeated, else None."""

    def postpone_once(self, ticket: ActivityTicket, mark: int, delay: int) -> bool:
        """Leave an activity to Celery's own retry, unless that has begun already."""

    def delegate_once(self, ticket: ActivityTicket, mark: int) -> bool:
        """Note that the activity replaced itself by another task, unless that has begun already."""


def level_of(retries: object, nesting: object) -> int:
    """Return how often bodies asked to be run again before this message, by Celery's own counts of it."""
    return _bounded(nesting, _MOST_NESTED) * (_MOST_RETRIES + 1) + _bounded(retries, _MOST_RETRIES)


def _bounded(count: object, most: int) -> int:
    return min(max(count, 0), most) if isinstance(count, int) else 0


def new_mark(level: int) -> int:
    """Return the mark of one run."""
    return _MARKED + level * _LEVEL + random.randint(1, _RUNS)  # noqa: S311


def waiting_mark(mark: int) -> int:
    """Return what a run leaves behind that asked for another one."""
    return mark - mark % _LEVEL


def may_begin(crashes: int, level: int, mark: int, *, is_again: bool = False) -> int | None:
    """Return the mark that a run may set over what is there, or None if it must not run.

    Each run begins once, and so does each further one that a body asked for: at a higher level, which only its own message
    has, or over the mark of a body that waits for it. With ``is_again`` its own mark may be there already.
    """
    if crashes < _MARKED:
        return mark
    there, run = divmod(crashes - _MARKED, _LEVEL)
    if not run:
        return mark + max(0, there + 1 - level) * _LEVEL
    if is_again and run == mark % _LEVEL:
        return crashes
    return mark if level > there else None


def is_begun(crashes: int) -> bool:
    """Tell whether a run that must not be repeated has begun, and did not ask for another one."""
    return crashes >= _MARKED and crashes % _LEVEL != 0


def counted_crashes(crashes: int) -> int:
    """Return how many workers died over an activity; 0 if it is marked."""
    return crashes if crashes < _MARKED else 0
