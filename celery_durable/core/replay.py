"""One live execution: history's events go in, the orchestrator runs until idle after each, commands come out.

This is the only place that runs the user's orchestrator. It has two doors: ``replay`` takes events that are history
already and checks that the code still asks for what is recorded; ``take`` applies new ones and returns what to commit.
Events are applied one at a time, in the order of their times, and a timer that a turn sets and that is due before the
turn's next event comes before it: so the end does not depend on how events were batched into turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from ..errors import DurableError, ForbiddenOperation, NonDeterminismError, PayloadError, TurnLimitExceeded
from .calls import (
    ActivityCall,
    Call,
    CallOptions,
    ChildCall,
    chunks_of,
    members_of,
    parts_of,
    steps_of,
    with_first,
)
from .commands import (
    CancelExecution,
    CancelTimer,
    Command,
    CompleteExecution,
    ContinueAsNew,
    CreateTimer,
    FailExecution,
)
from .context import ContinueAsNewRequested, OrchestrationContext, as_microseconds, running_orchestrator
from .entity import REPLY
from .events import INPUTS, NOTES, Event, EventKind
from .lines import asking_line, awaiting_line
from .loop import ReplayLoop, ReplayTask
from .ordering import keep_order
from .references import EntityLock
from .waits import AllFuture, pending_joins

__all__ = ["Codec", "Decision", "Execution", "Facts"]

log = logging.getLogger("celery_durable.orchestrator")
keep_order()


class Codec(Protocol):
    """How values become text and back; given by the layer above."""

    def encode(self, value: Any) -> str:
        """Encode a value; raises ``PayloadError``."""

    def decode(self, payload: str) -> Any:
        """Decode a payload; raises ``PayloadError``."""

    def encode_failure(self, error: BaseException) -> str:
        """Encode an exception; never raises."""

    def decode_failure(self, payload: str, *, may_rebuild: bool = True) -> tuple[BaseException, bool]:
        """Return the exception, and whether it is the original type rebuilt."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an execution is told of itself."""

    instance_id: str
    execution_id: str
    name: str
    version: str | None = None
    parent_id: str | None = None


@dataclass(slots=True)
class Decision:
    """What a turn came to: the events to append and the commands to carry out."""

    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    final: Command | None = None
    custom_status: str | None = None
    suspend_reason: str | None = None
    joins: dict[int, int] = field(default_factory=dict)
    join_changes: dict[int, int | None] = field(default_factory=dict)
    joins_formed: set[int] = field(default_factory=set)
    joins_ended: set[int] = field(default_factory=set)
    released_slots: dict[int, int] = field(default_factory=dict)
    fired: set[int] = field(default_factory=set)
    applied: int = 0
    keeps_events: bool = True
    now: int = 0


class _Question(NamedTuple):
    """Something that an entity was asked; ``ask`` sends it, and sends it again, and returns the name of the answer."""

    answer: asyncio.Future[Any]
    what: str
    ask: Callable[[], str]


class _TooManyCommandsError(BaseException):
    """Stops an orchestrator that asks for too much at once; no handler of the user's should catch it."""


