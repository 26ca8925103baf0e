"""What a kind of command is: the base class of all kinds, and their registry.

A kind keeps what is open of its commands in one execution, and says how their outcomes reach the
code. The machine knows kinds by this class alone; which there are is a ``Registry``, a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..._errors import NonDeterminismError
from ..commands import Command
from ..history import Event
from ..ports import Host

__all__ = ["ContextPart", "Kind", "Registry", "Reissue", "failure_of", "host_of"]


@dataclass(frozen=True, slots=True)
class Reissue:
    """What a rewind or a fork says of all that is to be asked for again."""

    #: What is recorded with the event (``WorkRenewed``).
    facts: Mapping[str, Any]
    #: How many rewinds and forks there were, this one included.
    renewal: int
    #: The number that was given last before anything is asked for again.
    last: int

    def numbers(self, name: str) -> set[int]:
        """Return the commands that a fact lists."""
        return {int(number) for number in self.facts.get(name, ())}


class Kind:
    """One kind of command in one execution; does nothing by itself."""

    #: Its name, for people.
    name: ClassVar[str]
    #: The commands of this kind; each says which event confirms it.
    commands: ClassVar[tuple[type[Command], ...]] = ()
    #: Events that are given to the code -> the command that each resolves, if it does.
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {}
    #: Those of them that lapse when their instance fails: a rewind asks for them again, or they are
    #: about what has ended. All others are kept, and a rewind gives them to the code.
    lapsing: ClassVar[frozenset[str]] = frozenset()
    #: Confirmations that the code needs before replay reaches them.
    foreseen: ClassVar[frozenset[str]] = frozenset()
    #: Notes that say something of the kind's state.
    notes: ClassVar[frozenset[str]] = frozenset()
    #: The word for the messages that come to it from outside by a name; empty if none do.
    message: ClassVar[str] = ""
    #: The kind of its rows in a timeline: empty is its name, None that it is not shown.
    row: ClassVar[str | None] = ""
    #: What it adds to ``ctx``; None if that is built in.
    context: ClassVar[type[ContextPart] | None] = None

    def __init__(self, host: Host) -> None:
        self.host = host

    @classmethod
    def is_outcome(cls, event: Event) -> bool:
        """Tell whether an input of its is what came of a command."""
        return cls.inputs[event.kind] is not None

    @classmethod
    def child_of(cls, event: Event) -> str:
        """Return the id of the instance that an event of its is about; empty if it has none."""
        return ""

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the code can take an input."""
        return True

    def prepare(self, event: Event) -> Event:
        """Return a new input with the facts by which every replay decides as the first time."""
        return event

    def foresee(self, event: Event) -> None:
        """Keep a confirmation, before replay reaches it."""

    def note(self, event: Event) -> None:
        """Take over what a note says."""

    def resolve(self, event: Event) -> None:
        """Give an input to the code that waits for it."""

    def is_waiting(self) -> bool:
        """Tell whether anything may yet come from outside to what is open here."""
        return False

    def waits_for(self) -> list[str]:
        """Return what the code waits for that only it knows of, in words."""
        return []

    def cancel_all(self) -> None:
        """Cancel what is open, as the execution was asked to cancel."""

    def resume(self) -> None:
        """Take up what had suspended the instance."""

    def reissue(self, plan: Reissue) -> None:
        """Ask again for what is open, after a rewind or a fork: the store has nothing of it."""

    def end_reexecution(self) -> None:
        """Forget what only a re-execution needed; from here on everything is new."""


class ContextPart:
    """What a kind adds to ``ctx``; its methods go under ``in_turn``."""

    _host: Host


def host_of(context: ContextPart) -> Host:
    """Return what a context works on; it is no business of the code that has the context."""
    return context._host


class Registry:
    """The kinds that there are, and what follows: whose an event is, what confirms a command."""

    def __init__(self, kinds: Iterable[type[Kind]]) -> None:
        #: In the order in which they ask again after a rewind.
        self.kinds: tuple[type[Kind], ...] = ()
        #: Input -> its kind.
        self.inputs: dict[str, type[Kind]] = {}
        #: All inputs that lapse when their instance fails.
        self.lapsing: set[str] = set()
        #: Confirmation that is needed ahead -> its kind.
        self.foreseen: dict[str, type[Kind]] = {}
        #: Note -> its kind, for the notes that some kind reads.
        self.notes: dict[str, type[Kind]] = {}
        #: Event -> its kind, for all events that belong to one.
        self.owners: dict[str, type[Kind]] = {}
        #: Command -> the one event that confirms it.
        self.confirmations: dict[type[Command], str] = {}
        #: Input -> the command that it resolves; a command is resolved at most once.
        self.resolutions: dict[str, type[Command]] = {}
        #: All events that confirm a command.
        self.confirming: set[str] = set()
        #: All events whose payload is what came of a command.
        self.results: set[str] = set()
        #: Those of them that record a command which stays open until an input resolves it.
        self.asked: set[str] = set()
        #: Those that record how such a command is taken back.
        self.withdrawn: set[str] = set()
        for kind in kinds:
            self.add(kind)

    def add(self, kind: type[Kind]) -> None:
        """Let there be a kind more, from the next execution on.

        A process does so before its first turn, and before it shows a history.

        Raises:
            ValueError: a command or an event of it has the name of another one; nothing is changed.
        """
        self._expect_own_names(kind)
        self.kinds += (kind,)
        for command in kind.commands:
            self.confirmations[command] = command.confirmed_by
            self.confirming.add(command.confirmed_by)
            self.owners[command.confirmed_by] = kind
            if command.is_withdrawal:
                self.withdrawn.add(command.confirmed_by)
            if command.has_result:
                self.results.add(command.confirmed_by)
        for event, command_type in kind.inputs.items():
            self.inputs[event] = kind
            if command_type is not None:
                self.resolutions[event] = command_type
                self.results.add(event)
                self.asked.add(command_type.confirmed_by)
        self.lapsing.update(kind.lapsing)
        self.foreseen.update(dict.fromkeys(kind.foreseen, kind))
        self.notes.update(dict.fromkeys(kind.notes, kind))
        self.owners.update(dict.fromkeys((*kind.inputs, *kind.notes), kind))

    def _expect_own_names(self, kind: type[Kind]) -> None:
        commands = {command.__name__ for command in self.confirmations}
        events = {*self.inputs, *self.confirming}
        for command in kind.commands:
            if command.__name__ in commands:
                raise ValueError(f"the command {command.__name__} belongs to two kinds")
            commands.add(command.__name__)
        for event in (*(command.confirmed_by for command in kind.commands), *kind.inputs):
            if event in events:
                raise ValueError(f"the event {event} belongs to two kinds")
            events.add(event)

    def with_kinds(self, *kinds: type[Kind]) -> Registry:
        """Return a registry that has these kinds too."""
        return Registry((*self.kinds, *kinds))


def failure_of(host: Host, event: Event, failure: str) -> BaseException:
    """Return the exception that history holds, rebuilt if it was the first time.

    Raises:
        NonDeterminismError: it was, and cannot be here.
    """
    found = (event.facts or {}).get("rebuilt")
    was_rebuilt = found if isinstance(found, list) else bool(found)
    error, is_rebuilt = host.codec.decode_failure(failure, may_rebuild=was_rebuilt)
    if was_rebuilt and is_rebuilt != was_rebuilt:
        info = host.info
        raise NonDeterminismError(
            f"orchestration {info.instance_id!r} ({info.name}), {event.describe()}:"
            f" this process cannot import the exception that history holds: {error}",
            instance_id=info.instance_id,
            event=host.history_length,
        )
    return error
