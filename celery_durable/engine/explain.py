"""What an orchestration waits for, in words: from its rows, and from a replay that sees which
events the code awaits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from .._errors import DurableError
from ..core.canvas_options import CanvasOptions
from ..core.entity import ORCHESTRATORS
from ..core.kinds import ExternalEvents, Requests
from ..core.plain_task import shown_version
from ..core.status import RuntimeStatus
from ..core.times import EPOCH
from .activity_limits import LIMIT_GATE, Standing, slots_in_words
from .admission import waits_in_words
from .engine import Engine
from .last_failure import last_failure
from .listing import InstanceRecord, Outstanding, OwedEnd, Pending
from .pausing import paused_in_words
from .replay import replay_rows
from .store_ports import Store
from .switches import Switch, Switched

__all__ = ["Explanation", "awaited_from_outside", "explain"]

_SECOND = 1_000_000
_DEFERRED = " waits for its completion"
_LIMITED = " waits for a place: "


@dataclass
class Explanation:
    """What is known, a line each; its text is all of them."""

    instance_id: str
    status: RuntimeStatus
    #: A text for each thing that it waits for.
    waits_for: list[str] = field(default_factory=list)
    #: Of the call that failed last in this execution; None if none has.
    last_error: str | None = None
    #: What to do now.
    advice: str = ""
    #: Its status and since when, in a line.
    state: str = ""

    @property
    def sentences(self) -> list[str]:
        """What it waits for, a sentence each, such as "waits for event 'approved'"."""
        # what is deferred, or limited, says itself that it waits
        return [
            what if _DEFERRED in what or _LIMITED in what else f"waits for {what}"
            for what in self.waits_for
        ]

    def __str__(self) -> str:
        lines = [self.state, *(f"  {what}" for what in self.sentences)]
        lines += [f"  last error: {self.last_error}"] if self.last_error else []
        return "\n".join([*lines, f"  {self.advice}"])


def explain(store: Store, runner: Engine, record: InstanceRecord) -> Explanation:
    """Say what an instance waits for, since when, and what to do.

    Raises:
        StoreError: the store cannot be reached.
    """
    now = store.now()
    found = Explanation(record.id, record.status, state=_state(record, now))
    if record.status.is_terminal:
        _explain_end(found, store, runner, record)
        return found
    pending: Pending = store.reads.pending(record.id)
    pauses = _Pauses(runner.switches.refresh())
    if (pause := pauses.switched.of_turns(record.name, record.version, record.queue)) is not None:
        found.waits_for.append(pauses.words(pause))
        pending = replace(pending, overdue_since=None)
    if record.status is RuntimeStatus.PENDING:
        found.waits_for += _admission(store, runner, record, now)
    slots = _slots(store, runner, record, pending)
    found.waits_for += [_activity(row, now, pauses, slots) for row in pending.activities]
    found.waits_for += [
        f"sub-orchestration {child.id!r} ({child.name}), which is {child.status}"
        for child in pending.children
    ]
    if record.name.startswith(ORCHESTRATORS):
        asked = _PendingWaits(waits_for=["its next message"])
    else:
        asked = _asked(store, runner, record)
    found.waits_for += asked.waits_for
    if pending.next_timer is not None:
        may_be_bounded = any(map(_is_from_outside, found.waits_for))
        rows = store.reads.waits([record]).get(record.id) if may_be_bounded else None
        awaits = None if rows is None else rows.awaits
        _add_timer(found.waits_for, awaits, _ahead(pending.next_timer, now))
    if pending.overdue_since is not None and record.status is not RuntimeStatus.SUSPENDED:
        found.waits_for.append(
            f"a worker to take its next turn, which was due {_ago(pending.overdue_since, now)}"
        )
    failure = last_failure(store, runner, record)
    found.last_error = None if failure is None else failure.text
    found.advice = _advice(record, found, pending, now, asked.stall)
    needs_worker = any(
        row.deferred_at is None and row.gate != LIMIT_GATE for row in pending.activities
    )
    if pauses.met and record.status is not RuntimeStatus.SUSPENDED:
        found.advice = f"it continues once {' and '.join(sorted(pauses.met))} is unpaused"
    elif found.advice == _WAIT and (needs_worker or pending.overdue_since is not None):
        lease = int(runner.settings.worker_lease * _SECOND)
        found.advice = (
            _WAIT
            if store.workers.living_workers(lease)
            else "no worker is alive: start one, with this store"
        )
    return found


def _explain_end(found: Explanation, store: Store, runner: Engine, record: InstanceRecord) -> None:
    """Say what became of one that has ended: what made it fail, and whether Celery was notified."""
    found.advice = _ADVICE[record.status]
    if record.status is RuntimeStatus.FAILED:
        failure = last_failure(store, runner, record)
        found.last_error = None if failure is None else failure.text
        if failure is not None and failure.is_reason_of(record):
            again = "a RetryPolicy (retry=) would have tried it again; " if failure.is_lost else ""
            found.advice = (
                f"{failure.what} made it fail: {again}rewind runs that again and keeps what"
                " succeeded"
            )
        else:
            found.advice = (
                "its own code raised it: fix that, then rewind, which continues where it failed; or"
                " restart everything"
            )
    owed: OwedEnd | None = store.reads.owed_end(record.execution)
    if owed is not None:
        tried = f", which was tried {owed.sends + 1} times" if owed.sends else ""
        refused = f"; the last time: {owed.refusal}" if owed.refusal else ""
        found.waits_for.append(f"Celery to be told of its end{tried}{refused}")
        if owed.refusal:
            found.advice += (
                ". Let the broker and the result backend take its end: that is tried for about"
                " a day"
            )


def _admission(store: Store, runner: Engine, record: InstanceRecord, now: int) -> list[str]:
    waiting = store.admission.find_waiting(record.id, runner.admission.maxima_of(record.name))
    return (
        []
        if waiting is None
        else [waits_in_words(waiting, now, shows_keys=not _hides_arguments(runner, record))]
    )


def _hides_arguments(runner: Engine, record: InstanceRecord) -> bool:
    """Tell whether it was started with words of its own for its arguments (``argsrepr``,
    ``kwargsrepr``).
    """
    try:
        return bool(CanvasOptions.read(runner.codec, record.canvas).shown)
    except DurableError:
        return True


def _is_from_outside(what: str) -> bool:
    """Tell whether something that is waited for is an event or a request."""
    return what.startswith(("event ", "a request "))


def _add_timer(waits_for: list[str], awaits: tuple[str, str] | None, due: str) -> None:
    """Add the next timer: to the line of what it bounds the wait for, or in a line of its own."""
    noun, name = awaits or ("", "")
    bounded = f"{'a request' if noun == 'request' else noun} {name!r}"
    if bounded in waits_for:
        waits_for[waits_for.index(bounded)] += f", until a timer that is due {due}"
    else:
        waits_for.append(f"a timer that is due {due}")


def _state(record: InstanceRecord, now: int) -> str:
    limit = "" if record.deadline is None else f"; its time is over {_ahead(record.deadline, now)}"
    reason = f": {record.reason.rstrip('.')}" if record.reason else ""
    chosen = shown_version(record.version)
    version = "" if chosen is None else f" v{chosen}"
    return (
        f"{record.id} ({record.name}{version}) is {record.status}{reason}; it last moved"
        f" {_ago(record.updated_at, now)}{limit}"
    )


@dataclass
class _Pauses:
    """The pauses in force, and those that an instance was seen to wait for."""

    switched: Switched
    met: set[str] = field(default_factory=set)

    def words(self, pause: Switch) -> str:
        self.met.add(f"{pause.kind} {pause.name!r}")
        return f"the end of a pause: {paused_in_words(pause)}"

    def of(self, row: Outstanding) -> str | None:
        """Say which pause keeps an activity from beginning; None if none does."""
        if row.holder is not None or row.is_delegated:
            return None
        pause = self.switched.of_activity(row.name, lambda: row.queue)
        return None if pause is None else self.words(pause)


def _slots(
    store: Store, runner: Engine, record: InstanceRecord, pending: Pending
) -> dict[tuple[int, int], str]:
    """Say for each attempt that waits for slots for which ones; asked only if one does."""
    if not any(row.gate == LIMIT_GATE for row in pending.activities):
        return {}
    shows_keys = not _hides_arguments(runner, record)
    found: list[Standing] = store.limits.standings(record.execution, runner.limits.numbers())
    return {
        (each.command, each.attempt): slots_in_words(each, shows_keys=shows_keys) for each in found
    }


def _limited(row: Outstanding, slots: Mapping[tuple[int, int], str]) -> str:
    again = f", attempt {row.attempt}" if row.attempt > 1 else ""
    where = slots.get((row.command, row.attempt), "a place: there is room, 0 before it")
    return f"activity {row.command} ({row.name}{again}) waits for {where}"


def _activity(
    row: Outstanding, now: int, pauses: _Pauses, slots: Mapping[tuple[int, int], str]
) -> str:
    what = f"activity {row.name} (call {row.command}, attempt {row.attempt})"
    if (pause := pauses.of(row)) is not None:
        return f"{what}, which waits for {pause}"
    if row.is_held:
        return f"{what}, which waits until others of its window are done"
    if row.gate == LIMIT_GATE:
        return _limited(row, slots)
    if row.deferred_at is not None:
        return _deferred(row, row.deferred_at, now)
    if row.holder is not None:
        seen = "a worker that is not seen any more" if row.worker is None else row.worker
        return f"{what}, which runs on {seen}"
    if row.is_delegated:
        return f"{what}, whose outcome is reported from elsewhere: its body ended with Ignore"
    if row.sent_at is None:
        return f"{what}, which could not be sent yet"
    again = f", sent again {row.sends} times" if row.sends else ""
    queue = f" in queue {row.queue!r}" if row.queue else ""
    return f"{what}, sent {_ago(row.sent_at, now)}{queue}{again}, not seen running yet"


def _deferred(row: Outstanding, since: int, now: int) -> str:
    again = f", attempt {row.attempt}" if row.attempt > 1 else ""
    at = (EPOCH + timedelta(microseconds=since)).strftime("%H:%M")
    what = f"activity {row.command} ({row.name}{again})"
    return f"{what}{_DEFERRED} since {at}, {_ago(since, now)}"


def _is_unsent(row: Outstanding) -> bool:
    is_held = row.is_held or row.is_delegated or row.gate is not None
    return row.sent_at is None and row.holder is None and not is_held


def _waits_long(row: Outstanding, now: int) -> bool:
    """Tell whether an activity has lain in a queue for more than a minute."""
    if row.sent_at is None or row.queue is None or row.holder is not None:
        return False
    return not (row.is_held or row.is_delegated) and now - row.sent_at > 60 * _SECOND


def awaited_from_outside(
    store: Store, runner: Engine, record: InstanceRecord
) -> list[tuple[str, str]]:
    """Return the external events and the requests that the code of an instance waits for: "event"
    or "request", and the name.

    None where it is not registered.
    """
    if record.name.startswith(ORCHESTRATORS):
        return []
    return list(_asked(store, runner, record).from_outside)


class _PendingWaits(NamedTuple):
    """What the code was seen to wait for."""

    #: External events and requests: "event" or "request", and the name.
    from_outside: Sequence[tuple[str, str]] = ()
    #: All that only the code knows of, in words: events first.
    waits_for: Sequence[str] = ()
    #: Why nothing that could come would wake it; None if something would.
    stall: str | None = None


def _asked(store: Store, runner: Engine, record: InstanceRecord) -> _PendingWaits:
    """Replay the history of an instance, and return what it waits for."""
    definition = runner.registry.get(record.name, record.version)
    snapshot = store.turns.load(record.id, None)
    if definition is None or snapshot is None:
        return _PendingWaits()
    execution = runner.replayer.new(snapshot.instance, definition)
    try:
        runner.watchdog.watch(record.id, lambda: replay_rows(execution, snapshot.history))
        events, requests = execution.of(ExternalEvents), execution.of(Requests)
        parts = [events, *(part for part in execution.parts() if part is not events)]
        words = [text for part in parts for text in part.waits_for()]
        from_outside = [
            *(("event", name) for name in events.awaited),
            *(("request", name) for name in requests.awaited),
        ]
        return _PendingWaits(from_outside, words, execution.stall)
    except DurableError:
        return _PendingWaits()  # its reason says that already
    finally:
        execution.abandon()


def _advice(
    record: InstanceRecord, found: Explanation, pending: Pending, now: int, stall: str | None
) -> str:
    if record.status is RuntimeStatus.SUSPENDED:
        return "resume it once the reason is gone; what arrives is kept until then"
    if record.reason is not None:
        return "start a worker that has this code and consumes its queue, or terminate it"
    if pending.overdue_since is not None and now - pending.overdue_since > 60 * _SECOND:
        return (
            "no worker takes its turns: is one running that knows the orchestrator and consumes its"
            " queue?"
        )
    if (
        any(_is_unsent(row) for row in pending.activities)
        and now - record.updated_at > 60 * _SECOND
    ):
        return (
            "the message of an activity cannot be sent: the workers' log says why (its arguments"
            " and the serializer, a queue that does not exist, the limit of the broker). That is"
            " tried again until it is fixed"
        )
    if any(
        row.sends >= 3 and row.holder is None and not row.is_delegated for row in pending.activities
    ):
        return (
            "an activity is sent again and again and never runs: does a worker consume its queue?"
        )
    queues = {row.queue or "" for row in pending.activities if _waits_long(row, now)}
    if queues:
        return (
            f"its activities wait in {', '.join(sorted(queues))}: behind a long backlog, or because"
            " slots are taken by long activities, or because no worker consumes that; celery"
            " durable doctor tells which"
        )
    if not found.waits_for and stall is not None:
        return f"{stall}. Cancel or terminate it, or restart it on code that is fixed"
    if not found.waits_for:
        return "it waits for an event or a lock of its own code; load the code here to see which"
    return _WAIT


def _moment(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(" ", "seconds")


def _ago(micros: int, now: int) -> str:
    return f"{timedelta(seconds=max(0, now - micros) // _SECOND)} ago ({_moment(micros)})"


def _ahead(micros: int, now: int) -> str:
    return f"in {timedelta(seconds=max(0, micros - now) // _SECOND)} ({_moment(micros)})"


_WAIT = "nothing to do: it continues when that has happened"
_ADVICE = {
    RuntimeStatus.COMPLETED: "it is done: see its output",
    RuntimeStatus.FAILED: (
        "see its failure and its history; rewind runs again what failed, restart everything"
    ),
    RuntimeStatus.CANCELED: "it was canceled; restart begins once more with the same input",
    RuntimeStatus.TERMINATED: "it was terminated; restart begins once more with the same input",
}
