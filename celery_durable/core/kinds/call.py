"""The common part of activities and sub-orchestrations: one call over all its attempts, and the one
book of all open calls.

A call keeps one command number as long as it lives. An attempt that fails is tried again after a
durable timer, as the retry policy says; the policy reads history's clock and random numbers that
are seeded from history, so that a replay decides alike.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..commands import Command
from ..futures import CallFuture
from ..history import Event, EventKind
from ..joins import Joins
from ..limits import Limit, Rate
from ..ports import Host
from ..retry import RetryPolicy, asked_wait
from .kind import Kind, Reissue, failure_of
from .timer import Timers

__all__ = ["Call", "CallKind", "CallOptions", "Calls", "CallsPlan"]


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What ``ctx.call`` was given beside the signature; times are microseconds."""

    #: How often it is tried; None is once.
    retry: RetryPolicy | None = None
    #: Of one attempt, from its scheduling; None has no limit, as in the next two.
    timeout: int | None = None
    #: Until a worker is first seen to run it.
    start_timeout: int | None = None
    #: The same for the first attempt alone, where it is not None.
    first_start_timeout: int | None = None
    #: Between two heartbeats of the activity.
    heartbeat_timeout: int | None = None
    #: Suspend the instance after the last attempt, instead of raising.
    suspend_on_exhausted: bool = False
    #: A name for people.
    label: str | None = None
    #: The window that it belongs to (the number of its first call), and how wide that is.
    window: int | None = None
    width: int = 0
    #: Whether it waits for a slot of its window.
    is_held: bool = False
    #: Where the number of each call is noted that it takes; for sagas.
    command_log: list[int] | None = None
    #: Of a member of a chord's header: where the signatures go that it adds to the chord.
    chord: list[Mapping[str, Any]] | None = None
    #: Of each attempt of an activity, over all workers.
    limits: tuple[Limit | Rate, ...] = ()

    def start_timeout_of(self, attempt: int) -> int | None:
        """Return within how many microseconds a worker must begin an attempt."""
        is_first = attempt == 1 and self.first_start_timeout is not None
        return self.first_start_timeout if is_first else self.start_timeout


@dataclass(slots=True)
class CallsPlan:
    """What a rewind or a fork says of calls."""

    #: How many rewinds and forks there were, this one included.
    renewal: int
    #: Children that are waited for again -> whether they are to rewind themselves.
    kept: Mapping[int, bool]
    #: Children whose outcome was known at this rewind, in a history that is rewound once more.
    left: set[int]
    #: Activities that a saga has undone since: they are done again.
    undone: set[int]
    #: Window -> how many of its calls were asked for so far.
    placed: dict[int, int] = field(default_factory=dict)


