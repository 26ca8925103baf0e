"""What a rewind gives to the code: what history holds, and what had arrived since."""

from __future__ import annotations

from collections.abc import Sequence

from .._errors import ActivityInterrupted
from .history import Event, EventKind
from .kinds import CALL_OUTCOMES, Activities
from .machine import Machine

__all__ = ["RecordedInputs"]


class RecordedInputs:
    """What the code is given: what history holds, and after that what it had not heard yet."""

    def __init__(
        self, history: Sequence[Event], undelivered: Sequence[Event], instead: dict[int, Event]
    ) -> None:
        self.events = [*history, *undelivered]
        self._undelivered_from = len(history)
        self._instead = instead

    def at(self, place: int, machine: Machine) -> Event | None:
        """Return what an execution is given of one place, if anything."""
        event = self.events[place]
        if place in self._instead:
            return machine.prepare(self._instead[place])
        if event.kind is EventKind.ACTIVITY_ABANDONED:
            return machine.prepare(_interrupted(event, machine))
        if event.kind not in machine.kinds.inputs:
            return None
        return event if place < self._undelivered_from else machine.prepare(event)

    def count_undelivered(self, reached: int) -> int:
        """Return how much of what had not been heard lies before a place."""
        return max(0, reached - self._undelivered_from)

    def unsure(self, commands: set[int]) -> set[int]:
        """Return the places that tell of ends which the code did not know when it failed."""
        return {
            place
            for place, event in enumerate(self.events)
            if event.command in commands
            and (
                event.kind is EventKind.ACTIVITY_ABANDONED
                or (place >= self._undelivered_from and event.kind in CALL_OUTCOMES)
            )
        }


def _interrupted(note: Event, machine: Machine) -> Event:
    """Return the outcome of an activity that runs at most once, had begun, and was given up."""
    id_ = machine.info.instance_id
    error = ActivityInterrupted(
        f"activity {note.name} (attempt {note.attempt}) of {id_!r} runs at most once; it had begun"
        " when the orchestration gave it up, and how it ended is not known. See what became of it;"
        " override() gives it its outcome, another rewind() runs it again",
        instance_id=id_,
        task=note.name,
        attempt=note.attempt,
    )
    failure = machine.codec.encode_failure(error)
    return Event(Activities.failed, note.at, note.command, note.attempt, payload=failure)
