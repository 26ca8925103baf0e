"""Which call of an execution failed last, and with what: for people who look at an instance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from .._errors import DurableError
from ..core.history import Event
from ..core.kinds import CALL_FAILURES, CALLS_ASKED, KINDS
from ..core.text import encodable
from .engine import Engine
from .listing import InstanceRecord
from .replay import current_rows, events_of
from .store_ports import Store

__all__ = ["Failure", "last_failure"]


@dataclass
class Failure:
    """The last call that failed in an execution."""

    #: The call, in words.
    what: str
    #: None if it cannot be decoded.
    error: BaseException | None
    #: The same, encoded.
    payload: str | None

    @property
    def text(self) -> str:
        """What failed, and with what."""
        return encodable(
            f"{self.what}: {'one that cannot be decoded' if self.error is None else self.error}"
        )

    @property
    def is_lost(self) -> bool:
        """Whether it is unknown how it ended: its process died, or it ran out of time."""
        kind = getattr(self.error, "type", "").rpartition(".")[2]
        return kind in ("WorkerLostError", "TimeLimitExceeded", "ActivityTimeout")

    def is_reason_of(self, record: InstanceRecord) -> bool:
        """Tell whether an instance failed with this very error."""
        own, failed = (_type_and_message(payload) for payload in (record.failure, self.payload))
        return own is not None and own == failed


def _type_and_message(payload: str | None) -> tuple[str, str] | None:
    try:
        facts = json.loads(payload or "")
        return f"{facts['module']}.{facts['type']}", str(facts["message"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def last_failure(store: Store, runner: Engine, record: InstanceRecord) -> Failure | None:
    """Return the last call that failed in the current execution of an instance, since its last
    rewind or among what that has kept; None if none has.

    Raises:
        StoreError: the store cannot be reached.
    """
    failed: Event | None = None
    for event in _backwards(store, record):
        if failed is None:
            failed = event if event.kind in CALL_FAILURES else None
        elif event.kind in CALLS_ASKED and event.command == failed.command:
            return _failure(runner, failed, event)
    return None if failed is None else _failure(runner, failed, None)


def _failure(runner: Engine, failed: Event, asked: Event | None) -> Failure:
    kind, name = KINDS.owners[failed.kind].name, "?" if asked is None else asked.name
    what = f"{kind} {name} (call {failed.command}, attempt {failed.attempt})"
    try:
        error, _ = runner.codec.decode_failure(failed.payload or "", may_rebuild=False)
    except DurableError:
        return Failure(what, None, failed.payload)
    return Failure(what, error, failed.payload)


def _backwards(store: Store, record: InstanceRecord) -> Iterator[Event]:
    rows = store.reads.events(record.id)
    for number in range(len(rows), current_rows(rows), -1):
        try:
            yield from reversed(events_of(rows[number - 1], record.id, number))
        except DurableError:
            return
