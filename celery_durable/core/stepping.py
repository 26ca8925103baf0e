"""An execution that replays one event at a time, so that it can be looked at in between.

It does what ``Machine.replay`` does, which takes whole rows and is made for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from .history import NOTES, Event
from .kinds import Activities, Calls, Children, Timers
from .machine import Machine
from .tasks import ReplayTask
from .times import EPOCH

__all__ = ["SteppedMachine"]


class SteppedMachine(Machine):
    """The execution of a debugger; it never takes a turn."""

    def begin_row(self, events: Sequence[Event]) -> None:
        """Begin with the events that one turn recorded: what the code asks of history is known
        before its event is reached.
        """
        self.is_replaying = self.is_checked = True
        self._parts.foresee(events)

    def step(self, event: Event) -> None:
        """Apply the next event of the row.

        Raises:
            NonDeterminismError: the code asks for something else than what is recorded.
        """
        recorder = self.recorder
        if event.kind in self.kinds.inputs:
            recorder.length += 1
            recorder.expect_nothing_asked(event)
            self._apply(event)
        elif event.kind not in NOTES:
            recorder.length += 1
            recorder.confirm(event)
        elif (kind := self.kinds.notes.get(event.kind)) is not None:
            self.of(kind).note(event)

    def end_row(self) -> None:
        """End the row of one turn.

        Raises:
            NonDeterminismError: the code asks for more than what is recorded.
        """
        self.recorder.expect_nothing_asked(None)
        self._calls.take_released()
        self._custom_status = None
        self.sequence += 1

    @property
    def main(self) -> ReplayTask | None:
        """The orchestrator's own task; None before it has started."""
        return self._lifecycle.main

    def waits_for(self) -> list[str]:
        """Return what is open, in words: calls, timers, and what only the code knows of."""
        calls = [
            f"{_NOUNS[call.is_activity]} {call.title} (call {number}, attempt {call.attempt})"
            for number, call in self.of(Calls).open.items()
        ]
        timers = self.of(Timers)
        due = [
            f"a timer that is due {_moment(due)} (call {number})"
            for number, (due, *_) in timers.open.items()
            if number != timers.deadline
        ]
        return [*calls, *due, *(text for part in self.parts() for text in part.waits_for())]


_NOUNS = {True: Activities.name, False: Children.name}


def _moment(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(" ", "seconds")
