"""Events of ours on Celery's event stream: one for each commit that moved an instance, for
monitors that count or watch.

They are sent where events are on: in a worker under ``-E``, ``worker_send_task_events`` or a
monitor's ``enable_events``; elsewhere under ``task_send_sent_event``. A thread sends them in
batches, so that no turn waits for the broker; those that cannot be sent are lost. They hold names,
ids and numbers, never payloads.
"""

from __future__ import annotations

import logging
import mmap
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from typing import Any

from celery import Celery

from ..core.history import EventKind
from ..core.plain_task import shown_version
from ..core.ports import Codec
from ..core.status import RuntimeStatus
from ..engine.observers import CommitNotice, PropagatedContext
from ..engine.records import InstanceRow
from ..engine.summary import ExecutionSummary
from ..engine.writes import NewInstance
from ..errors import ActivityTimeout, DurableError, OrchestrationTimeout
from ..forks import renew_in_children
from .later import Later

__all__ = ["EventSender"]

log: logging.Logger = logging.getLogger("celery_durable.events")
_PAUSE = 0.5
_MOST_WAITING = 10_000
_MOST_UNMADE = 1_000  # these hold inputs and outputs until they are made
_BATCH = 500
_MOST_ATTEMPTS = 1_000
_OUTCOMES: dict[str, str] = {
    EventKind.ACTIVITY_COMPLETED: "completed",
    EventKind.ACTIVITY_FAILED: "failed",
}


#: Of ``ActivityTimeout.kind``, as the metric calls it.
_LIMITS = {"timeout": "attempt", "start_timeout": "start", "heartbeat_timeout": "heartbeat"}
_Made = tuple[str, dict[str, Any]]


class _Timeless:
    """The clock of a process that is not kept in step: receivers go by time stamps instead."""

    def forward(self) -> int:
        return 0


class EventSender:
    """Sends the events of one process (``engine.observers.Observer``)."""

    needs_summary = True

    def __init__(self, app: Celery, codec: Codec) -> None:
        self._app = app
        self._codec = codec
        self._hostname: str | None = None
        self._switch: MutableSequence[int] | mmap.mmap = bytearray(
            [bool(app.conf.task_send_sent_event)]
        )
        self._later = Later("durable-events", _PAUSE, self.flush)
        self._renew()
        renew_in_children(self, EventSender._renew)

    def _renew(self) -> None:
        self._waiting: deque[Iterable[_Made]] = deque(maxlen=_MOST_WAITING)
        self._unmade: deque[Callable[[], Iterable[_Made]]] = deque(maxlen=_MOST_UNMADE)

    # -- on and off --------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Tell whether events are on in this worker, or in this client."""
        return bool(self._switch[0])

    def share(self, hostname: str, is_on: bool) -> None:
        """Become the sender of a worker whose pool is about to fork: its children see when events
        are turned on or off.
        """
        self._hostname = hostname
        self._switch = mmap.mmap(-1, 1)
        self.turn(is_on)

    def turn(self, is_on: bool) -> None:
        """Turn events on or off, here and in the processes of the pool."""
        self._switch[0] = int(is_on)

    # -- what happened -----------------------------------------------------------------------------

    def starting(self, new: NewInstance) -> Mapping[str, Any]:
        """Return nothing: a start is counted when it begins."""
        return {}

    def started(self, new: NewInstance) -> None:
        """Send nothing: a start is counted when it begins."""

    def carried(self, instance: InstanceRow, summary: ExecutionSummary) -> PropagatedContext:
        """Let the next execution know when the instance began."""
        return (
            PropagatedContext(successor={"began": summary.first_at})
            if summary.first_at is not None
            else PropagatedContext()
        )

    def committed(self, seen: CommitNotice) -> None:
        """Put the event of a commit into the queue of this process."""
        kind = "turn" if seen.change is None else seen.change.partition(" ")[0]
        attempts = [
            [asked.name, _OUTCOMES[event.kind], _seconds((event.facts or {}).get("ran"))]
            for event, asked in seen.came
            if event.kind in _OUTCOMES and asked is not None
        ]
        now = time.time()
        fields = {
            **_fields(seen),
            "timers": _timers(seen),
            "attempts": attempts[:_MOST_ATTEMPTS],
            "timeouts": _timeouts(seen, self._codec)[:_MOST_ATTEMPTS],
            "retries": _retries(seen)[:_MOST_ATTEMPTS],
            "timestamp": now,
        }
        self._waiting.append(((f"durable-{kind}", fields),))
        for first in range(_MOST_ATTEMPTS, len(attempts), _MOST_ATTEMPTS):
            rest = attempts[first : first + _MOST_ATTEMPTS]
            about = {
                "instance": seen.instance.id,
                "orchestration": seen.instance.name,
                "timestamp": now,
            }
            self._waiting.append((("durable-outcomes", {**about, "attempts": rest}),))
        self._later.wake()

    def put(self, make: Callable[[], Iterable[_Made]]) -> None:
        """Put more events into the queue; they are made in the thread that sends them."""
        self._unmade.append(make)
        self._later.wake()

    def flush(self) -> None:
        """Send what waits; what cannot be sent is lost."""
        try:
            while batch := self._take():
                with self._app.events.default_dispatcher(hostname=self._hostname) as dispatcher:
                    dispatcher.buffer_group, dispatcher.buffer_limit = (
                        frozenset({"durable", "task"}),
                        4 * _BATCH,
                    )
                    dispatcher.clock = _Timeless()
                    for kind, fields in batch:
                        dispatcher.send(kind, **fields)
                    dispatcher.flush()
        except Exception:
            log.debug("events could not be sent; they are lost", exc_info=True)

    def _take(self) -> list[_Made]:
        batch: list[_Made] = []
        while len(batch) < _BATCH and (self._waiting or self._unmade):
            try:
                batch += self._waiting.popleft() if self._waiting else self._unmade.popleft()()
            except IndexError:
                break  # the other one who sends was faster
            except Exception:
                log.debug("an event could not be made; it is lost", exc_info=True)
        return batch


