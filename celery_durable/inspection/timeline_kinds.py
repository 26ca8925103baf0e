"""What each event of a history does to a timeline: what the registry of kinds says of it, and the
tables of those that are drawn in a way of their own.
"""

from __future__ import annotations

from ..core.commands import Command
from ..core.history import Event
from ..core.kinds import Kind, Registry
from .timeline_builder import Handler, Handlers, TimelineBuilder, fact
from .timeline_calls import CALL_HANDLERS, arrive, by_hand, cancel, open_attempt
from .timeline_life import LIFE_HANDLERS
from .timeline_rows import moment_text

__all__ = ["handlers_of"]

_SPECIAL: Handlers = {**LIFE_HANDLERS, **CALL_HANDLERS}


def handlers_of(registry: Registry) -> Handlers:
    """Return what each event does, by the kinds of commands that there are."""
    found: dict[str, Handler] = {}
    for kind in registry.kinds:
        row = kind.name if kind.row == "" else kind.row
        if row is None:
            continue
        for command in kind.commands:
            found[command.confirmed_by] = _asking(kind, command, row)
        for event in kind.inputs:
            found[event] = _arriving(kind.message) if kind.message else _resolving(event)
    return {**found, **_SPECIAL}


def _asking(kind: type[Kind], command: type[Command], row: str) -> Handler:
    """Return what the confirmation of a command does.

    If an input resolves the command, a row is opened; another command of such a kind cancels what
    its number has open. Else it takes no time.
    """
    asked = kind.inputs.values()

    def open_(builder: TimelineBuilder, event: Event) -> None:
        label, due = fact(event, "label"), fact(event, "due")
        child = kind.child_of(event)
        opened = open_attempt(builder, row, event, str(label or event.name or kind.name))
        opened.instance_id = child
        opened.note = child or (event.name if label else "")
        if isinstance(due, int):
            opened.note = f"due {moment_text(due)}"

    def settle(builder: TimelineBuilder, event: Event) -> None:
        under_way = builder.call(event.command) if any(asked) else None
        if under_way is not None and under_way.since is not None:
            cancel(builder, event)
            return
        has_failed = bool(fact(event, "failed"))
        note = builder.failure_text(event.payload) if has_failed else ""
        outcome = "failed" if has_failed else "completed"
        builder.row(row, event.command, event.name or kind.name).settle(event.at, outcome, note)

    if command.is_withdrawal:
        return cancel
    return open_ if command in asked else settle


def _arriving(word: str) -> Handler:
    """Return what a message from outside does."""
    return lambda builder, event: arrive(builder, word, event, event.name)


def _resolving(name: str) -> Handler:
    """Return what an input does: it gives the command of its number an outcome."""
    has_failed = name.endswith("Failed")

    def handle(builder: TimelineBuilder, event: Event) -> None:
        notes = (builder.failure_text(event.payload) if has_failed else "", by_hand(event))
        outcome = "failed" if has_failed else "completed"
        builder.resolve(event, outcome, " ".join(filter(None, notes)))

    return handle
