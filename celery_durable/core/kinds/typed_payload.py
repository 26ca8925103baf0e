"""Values that are awaited as a type: whether one fits is decided once, and every replay follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..._errors import PayloadError
from ..commands import Command
from ..history import Event, EventKind
from ..ports import Host
from .kind import Kind

__all__ = ["RefusePayload", "TypedPayloads", "as_type", "converted"]


@dataclass(slots=True)
class RefusePayload(Command):
    """Note that a value did not fit the type that the code names."""

    confirmed_by: ClassVar[str] = EventKind.PAYLOAD_REFUSED
    #: In words.
    why: str
    #: The number of the comparison in this execution, from 1.
    comparison: int

    def _facts(self) -> dict[str, Any] | None:
        return {"why": self.why, "comparison": self.comparison}

    def describe(self) -> str:
        """Return the command in a few words."""
        return f"{self.kind} ({self.why})"


class TypedPayloads(Kind):
    """The comparisons of one execution, of which history records those that failed."""

    name = "typed payload"
    commands: ClassVar[tuple[type[Command], ...]] = (RefusePayload,)
    foreseen: ClassVar[frozenset[str]] = frozenset({EventKind.PAYLOAD_REFUSED})

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._compared = 0
        #: Comparison -> why history says that it failed.
        self._refused: dict[int, str] = {}

    def foresee(self, event: Event) -> None:
        """Keep that a value did not fit."""
        facts = event.facts or {}
        self._refused[int(facts.get("comparison", 0))] = str(facts.get("why"))

    def checked(self, work: Callable[[], Any], *, is_of_call: bool = False) -> Any:
        """Return what a function makes of a value, if it did the first time.

        Where history says nothing of it and it does not fit now, the code and its history do not
        agree any more: that suspends the instance. What ``is_of_call`` is not compared again: that
        it was asked for is recorded.

        Raises:
            PayloadError: it did not fit.
        """
        self._compared += 1
        why = self._refused.pop(self._compared, None)
        host = self.host
        if why is None:
            if is_of_call and host.is_replaying:
                return None
            try:
                return work()
            except PayloadError as error:
                why = str(error)
        host.ask(RefusePayload(host.next_number(), why, self._compared))
        raise PayloadError(why)

    def end_reexecution(self) -> None:
        """Forget what the code did not come to."""
        self._refused.clear()


def as_type(host: Host, future: asyncio.Future[Any], wanted: Any, what: str) -> asyncio.Future[Any]:
    """Return a future of the same value, decoded to a type; of itself if none is named."""
    if wanted is None:
        return future
    return converted(
        host,
        future,
        lambda value: host.of(TypedPayloads).checked(
            lambda: host.codec.as_type(value, wanted, what)
        ),
    )


def converted(
    host: Host, future: asyncio.Future[Any], convert: Callable[[Any], Any]
) -> asyncio.Future[Any]:
    """Return a future of what a function makes of the value of another one."""
    task = host.loop.create_task(_converted(future, convert))
    task.add_done_callback(lambda done: _settle(done, future))
    return task


def _settle(task: asyncio.Future[Any], future: asyncio.Future[Any]) -> None:
    """Cancel what a task was to wait for if it never began, and count its exception as seen."""
    if task.cancelled():
        future.cancel()
    else:
        task.exception()


async def _converted(future: asyncio.Future[Any], convert: Callable[[Any], Any]) -> Any:
    return convert(await future)
