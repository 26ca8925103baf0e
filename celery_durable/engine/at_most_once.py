"""What an activity's effects need beyond its outcome: marks of runs that must not be repeated, and
joint commits.

The mark of an ``at_most_once`` activity lives in the column ``crashes`` of its outbox row, as a
number no count reaches. It says how often the body has asked to be run again (its level) and, while
it runs, which run it is; a run is begun only by the one who could set its mark. A body that asks
for another run leaves a mark that the next message takes.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

__all__ = [
    "MARKED",
    "CommitInDoubt",
    "OutcomeRefused",
    "RunMark",
    "counted_crashes",
    "is_begun",
    "level_of",
    "may_begin",
]

#: From here on it is a mark, and no count.
MARKED = 1 << 30
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


def level_of(retries: object, nesting: object) -> int:
    """Return how often bodies asked to be run again before this message, by Celery's own counts of
    it.
    """
    return _bounded(nesting, _MOST_NESTED) * (_MOST_RETRIES + 1) + _bounded(retries, _MOST_RETRIES)


def _bounded(count: object, most: int) -> int:
    return min(max(count, 0), most) if isinstance(count, int) else 0


class RunMark(NamedTuple):
    """What the column ``crashes`` says of an ``at_most_once`` activity: its level, and its run."""

    level: int  #: How often bodies have asked to be run again.
    run: int  #: A random number of the run that has begun; 0 if the next message may begin one.

    @classmethod
    def new(cls, level: int) -> RunMark:
        """Return the mark of one more run."""
        return cls(level, random.randint(1, _RUNS))  # noqa: S311

    @classmethod
    def unpack(cls, crashes: int) -> RunMark | None:
        """Return the mark in a column; None if that is a count of crashes."""
        return None if crashes < MARKED else cls(*divmod(crashes - MARKED, _LEVEL))

    def pack(self) -> int:
        """Return it as the column has it."""
        return MARKED + self.level * _LEVEL + self.run

    def waiting(self) -> RunMark:
        """Return what a run leaves behind that asked for another one."""
        return self._replace(run=0)


def may_begin(crashes: int, level: int, own: RunMark, *, is_again: bool = False) -> RunMark | None:
    """Return the mark that a run may set over what is there, or None if it must not run.

    Each run begins once, and so does each further one that a body asked for: at a higher level,
    which only its own message has, or over the mark of a body that waits for it. With ``is_again``
    its own mark may be there already.
    """
    there = RunMark.unpack(crashes)
    if there is None:
        return own
    if not there.run:
        return own._replace(level=own.level + max(0, there.level + 1 - level))
    if is_again and there.run == own.run:
        return there
    return own if level > there.level else None


def is_begun(crashes: int) -> bool:
    """Tell whether a run that must not be repeated has begun, and did not ask for another one."""
    mark = RunMark.unpack(crashes)
    return mark is not None and mark.run != 0


def counted_crashes(crashes: int) -> int:
    """Return how many workers died over an activity; 0 if it is marked."""
    return crashes if crashes < MARKED else 0
