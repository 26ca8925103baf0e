"""Events that are to arrive, each at its moment of the test's clock, and spans of its time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.flags import is_number
from ..core.retry import Interval
from ..errors import InstanceNotFound

if TYPE_CHECKING:
    from ..app.durable import Durable

__all__ = ["ComingEvent", "ComingEvents", "delta_of"]


class ComingEvent(NamedTuple):
    """An event that is to arrive."""

    #: When: microseconds since the epoch.
    moment: int
    instance_id: str
    name: str
    data: Any


class ComingEvents:
    """Those of one test."""

    def __init__(self, durable: Durable) -> None:
        self._durable = durable
        self.events: list[ComingEvent] = []

    def deliver(self, now: int) -> bool:
        """Raise the first event whose time has come; False if there is none, or its instance is
        still to be started.
        """
        due = [event for event in self.events if event.moment <= now]
        for event in sorted(due, key=lambda each: each.moment):
            self.events.remove(event)
            try:
                self._durable.raise_event(event.instance_id, event.name, event.data)
            except InstanceNotFound:
                self.events.append(event)
                continue
            return True
        return False


def delta_of(given: Interval, **parts: float) -> timedelta:
    """Return a span of time; a number is seconds.

    Args:
        given: the one.
        **parts: those of ``timedelta``, to be added.

    Raises:
        TypeError: it is neither, or there is no such part.
    """
    try:
        more = timedelta(**parts)
    except TypeError as error:
        raise TypeError(
            f"time is given in weeks=, days=, hours=, minutes= and seconds=: {error}"
        ) from None
    if isinstance(given, timedelta):
        return given + more
    if not is_number(given):
        raise TypeError(f"a timedelta or seconds are needed, not {given!r}")
    return timedelta(seconds=given) + more
