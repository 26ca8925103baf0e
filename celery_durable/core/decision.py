"""What a turn decided: the events to append and the commands to carry out, in one commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from .commands import Command
from .history import Event
from .tags import TagChanges

__all__ = ["Decision"]


@dataclass(slots=True)
class Decision:
    """What a turn decided; the caller commits it as a whole, or nothing of it."""

    #: The row of history, in order: inputs, each followed by what the code asked for then.
    events: list[Event] = field(default_factory=list)
    #: What is to be carried out, in the order in which it was asked for.
    commands: list[Command] = field(default_factory=list)
    #: The command that ends this execution; None while it is live.
    final: Command | None = None
    #: What the code set in this turn, encoded; None if it set nothing.
    custom_status: str | None = None
    #: Tags that the code set in this turn, by name; None takes one away.
    tag_changes: TagChanges = field(default_factory=dict)
    #: Why the instance is to be suspended; None if it is not.
    suspend_reason: str | None = None
    #: Activity -> the lowest number of its batch, for all that wake together from now on.
    joins: dict[int, int] = field(default_factory=dict)
    #: What of it is new: activity -> its batch, or None if it wakes by itself again.
    join_changes: dict[int, int | None] = field(default_factory=dict)
    #: Batches that this turn begins to wait for.
    joins_formed: set[int] = field(default_factory=set)
    #: Batches that are waited for no more.
    joins_ended: set[int] = field(default_factory=set)
    #: Window -> how many of its slots are free now.
    released_slots: dict[int, int] = field(default_factory=dict)
    #: Timers that this turn set itself and that were due before its next event.
    fired: set[int] = field(default_factory=set)
    #: How many of the inputs were taken; the rest stays in the inbox.
    applied: int = 0
    #: Whether events that were not taken belong to the next execution.
    keeps_events: bool = True
    #: The time of the last event, microseconds since the epoch.
    now: int = 0
