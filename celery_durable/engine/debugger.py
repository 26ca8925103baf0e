"""A replay that stops after any event of a history, and shows where the code is then.

Nothing is written, sent or run: neither activities nor functions under ``ctx.run``. Stepping back
is a replay from the beginning. What was passed over by a rewind is shown as it was before that: a
history has a *part* up to each rewind, and each is replayed by itself.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from .._errors import DurableError, InvalidState, PayloadError
from ..core.flags import is_whole
from ..core.guard import refuse_inside_orchestrator
from ..core.history import Event, EventKind
from ..core.stepping import SteppedMachine
from .engine import Engine
from .records import InstanceRow
from .registry import Definition
from .stopped_code import StoppedCode

__all__ = ["Debugger", "Recorded", "Row"]

log: logging.Logger = logging.getLogger("celery_durable.debugger")
#: What a damaged row makes its reader raise.
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


class Row(NamedTuple):
    """What one turn has recorded."""

    #: The number of its first event in the history, from 1.
    first: int
    #: In order; at least one.
    events: list[Event]

    @property
    def last(self) -> int:
        """The number of its last event."""
        return self.first + len(self.events) - 1


@dataclass(frozen=True)
class Recorded:
    """What is debugged."""

    #: Whose history it is, as a turn reads it.
    instance: InstanceRow
    #: The code that it is replayed on.
    definition: Definition
    #: The history; no row is empty.
    rows: list[Row]


class Debugger(StoppedCode):
    """One history, and the code at one place of it; made by ``durable.debugger``.

    It keeps the history as it was read. Use it as a context manager, or ``close`` it.

    Example:
        >>> with durable.debugger("order-1") as debugger:
        ...     debugger.goto(3)
        ...     for frame in debugger.frames:
        ...         print(frame.function, frame.line, frame.locals)
    """

    def __init__(self, runner: Engine, recorded: Recorded) -> None:
        super().__init__()
        self._runner = runner
        self._instance, self._definition = recorded.instance, recorded.definition
        self._rows = recorded.rows
        self._firsts = [row.first for row in self._rows]
        self._position = 0
        #: The part that the machine is in, by the number of the last event before it.
        self._part = 0
        self._problem: DurableError | None = None
        self._is_closed = False
        #: The events of the history, in order; the number of the first is 1.
        self.history: Sequence[Event] = [event for row in self._rows for event in row.events]

    # -- what it is --------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the orchestration."""
        return self._instance.id

    @property
    def name(self) -> str:
        """The name of the orchestrator whose code is replayed."""
        return self._definition.name

    @property
    def version(self) -> str | None:
        """The version of the code that is replayed; None if it has none."""
        return self._definition.version

    # -- where it is -------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The number of the event that was applied last, as ``durable history`` counts; 0 before
        the first.
        """
        return self._position

    @property
    def event(self) -> Event | None:
        """The event that was applied last; None before the first."""
        return self.history[self._position - 1] if self._position else None

    @property
    def problem(self) -> DurableError | None:
        """Why the code cannot follow the history from here on: the event at ``position`` is not
        what it asks for. The frames are those before that. None if it has followed so far.
        """
        return self._problem

    # -- moving ------------------------------------------------------------------------------------

    def goto(self, number: int) -> None:
        """Stop after an event; before the first for 0.

        Where the code does not follow the history so far, it stops at the event where they part,
        and ``problem`` says why.

        Raises:
            ValueError: there is no such event.
            InvalidState: it is closed.

        Example:
            >>> debugger.goto(len(debugger.history))
        """
        total = len(self.history)
        if not is_whole(number) or not 0 <= number <= total:
            raise ValueError(
                f"the history of {self.id!r} has no event {number!r} to stop after: it has the"
                f" events 1 to {total}, and 0 is before the first"
                if total
                else f"the history of {self.id!r} is empty: there is nothing but 0 to stop at"
            )
        self._move(number)

    def next(self, count: int = 1) -> bool:
        """Go so many events on, at most to the last; False if it cannot move.

        Example:
            >>> while debugger.next():
            ...     print(debugger.position, debugger.event.kind)
        """
        target = min(self._position + count, len(self.history))
        if self._problem is not None or target <= self._position:
            return False
        self._move(target)
        return True

    def back(self, count: int = 1) -> bool:
        """Go so many events back, at most to 0, by a replay from the beginning; False if it cannot
        move.
        """
        target = max(self._position - count, 0)
        if target >= self._position:
            return False
        self._move(target)
        return True

    def until(self, kind: str) -> bool:
        """Go on to the next event of a kind, as "ActivityFailed"; False, and no move, if none
        follows.

        Example:
            >>> debugger.goto(0)
            >>> debugger.until("ActivityFailed")
        """
        later = enumerate(self.history[self._position :], self._position + 1)
        found = next((number for number, event in later if event.kind == kind), None)
        if found is None or self._problem is not None:
            return False
        self._move(found)
        return True

    def renew(self) -> None:
        """Replay up to the same place once more: for when the values there were changed by hand."""
        position = self._position
        self._drop()
        self._move(position)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Drop the replay: the frames end, without effect."""
        self._is_closed = True
        self._drop()

    def __enter__(self) -> Debugger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- how ---------------------------------------------------------------------------------------

    def _drop(self) -> None:
        machine, self._machine = self._machine, None
        self._position, self._part, self._problem, self._tasks = 0, 0, None, None
        if machine is not None:
            machine.abandon()

    def _move(self, number: int) -> None:
        refuse_inside_orchestrator("a debugger")
        if self._is_closed:
            raise InvalidState(f"the debugger of {self.id!r} is closed", instance_id=self.id)
        part = self._part_of(number)
        if number < self._position or part != self._part:
            self._drop()
        self._tasks = None
        if number == self._position:
            return
        runner = self._runner
        try:
            with runner.propagators.restored(runner.codec, self._instance.canvas):
                if self._machine is None:
                    self._begin(part)
                runner.watchdog.watch(self.id, lambda: self._apply_upto(number))
        except DurableError as error:  # it was interrupted, or its context cannot be restored
            if self._machine is None:
                raise
            self._problem = error
        except BaseException:
            self._drop()
            raise

    def _part_of(self, number: int) -> int:
        """Return the number of the last event before the part that an event is in."""
        rows = self._rows[: bisect_right(self._firsts, number)]
        begins = (row for row in reversed(rows) if _is_rewritten(row))
        return next((row.first - 1 for row in begins), 0)

    def _begin(self, part: int) -> None:
        machine = self._runner.replayer.new_of(
            SteppedMachine, self._instance, self._definition, traces=True, is_dry=True
        )
        machine.sequence = bisect_right(self._firsts, part)
        self._machine, self._position, self._part = machine, part, part

    def _apply_upto(self, number: int) -> None:
        while self._position < number and self._problem is None:
            self._position += 1
            try:
                self._apply_next()
            except DurableError as error:
                self._problem = error
            except _DAMAGE as error:  # not the user's code: its errors stay in its tasks
                self._problem = PayloadError(
                    f"history of {self.id!r} is damaged at event {self._position}:"
                    f" {type(error).__name__}: {error}"
                )

    def _apply_next(self) -> None:
        machine, number = self._machine, self._position
        if machine is None:
            raise AssertionError("a replay has begun")
        row = self._rows[bisect_right(self._firsts, number) - 1]
        if number == row.first:
            machine.begin_row(row.events)
        machine.step(row.events[number - row.first])
        if number == row.last:
            machine.end_row()


def _is_rewritten(row: Row) -> bool:
    return row.events[0].kind == EventKind.HISTORY_REWRITTEN
