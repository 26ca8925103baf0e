"""What an orchestrator asks for: the base of all commands. Each kind defines its own, in ``kinds``.

A command knows how to write the one event that confirms it, and how to compare itself with a
recorded one: that comparison is the whole of the check that code still agrees with history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .history import Event

__all__ = ["Command", "shown_in"]

_LONGEST_SHOWN = 1024  # as in celery.app.amqp


@dataclass(slots=True)
class Command:
    """The common part: its number in the execution, and what history says of it."""

    #: Its number in the execution, from 1; several commands of one call share it.
    command: int
    #: The event that records it.
    confirmed_by: ClassVar[str]
    #: Whether it ends the execution.
    is_final: ClassVar[bool] = False
    #: Whether its payload is compared where arguments are checked.
    takes_arguments: ClassVar[bool] = False
    #: Whether it takes back another one of its number.
    is_withdrawal: ClassVar[bool] = False
    #: Whether the commit itself carries it out. Nothing of it is left open then, so that a rewind
    #: repeats it if its arguments differ from those recorded.
    is_one_shot: ClassVar[bool] = False
    #: Whether the payload of its event is what came of it, not what was asked for.
    has_result: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """Return the command's name, for people and for tables."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """Return what tells two commands of one kind apart: a task name, an event name."""
        return ""

    def confirmation(self, at: int) -> Event:
        """Return the event that records this command."""
        return Event(
            self.confirmed_by,
            at,
            self.command,
            self._attempt(),
            self.label,
            self._payload(),
            self._facts(),
        )

    def agrees_with(self, event: Event) -> bool:
        """Tell whether ``event`` is the confirmation of this very command."""
        return (
            event.kind is self.confirmed_by
            and event.command == self.command
            and event.attempt == self._attempt()
            and event.name == self.label
        )

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded command was given the same arguments.

        True for kinds that have none.
        """
        return not self.takes_arguments or event.payload == self._payload()

    def repeats(self, event: Event) -> bool:
        """Tell whether a rewind may take what is recorded for this very command."""
        return self.agrees_with(event) and self.has_arguments_of(event)

    def repeat(self) -> None:
        """Get ready to be carried out once more, by the commit of a rewind."""

    def describe(self) -> str:
        """Return the command in a few words, for messages to people."""
        return " ".join(filter(None, (self.kind, repr(self.label) if self.label else "")))

    def _attempt(self) -> int:
        return 0

    def _payload(self) -> str | None:
        return None

    def _facts(self) -> dict[str, Any] | None:
        return None


def shown_in(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return how a caller wants arguments to be shown, by Celery's own options, which the event of
    a call keeps as facts.
    """
    return {
        key: str(facts[key])[:_LONGEST_SHOWN]
        for key in ("argsrepr", "kwargsrepr")
        if facts.get(key) is not None
    }
