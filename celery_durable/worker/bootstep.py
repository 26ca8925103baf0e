"""Recovery in every worker: a bootstep with a thread and connections of its own.

Created before the pool forks, so that children know which worker they belong to; started after it. It never runs user
code and never blocks the worker's event loop: acknowledgements are handed to the consumer.
"""

from __future__ import annotations

import atexit
import logging
import threading
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from celery import bootsteps
from celery.worker import state as worker_state

from ..engine.records import ActivityTicket
from ..engine.recovery import Recovery, Room
from ..errors import ConfigurationError, DurableError
from .activity import wrap_tasks
from .request import hold_messages, watch_revoke
from .runtime import Runtime, runtime_of

__all__ = ["RecoveryStep"]

log = logging.getLogger("celery_durable.recovery")


class RecoveryStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts and stops recovery with the worker."""

    requires = {"celery.worker.components:Pool"}  # noqa: RUF012

    def __init__(self, worker: Any, **options: Any) -> None:
        self._stop = threading.Event()
        self._thread: Any = None
        self._runtime: Runtime | None = None
        self._seen: set[str] = set()
        self._absences: dict[ActivityTicket, int] = {}
        self._had_room = False
        super().__init__(worker, **options)

    def create(self, worker: Any) -> Any:
        """Prepare this process before the pool forks."""
        runtime = runtime_of(worker.app)
        wrap_tasks(worker.app)
        hold_messages(worker.app)
        watch_revoke(worker.app)
        runtime.worker_id = uuid.uuid4().hex
        runtime.publisher.queues = frozenset(worker.app.amqp.queues.consume_from)
        runtime.announcer.hostname = str(worker.hostname)
        if runtime.events is not None:
            runtime.events.share(worker.hostname, bool(worker.task_events))
        self._runtime = runtime
        try:
            log.info("durable store: %s (%s...)", runtime.store.database, runtime.store.id[:12])
        except ConfigurationError:
            raise
        except DurableError as error:
            log.error("the durable store cannot be reached yet: %s", error)
        runtime.store.database.dispose()  # the children shall not inherit a connection
        return self

    def start(self, worker: Any) -> None:
        """Say that this worker lives, before it takes a message, and start the thread."""
        runtime = self._runtime
        assert runtime is not None and runtime.worker_id is not None
        try:
            runtime.store.beat(runtime.worker_id, str(worker.hostname))
        except DurableError as error:
            log.error("the durable store cannot be reached yet: %s", error)
        self._thread = threading.Thread(target=self._run, args=(worker,), name="durable-recovery", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    def stop(self, worker: Any) -> None:
        """Go on until the pool has finished: a warm shutdown may take long, and its activities are alive."""
        threading.Thread(target=self._leave_after, args=(worker,), name="durable-leave", daemon=True).start()

    terminate = stop

    def _leave_after(self, worker: Any) -> None:
        worker.blueprint.shutdown_complete.wait()
        self._leave()

    def _leave(self) -> None:
        """Stop the thread and give back what this worker held."""
        if self._stop.is_set():
            return
        self._stop.set()
        atexit.unregister(self._leave)
        if self._thread is not None:
            self._thread.join(5)
        runtime = self._runtime
        if runtime is not None and runtime.worker_id is not None:
            try:
                runtime.store.unregister(runtime.worker_id)
            except DurableError:
                log.debug("could not unregister; the lease will run out", exc_info=True)

    def info(self, worker: Any) -> dict[str, Any]:
        """Return what ``celery inspect stats`` shows."""
        runtime = self._runtime
        if runtime is None:
            return {}
        return {
            "durable": {
                "worker": runtime.worker_id, "store": str(runtime.store.database), "orchestrators": runtime.registry.names()
            }
        }  # fmt: skip

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self, worker: Any) -> None:
        runtime = self._runtime
        assert runtime is not None and runtime.worker_id is not None
        recovery = Recovery(
            runtime.store, runtime.runner, runtime.publisher, runtime.registry, runtime.codec, runtime.settings,
            runtime.worker_id, str(worker.hostname), lambda: self._room(worker),
        )  # fmt: skip
        is_down = False
        while not self._stop.wait(runtime.settings.recovery_interval):
            try:
                self._turn_events(worker, runtime)
                recovery.tick(self._held, lambda tickets: self._acknowledge(worker, tickets))
                self._free_lost(runtime, runtime.worker_id)
                is_down = False
            except DurableError as error:
                if not is_down:
                    log.error("recovery waits for the store: %s", error)
                is_down = True
            except Exception:
                log.exception("recovery failed; it goes on")

    def _turn_events(self, worker: Any, runtime: Runtime) -> None:
        """Follow Celery's own events, which a monitor may turn on and off at any time."""
        dispatcher = getattr(getattr(worker, "consumer", None), "event_dispatcher", None)
        if dispatcher is not None and runtime.events is not None:
            runtime.events.turn(bool(dispatcher.enabled) and (not dispatcher.groups or "task" in dispatcher.groups))

    def _held(self) -> list[ActivityTicket]:
        """Return the activities that were running at the last look already, and run still."""
        active = {request.id for request in _snapshot(worker_state.active_requests)}
        tickets = {id_: ticket for id_ in active if (ticket := ActivityTicket.parse(id_)) is not None}
        due = [ticket for id_, ticket in tickets.items() if id_ in self._seen]
        self._seen = set(tickets)
        self._note_absences(due, tickets.values())
        return due

    def _note_absences(self, marked: Iterable[ActivityTicket], running: Iterable[ActivityTicket]) -> None:
        """Note which activities were marked here and run no more; the second time it is no transition between two states."""
        running = set(running)
        absences = dict.fromkeys(marked, 0) | {
            ticket: 0 if ticket in running else number + 1 for ticket, number in self._absences.items()
        }
        for ticket, number in list(absences.items()):
            if number >= 2:
                del absences[ticket]
                if self._runtime is not None:
                    self._runtime.lost.append(ticket)
        self._absences = absences

    def _free_lost(self, runtime: Runtime, worker_id: str) -> None:
        """Free what the store believes to run here and does not: its end could not be recorded when it came."""
        for _ in range(len(runtime.lost)):
            ticket = runtime.lost[0]
            if runtime.store.free_held(ticket, worker_id):
                log.warning("activity %s is marked as held here, but is not: it will run again", ticket.task_id)
            runtime.lost.popleft()

    def _acknowledge(self, worker: Any, tickets: Sequence[ActivityTicket]) -> None:
        ids = {ticket.task_id for ticket in tickets}
        for request in _snapshot(worker_state.active_requests):
            if request.id in ids and hasattr(request, "acknowledge_held") and not request.acknowledged:
                worker.consumer.call_soon(request.acknowledge_held)

    def _room(self, worker: Any) -> Room:
        """Tell which queues are known to be empty: a worker with spare prefetch would have their messages."""
        consumer = getattr(worker, "consumer", None)
        task_consumer = getattr(consumer, "task_consumer", None)
        qos = getattr(consumer, "qos", None)
        if consumer is None or task_consumer is None or qos is None:
            self._had_room = False
            return Room()
        limit = qos.value or 0
        has_room = not limit or len(_snapshot(worker_state.reserved_requests)) < limit
        had_room, self._had_room = self._had_room, has_room
        if not (has_room and had_room):
            return Room()
        return Room(frozenset(queue.name for queue in task_consumer.queues))


def _snapshot(requests: Any) -> list[Any]:
    """Copy one of Celery's weak sets, which changes under us."""
    for _ in range(20):
        try:
            return list(requests)
        except RuntimeError:
            continue
    return []
