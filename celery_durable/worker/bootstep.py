"""Recovery in every worker: a bootstep with threads and connections of its own.

Created before the pool forks, so that children know which worker they belong to; started after it.
It never runs user code and never blocks the worker's event loop: acknowledgements are handed to the
consumer.

Recovery says itself that its worker lives. It also speaks to the broker, which may keep it for any
time: a connection that breaks without a word is noticed late. So a second thread says it while
recovery is overdue. Otherwise the other workers would take this one for dead, and run again what it
runs.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections.abc import Collection
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerLostError
from celery.worker import state as worker_state

from ..engine.records import ActivityAttemptId
from ..engine.recovery import Recovery
from ..errors import ConfigurationError, DurableError
from ..forks import share_with_children
from . import attempt, receive  # noqa: F401  what children run is there before they are forked
from .activity import wrap_tasks
from .archiving import ArchiveThread
from .beat import BeatSchedules
from .no_beat import refuse_where_workers_tick
from .request import hold_messages, watch_revoke
from .runtime import Runtime, runtime_of
from .task_limits import check_limits, keep_limits
from .turn_queues import common_queue
from .witness import WorkerWitness, snapshot

__all__ = ["RecoveryStep"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")


class RecoveryStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts and stops recovery with the worker."""

    requires: set[str] = {"celery.worker.components:Pool"}  # noqa: RUF012

    def __init__(self, worker: Any, **options: Any) -> None:
        self._stop = threading.Event()
        self._thread: Any = None
        #: When recovery ended its last tick, by this process's clock.
        self._last_tick: float = 0.0
        self._runtime: Runtime | None = None
        self._archive: ArchiveThread | None = None
        self._beat: BeatSchedules | None = None
        self.witness: WorkerWitness = WorkerWitness(worker)
        super().__init__(worker, **options)

    def create(self, worker: Any) -> Any:
        """Prepare this process before the pool forks."""
        runtime = runtime_of(worker.app)
        runtime.registry.check()
        if runtime.client.archiver is not None:
            runtime.client.archiver.check()
        if runtime.settings.beat:
            if getattr(worker, "beat", False):
                refuse_where_workers_tick(worker.app)
            self._beat = BeatSchedules(worker.app, runtime)
        wrap_tasks(worker.app)
        check_limits(worker.app)
        hold_messages(worker.app)
        watch_revoke(worker.app)
        runtime.worker_id = uuid.uuid4().hex
        _consume_turns(worker.app, common_queue(runtime.settings.turn_queue))
        for queue in runtime.publisher.turn_queues.missing():
            runtime.publisher.turn_queues.consume(queue)
        runtime.publisher.queues = frozenset(worker.app.amqp.queues.consume_from)
        runtime.task_events.hostname = str(worker.hostname)
        runtime.publisher.finisher.hostname = str(worker.hostname)
        if runtime.events is not None:
            runtime.events.share(worker.hostname, bool(worker.task_events))
        self._runtime = runtime
        try:
            log.info("durable store: %s (%s...)", runtime.store.location, runtime.store.id[:12])
        except ConfigurationError:
            raise
        except DurableError as error:
            log.error("the durable store cannot be reached yet: %s", error)
        runtime.store.dispose()  # the children shall not inherit a connection
        share_with_children()
        return self

    def start(self, worker: Any) -> None:
        """Say that this worker lives, before it takes a message, and start the thread."""
        runtime = self._runtime
        assert runtime is not None and runtime.worker_id is not None
        try:
            runtime.store.workers.heartbeat(runtime.worker_id, str(worker.hostname))
        except DurableError as error:
            log.error("the durable store cannot be reached yet: %s", error)
        self._keep_limits(runtime)
        if self._beat is not None:
            try:
                self._beat.declare()
            except DurableError as error:
                log.error("beat_schedule is declared once the store can be reached: %s", error)
        if runtime.client.archiver is not None:
            self._archive = ArchiveThread(runtime.client.archiver, self._stop)
            self._archive.start()
        self._thread = threading.Thread(
            target=self._run, args=(worker,), name="durable-recovery", daemon=True
        )
        self._last_tick = time.monotonic()
        self._thread.start()
        threading.Thread(
            target=self._stay_alive, args=(worker,), name="durable-heartbeat", daemon=True
        ).start()
        atexit.register(self._leave)

    def _keep_limits(self, runtime: Runtime) -> None:
        try:
            keep_limits(runtime.runner)
        except DurableError as error:
            log.error("what tasks declare about limits could not be stored: %s", error)

    def stop(self, worker: Any) -> None:
        """Continue until the pool has finished: a warm shutdown may take long, and its activities
        are alive.
        """
        threading.Thread(
            target=self._leave_after, args=(worker,), name="durable-leave", daemon=True
        ).start()

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
        self.witness.close()
        runtime = self._runtime
        if runtime is not None and runtime.worker_id is not None:
            try:
                runtime.store.workers.unregister(runtime.worker_id)
            except DurableError:
                log.debug("could not unregister; the lease will run out", exc_info=True)

    def info(self, worker: Any) -> dict[str, Any]:
        """Return what ``celery inspect stats`` shows."""
        runtime = self._runtime
        if runtime is None:
            return {}
        return {
            "durable": {
                "worker": runtime.worker_id,
                "store": runtime.store.location,
                "orchestrators": runtime.registry.names(),
            }
        }

    # -- the thread --------------------------------------------------------------------------------

    def _run(self, worker: Any) -> None:
        runtime = self._runtime
        assert runtime is not None and runtime.worker_id is not None
        recovery = Recovery(
            runtime.store,
            runtime.runner,
            runtime.publisher,
            runtime.registry,
            runtime.codec,
            runtime.settings,
            runtime.worker_id,
            str(worker.hostname),
            self.witness,
            WorkerLostError,
            wake_archive=None if self._archive is None else self._archive.wake,
        )
        is_down = False
        while not self._stop.wait(runtime.settings.recovery_interval):
            try:
                self._turn_events(worker, runtime)
                runtime.publisher.turn_queues.follow(getattr(worker, "consumer", None))
                if self._beat is not None:
                    self._beat.poll()
                recovery.tick(
                    self.witness.running, lambda tickets: self._acknowledge(worker, tickets)
                )
                is_down = False
            except DurableError as error:
                if not is_down:
                    log.error("recovery waits for the store: %s", error)
                is_down = True
            except Exception:
                log.exception("recovery failed; it tries again at its next interval")
            self._last_tick = time.monotonic()

    def _stay_alive(self, worker: Any) -> None:
        """Say that this worker lives, while something keeps recovery."""
        runtime = self._runtime
        assert runtime is not None and runtime.worker_id is not None
        interval = runtime.settings.heartbeat_interval
        while not self._stop.wait(interval):
            if time.monotonic() - self._last_tick <= interval + runtime.settings.recovery_interval:
                continue
            try:
                runtime.store.workers.heartbeat(runtime.worker_id, str(worker.hostname))
            except DurableError as error:
                log.debug("cannot say that this worker lives: %s", error)
            except Exception:
                log.exception("cannot say that this worker lives; it is tried again")

    def _turn_events(self, worker: Any, runtime: Runtime) -> None:
        """Follow Celery's own events, which a monitor may turn on and off at any time."""
        dispatcher = getattr(getattr(worker, "consumer", None), "event_dispatcher", None)
        if dispatcher is not None and runtime.events is not None:
            runtime.events.turn(
                bool(dispatcher.enabled) and (not dispatcher.groups or "task" in dispatcher.groups)
            )

    def _acknowledge(self, worker: Any, tickets: Collection[ActivityAttemptId]) -> None:
        ids = {ticket.task_id for ticket in tickets}
        for request in snapshot(worker_state.active_requests):
            if (
                request.id in ids
                and hasattr(request, "acknowledge_held")
                and not request.acknowledged
            ):
                worker.consumer.call_soon(request.acknowledge_held)


def _consume_turns(app: Any, name: str | None) -> None:
    """Let a worker of the default queue take turns as well, if these have a queue of their own."""
    queues = app.amqp.queues
    if (
        name is not None
        and name not in queues.consume_from
        and app.conf.task_default_queue in queues.consume_from
    ):
        queues.select_add(name)
