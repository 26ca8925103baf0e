"""``ctx.patched``: code that changes while executions of the old code are under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..commands import Command
from ..guard import in_turn
from ..history import Event, EventKind
from ..names import checked_text
from ..ports import Host
from .kind import ContextPart, Kind

__all__ = ["PatchContext", "Patches", "RecordPatch"]


@dataclass(slots=True)
class RecordPatch(Command):
    """Note that this execution takes the new way of a change."""

    confirmed_by: ClassVar[str] = EventKind.PATCH_RECORDED
    #: The id of the change.
    change: str

    @property
    def label(self) -> str:
        """Return the change's id."""
        return self.change


class Patches(Kind):
    """The changes that this execution has been asked about."""

    name = "patch"
    row = None
    commands: ClassVar[tuple[type[Command], ...]] = (RecordPatch,)
    foreseen: ClassVar[frozenset[str]] = frozenset({EventKind.PATCH_RECORDED})

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        #: The changes that history records, those ahead included.
        self.recorded: set[str] = set()
        #: Change -> whether this execution takes the new way; fixed from the first question on.
        self.known: dict[str, bool] = {}

    def foresee(self, event: Event) -> None:
        """Keep that this execution takes the new way of a change."""
        self.recorded.add(event.name)


class PatchContext(ContextPart):
    """Code that changes."""

    @in_turn
    def patched(self, change_id: str) -> bool:
        """Tell whether this execution takes the new way of a change: False only if it went past
        this point before the change.

        The answer is recorded when it is True, and stays the same for the whole execution.

        Example:
            >>> if ctx.patched("reserve first"):
            ...     await ctx.call(reserve.s(order))
        """
        host = self._host
        patches = host.of(Patches)
        change = checked_text(change_id, "a change id")
        known = patches.known.get(change)
        if known is None:
            known = patches.known[change] = not host.is_replaying or change in patches.recorded
            if known:
                host.ask(RecordPatch(host.next_number(), change))
        return known

    @in_turn
    def deprecate_patch(self, change_id: str) -> None:
        """Say that no execution takes the old way any more.

        It takes the place of ``patched`` as long as histories still record it.

        Example:
            >>> ctx.deprecate_patch("reserve first")
        """
        host = self._host
        patches = host.of(Patches)
        change = checked_text(change_id, "a change id")
        if change not in patches.known and host.is_replaying and change in patches.recorded:
            host.ask(RecordPatch(host.next_number(), change))
        patches.known.setdefault(change, True)
