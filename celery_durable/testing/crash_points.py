"""Where the process of a test may die: before and after each commit and each send, and between the
body of an activity and the record of its outcome.

A crash is an exception that nothing may deal with: from the moment it is raised the process is
dead, and whatever its code still tries to write or to send raises it again. What dies is the worker
that the test plays; the test itself, a client, continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..store.runner import Cursor, Runner
from ..store.statements import Statement

__all__ = ["Crash", "CrashPoints", "CrashingRunner"]

T = TypeVar("T")


class Crash(BaseException):
    """The process dies here."""


class CrashPoints:
    """Counts the points that a worker passes, and lets it die at one of them."""

    def __init__(self) -> None:
        #: How many points were passed.
        self.count: int = 0
        #: The number of the point to die at, from 0; None is nowhere.
        self.target: int | None = None
        #: What was going on at the point where it died; None if it has not.
        self.died: str | None = None
        self._step: str | None = None
        self._is_dead = False

    def begin(self, step: str) -> None:
        """Note what the worker does from now on."""
        self._step = step

    @property
    def is_in_step(self) -> bool:
        """Whether the worker does something now."""
        return self._step is not None

    def end(self) -> None:
        """Note that what runs from now on is the test."""
        self._step, self._is_dead = None, False

    def reach(self, where: str) -> None:
        """Pass a point.

        Raises:
            Crash: the worker dies here, or is dead.
        """
        if self._step is None:
            return
        if self._is_dead:
            raise Crash
        number, self.count = self.count, self.count + 1
        if number == self.target:
            self._is_dead, self.died = True, f"{where}, {self._step}"
            raise Crash


class CrashingRunner(Runner):
    """A way to a database whose commits are such points; goes before the class that runs."""

    points: CrashPoints
    _has_written = False

    def run(self, cursor: Cursor, statement: Statement, **parameters: Any) -> Cursor:
        """Run one statement; see ``Runner``."""
        if not statement.sql.lstrip().startswith("SELECT"):
            self._has_written = True
        return super().run(cursor, statement, **parameters)

    def transact(
        self, work: Callable[[Cursor], T], *, begin: bool = True, is_lasting: bool = True
    ) -> T:
        """Run work in one transaction; see ``Runner``."""

        def reaching(cursor: Cursor) -> T:
            result = work(cursor)
            if begin:
                self.points.reach("before a commit")
            return result

        self._has_written = begin
        result = super().transact(reaching, begin=begin, is_lasting=is_lasting)
        if self._has_written:
            self.points.reach("after a commit")
        return result