class Execution:
    """The live coroutine of one execution, and all that it waits for.

    With ``traces`` a disagreement with history names the line of the code; with ``checks_arguments`` other arguments of a
    call are one too. Both are for looking at histories, not for taking turns.
    """

    def __init__(
        self,
        facts: Facts,
        function: Callable[..., Any],
        codec: Codec,
        is_orchestrator: Callable[[str], bool] = lambda name: False,
        *,
        most_commands: int = 50_000,
        traces: bool = False,
        checks_arguments: bool = False,
    ) -> None:
        self.facts = facts
        self.codec = codec
        self.loop = ReplayLoop(self, self._log_problem)  # type: ignore[abstract]
        self.is_replaying = True
        self.history_length = 0
        self.sequence = 0
        self.final: Command | None = None
        self.seed = facts.execution_id
        self.is_dry = False
        self.undone: set[int] = set()
        self._is_retracing = False
        self._on_failure: Callable[[int, BaseException], None] | None = None
        self._function = function
        self._is_orchestrator = is_orchestrator
        self._context = OrchestrationContext(self)
        self._main: ReplayTask | None = None
        self._commands = 0
        self._most_commands = most_commands
        self._commands_allowed: int | None = None
        self._asked: dict[int, Command] = {}
        self._withdrawals = 0
        self._calls: dict[int, Call] = {}
        self._timers: dict[int, tuple[int, Callable[[], None]]] = {}
        self._new_timers: dict[int, int] = {}
        self._handles: dict[int, int] = {}
        self._recorded_runs: dict[int, tuple[str, str, bool]] = {}
        self.recorded_patches: set[str] = set()
        self.patches: dict[str, bool] = {}
        self.open_blocks = 0
        self.lock: EntityLock | None = None
        self._replies: dict[int, _Question] = {}
        self._reply_names: dict[int, str] = {}
        self._renewals = 0
        self._rest: Callable[[], Any] | None = None
        self._lines: dict[int, str] | None = {} if traces else None
        self._checks_arguments = checks_arguments
        self._arrivals = 0
        self._buffered: dict[str, deque[tuple[int, Event, Any]]] = {}
        self._waiters: dict[str, deque[asyncio.Future[Any]]] = {}
        self._exhausted: list[tuple[Call, BaseException]] = []
        self._joins: dict[int, int] = {}
        self._released: dict[int, int] = {}
        self._custom_status: str | None = None
        self._was_joined = False
        self._keeps_events = True
        self._event_ids: set[str] = set()
        self._cancel_was_requested = False
        self._cancel_reason: str | None = None
        self._is_abandoned = False
        #: What an observer outside remembers of this execution; nothing in here looks at it.
        self.observed: Any = None

    @property
    def now(self) -> int:
        """Return the time of the event being applied, microseconds since the epoch."""
        return self.loop.now

    @property
    def is_checked(self) -> bool:
        """Tell whether history says already what the code may ask for now."""
        return self.is_replaying and not self._is_retracing

    @property
    def last_command(self) -> int:
        """Return the number of the command that was asked for last."""
        return self._commands

    @property
    def calls(self) -> list[Call]:
        """Return the calls that are not resolved."""
        return list(self._calls.values())

    @property
    def error(self) -> BaseException | None:
        """Return the exception with which the orchestrator ended."""
        main = self._main
        return main.exception() if main is not None and main.done() and not main.cancelled() else None

    @property
    def has_outstanding(self) -> bool:
        """Tell whether calls, timers or joins of this execution are still under way in the store."""
        return bool(self._calls or self._timers or self._joins or self._was_joined)

    @property
    def awaited_events(self) -> list[str]:
        """Return the names of the external events that the code waits for now."""
        return [name for name, waiters in self._waiters.items() if any(not waiter.done() for waiter in waiters)]

    @property
    def awaited_answers(self) -> list[str]:
        """Return what the code has asked of entities and not been answered yet, in words."""
        return [question.what for question in self._replies.values() if not question.answer.done()]

    # -- the two doors ------------------------------------------------------------------------------

    def replay(self, events: Sequence[Event]) -> None:
        """Apply events that are history already: one whole row, as one turn recorded it.

        Raises:
            NonDeterminismError: the code asks for something else than what is recorded.
        """
        self.is_replaying = True
        self._foresee(events)
        for event in events:
            self.history_length += event.kind not in NOTES
            if event.kind in INPUTS:
                self._expect_nothing_asked(event)
                self._apply(event)
            elif event.kind not in NOTES:
                self._confirm(event)
            elif event.kind is EventKind.JOIN_FORMED:
                self._joins.update(dict.fromkeys((event.facts or {})["members"], event.command))
            elif event.kind is EventKind.JOIN_DISSOLVED:
                for member in (event.facts or {})["members"]:
                    self._joins.pop(member, None)
        self._expect_nothing_asked(None)
        self._released.clear()
        self._custom_status = None
        self.sequence += 1

    def _foresee(self, events: Iterable[Event]) -> None:
        """Keep what the code asks of history before its event is reached."""
        for event in events:
            if event.kind is EventKind.RUN_RECORDED:
                has_failed = bool((event.facts or {}).get("failed"))
                self._recorded_runs[event.command] = event.name, event.payload or "", has_failed
            elif event.kind is EventKind.PATCH_RECORDED:
                self.recorded_patches.add(event.name)

    def take(self, inputs: Iterable[Event]) -> Decision:
        """Apply new events in order and return what this turn decides; the caller commits it.

        Raises:
            NonDeterminismError: history says something that this process cannot follow.
        """
        self.is_replaying = False
        self._commands_allowed = self._commands + self._most_commands
        decision = Decision()
        try:
            self._take_each(inputs, decision)
        except _TooManyCommandsError:
            log.debug("%r asked for too much", self.facts.instance_id)
        return self._concluded(decision)

    def _concluded(self, decision: Decision) -> Decision:
        """Fill in what follows from where the code stands now."""
        if self._commands_allowed is not None and self._commands > self._commands_allowed:
            raise TurnLimitExceeded(
                f"orchestration {self.facts.instance_id!r} ({self.facts.name}) asks for more than {self._most_commands} commands "
                "in one turn (durable_max_turn_commands). Give the work to sub-orchestrations, then resume it",
                instance_id=self.facts.instance_id,
            )  # fmt: skip
        self._commands_allowed = None
        if self._rest is not None and self.final is None:
            self._go_to_rest(self._rest, decision)
        self._new_timers.clear()
        self._note_joins(decision)
        decision.final, decision.keeps_events = self.final, self._keeps_events
        decision.custom_status, self._custom_status = self._custom_status, None
        decision.released_slots, self._released = self._released, {}
        self._exhausted = [(call, error) for call, error in self._exhausted if not call.future.done()]
        if self._exhausted and self.final is None:
            call, error = self._exhausted[0]
            decision.suspend_reason = f"{_name_of(call)} has used up its attempts: {type(error).__name__}: {error}"
        decision.now = self.now
        self.is_replaying = True
        return decision

    def _take_each(self, inputs: Iterable[Event], decision: Decision) -> None:
        for event in inputs:
            if self.final is not None:
                break
            while (timer := self._overdue(event.at)) is not None:
                decision.fired.add(timer.command)
                self._take_one(timer, decision)
            if self.final is not None:
                break
            decision.applied += 1
            if self.is_wanted(event):
                self._take_one(self._judged(event), decision)

    def _overdue(self, moment: int) -> Event | None:
        """Return the first timer of this very turn that was due before ``moment``: it comes before what came then."""
        if self.final is not None:
            return None
        dues = [(due, command) for command, due in self._new_timers.items() if due < moment and command in self._timers]
        return Event(EventKind.TIMER_FIRED, *min(dues)) if dues else None

    def _take_one(self, event: Event, decision: Decision) -> None:
        decision.events.append(event)
        self.history_length += 1
        self._apply(event)
        for command in self._drain():
            decision.commands.append(command)
            decision.events.append(command.confirmation(self.now))
            self.history_length += 1

    # -- a third door, for rewinding (``core.rewind``) ------------------------------------------------

    def begin_retrace(self, history: Sequence[Event], on_failure: Callable[[int, BaseException], None]) -> None:
        """Get ready for inputs that are recorded, though what the code asks for is not checked.

        Args:
            history: what is recorded.
            on_failure: is told of every call that fails for good, by its command number.
        """
        self.is_replaying = self._is_retracing = True
        self._on_failure = on_failure
        self._foresee(history)

    def apply(self, event: Event) -> list[Command]:
        """Apply one input and return what the code asks for then."""
        self._apply(event)
        return self._drain()

    def renew(self, decision: Decision, renewal: Event) -> Decision:
        """End a retrace: ask again for all that is under way, and return the whole decision."""
        self._is_retracing = self.is_replaying = False
        self._on_failure = None
        self._recorded_runs.clear()
        self._released.clear()
        self.history_length = sum(event.kind not in NOTES for event in decision.events)
        self._commands_allowed = self._commands + self._most_commands
        if self.final is None:
            self._take_one(renewal, decision)
        return self._concluded(decision)

    def abandon(self) -> None:
        """Drop the coroutine; its ``finally`` blocks may run, but can do nothing any more."""
        self._is_abandoned = True
        with running_orchestrator(self.facts.instance_id):
            self.loop.abandon()

    # -- applying one event -------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        self.loop.now = max(self.loop.now, event.at)
        with running_orchestrator(self.facts.instance_id):
            _APPLIERS[event.kind](self, event)
            self.loop.run_until_idle()
        if self._main is not None and self._main.done() and self.final is None:
            self._finish(self._main)

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the code can take an input."""
        if event.kind in (
            EventKind.ACTIVITY_COMPLETED,
            EventKind.ACTIVITY_FAILED,
            EventKind.CHILD_COMPLETED,
            EventKind.CHILD_FAILED,
        ):
            call = self._calls.get(event.command)
            if _is_injected(event):
                return call is not None and not call.future.done()
            return call is not None and call.expects(event.attempt)
        if event.kind is EventKind.TIMER_FIRED:
            return event.command in self._timers
        if event.kind is EventKind.CANCEL_REQUESTED:
            return not self._cancel_was_requested
        if event.kind is EventKind.EXECUTION_STARTED:
            return self._main is None
        if event.kind is EventKind.EVENT_RAISED:
            return _event_id(event) not in self._event_ids
        return event.kind is not EventKind.WORK_RENEWED or self._main is not None

    def _judged(self, event: Event) -> Event:
        """Record whether a failure could be rebuilt, and which call an entity answers, so that every replay decides alike."""
        if event.kind in (EventKind.ACTIVITY_FAILED, EventKind.CHILD_FAILED):
            failure = event.payload or ""
        elif event.kind is EventKind.EVENT_RAISED and event.name.startswith(REPLY):
            event = event._replace(command=self._answered_call(event.name))
            if not (failure := _failure_in(self.codec.decode(event.payload or "null"))):
                return event
        else:
            return event
        _, is_rebuilt = self.codec.decode_failure(failure)
        return event._replace(facts={**(event.facts or {}), "rebuilt": is_rebuilt})

    def _started(self, event: Event) -> None:
        self.loop.origin = self.loop.now
        self._reseed(event)
        match self.codec.decode(event.payload or "[[], {}]"):
            case [list(args) | tuple(args), dict(kwargs)] if all(isinstance(name, str) for name in kwargs):
                self._main = self.loop.create_task(self._run(args, kwargs), name="main")
            case _:
                raise PayloadError(
                    f"the stored input of {self.facts.instance_id!r} is no list of arguments and their names"
                )

    def _reseed(self, event: Event) -> None:
        """Take over the dice of the orchestration that this one was forked from, or its own ones after that."""
        if seed := (event.facts or {}).get("seed"):
            self.seed = str(seed)
            self._context._reseed(self.seed)

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = self._function(self._context, *args, **kwargs)
        if inspect.isgenerator(result):
            return await self._drive(result)
        if inspect.isawaitable(result):
            return await result
        return result

    async def _drive(self, generator: Generator[Any, Any, Any]) -> Any:
        resume: Callable[[], Any] = lambda: next(generator)  # noqa: E731
        while True:
            try:
                awaited = resume()
            except StopIteration as stop:
                return stop.value
            try:
                value = await self.as_future(awaited)
            except ContinueAsNewRequested:
                raise
            except (Exception, asyncio.CancelledError) as error:
                resume = _thrower(generator, error)
            else:
                resume = _sender(generator, value)

    def _activity_completed(self, event: Event) -> None:
        call, value = self._calls[event.command], self.codec.decode(event.payload or "null")
        if _is_injected(event):
            call.settle(value)
        else:
            call.completed(value)

    def _call_failed(self, event: Event) -> None:
        call, error = self._calls[event.command], self._failure_of(event, event.payload or "")
        if _is_injected(event):
            call.settle(error=error)
        else:
            call.failed(error)

    def _failure_of(self, event: Event, failure: str) -> BaseException:
        was_rebuilt = bool((event.facts or {}).get("rebuilt"))
        error, is_rebuilt = self.codec.decode_failure(failure, may_rebuild=was_rebuilt)
        if was_rebuilt and not is_rebuilt:
            raise NonDeterminismError(
                f"orchestration {self.facts.instance_id!r} ({self.facts.name}), {event.describe()}: this process cannot "
                f"import the exception that history holds: {error}",
                instance_id=self.facts.instance_id, event=self.history_length,
            )  # fmt: skip
        return error

    def _timer_fired(self, event: Event) -> None:
        _, callback = self._timers.pop(event.command)
        callback()

    def _event_raised(self, event: Event) -> None:
        if (event_id := _event_id(event)) is not None:
            self._event_ids.add(event_id)
        value = self.codec.decode(event.payload or "null")  # now: damage must not come up in the user's code
        if event.name.startswith(REPLY):
            self._replied(event, value)
            return
        waiters = self._waiters.get(event.name)
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(value)
                return
        self._arrivals += 1
        self._buffered.setdefault(event.name, deque()).append((self._arrivals, event, value))

    def _replied(self, event: Event, value: Any) -> None:
        """Give an answer of an entity to the call that waits for it; nobody else ever will."""
        question = self._replies.pop(event.command, None)
        self._reply_names.pop(event.command, None)
        if question is None or question.answer.done():
            return
        if failure := _failure_in(value):
            error = self._failure_of(event, failure)
            self.note_failure(event.command, error)
            question.answer.set_exception(error)
        else:
            question.answer.set_result(value.get("result") if isinstance(value, dict) else None)

    def _cancel_requested(self, event: Event) -> None:
        self._cancel_was_requested = True
        self._cancel_reason = (event.facts or {}).get("reason")
        if self._main is None:
            self._end(CancelExecution(self.next_command(), self._cancel_reason))
            return
        self._main.cancel()
        for call in list(self._calls.values()):
            call.future.cancel()

    def _resumed(self, event: Event) -> None:
        exhausted, self._exhausted = self._exhausted, []
        for call, _ in exhausted:
            if not call.future.done():
                call.start_over()

    def _work_renewed(self, event: Event) -> None:
        """Ask again for all that was under way: the store has nothing of it."""
        self._reseed(event)
        self._skip_used(event.facts or {})
        self._renewals += 1
        kept = {int(command): bool(rewinds) for command, rewinds in (event.facts or {}).get("kept", ())}
        timers = sorted((command, due) for command, (due, _) in self._timers.items())
        undone = {int(command) for command in (event.facts or {}).get("undone", ())}
        self._joins, out = {}, dict[int, int]()
        for command, call in sorted(self._calls.items()):
            if isinstance(call, ChildCall):
                call.renew(is_kept=command in kept, rewinds=kept.get(command, False))
                continue
            if isinstance(call, ActivityCall) and command in undone:
                call.redo = self._renewals
            if isinstance(call, ActivityCall) and (window := call.options.window) is not None:
                out[window] = out.get(window, 0) + 1
                call.is_held = out[window] > call.options.width
            call.renew()
        for command, due in timers:
            if command in self._timers:
                self.ask(CreateTimer(command, due))
        for command, question in sorted(self._replies.items()):
            if not question.answer.done():
                self._reply_names[command] = question.ask()

    def _skip_used(self, facts: Mapping[str, Any]) -> None:
        """Pass over the numbers that were used before a rewind on a way that the code does not go any more."""
        skipped = max(0, int(facts.get("commands", 0)) - self._commands)
        self._commands += skipped
        if self._commands_allowed is not None:
            self._commands_allowed += skipped
        for command, used in facts.get("attempts", ()):
            if (call := self._calls.get(int(command))) is not None:
                call.skip_attempts(int(used))

    # -- the end --------------------------------------------------------------------------------------

    def _finish(self, main: ReplayTask) -> None:
        if self._rest is not None:  # of an entity nothing may be lost: it is suspended
            problem = None if main.cancelled() else main.exception()
            raise DurableError(f"entity {self.facts.instance_id!r} came to an end: {problem!r}") from problem
        if self.lock is not None:
            self.lock.release()
        if main.cancelled():
            return self._end(CancelExecution(self.next_command(), self._cancel_reason))
        error = main.exception()
        if isinstance(error, ContinueAsNewRequested):
            return self._continue_as_new(error)
        if error is None:
            try:
                return self._end(CompleteExecution(self.next_command(), self.codec.encode(main.result())))
            except PayloadError as problem:
                error = PayloadError(f"orchestration {self.facts.instance_id!r} ({self.facts.name}) returned {problem}")
        elif isinstance(error, RuntimeError) and any(hint in str(error) for hint in _FOREIGN):
            error = ForbiddenOperation(
                f"orchestrator {self.facts.name} awaited something that does not belong to its replaying event loop "
                f"({error}). Await ctx.call(...), other ctx methods or asyncio's own primitives; put real I/O in an activity"
            )
        self._end(FailExecution(self.next_command(), self.codec.encode_failure(error)))

    def _continue_as_new(self, wish: ContinueAsNewRequested) -> None:
        try:
            payload = self.codec.encode([list(wish.call_args), wish.call_kwargs])
        except PayloadError as problem:
            return self._end(FailExecution(self.next_command(), self.codec.encode_failure(problem)))
        kept: list[Event] = []
        for _, event, _ in sorted(
            (entry for queue in self._buffered.values() for entry in queue), key=lambda entry: entry[0]
        ):
            latest = kept[-1].at if kept else 0
            kept.append(event._replace(at=max(event.at, latest)))  # clocks may disagree: the order of arrival stays
        self._keeps_events = wish.keep_events
        self._end(ContinueAsNew(self.next_command(), payload, kept if wish.keep_events else []))

    def rest_after_turn(self, rest: Callable[[], Any]) -> None:
        """End every turn from now on by continuing as new, with what ``rest`` returns as the argument."""
        self._rest = rest

    def _go_to_rest(self, rest: Callable[[], Any], decision: Decision) -> None:
        with running_orchestrator(self.facts.instance_id):
            payload = self.codec.encode([[rest()], {}])
        command = self.final = ContinueAsNew(self.next_command(), payload, rests=True)
        decision.commands.append(command)
        decision.events.append(command.confirmation(self.now))

    def _end(self, command: Command) -> None:
        self.final = command
        self.ask(command)

    # -- checking against history -----------------------------------------------------------------------

    def _confirm(self, event: Event) -> None:
        number = next(iter(self._asked), None)
        command = None if number is None else self._asked.pop(number)
        if command is None or not command.agrees_with(event):
            raise self._disagreement(event, command)
        if self._checks_arguments and not command.has_arguments_of(event):
            raise self._disagreement(event, command)

    def _expect_nothing_asked(self, event: Event | None) -> None:
        if self._asked:
            raise self._disagreement(event, next(iter(self._asked.values())))

    def _disagreement(self, event: Event | None, command: Command | None) -> NonDeterminismError:
        history = "nothing more at this point" if event is None else event.describe()
        code = "nothing" if command is None else command.describe()
        if self._checks_arguments and event is not None and command is not None and command.agrees_with(event):
            confirmation = command.confirmation(event.at)
            history, code = f"{history} with {event.payload:.200}", f"{code} with {confirmation.payload:.200}"
        if (line := self._line_of(command)) is not None:
            code += f" ({line})"
        version = f" v{self.facts.version}" if self.facts.version is not None else ""
        return NonDeterminismError(
            f"orchestration {self.facts.instance_id!r} ({self.facts.name}{version}), event {self.history_length}: "
            f"history has {history}, the code now asks for {code}",
            instance_id=self.facts.instance_id, event=self.history_length, expected=history, actual=code, line=line,
        )  # fmt: skip

    def _line_of(self, command: Command | None) -> str | None:
        """Return where the code asked for a command; for none, where it waits."""
        if self._lines is None:
            return None
        if command is not None:
            return self._lines.get(command.command)
        return None if self._main is None else awaiting_line(self._main.get_coro())

    # -- what the context and the calls ask for ---------------------------------------------------------

    def next_command(self) -> int:
        """Return the next command number."""
        if self._is_abandoned:
            raise ForbiddenOperation(f"the context of {self.facts.instance_id!r} is no longer in use")
        self._commands += 1
        if self._commands_allowed is not None and self._commands > self._commands_allowed:
            raise _TooManyCommandsError
        return self._commands

    def ask(self, command: Command) -> None:
        """Ask for a command; it is recorded when the code is idle again."""
        key = command.command
        if self._lines is not None and (line := asking_line()) is not None:
            self._lines.setdefault(key, line)
        if key in self._asked:
            self._withdrawals += 1
            key = -self._withdrawals
        self._asked[key] = command

    def withdraw(self, command: int, cancellation: Command) -> None:
        """Take a command back: it leaves no trace if it was not recorded yet."""
        if self._asked.pop(command, None) is None:
            self.ask(cancellation)

    def _drain(self) -> list[Command]:
        commands = list(self._asked.values())
        self._asked.clear()
        return commands

    def call(self, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
        """Run a signature of any shape; only leaves travel."""
        if not isinstance(signature, Mapping) or "task" not in signature:
            given = "the task itself" if hasattr(signature, "s") else type(signature).__name__
            raise TypeError(f"ctx.call() takes a Celery signature such as my_task.s(1, 2), not {given}")
        shape = _SHAPES.get(signature.get("subtask_type") or signature["task"])
        return shape(self, signature, options) if shape is not None else self._leaf(signature, options).future

    def _leaf(self, signature: Mapping[str, Any], options: CallOptions) -> Call:
        task_options = signature.get("options") or {}
        if task_options.get("expires") is not None and options.start_timeout is None:
            options = _with_start_timeout(options, self._moment(task_options["expires"]) - self.now)
        kind = ChildCall if self._is_orchestrator(str(signature["task"])) else ActivityCall
        call = kind(self, signature, options)
        self._calls[call.command] = call
        due = None
        if task_options.get("eta") is not None:
            due = self._moment(task_options["eta"])
        elif task_options.get("countdown"):
            due = self._moment(task_options["countdown"])
        call.schedule(due)
        return call

    def _moment(self, value: Any) -> int:
        return self.now + round(value * 1_000_000) if isinstance(value, (int, float)) else as_microseconds(value)

    def _group(self, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
        return AllFuture([self.call(member, options) for member in members_of(signature)], loop=self.loop)

    def _chunks(self, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
        """Run each chunk as one activity, as Celery does; the results are a list of lists."""
        return AllFuture([self.call(chunk, options) for chunk in chunks_of(signature)], loop=self.loop)

    def _chain(self, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
        return self.loop.create_task(self._run_chain(steps_of(signature), options))

    async def _run_chain(self, steps: Sequence[Mapping[str, Any]], options: CallOptions) -> Any:
        result = None
        for number, step in enumerate(steps):
            result = await self.call(with_first(step, (result,)) if number else step, options)
        return result

    def _chord(self, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
        return self.loop.create_task(self._run_chord(*parts_of(signature), options))

    async def _run_chord(
        self, header: Sequence[Mapping[str, Any]], body: Mapping[str, Any], options: CallOptions
    ) -> Any:
        results = await AllFuture([self.call(member, options) for member in header], loop=self.loop)
        return await self.call(with_first(body, (results,)), options)

    def window(self, signatures: Sequence[Mapping[str, Any]], concurrency: int | None) -> list[asyncio.Future[Any]]:
        """Call every signature, at most ``concurrency`` at a time; the store opens the window as members end."""
        if concurrency is None or concurrency >= len(signatures):
            return [self.call(signature, CallOptions()) for signature in signatures]
        if self._is_orchestrator(str(signatures[0]["task"])):
            slots = asyncio.Semaphore(concurrency)
            return [self.loop.create_task(self._call_in_slot(slots, signature)) for signature in signatures]
        first = self._commands + 1
        return [
            self._leaf(signature, CallOptions(window=first, width=concurrency, is_held=number >= concurrency)).future
            for number, signature in enumerate(signatures)
        ]

    async def _call_in_slot(self, slots: asyncio.Semaphore, signature: Mapping[str, Any]) -> Any:
        async with slots:
            return await self.call(signature, CallOptions())

    def release_slot(self, window: int) -> None:
        """Let the next member of a window start: one has failed for good."""
        self._released[window] = self._released.get(window, 0) + 1

    def take_back(self, command: int) -> None:
        """Withdraw a call whose future was cancelled."""
        call = self._calls.pop(command, None)
        if call is not None and not self._is_abandoned:
            call.take_back()

    def forget_call(self, call: Call) -> None:
        """Drop a call that is resolved."""
        self._calls.pop(call.command, None)

    def suspend_for(self, call: Call, error: BaseException) -> None:
        """Keep an exhausted call until the instance is resumed."""
        self._exhausted.append((call, error))

    def child_id(self, command: int) -> str:
        """Return the id of an unnamed child: legible where it fits, always the same."""
        suffix = f":{self.facts.execution_id[:8]}:{command}"
        base = self.facts.instance_id
        if len(base) + len(suffix) > 140:
            base = base[:80] + "~" + hashlib.sha256(base.encode()).hexdigest()[:16]
        return base + suffix

    def recorded_run(self, command: int, name: str) -> tuple[str, bool] | None:
        """Return what history holds of a function run inline, if it is this one."""
        recorded, result, has_failed = self._recorded_runs.pop(command, ("", "", False))
        return (result, has_failed) if recorded == name else None

    def note_failure(self, command: int, error: BaseException) -> None:
        """Tell a rewind that a call has failed for good."""
        if self._on_failure is not None:
            self._on_failure(command, error)

    def note_undone(self, commands: Iterable[int]) -> None:
        """Keep what a saga undoes: a rewind does it again."""
        self.undone.update(commands)

    def done_future(self, value: Any) -> asyncio.Future[Any]:
        """Return a future that has its result already."""
        future = self.loop.create_future()
        future.set_result(value)
        return future

    def as_future(self, awaitable: Any) -> asyncio.Future[Any]:
        """Return a future of this loop for anything an orchestrator may await.

        Raises:
            TypeError: it cannot be awaited.
        """
        if isinstance(awaitable, asyncio.Future):
            if awaitable.get_loop() is not self.loop:
                raise ForbiddenOperation(_FOREIGN_FUTURE.format(awaitable))
            return awaitable
        if inspect.iscoroutine(awaitable):
            return self.loop.create_task(awaitable)
        if isinstance(awaitable, Awaitable):
            return self.loop.create_task(_await(awaitable))
        raise TypeError(f"{awaitable!r} cannot be awaited; yield or pass what ctx.call(...) and its like return")

    def set_status(self, value: Any) -> None:
        """Set the custom status of this turn."""
        self._custom_status = self.codec.encode(value)

    # -- timers -----------------------------------------------------------------------------------------

    def create_timer(self, due: int, callback: Callable[[], None], event: str = "") -> int:
        """Create a durable timer and return its command number; ``event`` is the name of what is waited for until then."""
        command = self.next_command()
        self._timers[command] = due, callback
        if not self.is_replaying:
            self._new_timers[command] = due
        self.ask(CreateTimer(command, due, event))
        return command

    def cancel_timer(self, command: int) -> None:
        """Cancel a timer; without effect if it has fired."""
        if self._timers.pop(command, None) is not None and not self._is_abandoned:
            self.withdraw(command, CancelTimer(command))

    def timer_created(self, handle: asyncio.TimerHandle, due: int) -> None:
        """Keep a timer of the loop (``TimerHost``)."""

        def fire() -> None:
            self._handles.pop(id(handle), None)
            self.loop.fire(handle)

        self._handles[id(handle)] = self.create_timer(due, fire)

    def timer_canceled(self, handle: asyncio.TimerHandle) -> None:
        """Drop a timer of the loop (``TimerHost``)."""
        command = self._handles.pop(id(handle), None)
        if command is not None:
            self.cancel_timer(command)

    def sleep_until(self, due: int) -> asyncio.Future[None]:
        """Return a future that is done at ``due``; cancelling it cancels the timer."""
        if due <= self.now:
            return self.done_future(None)
        future = self.loop.create_future()
        command = self.create_timer(due, lambda: None if future.done() else future.set_result(None))
        future.add_done_callback(lambda done: self.cancel_timer(command) if done.cancelled() else None)
        return future

    def wait_event(self, name: str, timeout: int | None) -> asyncio.Future[Any]:
        """Return a future of the next event of that name."""
        if buffered := self._buffered.get(name):
            return self.done_future(buffered.popleft()[2])
        future = self.loop.create_future()
        if timeout == 0:
            future.set_exception(TimeoutError(f"no event {name!r} is there"))
            return future
        self._waiters.setdefault(name, deque()).append(future)
        if timeout is not None:

            def ran_out() -> None:
                if not future.done():
                    future.set_exception(TimeoutError(f"no event {name!r} came in time"))

            command = self.create_timer(self.now + timeout, ran_out, name)
            future.add_done_callback(lambda _: self.cancel_timer(command))
        return future

    def reply_name(self, command: int, *, is_lock: bool = False) -> str:
        """Return the name of the one event that answers this command.

        A grant of a lock that was asked for before a rewind, and given back by the failure, does not answer the wish of now.
        """
        again = f"{self._renewals}:" if is_lock and self._renewals else ""
        return f"{REPLY}{self.facts.execution_id}:{again}{command}"

    def expect_reply(self, command: int, what: str, ask: Callable[[], str]) -> asyncio.Future[Any]:
        """Ask an entity something, and return a future of its answer; ``what`` is for people."""
        self._replies[command] = question = _Question(self.loop.create_future(), what, ask)
        self._reply_names[command] = ask()
        return question.answer

    def _answered_call(self, name: str) -> int:
        """Return which call of this very execution an event answers; 0 for none."""
        number = name.rpartition(":")[2]
        is_ours = len(number) < 10 and number.isdecimal() and name == self._reply_names.get(int(number))
        return int(number) if is_ours else 0

    # -- joins --------------------------------------------------------------------------------------------

    def _note_joins(self, decision: Decision) -> None:
        before = self._joins
        wanted = {} if self.final is not None else pending_joins(self.loop.tasks)
        wanted = {command: join for command, join in wanted.items() if command in self._calls}
        changes: dict[int, int | None] = {c: j for c, j in wanted.items() if before.get(c) != j}
        changes.update({c: None for c in before if c not in wanted and c in self._calls})
        for join in dict.fromkeys(j for j in changes.values() if j is not None):
            members = [c for c, j in changes.items() if j == join]
            decision.events.append(Event(EventKind.JOIN_FORMED, self.now, join, facts={"members": members}))
        if dissolved := [c for c in before if c not in wanted]:
            decision.events.append(Event(EventKind.JOIN_DISSOLVED, self.now, facts={"members": dissolved}))
        decision.join_changes, decision.joins = changes, wanted
        decision.joins_formed = set(wanted.values()) - set(before.values())
        decision.joins_ended = set(before.values()) - set(wanted.values())
        self._was_joined = bool(decision.joins_ended)
        self._joins = dict(wanted)

    def _log_problem(self, context: Mapping[str, Any]) -> None:
        if self.is_replaying or self._is_abandoned:
            return
        error = context.get("exception")
        log.warning("[%s] %s", self.facts.instance_id, context.get("message"), exc_info=error)


_FOREIGN_FUTURE = (
    "{!r} belongs to another event loop and cannot be replayed. Await ctx.call(...), other ctx methods or asyncio's own "
    "primitives; put real I/O in an activity"
)
_FOREIGN = ("attached to a different loop", "got bad yield", "yield was used instead of yield from")

_APPLIERS: dict[EventKind, Callable[[Execution, Event], None]] = {
    EventKind.EXECUTION_STARTED: Execution._started,
    EventKind.ACTIVITY_COMPLETED: Execution._activity_completed,
    EventKind.ACTIVITY_FAILED: Execution._call_failed,
    EventKind.CHILD_COMPLETED: Execution._activity_completed,
    EventKind.CHILD_FAILED: Execution._call_failed,
    EventKind.TIMER_FIRED: Execution._timer_fired,
    EventKind.EVENT_RAISED: Execution._event_raised,
    EventKind.CANCEL_REQUESTED: Execution._cancel_requested,
    EventKind.EXECUTION_RESUMED: Execution._resumed,
    EventKind.WORK_RENEWED: Execution._work_renewed,
}
_SHAPES: dict[str, Callable[[Execution, Mapping[str, Any], CallOptions], asyncio.Future[Any]]] = {
    "group": Execution._group,
    "chain": Execution._chain,
    "chord": Execution._chord,
    "celery.chunks": Execution._chunks,
}


def _failure_in(reply: Any) -> str:
    """Return the failure in an entity's answer, or nothing."""
    failure = reply.get("failure") if isinstance(reply, dict) else None
    return failure if isinstance(failure, str) else ""


def _event_id(event: Event) -> str | None:
    event_id: str | None = (event.facts or {}).get("id")
    return event_id


def _is_injected(event: Event) -> bool:
    return bool((event.facts or {}).get("injected"))


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _thrower(generator: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: generator.throw(error)


def _sender(generator: Generator[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: generator.send(value)


def _name_of(call: Call) -> str:
    return str(getattr(call, "task", None) or getattr(call, "name", "?"))


def _with_start_timeout(options: CallOptions, micros: int) -> CallOptions:
    return replace(options, start_timeout=max(0, micros))
