"""What the test of each kind looks at: its commands, its events, and what people are told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from celery_durable.core.history import Event, dump_events, load_events
from celery_durable.core.kinds import KINDS
from celery_durable.engine.summary import summary_of
from celery_durable.inspection.timeline_builder import TimelineBuilder
from celery_durable.inspection.timeline_kinds import handlers_of
from tests.unit.core.harness import CODEC, START, Life, fresh, moment, started

__all__ = ["Taken", "failed", "kinds_of", "lanes", "open_in", "take", "unheard", "words"]


def kinds_of(life: Life) -> list[str]:
    """Return the events of a history, without those that begin and end every execution."""
    return [
        str(event.kind) for event in life.history if not str(event.kind).startswith("Execution")
    ]


def lanes(life: Life) -> list[tuple[str, str, str]]:
    """Return kind, label and outcome of each row of the timeline, without the whole's."""
    builder = TimelineBuilder(CODEC, "shop.fulfil_order", START, START)
    builder.read(life.history, handlers_of(KINDS))
    return [(row.kind, row.label, row.outcome) for row in builder][1:]


def open_in(life: Life) -> list[str]:
    """Return what a summary of the history says is open, as the events that asked for it."""
    return [call.kind for call in summary_of(life.rows).open.values()]


def words(life: Life) -> list[str]:
    """Return what ``explain`` says that only the code knows: from a replay of the history."""
    machine = fresh(life.function)
    try:
        for row in life.rows:
            machine.replay(load_events(row))
        return [text for part in machine.parts() for text in part.waits_for()]
    finally:
        machine.abandon()


class Taken:
    """An execution that is given inputs by hand, one turn each."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.machine = fresh(function)
        self.rows: list[str] = []
        self.function = function

    def take(self, *inputs: Event) -> list[str]:
        """Take a turn, and return the events that it adds to history."""
        decision = self.machine.take(inputs)
        self.rows.append(dump_events(decision.events))
        return [str(event.kind) for event in decision.events]

    @property
    def value(self) -> Any:
        """What the orchestrator returned, after a replay of all turns came to the same end."""
        replayed = fresh(self.function)
        for row in self.rows:
            replayed.replay(load_events(row))
        assert replayed.final == self.machine.final
        replayed.abandon()
        return CODEC.decode(self.machine.final.output)  # type: ignore[union-attr]


def take(function: Callable[..., Any], *inputs: Event) -> Taken:
    """Start an execution, and give it each input in a turn of its own."""
    taken = Taken(function)
    taken.take(started())
    for event in inputs:
        taken.take(event)
    return taken


def unheard(function: Callable[..., Any], inputs: Iterable[Event]) -> bool:
    """Tell whether none of the inputs, each in a turn of its own, leaves a trace in history."""
    taken = take(function)
    found = all(taken.take(event) == [] for event in inputs)
    taken.machine.abandon()
    return found


def failed(kind: str, command: int, attempt: int, error: BaseException, at: float = 1) -> Event:
    """Return the input that tells of a failure."""
    return Event(kind, moment(at), command, attempt, payload=CODEC.encode_failure(error))
