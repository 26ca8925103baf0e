"""How an execution begins, is canceled, and ends: the main task and the final states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..._errors import DurableError, ForbiddenOperation, OrchestrationTimeout, PayloadError
from ..commands import Command
from ..decision import Decision
from ..endings import Withdrawn
from ..history import Event, EventKind
from ..ports import Host
from ..run_limit import RunLimit
from ..source_location import awaiting_line
from ..tasks import ReplayTask
from .entity_call import EntityCalls
from .external_event import ExternalEvents
from .kind import Kind, Reissue
from .request import Requests
from .timer import Timers

__all__ = [
    "Aside",
    "CancelExecution",
    "CompleteExecution",
    "ContinueAsNew",
    "ContinueAsNewRequested",
    "FailExecution",
    "Lifecycle",
]

_OTHER_LOOPS = ("from a running event loop", "while another loop is running")
_FOREIGN = ("attached to a different loop", "got bad yield", "yield was used instead of yield from")


@dataclass(slots=True)
class CompleteExecution(Command):
    """The orchestrator returned."""

    confirmed_by: ClassVar[str] = EventKind.EXECUTION_COMPLETED
    has_result: ClassVar[bool] = True
    is_final: ClassVar[bool] = True
    takes_arguments: ClassVar[bool] = True
    #: What it returned, encoded.
    output: str

    def _payload(self) -> str | None:
        return self.output


@dataclass(slots=True)
class FailExecution(Command):
    """The orchestrator raised."""

    confirmed_by: ClassVar[str] = EventKind.EXECUTION_FAILED
    is_final: ClassVar[bool] = True
    #: The exception, encoded.
    failure: str
    #: The same in a line, for people.
    text: str = ""

    def _payload(self) -> str | None:
        return self.failure


@dataclass(slots=True)
class CancelExecution(Command):
    """The orchestrator let ``CancelledError`` pass."""

    confirmed_by: ClassVar[str] = EventKind.EXECUTION_CANCELED
    is_final: ClassVar[bool] = True
    #: That of the request to cancel; None if it gave none.
    reason: str | None = None


@dataclass(slots=True)
class Aside:
    """What an entity puts aside for later: messages to itself, in the order of their numbers, that
    no turn sees yet.
    """

    #: The number of each, the lock that it asks for or None, and the message, encoded.
    put: list[tuple[int, str | None, str]] = field(default_factory=list)
    #: Locks that are not asked for any more: the messages are deleted by which an earlier turn has
    #: put such requests aside.
    withdrawn: list[str] = field(default_factory=list)
    #: Up to which number they are seen from now on; None is none.
    shows: int | None = None
    #: The message that follows them, encoded.
    end: str = ""

    def withdraw(self, request: str) -> None:
        """Forget the request for a lock."""
        self.put = [each for each in self.put if each[1] != request]
        self.withdrawn.append(request)


@dataclass(slots=True)
class ContinueAsNew(Command):
    """End this execution and start a fresh one under the same id."""

    confirmed_by: ClassVar[str] = EventKind.CONTINUED_AS_NEW
    is_final: ClassVar[bool] = True
    #: ``[args, kwargs]`` of the next one, encoded.
    input: str
    #: What was not taken, for the next one.
    events: list[Event] = field(default_factory=list)
    #: Whether the next one begins with the next message, not before; of entities.
    awaits_message: bool = False
    #: What an entity leaves for later; None for nothing.
    aside: Aside | None = None
    #: Which version it has: True is the one of a new start, False the same, None what is declared.
    upgrade: bool | str | None = None
    #: The time that the run may take, which its next execution has too; None is without limit.
    limit: RunLimit | None = None
    #: The ids of the requests that get no answer any more.
    unanswered: list[str] = field(default_factory=list)

    def _payload(self) -> str | None:
        return self.input


class ContinueAsNewRequested(BaseException):
    """Leaves the orchestrator by ``ctx.continue_as_new``."""

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        keep_events: bool,
        upgrade: bool | str | None = None,
    ) -> None:
        super().__init__("continue as new")
        self.call_args: tuple[Any, ...] = args
        self.call_kwargs: dict[str, Any] = kwargs
        self.keep_events: bool = keep_events
        self.upgrade = upgrade


#: Gives, at the end of a turn of an entity, its state and what it puts aside.
Rest = Callable[[], tuple[Any, Aside | None]]


class Lifecycle(Kind):
    """The main task of an execution, and how it ends."""

    name = "execution"
    commands: ClassVar[tuple[type[Command], ...]] = (
        CompleteExecution,
        FailExecution,
        CancelExecution,
        ContinueAsNew,
    )
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {
        EventKind.EXECUTION_STARTED: None,
        EventKind.CANCEL_REQUESTED: None,
        EventKind.EXECUTION_RESUMED: None,
        EventKind.WORK_RENEWED: None,
    }
    lapsing: ClassVar[frozenset[str]] = frozenset(inputs)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        #: The orchestrator's own task; None until the execution has started.
        self.main: ReplayTask | None = None
        #: Whether events that were not taken belong to the next execution.
        self.keeps_events: bool = True
        self._cancel_was_requested = False
        self._cancel_reason: str | None = None
        #: The time that the run may take; None is without limit.
        self._limit: RunLimit | None = None
        self._has_timed_out = False
        #: Of an entity: ends every turn by continuing as new with what this returns.
        self.rest: Rest | None = None

    @property
    def error(self) -> BaseException | None:
        """The exception with which the orchestrator ended."""
        main = self.main
        return (
            main.exception() if main is not None and main.done() and not main.cancelled() else None
        )

    def ended_main(self) -> ReplayTask | None:
        """Return the main task where it has ended, and the execution has not."""
        main = self.main
        return main if main is not None and main.done() and self.host.final is None else None

    def waiting_line(self) -> str | None:
        """Return the line at which the main task waits, as far as that is known."""
        return None if self.main is None else awaiting_line(self.main.get_coro())

    # -- inputs ------------------------------------------------------------------------------------

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the execution can still start, be canceled or ask again."""
        if event.kind is EventKind.CANCEL_REQUESTED:
            return not (self._cancel_was_requested or self._has_timed_out)
        if event.kind is EventKind.EXECUTION_STARTED:
            return self.main is None
        return event.kind is not EventKind.WORK_RENEWED or self.main is not None

    def resolve(self, event: Event) -> None:
        """Start, cancel, take up again, or ask again for everything."""
        _RESOLVE[event.kind](self, event)

    def _start(self, event: Event) -> None:
        host = self.host
        host.loop.origin = host.loop.now
        self._reseed(event)
        self._limit = RunLimit.read(event.facts)
        self._set_deadline()
        match host.codec.decode(event.payload or "[[], {}]"):
            case [list(args) | tuple(args), dict(kwargs)] if all(
                isinstance(name, str) for name in kwargs
            ):
                self.main = host.begin(args, kwargs)
            case _:
                raise PayloadError(
                    f"the stored input of {host.info.instance_id!r} is no list of arguments and"
                    " their names"
                )

    def _reseed(self, event: Event) -> None:
        """Draw as the orchestration did that this one was forked from, or by its own seed after
        that.
        """
        if seed := (event.facts or {}).get("seed"):
            self.host.reseed(str(seed))

    def _set_deadline(self) -> None:
        if self._limit is not None:
            self.host.of(Timers).set_deadline(self._limit.deadline, self._time_out)

    def _time_out(self) -> None:
        """The run's time is over: it goes as with a cancel, to another end."""
        self._has_timed_out = True
        if self.main is not None and not self._cancel_was_requested:
            self._cancel_all(self.main)

    def _cancel(self, event: Event) -> None:
        self._cancel_was_requested = True
        self._cancel_reason = (event.facts or {}).get("reason")
        if self.main is None:
            self._end(CancelExecution(self.host.next_number(), self._cancel_reason))
            return
        self._cancel_all(self.main)

    def _cancel_all(self, main: ReplayTask) -> None:
        host = self.host
        for task in (main, *host.loop.closing):
            task.cancel()
        for kind in host.parts():
            kind.cancel_all()

    def _resume(self, event: Event) -> None:
        for kind in self.host.parts():
            kind.resume()

    def _renew(self, event: Event) -> None:
        """Ask again for all that was under way: the store has nothing of it.

        First for calls by number, then for the timers that were open before, then for the answers
        of entities: that order is recorded.
        """
        host, facts = self.host, event.facts or {}
        self._reseed(event)
        host.skip_numbers(int(facts.get("commands", 0)))
        host.renewals += 1
        plan = Reissue(facts, host.renewals, host.last_number)
        host.of(Timers).drop_deadline()
        for kind in host.parts():
            kind.reissue(plan)
        if self._limit is not None:  # a rewind and a fork have all their time again
            self._limit = self._limit.from_now(host.now)
        self._set_deadline()

    # -- the end -----------------------------------------------------------------------------------

    def finish(self, main: ReplayTask) -> None:
        """End the execution as the main task has ended.

        Raises:
            DurableError: it is an entity, which never ends by itself.
        """
        host = self.host
        if self.rest is not None:  # of an entity nothing may be lost: it is suspended
            problem = None if main.cancelled() else main.exception()
            raise DurableError(
                f"entity {host.info.instance_id!r} came to an end: {problem!r}"
            ) from problem
        if (lock := host.of(EntityCalls).lock) is not None:
            lock.release()
        if main.cancelled() and self._cancel_was_requested:
            return self._end(CancelExecution(host.next_number(), self._cancel_reason))
        if main.cancelled() and self._has_timed_out:
            return self._fail(self._timed_out())
        error = _canceled_by_itself(main) if main.cancelled() else main.exception()
        if isinstance(error, Withdrawn):
            return self._end(CancelExecution(host.next_number(), str(error)))
        if isinstance(error, ContinueAsNewRequested):
            return self._continue_as_new(error)
        if error is not None:
            return self._fail(self._explained(error))
        try:
            output = host.codec.encode(main.result())
        except PayloadError as problem:
            name = f"orchestration {host.info.instance_id!r} ({host.info.name})"
            return self._fail(PayloadError(f"{name} returned {problem}"))
        self._end(CompleteExecution(host.next_number(), output))

    def _timed_out(self) -> OrchestrationTimeout:
        info, limit = self.host.info, self._limit
        seconds = 0 if limit is None else limit.timeout / 1_000_000
        return OrchestrationTimeout(
            f"orchestration {info.instance_id!r} ({info.name}) was not over within its time-out of"
            f" {seconds:g} seconds",
            instance_id=info.instance_id,
            timeout=seconds,
        )

    def _explained(self, error: BaseException) -> BaseException:
        """Return the error that asyncio raised about foreign loops in words that say what to do."""
        name = self.host.info.name
        if isinstance(error, RuntimeError) and any(hint in str(error) for hint in _OTHER_LOOPS):
            return ForbiddenOperation(
                f"orchestrator {name} ran another event loop, by asyncio.run(), a Runner"
                f" or the like ({error}). Await its coroutine if it asks ctx only; put real I/O in"
                " an activity (a Celery task), which may run a loop"
            )
        if isinstance(error, RuntimeError) and any(hint in str(error) for hint in _FOREIGN):
            return ForbiddenOperation(
                f"orchestrator {name} awaited something that does not belong to its"
                f" replaying event loop ({error}). Await ctx.call(...), other ctx methods or"
                " asyncio's own primitives; put real I/O in an activity"
            )
        return error

    def _fail(self, error: BaseException) -> None:
        codec = self.host.codec
        number = self.host.next_number()
        self._end(FailExecution(number, codec.encode_failure(error), codec.describe_error(error)))

    def _continue_as_new(self, request: ContinueAsNewRequested) -> None:
        host = self.host
        try:
            payload = host.codec.encode([list(request.call_args), request.call_kwargs])
        except PayloadError as problem:
            return self._fail(problem)
        requests = host.of(Requests)
        kept = request.keep_events
        left = [*host.of(ExternalEvents).left(), *requests.left()] if kept else []
        self.keeps_events = kept
        command = ContinueAsNew(
            host.next_number(), payload, left, upgrade=request.upgrade, limit=self._limit
        )
        command.unanswered = requests.take_unanswered()
        self._end(command)

    def go_to_rest(self, rest: Rest, decision: Decision) -> None:
        """End the turn of an entity: what it knows is the input of its next execution."""
        host = self.host
        kept, aside = rest()
        payload = host.codec.encode([[kept], {}], is_checked=True)
        command = ContinueAsNew(host.next_number(), payload, awaits_message=True, aside=aside)
        host.final = command
        decision.commands.append(command)
        decision.events.append(command.confirmation(host.now))

    def _end(self, command: Command) -> None:
        self.host.final = command
        self.host.ask(command)


_RESOLVE: Mapping[str, Callable[[Lifecycle, Event], None]] = {
    EventKind.EXECUTION_STARTED: Lifecycle._start,
    EventKind.CANCEL_REQUESTED: Lifecycle._cancel,
    EventKind.EXECUTION_RESUMED: Lifecycle._resume,
    EventKind.WORK_RENEWED: Lifecycle._renew,
}


def _canceled_by_itself(main: ReplayTask) -> asyncio.CancelledError:
    """Return what tells that the code let a cancellation through for which there was no request."""
    error = asyncio.CancelledError(
        "the orchestrator let a CancelledError through, though the orchestration was not canceled:"
        " a task that it awaited was canceled by its own code"
    )
    try:
        main.result()
    except asyncio.CancelledError as own:
        error.__cause__ = own
    return error
