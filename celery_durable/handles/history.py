"""Events of a history as a client reads them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery import current_app

from ..core.entity_names import REPLY
from ..core.history import Event
from ..core.times import EPOCH

if TYPE_CHECKING:
    from ..core.ports import Codec, Verdict

__all__ = ["HistoryEvent", "read_events"]


class HistoryEvent(Event):
    """One event of ``run.history()``.

    Example:
        >>> started = run.history()[0]
        >>> started.number, started.kind
        (1, 'ExecutionStarted')
        >>> started.value
        [['42'], {}]
    """

    #: Its place in the history, from 1, as ``fork(at=)`` takes it.
    number: int = 0
    _codec: Codec | None = None

    @property
    def time(self) -> datetime:
        """When it was recorded, by the database's clock; aware UTC.

        Raises:
            OverflowError: it is beyond the calendar.
        """
        return EPOCH + timedelta(microseconds=self.at)

    @property
    def value(self) -> Any:
        """What its payload holds: a result, the data of an event or a request, ``[args, kwargs]``
        of what was started; as JSON gives it.

        None where it has none, and of a failure: that is ``error``.

        Raises:
            PayloadError: it cannot be decoded.
        """
        return self._outcome()[0]

    @property
    def error(self) -> Exception | None:
        """The exception that it tells of, rebuilt as the orchestrator met it; None where nothing
        has failed.

        Where its class cannot be imported here, it is an ``ActivityError``.

        Raises:
            PayloadError: it cannot be decoded.
        """
        return self._outcome()[1]

    def _outcome(self) -> tuple[Any, Exception | None]:
        """Return the value, and the exception in its place."""
        if self.payload is None:
            return None, None
        facts = self.facts or {}
        if self.kind.endswith("Failed") or facts.get("failed"):
            return None, self._rebuilt(self.payload)
        value = self._decoder().decode(self.payload)
        if self.name.startswith(REPLY) and isinstance(value, dict):
            failure = value.get("failure")
            if isinstance(failure, str):
                return None, self._rebuilt(failure)
            return value.get("result"), None
        return value, None

    def _rebuilt(self, failure: str) -> Exception:
        # what history says of it holds: the orchestrator has met another one then
        may_rebuild: Verdict = (self.facts or {}).get("rebuilt", True)
        return self._decoder().decode_failure(failure, may_rebuild=may_rebuild)[0]

    def _decoder(self) -> Codec:
        if self._codec is None:  # it comes from another process
            codec: Codec = current_app.durable.runtime.codec
            return codec
        return self._codec

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (tuple(self), self.number)


def _again(fields: tuple[Any, ...], number: int) -> HistoryEvent:
    event = HistoryEvent(*fields)
    event.number = number
    return event


def read_events(events: Iterable[Event], codec: Codec) -> list[HistoryEvent]:
    """Return the events of one history, numbered from 1."""
    found = []
    for number, event in enumerate(events, 1):
        each = _again(event, number)
        each._codec = codec
        found.append(each)
    return found
