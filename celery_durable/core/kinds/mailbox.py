"""What comes from outside under names, and who waits for which: first in, first out by name."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ..futures import done_future
from ..history import Event
from ..ports import Host
from .timer import Timers

__all__ = ["Mailbox", "id_of"]


class Mailbox:
    """What has come and not been taken, and the futures that wait for it.

    Args:
        host: the execution.
        noun: what comes, for people: "event", "request".
    """

    def __init__(self, host: Host, noun: str) -> None:
        self._host = host
        self._noun = noun
        self._arrivals = 0
        #: Name -> what has come: its place in the order of arrival, the event, its value.
        self._buffered: dict[str, deque[tuple[int, Event, Any]]] = {}
        #: Name -> the futures that wait for the next one, in order.
        self._waiters: dict[str, deque[asyncio.Future[Any]]] = {}
        #: The ids that clients gave; what has one is taken once only.
        self._ids: set[str] = set()

    @property
    def awaited(self) -> list[str]:
        """The names that the code waits for now."""
        return [
            name
            for name, waiters in self._waiters.items()
            if any(not waiter.done() for waiter in waiters)
        ]

    def wait(self, name: str, timeout: int | None) -> asyncio.Future[Any]:
        """Return a future of the next of that name."""
        host, noun = self._host, self._noun
        if buffered := self._buffered.get(name):
            return done_future(host.loop, buffered.popleft()[2])
        future = host.loop.create_future()
        if timeout == 0:
            future.set_exception(TimeoutError(f"no {noun} {name!r} is there"))
            return future
        self._waiters.setdefault(name, deque()).append(future)
        if timeout is not None:

            def ran_out() -> None:
                if not future.done():
                    future.set_exception(TimeoutError(f"no {noun} {name!r} came in time"))

            timers = host.of(Timers)
            number = timers.create(host.now + timeout, ran_out, (noun, name))
            future.add_done_callback(lambda _: timers.cancel(number))
        return future

    def knows(self, event: Event) -> bool:
        """Tell whether it is a copy of what has come."""
        return id_of(event) in self._ids

    def note(self, event: Event) -> None:
        """Keep that it has come."""
        if (event_id := id_of(event)) is not None:
            self._ids.add(event_id)

    def put(self, event: Event, value: Any) -> None:
        """Give a value to the first that waits for it, or keep it."""
        waiters = self._waiters.get(event.name)
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(value)
                return
        self._arrivals += 1
        self._buffered.setdefault(event.name, deque()).append((self._arrivals, event, value))

    def left(self) -> list[Event]:
        """Return what was not taken, in the order of arrival, for the next execution."""
        kept: list[Event] = []
        for _, event, _ in sorted(
            (entry for queue in self._buffered.values() for entry in queue),
            key=lambda entry: entry[0],
        ):
            # clocks may disagree: the order of arrival stays, and is told by the times alone
            earliest = kept[-1].at + 1 if kept else 0
            kept.append(event._replace(at=max(event.at, earliest)))
        return kept


def id_of(event: Event) -> str | None:
    """Return the id that a client gave; None if it gave none."""
    event_id: str | None = (event.facts or {}).get("id")
    return event_id
