"""What an orchestration waits for, in words: from its rows, and from a replay that sees which events the code awaits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..core.context import EPOCH
from ..core.entity import ORCHESTRATORS
from ..core.events import Event, EventKind
from ..core.status import RuntimeStatus
from ..errors import DurableError
from ..payload import encodable
from .flow import waits_in_words
from .records import InstanceRecord, Outstanding, Pending
from .turn import TurnRunner, events_of, replay_rows

__all__ = ["Explanation", "awaited_events", "explain"]

_SECOND = 1_000_000
_FAILURES = (EventKind.ACTIVITY_FAILED, EventKind.CHILD_FAILED)


@dataclass
class Explanation:
    """What is known, a line each; its text is all of them."""

    instance_id: str
    status: RuntimeStatus
    waits_for: list[str] = field(default_factory=list)
    last_error: str | None = None
    advice: str = ""
    state: str = ""

    def __str__(self) -> str:
        lines = [self.state, *(f"  waits for {what}" for what in self.waits_for)]
        lines += [f"  last error: {self.last_error}"] if self.last_error else []
        return "\n".join([*lines, f"  {self.advice}"])


def explain(store: Any, runner: TurnRunner, record: InstanceRecord) -> Explanation:
    """Say what an instance waits for, since when, and what to do.

    Raises:
        StoreError: the store cannot be reached.
    """
    now = store.now()
    found = Explanation(record.id, record.status, state=_state(record, now))
    if record.status.is_terminal:
        found.advice = _ADVICE[record.status]
        return found
    pending: Pending = store.pending(record.id)
    if record.status is RuntimeStatus.PENDING:
        found.waits_for += _admission(store, runner, record, now)
    found.waits_for += [_activity(row, now) for row in pending.activities]
    found.waits_for += [
        f"sub-orchestration {child.id!r} ({child.name}), which is {child.status}" for child in pending.children
    ]
    found.waits_for += _awaited(store, runner, record)
    if pending.next_timer is not None:
        rows = store.waits([record]).get(record.id)
        _add_timer(found.waits_for, "" if rows is None else rows.event, _ahead(pending.next_timer, now))
    if pending.overdue_since is not None and record.status is not RuntimeStatus.SUSPENDED:
        found.waits_for.append(f"a worker to take its next turn, which was due {_ago(pending.overdue_since, now)}")
    found.last_error = _last_error(store, runner, record)
    found.advice = _advice(record, found, pending, now)
    if found.advice == _WAIT and (pending.activities or pending.overdue_since is not None):
        lease = int(runner.settings.worker_lease * _SECOND)
        found.advice = _WAIT if store.living_workers(lease) else "no worker is alive: start one, with this store"
    return found


def _admission(store: Any, runner: TurnRunner, record: InstanceRecord, now: int) -> list[str]:
    definition = runner.registry.newest(record.name)
    terms = None if definition is None else {} if definition.flow is None else definition.flow.terms
    waiting = store.find_waiting(record.id, terms)
    return [] if waiting is None else [waits_in_words(waiting, now)]


def _add_timer(waits_for: list[str], event: str, due: str) -> None:
    """Tell of the next timer: in the line of the event that it bounds the wait for, or in one of its own."""
    bounded = f"event {event!r}"
    if bounded in waits_for:
        waits_for[waits_for.index(bounded)] += f", until a timer that is due {due}"
    else:
        waits_for.append(f"a timer that is due {due}")


def _state(record: InstanceRecord, now: int) -> str:
    reason = f": {record.reason.rstrip('.')}" if record.reason else ""
    version = f" v{record.version}" if record.version is not None else ""
    return (
        f"{record.id} ({record.name}{version}) is {record.status}{reason}; it last moved {_ago(record.updated_at, now)}"
    )


def _activity(row: Outstanding, now: int) -> str:
    what = f"activity {row.name} (call {row.command}, attempt {row.attempt})"
    if row.is_held:
        return f"{what}, which waits until others of its window are done"
    if row.holder is not None:
        seen = "a worker that is not seen any more" if row.worker is None else row.worker
        return f"{what}, which runs on {seen}"
    if row.sent_at is None:
        return f"{what}, which could not be sent yet"
    again = f", sent again {row.sends} times" if row.sends else ""
    queue = f" in queue {row.queue!r}" if row.queue else ""
    return f"{what}, sent {_ago(row.sent_at, now)}{queue}{again}, not seen running yet"


def _awaited(store: Any, runner: TurnRunner, record: InstanceRecord) -> list[str]:
    if record.name.startswith(ORCHESTRATORS):
        return ["its next message"]
    events, answers = _asked(store, runner, record)
    return [*(f"event {name!r}" for name in events), *answers]


def awaited_events(store: Any, runner: TurnRunner, record: InstanceRecord) -> list[str]:
    """Return the names of the external events that the code of an instance waits for; none where it is not registered."""
    return [] if record.name.startswith(ORCHESTRATORS) else _asked(store, runner, record)[0]


def _asked(store: Any, runner: TurnRunner, record: InstanceRecord) -> tuple[list[str], list[str]]:
    """Replay what an instance has lived through, and return the events and the answers that it waits for."""
    definition = runner.registry.get(record.name, record.version)
    snapshot = store.load(record.id, None)
    if definition is None or snapshot is None:
        return [], []
    execution = runner.new_execution(snapshot.instance, definition)
    try:
        with runner.watchdog.watching(record.id):
            replay_rows(execution, snapshot.history)
        return execution.awaited_events, execution.awaited_answers
    except DurableError:
        return [], []  # its reason says that already
    finally:
        execution.abandon()


def _last_error(store: Any, runner: TurnRunner, record: InstanceRecord) -> str | None:
    for event in _backwards(store, record):
        if event.kind in _FAILURES:
            try:
                error, _ = runner.codec.decode_failure(event.payload or "", may_rebuild=False)
            except DurableError:
                return "one that cannot be decoded"
            return encodable(f"call {event.command}, attempt {event.attempt}: {error}")
    return None


def _backwards(store: Any, record: InstanceRecord) -> Iterator[Event]:
    rows = store.events(record.id)
    for number in range(len(rows), 0, -1):
        try:
            yield from reversed(events_of(rows[number - 1], record.id, number))
        except DurableError:
            return


def _advice(record: InstanceRecord, found: Explanation, pending: Pending, now: int) -> str:
    if record.status is RuntimeStatus.SUSPENDED:
        return "resume it once the reason is gone; what arrives is kept until then"
    if record.reason is not None:
        return "start a worker that has this code and consumes its queue, or terminate it"
    if pending.overdue_since is not None and now - pending.overdue_since > 60 * _SECOND:
        return "no worker takes its turns: is one running that knows the orchestrator and consumes its queue?"
    if any(row.sends >= 3 and row.holder is None for row in pending.activities):
        return "an activity is sent again and again and never runs: does a worker consume its queue?"
    if not found.waits_for:
        return "it waits for an event or a lock of its own code; load the code here to see which"
    return _WAIT


def _moment(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(" ", "seconds")


def _ago(micros: int, now: int) -> str:
    return f"{timedelta(seconds=max(0, now - micros) // _SECOND)} ago ({_moment(micros)})"


def _ahead(micros: int, now: int) -> str:
    return f"in {timedelta(seconds=max(0, micros - now) // _SECOND)} ({_moment(micros)})"


_WAIT = "nothing to do: it goes on when that has happened"
_ADVICE = {
    RuntimeStatus.COMPLETED: "it is done: see its output",
    RuntimeStatus.FAILED: "see its failure and its history; rewind runs again what failed, restart everything",
    RuntimeStatus.CANCELED: "it was canceled; restart begins once more with the same input",
    RuntimeStatus.TERMINATED: "it was terminated; restart begins once more with the same input",
}
