"""One live execution: history's events go in, the orchestrator runs until idle after each, commands
come out.

This is the only place that runs the user's orchestrator. ``replay`` takes events that are history
already and checks that the code still asks for what is recorded; ``take`` applies new ones and
returns what to commit. Between the two the machine is in no third state: code and history agree,
nothing is asked for and not recorded, and whatever happens next is an event.

Events are applied one at a time, in the order of their times, and a timer that a turn sets and that
is due before the turn's next event comes before it: so the end does not depend on how events were
batched into turns. After each event the loop runs until no task can run further without another
event; what the code has asked for by then follows the event in history.

What commands there are is not known here: each kind (``kinds``) keeps its open commands and gives
outcomes to the code. ``Recorder`` numbers commands and compares them with history. A rewind lives
through a history again (``rewind``), by ``reexecute``, ``apply`` and ``reissue``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, TypeVar

from . import determinism
from .commands import Command
from .context import reseed
from .decision import Decision
from .driver import run_orchestrator
from .guard import running_orchestrator
from .history import NOTES, Event
from .kinds import KINDS, Calls, Lifecycle, Registry, Timers
from .loop import ReplayLoop, thread_of_turn
from .parts import Parts, context_class
from .ports import UNTYPED, CallTypes, Codec, ExecutionInfo
from .recorder import Recorder, TooManyCommandsError
from .stall import expect_no_stall, expect_no_trespass, stall_of
from .tasks import ReplayTask

__all__ = ["Machine"]

log: logging.Logger = logging.getLogger("celery_durable.orchestrator")
K = TypeVar("K")
_NOT_DROPPED = (
    "[%s] %s catches even BaseException around an await and continues, so it cannot be"
    " dropped from memory: each time a little is lost. Let it catch Exception"
)


class Machine:
    """The live coroutine of one execution, and all that it waits for.

    With ``traces`` a disagreement with history names the line of the code; with
    ``checks_arguments`` other arguments of a call are one too. Both are for looking at histories,
    not for taking turns.
    """

    def __init__(
        self,
        info: ExecutionInfo,
        function: Callable[..., Any],
        codec: Codec,
        is_orchestrator: Callable[[str], bool] = lambda name: False,
        *,
        most_commands: int = 50_000,
        traces: bool = False,
        checks_arguments: bool = False,
        kinds: Registry = KINDS,
        types: CallTypes | None = None,
        running: Callable[[str], AbstractContextManager[None]] = running_orchestrator,
    ) -> None:
        determinism.expect_installed()
        # what it is given
        self.info = info
        self.codec = codec
        self.is_orchestrator = is_orchestrator
        self._function = function
        self._running = running
        self.types: CallTypes = UNTYPED if types is None else types
        self.kinds = kinds
        # where it is: see ``ports.Host``
        self.seed: str = info.execution_id
        self.is_replaying: bool = True
        self.is_checked: bool = True
        self.is_dry = False
        self.sequence: int = 0
        self.renewals: int = 0
        self.open_blocks: int = 0
        self.undone: set[int] = set()
        self.final: Command | None = None
        # its parts
        self._parts = Parts(self, kinds)
        self.parts: Callable[[], list[Any]] = self._parts.in_order
        self._calls, self._lifecycle = self.of(Calls), self.of(Lifecycle)
        self.loop: ReplayLoop = ReplayLoop(  # type: ignore[abstract]
            self.of(Timers), partial(_log_problem, self)
        )
        self.recorder: Recorder = Recorder(
            info,
            most=most_commands,
            traces=traces,
            checks_arguments=checks_arguments,
            waiting_line=self._lifecycle.waiting_line,
        )
        recorder = self.recorder
        self.ask: Final = recorder.ask
        self.withdraw: Final = recorder.withdraw
        self.next_number: Final = recorder.next_number
        self.skip_numbers: Final = recorder.skip_numbers
        self._context = context_class(kinds)(self)
        #: What the code has set in this turn, encoded; None if nothing.
        self._custom_status: str | None = None
        #: Tags that the code has set in this turn; None takes one away.
        self.tag_changes: dict[str, str | None] = {}
        #: Tells a rewind of calls that have failed after all attempts; None otherwise.
        self._on_failure: Callable[[int, BaseException], None] | None = None
        #: What an observer outside remembers of this execution; nothing in here reads it.
        self.observed: Any = None

    # -- what its parts see (``ports.Host``) -------------------------------------------------------

    @property
    def now(self) -> int:
        """Return the time of the event being applied, microseconds since the epoch."""
        return self.loop.now

    @property
    def history_length(self) -> int:
        """Return the number of events so far, notes left out."""
        return self.recorder.length

    @property
    def last_number(self) -> int:
        """Return the number of the command that was asked for last."""
        return self.recorder.last

    def of(self, kind: type[K]) -> K:
        """Return the part of this execution that a class keeps; made at its first use."""
        part: K = self._parts[kind]
        return part

    def note_failure(self, number: int, error: BaseException) -> None:
        """Tell a rewind that a call has failed after all its attempts."""
        if self._on_failure is not None:
            self._on_failure(number, error)

    def set_status(self, value: Any, *, is_checked: bool = False) -> None:
        """Set the custom status of this turn."""
        self._custom_status = self.codec.encode(value, is_checked=is_checked)

    def reseed(self, seed: str) -> None:
        """Take over the random numbers of another execution, or its own ones after that."""
        self.seed = seed
        reseed(self._context, seed)

    def begin(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ReplayTask:
        """Begin to run the orchestrator.

        Raises:
            PayloadError: an argument does not fit its annotation.
        """
        args, kwargs = self.types.arguments(args, kwargs)
        coroutine = run_orchestrator(self.loop, self._function, self._context, args, kwargs)
        return self.loop.create_task(coroutine, name="main")

    # -- what is told about it ---------------------------------------------------------------------

    @property
    def has_outstanding(self) -> bool:
        """Tell whether calls, timers or joins of it are still under way in the store."""
        return bool(self._calls.open or self.of(Timers).open or self._calls.joins)

    @property
    def stall(self) -> str | None:
        """Say in words that the code can never continue, and where it waits.

        None while anything but a cancel may yet come to it.
        """
        if self._lifecycle.main is None or self.final is not None or self.is_dry:
            return None
        if any(part.is_waiting() for part in self._parts.values()):
            return None
        return stall_of(self.info, self.loop)

    # -- history, and new events -------------------------------------------------------------------

    def replay(self, events: Sequence[Event]) -> None:
        """Apply events that are history already: one whole row, as one turn recorded it.

        Raises:
            NonDeterminismError: the code asks for something else than what is recorded.
        """
        self.is_replaying = self.is_checked = True
        self._parts.foresee(events)
        recorder, inputs, notes = self.recorder, self.kinds.inputs, self.kinds.notes
        for event in events:
            if event.kind in inputs:
                recorder.length += 1
                recorder.expect_nothing_asked(event)
                self._apply(event)
            elif event.kind not in NOTES:
                recorder.length += 1
                recorder.confirm(event)
            elif (kind := notes.get(event.kind)) is not None:
                self.of(kind).note(event)
        recorder.expect_nothing_asked(None)
        self._calls.take_released()
        self._custom_status, self.tag_changes = None, {}
        self.sequence += 1

    def take(self, inputs: Iterable[Event]) -> Decision:
        """Apply new events in order and return what this turn decides; the caller commits it.

        Raises:
            NonDeterminismError: history says something that this process cannot follow.
            ForbiddenOperation: another thread tried to take part.
            DurableError: the code waits for nothing.
        """
        expect_no_trespass(self.info, self.loop)
        self.is_replaying = self.is_checked = False
        self.recorder.begin_turn()
        decision = Decision()
        try:
            self._take_each(inputs, decision)
        except TooManyCommandsError:
            log.debug("%r asked for too much", self.info.instance_id)
        return self._conclude(decision)

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the code can take an input."""
        return self._parts.by_event[event.kind].is_wanted(event)

    def prepare(self, event: Event) -> Event:
        """Return a new input with the facts by which every replay decides as the first time."""
        return self._parts.by_event[event.kind].prepare(event)

    def _take_each(self, inputs: Iterable[Event], decision: Decision) -> None:
        timers = self.of(Timers)
        for event in inputs:
            # a timer that this turn has set, and that was due before: it comes first
            while self.final is None and (timer := timers.take_overdue(event.at)) is not None:
                decision.fired.add(timer.command)
                self._take_one(timer, decision)
            if self.final is not None:
                break
            decision.applied += 1
            kind = self._parts.by_event[event.kind]
            if kind.is_wanted(event):
                self._take_one(kind.prepare(event), decision)

    def _take_one(self, event: Event, decision: Decision) -> None:
        decision.events.append(event)
        recorder = self.recorder
        recorder.length += 1
        self._apply(event)
        for command in recorder.drain():
            decision.commands.append(command)
            decision.events.append(command.confirmation(self.loop.now))
            recorder.length += 1

    def _apply(self, event: Event) -> None:
        """Give one event to the code, and let it run until it waits again."""
        loop = self.loop
        loop.now = max(loop.now, event.at)
        loop.owner = thread_of_turn()
        try:
            with self._running(self.info.instance_id):
                self._parts.by_event[event.kind].resolve(event)
                loop.run_until_idle()
                main = self._lifecycle.ended_main()
                if main is None or not loop.close_generators():
                    return
            self._lifecycle.finish(main)
        finally:
            loop.owner = 0

    def _conclude(self, decision: Decision) -> Decision:
        """Fill in what follows from where the code stands now."""
        self.recorder.end_turn()
        expect_no_trespass(self.info, self.loop)
        expect_no_stall(self.info, self.stall)
        if (rest := self._lifecycle.rest) is not None and self.final is None:
            with running_orchestrator(self.info.instance_id):
                self._lifecycle.go_to_rest(rest, decision)
        calls, loop, now = self._calls, self.loop, self.loop.now
        self.of(Timers).end_turn()
        calls.joins.conclude(
            decision, () if self.final is not None else loop.tasks, calls.open, now
        )
        decision.final, decision.keeps_events = self.final, self._lifecycle.keeps_events
        decision.custom_status, self._custom_status = self._custom_status, None
        decision.tag_changes, self.tag_changes = self.tag_changes, {}
        decision.released_slots = calls.take_released()
        reason = calls.suspend_reason()
        decision.suspend_reason = reason if self.final is None else None
        decision.now = now
        self.is_replaying = self.is_checked = True
        return decision

    # -- living through a history again (``rewind``) -----------------------------------------------

    def reexecute(
        self, history: Sequence[Event], on_failure: Callable[[int, BaseException], None]
    ) -> None:
        """Get ready for inputs that are recorded, though what the code asks for is not checked.

        Args:
            history: what is recorded.
            on_failure: is told of every call that fails after all its attempts, by its number.
        """
        self.is_replaying, self.is_checked = True, False
        self._on_failure = on_failure
        self._parts.foresee(history)

    def apply(self, event: Event) -> list[Command]:
        """Apply one input and return what the code asks for then."""
        self._apply(event)
        return self.recorder.drain()

    def reissue(self, decision: Decision, renewal: Event) -> Decision:
        """Ask again for all that is under way, and return the whole decision."""
        self.is_replaying = self.is_checked = False
        self._on_failure, self.tag_changes = None, {}  # those of earlier turns are set
        for part in self.parts():
            part.end_reexecution()
        self.recorder.length = sum(event.kind not in NOTES for event in decision.events)
        self.recorder.begin_turn()
        if self.final is None:
            self._take_one(renewal, decision)
        return self._conclude(decision)

    # -- the end -----------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Drop the coroutine.

        Its ``finally`` blocks may run, but have no effect any more, and cannot delay the caller.
        """
        if self.loop.is_closed():
            return
        self.is_replaying = self.is_checked = True
        with running_orchestrator(self.info.instance_id):
            is_ended = self.loop.abandon()
        if not is_ended:
            log.warning(_NOT_DROPPED, self.info.instance_id, self.info.name)


def _log_problem(machine: Machine, context: Mapping[str, Any]) -> None:
    """Log what asyncio reports of a callback or a task, the first time only."""
    if machine.is_replaying:
        return
    error = context.get("exception")
    log.warning("[%s] %s", machine.info.instance_id, context.get("message"), exc_info=error)
