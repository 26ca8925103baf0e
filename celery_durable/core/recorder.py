"""Numbers commands, keeps what was asked for, and checks it against history.

Numbers are given in the order in which the code asks, and stay recorded with each event: they are
what ties an outcome to its call, in every replay. What is asked for is kept until the code is idle;
then it is either compared with what history holds (``confirm``) or taken as new (``drain``).
"""

from __future__ import annotations

from collections.abc import Callable

from .._errors import NonDeterminismError, TurnLimitExceeded
from .commands import Command
from .history import Event
from .ports import ExecutionInfo
from .source_location import asking_line

__all__ = ["Recorder", "TooManyCommandsError"]


class TooManyCommandsError(BaseException):
    """Stops an orchestrator that asks for too much at once.

    No handler of the user's should catch it.
    """


class Recorder:
    """The commands of one execution: their numbers, and whether history agrees."""

    __slots__ = (
        "_allowed",
        "_asked",
        "_checks_arguments",
        "_info",
        "_lines",
        "_most",
        "_waiting_line",
        "_withdrawals",
        "last",
        "length",
    )

    def __init__(
        self,
        info: ExecutionInfo,
        *,
        most: int,
        traces: bool,
        checks_arguments: bool,
        waiting_line: Callable[[], str | None],
    ) -> None:
        self._info = info
        #: How many commands a turn may ask for, and up to which number this one may; None between
        #: turns.
        self._most = most
        self._allowed: int | None = None
        #: The number that was given last.
        self.last: int = 0
        #: The number of events so far, notes left out.
        self.length: int = 0
        #: What was asked for and not been recorded yet, by number, in order. A second command under
        #: a number (a cancellation) gets a negative key of its own.
        self._asked: dict[int, Command] = {}
        self._withdrawals = 0
        #: Where the code asked for each command, for messages; None if that is not traced.
        self._lines: dict[int, str] | None = {} if traces else None
        self._waiting_line = waiting_line
        self._checks_arguments = checks_arguments

    # -- numbers -----------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Return the next command number."""
        self.last = number = self.last + 1
        if self._allowed is not None and number > self._allowed:
            raise TooManyCommandsError
        return number

    def skip_numbers(self, upto: int) -> None:
        """Pass over the numbers that were used before a rewind on a way that the code does not take
        any more: late messages would be taken for those of other commands.
        """
        skipped = max(0, upto - self.last)
        self.last += skipped
        if self._allowed is not None:
            self._allowed += skipped

    def begin_turn(self) -> None:
        """Count from here how much the turn asks for."""
        self._allowed = self.last + self._most

    def end_turn(self) -> None:
        """End the count.

        Raises:
            TurnLimitExceeded: it was too much.
        """
        allowed, self._allowed = self._allowed, None
        if allowed is not None and self.last > allowed:
            raise TurnLimitExceeded(
                f"orchestration {self._info.instance_id!r} ({self._info.name}) asks for more than"
                f" {self._most} commands in one turn (durable_max_turn_commands). Give the"
                " work to sub-orchestrations, then resume it",
                instance_id=self._info.instance_id,
            )

    # -- what was asked ----------------------------------------------------------------------------

    def ask(self, command: Command) -> None:
        """Ask for a command; it is recorded when the code is idle again."""
        key = command.command
        if self._lines is not None and (line := asking_line()) is not None:
            self._lines.setdefault(key, line)
        if key in self._asked:
            self._withdrawals += 1
            key = -self._withdrawals
        self._asked[key] = command

    def withdraw(self, number: int, cancellation: Command) -> bool:
        """Take a command back; True if it leaves no trace, as it was not recorded yet."""
        if self._asked.pop(number, None) is not None:
            return True
        self.ask(cancellation)
        return False

    def drain(self) -> list[Command]:
        """Return what was asked for since the last time, and forget it."""
        commands = list(self._asked.values())
        self._asked.clear()
        return commands

    # -- checking against history ------------------------------------------------------------------

    def confirm(self, event: Event) -> None:
        """Compare the next command with what history holds.

        Raises:
            NonDeterminismError: they differ.
        """
        number = next(iter(self._asked), None)
        command = None if number is None else self._asked.pop(number)
        if command is None or not command.agrees_with(event):
            raise self._disagreement(event, command)
        if self._checks_arguments and not command.has_arguments_of(event):
            raise self._disagreement(event, command)

    def expect_nothing_asked(self, event: Event | None) -> None:
        """Check that history records all that was asked for before this event, or the row's end.

        Raises:
            NonDeterminismError: it does not.
        """
        if self._asked:
            raise self._disagreement(event, next(iter(self._asked.values())))

    def _disagreement(self, event: Event | None, command: Command | None) -> NonDeterminismError:
        history = "nothing more at this point" if event is None else event.describe()
        code = "nothing" if command is None else command.describe()
        if (
            self._checks_arguments
            and event is not None
            and command is not None
            and command.agrees_with(event)
        ):
            confirmation = command.confirmation(event.at)
            history, code = (
                f"{history} with {event.payload:.200}",
                f"{code} with {confirmation.payload:.200}",
            )
        if (line := self._line_of(command)) is not None:
            code += f" ({line})"
        info = self._info
        version = f" v{info.version}" if info.version is not None else ""
        return NonDeterminismError(
            f"orchestration {info.instance_id!r} ({info.name}{version}), event"
            f" {self.length}: history has {history}, the code now asks for {code}",
            instance_id=info.instance_id,
            event=self.length,
            expected=history,
            actual=code,
            line=line,
        )

    def _line_of(self, command: Command | None) -> str | None:
        """Return where the code asked for a command; for none, where it waits."""
        if self._lines is None:
            return None
        return self._waiting_line() if command is None else self._lines.get(command.command)