class Call(ABC):
    """The common part of both kinds of call."""

    is_activity: bool

    def __init__(self, host: Host, options: CallOptions) -> None:
        self.host = host
        self._calls = host.of(Calls)
        self.options = options
        self.command: int = host.next_number()
        self.attempt: int = 0
        self.future: CallFuture = CallFuture(
            self.command,
            loop=host.loop,
            is_activity=self.is_activity,
            take_back=self._calls.take_back,
        )
        if options.command_log is not None:
            options.command_log.append(self.command)
        self._first_at = host.now
        self._attempts_before = 0
        self._timer: int | None = None
        self._is_out = False

    def add_to_chord(self, signatures: Sequence[Mapping[str, Any]]) -> None:
        """Let more activities run before the body of the chord that this call is a member of."""
        if self.options.chord is not None:
            self.options.chord.extend(signatures)

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of what it runs."""

    @abstractmethod
    def _schedule_command(self) -> Command:
        """Return the command that starts the current attempt."""

    @abstractmethod
    def cancel_command(self) -> Command:
        """Return the command that takes the current attempt back."""

    def schedule(self, due: int | None = None) -> None:
        """Ask for the next attempt, now or once ``due`` has come."""
        if due is not None and due > self.host.now:
            self._timer = self.host.of(Timers).create(due, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._timer = None
        self.attempt += 1
        self._is_out = True
        self.host.ask(self._schedule_command())

    def expects(self, attempt: int) -> bool:
        """Tell whether an outcome of ``attempt`` is still wanted."""
        return self._is_out and attempt == self.attempt and not self.future.done()

    def completed(self, value: Any) -> None:
        """Resolve the call with a value."""
        self._is_out = False
        self._calls.forget(self)
        self.future.set_result(value)

    def failed(self, error: BaseException) -> None:
        """Try again, suspend, or resolve the call with the error."""
        self._is_out = False
        try:
            delay = self._delay(error)
        except Exception as problem:  # of the policy's own condition
            return self._resolve(problem)
        if delay is not None:
            return self.schedule(self.host.now + delay)
        if self.options.suspend_on_exhausted:
            return self._calls.suspend_for(self, error)
        self._resolve(error)

    def _delay(self, error: BaseException) -> int | None:
        """Return how long it is until the next attempt; None if there is none."""
        policy, now = self.options.retry, self.host.now
        if policy is None:
            return None
        attempts = self.attempt - self._attempts_before
        asked = asked_wait(error, now)
        return policy.delay(attempts, error, now - self._first_at, self._rng(), asked)

    def _rng(self) -> Callable[[], float]:
        seed = f"{self.host.seed}:{self.command}:{self.attempt}"
        return random.Random(seed).random  # noqa: S311

    def _resolve(self, error: BaseException) -> None:
        self._calls.forget(self)
        self.host.note_failure(self.command, error)
        self.future.set_exception(error)

    def start_over(self) -> None:
        """Try again with a fresh count, after the instance was resumed."""
        self._attempts_before = self.attempt
        self._first_at = self.host.now
        self.schedule()

    def skip_attempts(self, used: int) -> None:
        """Pass over earlier attempts that were another call's; they do not count."""
        skipped = max(0, used - self.attempt)
        self.attempt += skipped
        self._attempts_before += skipped

    def reissue(self, plan: CallsPlan) -> None:
        """Ask again for what was under way, as an attempt of its own: nothing of it is in the
        store.
        """
        if self._is_out:
            self.start_over()

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Resolve the call with an outcome from outside, whatever is under way for it."""
        self.take_back()
        if error is not None:
            Call._resolve(self, error)  # its slot is free already
        else:
            self.completed(value)

    def take_back(self) -> None:
        """Withdraw whatever is under way for this call."""
        if self._timer is not None:
            self.host.of(Timers).cancel(self._timer)
            self._timer = None
        elif self._is_out:
            self._is_out = False
            if not self.host.withdraw(self.command, self.cancel_command()):
                return  # whether it had a slot is seen by the commit
        self._free_slot()

    def _free_slot(self) -> None:  # noqa: B027  most have none
        """Give back what the call has of a window."""


class Calls(Kind):
    """The open calls of both kinds, by number: they share windows, joins and one order."""

    name = "call"
    notes: ClassVar[frozenset[str]] = frozenset({EventKind.JOIN_FORMED, EventKind.JOIN_DISSOLVED})

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.open: dict[int, Call] = {}
        #: Those that have used up their attempts and suspend the instance, each with its error.
        self._exhausted: list[tuple[Call, BaseException]] = []
        #: Window -> how many of its slots this turn has freed.
        self._released: dict[int, int] = {}
        self.joins: Joins = Joins()

    def take_back(self, number: int) -> None:
        """Withdraw a call whose future was cancelled."""
        if self.host.loop.keeps_out("a call's cancel()"):
            return
        call = self.open.pop(number, None)
        if call is not None:
            call.take_back()

    def forget(self, call: Call) -> None:
        """Drop a call that is resolved."""
        self.open.pop(call.command, None)

    def suspend_for(self, call: Call, error: BaseException) -> None:
        """Keep an exhausted call until the instance is resumed."""
        self._exhausted.append((call, error))

    def release_slot(self, window: int) -> None:
        """Let the next member of a window start: one has failed after all its attempts, or was
        taken back between two attempts.
        """
        self._released[window] = self._released.get(window, 0) + 1

    def take_released(self) -> dict[int, int]:
        """Return how many slots of each window are free since the last turn."""
        released, self._released = self._released, {}
        return released

    def suspend_reason(self) -> str | None:
        """Say which call has used up its attempts and suspends the instance; None if none does."""
        self._exhausted = [entry for entry in self._exhausted if not entry[0].future.done()]
        if not self._exhausted:
            return None
        call, error = self._exhausted[0]
        return f"{call.title} has used up its attempts: {self.host.codec.describe_error(error)}"

    # -- what the machine asks ---------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Take over what history says of a batch that is waited for as a whole."""
        self.joins.note(event)

    def is_waiting(self) -> bool:
        """Tell whether a call is open."""
        return bool(self.open)

    def cancel_all(self) -> None:
        """Cancel every call."""
        for call in list(self.open.values()):
            call.future.cancel()

    def resume(self) -> None:
        """Try again what has used up its attempts, with a fresh count."""
        exhausted, self._exhausted = self._exhausted, []
        for call, _ in exhausted:
            if not call.future.done():
                call.start_over()

    def reissue(self, plan: Reissue) -> None:
        """Ask again for every call, by number."""
        for number, used in plan.facts.get("attempts", ()):
            if (call := self.open.get(int(number))) is not None:
                call.skip_attempts(int(used))
        self.joins.clear()
        kept = {int(number): bool(rewinds) for number, rewinds in plan.facts.get("kept", ())}
        calls = CallsPlan(plan.renewal, kept, plan.numbers("left"), plan.numbers("undone"))
        for _, call in sorted(self.open.items(), key=lambda item: item[0]):
            call.reissue(calls)

    def end_reexecution(self) -> None:
        """Forget which slots were freed: windows are filled as if they were new."""
        self._released.clear()


class CallKind(Kind):
    """How outcomes reach the calls; the same for activities and children."""

    #: Of ``inputs``, the one that brings a result, and the one that brings a failure.
    completed: ClassVar[str]
    failed: ClassVar[str]

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._open = host.of(Calls).open

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the outcome is of the attempt that is under way, or comes from outside."""
        call = self._open.get(event.command)
        if _is_injected(event):
            return call is not None and not call.future.done()
        return call is not None and call.expects(event.attempt)

    def prepare(self, event: Event) -> Event:
        """Say whether a failure can be rebuilt."""
        if event.kind is not self.failed:
            return event
        _, is_rebuilt = self.host.codec.decode_failure(event.payload or "")
        return event._replace(facts={**(event.facts or {}), "rebuilt": is_rebuilt})

    def resolve(self, event: Event) -> None:
        """Give the outcome to its call."""
        call = self._open[event.command]
        if event.kind is self.failed:
            error = failure_of(self.host, event, event.payload or "")
            if _is_injected(event):
                call.settle(error=error)
            else:
                call.failed(error)
            return
        value = self.host.codec.decode(event.payload or "null")
        if _is_injected(event):
            call.settle(value)
            return
        if added := (event.facts or {}).get("added"):
            call.add_to_chord(self.host.codec.decode(added))
        call.completed(value)


def _is_injected(event: Event) -> bool:
    return bool((event.facts or {}).get("injected"))
