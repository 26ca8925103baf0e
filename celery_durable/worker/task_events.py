"""An orchestration on Celery's event stream: one task, from its first turn to its end.

Monitors such as Flower and ``celery events`` know tasks. The messages of turns would be shown as
one task that is received again and again and never ends, so Celery sends no events for them; these
here are sent instead, by the process that took the turn. Like all events they are for people to
look at: one that cannot be sent is lost, and nothing depends on it.

A worker sends them where events are on, by the thread of ``telemetry_events.EventSender``: no turn
waits for the broker. Other processes cannot know whether a monitor listens, so what they do rarely
and at once (terminate, rewind) is always sent.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.events.dispatcher import EventDispatcher
from celery.events.event import Event, get_exchange
from celery.utils.nodenames import anon_nodename
from celery.utils.saferepr import saferepr
from celery.utils.time import utcoffset

from ..core.canvas_options import CanvasOptions
from ..core.commands import shown_in
from ..core.history import load_events
from ..core.status import RuntimeStatus
from ..engine.observers import CommitNotice, PropagatedContext
from ..errors import DurableError

if TYPE_CHECKING:
    from ..engine.records import InstanceRow
    from ..engine.store_ports import Store
    from ..engine.summary import ExecutionSummary
    from ..engine.writes import NewInstance, TurnCommit
    from ..payload import PayloadCodec
    from .telemetry_events import EventSender

__all__ = ["TaskEvents", "NoSentEvent", "shown_otherwise"]

log: logging.Logger = logging.getLogger("celery_durable.task_events")
_LONGEST = 1024  # as in celery.app.amqp
_SECOND = 1_000_000
_SILENCE = 30.0


class NoSentEvent:
    """Stands for the event dispatcher of a turn message: that it was sent is no news of the
    task.
    """

    def publish(self, *args: Any, **kwargs: Any) -> None:
        """Send nothing."""


def shown_otherwise(request: Any) -> dict[str, str]:
    """Return how a message shows its arguments, where that is not how Celery shows them by
    itself.
    """
    args = tuple(request.args or ())
    own = {
        "argsrepr": (_text(args), _text(list(args))),
        "kwargsrepr": (_text(request.kwargs or {}),),
    }
    return {
        key: text for key, text in shown_in(vars(request)).items() if text and text not in own[key]
    }


class TaskEvents:
    """Sends the events of one app's orchestrations (``engine.observers.Observer``)."""

    needs_summary = False

    def __init__(
        self,
        app: Celery,
        store: Store,
        codec: PayloadCodec,
        sender: EventSender,
        worker_lease: float,
    ) -> None:
        self.app = app
        self.hostname: str | None = None
        self._store = store
        self._codec = codec
        self._sender = sender
        self._lease = int(worker_lease * _SECOND)
        self._can_send: bool | None = None
        self._other: tuple[str | None, float] = (None, 0.0)
        self._silent_until = 0.0

    # -- what --------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Tell whether there may be anything to say."""
        return self._sender.is_on or self._is_client

    def starting(self, new: NewInstance) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def carried(self, instance: InstanceRow, summary: ExecutionSummary) -> PropagatedContext:
        """Return nothing."""
        return PropagatedContext()

    def started(self, new: NewInstance) -> None:
        """Say that an orchestration was started, if the app wants to know of what is sent
        (``task_send_sent_event``).
        """
        if self.app.conf.task_send_sent_event and not self.app.conf.task_always_eager:
            self._send_now(
                anon_nodename,
                lambda: [("task-sent", {**self._about(new), "timestamp": time.time()})],
            )

    def committed(self, seen: CommitNotice) -> None:
        """Send that an orchestration has begun, has ended, or continues after its end, if this
        commit says so.
        """
        instance, commit = seen.instance, seen.commit
        if commit.reopens:
            self._emit(partial(_again, instance.id, commit, time.time()))
        elif commit.status is None or not (
            instance.status is RuntimeStatus.PENDING or commit.status.is_terminal
        ):
            return
        elif self._sender.is_on or commit.status is RuntimeStatus.TERMINATED:
            self._emit(partial(self._progress, instance, commit, time.time()))

    @property
    def _is_client(self) -> bool:
        return self.hostname is None and not self.app.conf.task_always_eager

    def _progress(
        self, instance: InstanceRow, commit: TurnCommit, now: float
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return what a commit means for the task that an orchestration is to monitors."""
        about = {**self._about(instance), "timestamp": now}
        events: list[tuple[str, dict[str, Any]]] = []
        if (
            instance.status is RuntimeStatus.PENDING
            and commit.status is not RuntimeStatus.TERMINATED
        ):
            events = [
                ("task-received", about),
                ("task-started", {"uuid": instance.id, "timestamp": now}),
            ]
        if commit.status is not None and commit.status.is_terminal:
            events.append(self._end(instance, commit, about))
        return events

    def _about(self, instance: InstanceRow | NewInstance) -> dict[str, Any]:
        canvas = self._canvas(instance.canvas)
        shown = dict(canvas.shown) or shown_in(canvas.options)
        match self._decoded(instance.input) if instance.input and len(shown) < 2 else None:
            case [list(args) | tuple(args), dict(kwargs)]:
                texts = {"argsrepr": _text(tuple(args)), "kwargsrepr": _text(kwargs)}
            case _:
                texts = {}
        texts |= shown
        return {
            "uuid": instance.id,
            "name": instance.name,
            "args": texts.get("argsrepr"),
            "kwargs": texts.get("kwargsrepr"),
            "root_id": instance.root_id or instance.id,
            "parent_id": instance.parent_id or canvas.finish.get("parent_id"),
            "retries": 0,
            "eta": None,
            "expires": None,
        }

    def _canvas(self, text: str | None) -> CanvasOptions:
        if not text:
            return CanvasOptions()
        found = self._decoded(text)
        return CanvasOptions(found if isinstance(found, dict) else None)

    def _end(
        self, instance: InstanceRow, commit: TurnCommit, about: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        fields = {key: value for key, value in about.items() if value is not None}
        if commit.status is RuntimeStatus.COMPLETED:
            record = self._store.reads.fetch(instance.id)
            if (
                record is not None
                and record.execution == instance.execution
                and record.started_at is not None
            ):
                fields["runtime"] = (
                    (record.completed_at or record.updated_at) - record.started_at
                ) / _SECOND
            return "task-succeeded", {
                **fields,
                "result": _text(self._decoded(commit.output or "null")),
            }
        if commit.status is RuntimeStatus.FAILED:
            error, _ = self._codec.decode_failure(commit.failure or "")
            return "task-failed", {**fields, "exception": _text(error), "traceback": ""}
        text = f"{commit.status}: {commit.reason}" if commit.reason else str(commit.status)
        is_terminated = commit.status is RuntimeStatus.TERMINATED
        return "task-revoked", {
            **fields,
            "exception": text[:_LONGEST],
            "terminated": is_terminated,
            "signum": None,
            "expired": False,
        }

    def _decoded(self, payload: str) -> Any:
        try:
            return self._codec.decode(payload)
        except DurableError:
            return None

    # -- how ---------------------------------------------------------------------------------------

    def _emit(self, make: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
        if self.hostname is not None:
            self._sender.put(make)
        else:
            self._send_now(self._living_worker, make)

    def _send_now(
        self,
        name: Callable[[], str | None],
        make: Callable[[], Sequence[tuple[str, dict[str, Any]]]],
    ) -> None:
        """Send events in the caller's thread.

        After a failure no caller waits for that broker for a while.
        """
        if time.monotonic() < self._silent_until:
            return
        try:
            self._send(name(), make())
        except Exception:
            self._silent_until = time.monotonic() + _SILENCE
            log.debug("the event stream was not told", exc_info=True)

    def _living_worker(self) -> str | None:
        """Return the name of a worker that lives, for a monitor takes the name of a client for
        another worker's.
        """
        hostname, until = self._other
        if time.monotonic() > until:
            hostname = next(iter(self._store.workers.living_workers(self._lease)), None)
            self._other = hostname, time.monotonic() + self._lease / _SECOND
        return hostname

    def _send(self, hostname: str | None, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Send events now, in the name of a worker."""
        if hostname is None or not self._transport_has_events():
            return
        about = {"hostname": hostname, "utcoffset": utcoffset(), "pid": os.getpid()}
        # without a logical clock, which is out of step here: monitors order them as they
        # come
        made = [Event(type_, {**about, **fields}) for type_, fields in events]
        conf = self.app.conf
        with self.app.producer_pool.acquire(block=True) as producer:
            exchange = get_exchange(producer.connection, name=conf.event_exchange)
            for event in made:
                producer.publish(
                    event,
                    routing_key=event["type"].replace("-", "."),
                    exchange=exchange.name,
                    declare=[exchange],
                    serializer=conf.event_serializer,
                    headers={"hostname": hostname},
                    delivery_mode=1,
                    retry=False,
                )

    def _transport_has_events(self) -> bool:
        if self._can_send is None:
            driver = self.app.connection_for_write().transport.driver_type
            self._can_send = driver not in EventDispatcher.DISABLED_TRANSPORTS
        return self._can_send


def _again(instance_id: str, commit: TurnCommit, now: float) -> list[tuple[str, dict[str, Any]]]:
    """Return what a rewind means to monitors: a retry."""
    reason = next(
        (event.facts["reason"] for event in load_events(commit.events or "[]") if event.facts), None
    )
    about = {"uuid": instance_id, "timestamp": now}
    again = {**about, "exception": reason or "rewound", "traceback": None}
    return [("task-retried", again), ("task-started", about)]


def _text(value: Any) -> str:
    return str(saferepr(value, _LONGEST))
