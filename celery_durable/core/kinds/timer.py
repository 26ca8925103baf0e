"""Durable timers: of ``ctx.sleep``, of time-outs, of retries, and of asyncio's own ``call_at``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from ..commands import Command
from ..futures import done_future
from ..guard import in_turn
from ..history import Event, EventKind
from ..ports import Host
from ..retry import Interval, in_microseconds
from ..times import as_microseconds
from .kind import ContextPart, Kind, Reissue

__all__ = ["CancelTimer", "CreateTimer", "TimerContext", "Timers"]

#: What is waited for from outside: "event" or "request", and its name.
Awaited = tuple[str, str]


@dataclass(slots=True)
class CreateTimer(Command):
    """Wake the orchestrator at a moment."""

    confirmed_by: ClassVar[str] = EventKind.TIMER_CREATED
    #: Microseconds since the epoch.
    due: int
    #: What is waited for until then: "event" or "request", and its name; None is nothing.
    awaits: Awaited | None = None
    #: Whether it ends the time that the whole run may take.
    is_deadline: bool = False

    def _facts(self) -> dict[str, Any] | None:
        return {"due": self.due, **({"deadline": True} if self.is_deadline else {})}

    def repeats(self, event: Event) -> bool:
        """Tell whether the recorded timer was due at the same time."""
        return self.agrees_with(event) and event.facts == self._facts()


@dataclass(slots=True)
class CancelTimer(Command):
    """The timer is no longer wanted."""

    confirmed_by: ClassVar[str] = EventKind.TIMER_CANCELED
    is_withdrawal: ClassVar[bool] = True


class Timers(Kind):
    """The timers that have not fired. It also keeps those of the loop (``TimerHost``)."""

    name = "timer"
    commands: ClassVar[tuple[type[Command], ...]] = (CreateTimer, CancelTimer)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {EventKind.TIMER_FIRED: CreateTimer}
    lapsing: ClassVar[frozenset[str]] = frozenset(inputs)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        #: Number -> when it is due, what is waited for until then, what it calls.
        self.open: dict[int, tuple[int, Awaited | None, Callable[[], None]]] = {}
        #: Those that this very turn has set, and when they are due.
        self._new: dict[int, int] = {}
        #: Handles of asyncio, by their identity -> the timer of each.
        self._handles: dict[int, int] = {}
        #: The one that ends the time of the whole run; the code does not wait for it.
        self.deadline: int | None = None

    def create(
        self,
        due: int,
        callback: Callable[[], None],
        awaits: Awaited | None = None,
        *,
        is_deadline: bool = False,
    ) -> int:
        """Create a durable timer and return its command number.

        ``awaits`` is what is waited for until then.
        """
        host = self.host
        number = host.next_number()
        self.open[number] = due, awaits, callback
        if not host.is_replaying:
            self._new[number] = due
        host.ask(CreateTimer(number, due, awaits, is_deadline))
        return number

    def set_deadline(self, due: int, callback: Callable[[], None]) -> None:
        """Create the timer that ends the time of the whole run."""
        self.deadline = self.create(due, callback, is_deadline=True)

    def drop_deadline(self) -> None:
        """Forget the timer of the whole run, of which the store has nothing."""
        if self.deadline is not None:
            self.open.pop(self.deadline, None)
            self.deadline = None

    def cancel(self, number: int) -> None:
        """Cancel a timer; without effect if it has fired."""
        if number in self.open and not self.host.loop.keeps_out("a timer's cancel()"):
            del self.open[number]
            self.host.withdraw(number, CancelTimer(number))

    def sleep_until(self, due: int) -> asyncio.Future[None]:
        """Return a future that is done at ``due``; cancelling it cancels the timer."""
        host = self.host
        if due <= host.now:
            return done_future(host.loop, None)
        future = host.loop.create_future()
        number = self.create(due, lambda: None if future.done() else future.set_result(None))
        future.add_done_callback(lambda done: self.cancel(number) if done.cancelled() else None)
        return future

    def take_overdue(self, moment: int) -> Event | None:
        """Return the first timer of this very turn that was due before ``moment``: it comes before
        what came then.
        """
        dues = [
            (due, number)
            for number, due in self._new.items()
            if due < moment and number in self.open
        ]
        return Event(EventKind.TIMER_FIRED, *min(dues)) if dues else None

    def end_turn(self) -> None:
        """Forget which timers are new."""
        self._new.clear()

    # -- what the loop asks ------------------------------------------------------------------------

    def timer_created(self, handle: asyncio.TimerHandle, due: int) -> None:
        """Keep a timer of the loop."""

        def fire() -> None:
            self._handles.pop(id(handle), None)
            self.host.loop.fire(handle)

        self._handles[id(handle)] = self.create(due, fire)

    def timer_canceled(self, handle: asyncio.TimerHandle) -> None:
        """Drop a timer of the loop."""
        number = self._handles.pop(id(handle), None)
        if number is not None:
            self.cancel(number)

    # -- what the machine asks ---------------------------------------------------------------------

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the timer is open."""
        return event.command in self.open

    def resolve(self, event: Event) -> None:
        """Let the timer fire."""
        *_, callback = self.open.pop(event.command)
        callback()

    def is_waiting(self) -> bool:
        """Tell whether a timer is open that the code waits for."""
        return any(number != self.deadline for number in self.open)

    def reissue(self, plan: Reissue) -> None:
        """Ask again for the timers that were open before; calls have set new ones by now."""
        for number, (due, awaits, _) in sorted(self.open.items(), key=lambda item: item[0]):
            if number <= plan.last:
                self.host.ask(CreateTimer(number, due, awaits))


class TimerContext(ContextPart):
    """Waiting by the clock."""

    @in_turn
    def sleep(self, duration: Interval) -> asyncio.Future[None]:
        """Wait by a durable timer, for seconds or a ``timedelta`` of at most 1,000,000 days.

        Raises:
            ValueError: it is longer, negative or not finite.

        Example:
            >>> await ctx.sleep(timedelta(days=30))
        """
        host = self._host
        return host.of(Timers).sleep_until(host.now + in_microseconds(duration, "duration"))

    @in_turn
    def sleep_until(self, when: datetime) -> asyncio.Future[None]:
        """Wait by a durable timer until an aware ``datetime``; one in the past returns at once.

        Raises:
            ValueError: ``when`` is naive.

        Example:
            >>> await ctx.sleep_until(ctx.now() + timedelta(hours=8))
        """
        return self._host.of(Timers).sleep_until(as_microseconds(when))
