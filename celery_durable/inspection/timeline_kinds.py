"""What each event of a history does to a timeline: the tables of the built-in events, and for kinds
of commands that have none of their own, what their registry says.
"""

from __future__ import annotations

from ..core.commands import Command
from ..core.history import Event, EventKind
from ..core.kinds import Kind, Registry
from .timeline_builder import Handler, Handlers, TimelineBuilder
from .timeline_calls import CALL_HANDLERS
from .timeline_life import LIFE_HANDLERS

__all__ = ["handlers_of"]

_BUILT_IN: Handlers = {**LIFE_HANDLERS, **CALL_HANDLERS}
#: Events of kinds that take no time and are of no interest in a picture.
_HIDDEN = frozenset({EventKind.PATCH_RECORDED})


def handlers_of(registry: Registry) -> Handlers:
    """Return what each event does, by the kinds of commands that there are."""
    found: dict[str, Handler] = {}
    for kind in registry.kinds:
        for command in kind.commands:
            found[command.confirmed_by] = _asking(kind, command)
        for event in kind.inputs:
            found[event] = _resolving(event)
    shown = {event: handler for event, handler in found.items() if event not in _HIDDEN}
    return {**shown, **_BUILT_IN}


def _asking(kind: type[Kind], command: type[Command]) -> Handler:
    """Return what the confirmation of a command does: a row of the kind's name is opened if an
    input resolves the command; else it takes no time, or cancels what its number has open.
    """
    is_resolved = command in kind.inputs.values()

    def handle(builder: TimelineBuilder, event: Event) -> None:
        open_row = builder.call(event.command)
        if not is_resolved and open_row is not None and open_row.since is not None:
            builder.resolve(event, "canceled", "")
            return
        row = builder.row(kind.name, event.command, event.name or kind.name)
        if is_resolved:
            builder.open(row, event)
        else:
            row.settle(event.at, "completed")

    return handle


def _resolving(name: str) -> Handler:
    """Return what an input does: it gives the command of its number an outcome."""
    has_failed = name.endswith("Failed")

    def handle(builder: TimelineBuilder, event: Event) -> None:
        note = builder.failure_text(event.payload) if has_failed else ""
        builder.resolve(event, "failed" if has_failed else "completed", note)

    return handle