def _fields(seen: CommitNotice) -> dict[str, Any]:
    instance, commit, scope, summary = seen.instance, seen.commit, seen.scope, seen.summary
    is_over = commit.status is not None and commit.status.is_terminal
    age = (
        None
        if not is_over or summary is None or summary.first_at is None
        else (seen.now - summary.first_at) / 1e6
    )
    is_turn = scope is not None and scope.activity is None
    lag = scope.lag if scope is not None else None
    return {
        "instance": instance.id,
        "orchestration": instance.name,
        "version": shown_version(instance.version),
        "turn": commit.sequence + 1,
        "status": None if commit.status is None else str(commit.status),
        "begun": seen.begins,
        "age": age,
        "seconds": time.monotonic() - scope.began if scope is not None and is_turn else None,
        "lag": None if lag is None else lag / 1e6,
        "nondeterminism": bool(commit.reason and commit.reason.startswith("NonDeterminismError:")),
    }


def _timers(seen: CommitNotice) -> list[float]:
    """Return how late each timer was taken.

    One that was due within its own turn was not waited for.
    """
    now = seen.now if seen.scope is None or seen.scope.snapshot is None else seen.scope.snapshot.now
    return [
        max(0, now - event.at) / 1e6
        for event, asked in seen.came
        if asked is not None
        and event.kind is EventKind.TIMER_FIRED
        and event.command not in seen.fired
    ]


def _retries(seen: CommitNotice) -> list[list[str]]:
    """Return the activities that are tried once more."""
    return [
        [new.name] for new in seen.commit.activities if new.attempt > 1 and new.kind == "activity"
    ]


def _timeouts(seen: CommitNotice, codec: Codec) -> list[list[str]]:
    """Return what ran out of time: names, and which of their times."""
    found: list[list[str]] = []
    for event, asked in seen.came:
        if event.kind is EventKind.ACTIVITY_FAILED and asked is not None:
            late = _decoded(event.payload, ActivityTimeout, codec)
            kind = _LIMITS.get(str(late.facts.get("kind"))) if late is not None else None
            found += [] if kind is None else [[asked.name, kind]]
    if seen.commit.status is RuntimeStatus.FAILED:
        late = _decoded(seen.commit.failure, OrchestrationTimeout, codec)
        is_own = late is not None and late.facts.get("instance_id") == seen.instance.id
        found += [[seen.instance.name, "run"]] if is_own else []
    return found


def _decoded(payload: str | None, wanted: type[DurableError], codec: Codec) -> DurableError | None:
    """Return an error if it is one of a type; others are not decoded, where that can be told."""
    if payload is None or (payload.startswith("{") and wanted.__name__ not in payload):
        return None
    try:
        error, _ = codec.decode_failure(payload)
    except DurableError:
        return None
    return error if isinstance(error, wanted) else None


def _seconds(microseconds: Any) -> float | None:
    return microseconds / 1e6 if isinstance(microseconds, int) else None
