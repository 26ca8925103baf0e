"""The handle of an orchestration: Celery's ``AsyncResult``, and all that the store knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from .core.context import EPOCH, refuse_inside_orchestrator
from .core.events import Event
from .core.status import RuntimeStatus
from .engine.explain import Explanation, explain
from .engine.records import InstanceRecord
from .engine.repair import Forecast
from .engine.verification import export_history
from .errors import OrchestrationFailed, OrchestrationRevoked

__all__ = ["Orchestration"]


class Orchestration(AsyncResult):  # type: ignore[misc]
    """One orchestration. Status fields are read from the store at first use, and again by ``refresh()``.

    Times are aware UTC. ``input`` is ``{"args": [...], "kwargs": {...}}``; payloads are decoded.
    """

    def __init__(
        self,
        id: str,
        app: Celery | None = None,
        record: InstanceRecord | None = None,
        may_come: bool = False,
        nudge: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(id, app=app, **options)
        self._record = record
        self._may_come = may_come
        self._nudge = nudge

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id,)

    # -- what the store knows ---------------------------------------------------------------------------------

    @property
    def _runtime(self) -> Any:
        return self.app.durable.runtime

    @property
    def _known(self) -> InstanceRecord:
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    def _full(self) -> InstanceRecord:
        if self._known.input is None:
            self.refresh()
        return self._known

    def refresh(self) -> Orchestration:
        """Read the status fields anew.

        Raises:
            InstanceNotFound: there is no such orchestration (any more).
        """
        self._record = self._runtime.client.fetch(self.id)
        return self

    @property
    def name(self) -> str:
        """The orchestrator's task name."""
        return self._known.name

    @property
    def version(self) -> str | None:
        """The version of the orchestrator that it started with."""
        return self._known.version

    @property
    def runtime_status(self) -> RuntimeStatus:
        """Where it stands."""
        return self._known.status

    @property
    def input(self) -> dict[str, Any]:
        """The arguments of the current execution."""
        args, kwargs = self._runtime.codec.decode(self._full().input or "[[], {}]")
        return {"args": args, "kwargs": kwargs}

    @property
    def output(self) -> Any:
        """What the orchestrator returned; None before that."""
        payload = self._full().output
        return None if payload is None else self._runtime.codec.decode(payload)

    @property
    def failure(self) -> BaseException | None:
        """The exception that the orchestrator raised; None otherwise."""
        payload = self._full().failure
        return None if payload is None else self._runtime.codec.decode_failure(payload)[0]

    @property
    def custom_status(self) -> Any:
        """What ``ctx.set_status`` last said."""
        payload = self._full().custom_status
        return None if payload is None else self._runtime.codec.decode(payload)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that it was started with."""
        return dict(self._known.tags)

    @property
    def parent_id(self) -> str | None:
        """The orchestration that this one is a child of."""
        return self._known.parent_id

    @property
    def reason(self) -> str | None:
        """Why it is in its status, in words."""
        return self._known.reason

    @property
    def created_at(self) -> datetime:
        """When it was asked for."""
        return _moment(self._known.created_at) or EPOCH

    @property
    def started_at(self) -> datetime | None:
        """When its first turn was committed."""
        return _moment(self._known.started_at)

    @property
    def updated_at(self) -> datetime:
        """When its last turn was committed."""
        return _moment(self._known.updated_at) or EPOCH

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return _moment(self._known.completed_at)

    def history(self) -> list[Event]:
        """Return the events of the current execution, in order."""
        events: list[Event] = self._runtime.client.history(self.id)
        return events

    def explain(self) -> Explanation:
        """Say what it waits for, since when, and what to do; ``print(run.explain())`` is for people.

        It has ``.waits_for`` (a list of texts), ``.last_error`` and ``.advice``. Which events it waits for is known where its
        code is registered.
        """
        runtime = self._runtime
        return explain(runtime.store, runtime.runner, runtime.client.fetch(self.id))

    def export_history(self) -> str:
        """Return the history of the current execution as a JSON document for ``durable.replay``.

        Raises:
            PayloadError: the history is damaged.
        """
        runtime = self._runtime
        record = runtime.client.fetch(self.id)
        runtime.client.history(self.id)
        return export_history(record, runtime.store.events(self.id))

    def children(self) -> list[Orchestration]:  # type: ignore[override]
        """Return the direct sub-orchestrations, oldest first."""
        return [
            Orchestration(record.id, app=self.app, record=record) for record in self._runtime.client.children(self.id)
        ]

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None, **_: Any) -> Any:
        """Return the output, or raise the failure; waits while the orchestration runs, also while it is suspended.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: it is not over in time.
            OrchestrationFailed: it was canceled or terminated.
            DurableError: called inside an orchestrator.
        """
        refuse_inside_orchestrator("wait()")
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while True:
            status = self._runtime.store.status_of(self.id)
            self._may_come = self._may_come and status is None
            if (status is None and not self._may_come) or (status is not None and status.is_terminal):
                return self._end()
            if end is not None and time.monotonic() + pause > end:
                if (left := end - time.monotonic()) <= 0:
                    raise TimeoutError(
                        f"orchestration {self.id!r} is {status or 'not started'} after {timeout} seconds"
                    )
                pause = left
            time.sleep(pause)
            pause = min(pause * 1.2, 1.0)

    def get(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> Any:
        """Do the same as ``wait``; with ``propagate=False`` return the exception instead of raising it."""
        try:
            return self.wait(timeout)
        except TimeoutError:
            if not self.refresh().runtime_status.is_terminal:
                raise
            if propagate:
                raise
            return self.failure
        except Exception as error:
            if propagate:
                raise
            return error

    def _end(self) -> Any:
        record = self.refresh()._known
        if record.status is RuntimeStatus.COMPLETED:
            return self.output
        if record.status is RuntimeStatus.FAILED:
            raise self.failure or OrchestrationFailed(f"orchestration {self.id!r} failed", instance_id=self.id)
        because = f": {record.reason}" if record.reason else ""
        raise OrchestrationRevoked(
            f"orchestration {self.id!r} is {record.status}{because}",
            instance_id=self.id, status=record.status, reason=record.reason,
        )  # fmt: skip

    # -- verbs ------------------------------------------------------------------------------------------------------

    def raise_event(self, name: str, data: Any = None, event_id: str | None = None, *, session: Any = None) -> None:
        """Raise an external event; ``event_id`` deduplicates within an execution.

        Args:
            name: what the orchestrator waits for by ``ctx.wait_event(name)``.
            data: the payload.
            event_id: an id of the event's own.
            session: an SQLAlchemy session or connection whose transaction the event joins.

        Raises:
            InvalidState: the orchestration is over.
            InstanceNotFound: there is none.
        """
        self.app.durable.raise_event(self.id, name, data, event_id, session=session)

    def suspend(self, reason: str | None = None) -> None:
        """Stop taking turns; what arrives is kept, running activities finish."""
        self._runtime.client.suspend(self.id, reason)
        self._record = None

    def resume(self, reason: str | None = None) -> None:
        """Go on after a suspension."""
        self._runtime.client.resume(self.id, reason)
        self._record = None

    def cancel(self, reason: str | None = None) -> None:
        """Ask it to cancel: ``CancelledError`` in the orchestrator, once, at its current await."""
        self._runtime.client.cancel(self.id, reason)
        self._record = None

    def revoke(self, *args: Any, reason: str | None = None, **options: Any) -> None:
        """Do the same as ``cancel``, by Celery's name for it."""
        self.cancel(reason or "revoked")

    def terminate(self, output: Any = None, recursive: bool = True, reason: str | None = None) -> None:
        """End it at once, with its children; queued activities do not start."""
        self._runtime.client.terminate(self.id, reason, output, recursive=recursive)
        self._record = None

    def rewind(self, reason: str | None = None, *, dry_run: bool = False) -> Forecast | None:
        """Run what failed again, and keep what has succeeded.

        The calls whose failures made it fail are tried again with a fresh count of attempts, a failed sub-orchestration is
        rewound in its turn, and what a saga undid is done again. If the code was mended instead, it goes on where it failed.
        What an ``except`` block did by itself to make up for the failure is not known to be undone. History keeps the old
        attempts.

        Args:
            reason: kept in history.
            dry_run: change nothing, and return what the orchestrator would do next; needs its code in this process.

        Raises:
            InvalidState: it has not failed.
        """
        if dry_run:
            forecast: Forecast = self._runtime.client.forecast_rewind(self.id)
            return forecast
        self._runtime.client.rewind(self.id, reason)
        self._record = None
        return None

    def fork(self, at: int, new_id: str | None = None, reason: str | None = None) -> Orchestration:
        """Start another orchestration that shares the history of this one up to an event, and goes on from there.

        What was under way then is started anew: activities and sub-orchestrations run again, under the new id.

        Args:
            at: the number of the last event that is kept, counted from 1 in ``run.history()``; what the orchestrator asked for
                upon it is kept as well.
            new_id: of the new one; a random UUID if left out.
            reason: kept in the history of the new one.

        Raises:
            ValueError: there is no such event, or it was over by then.
            InstanceExists: ``new_id`` is in use.
        """
        return Orchestration(self._runtime.client.fork(self.id, at, new_id, reason), app=self.app)

    def override(
        self, call: int, result: Any = None, *, error: BaseException | None = None, reason: str | None = None,
        dry_run: bool = False,
    ) -> Forecast | None:  # fmt: skip
        """Give an activity or a sub-orchestration an outcome from outside.

        While the orchestration lives, the outcome is injected in the place of the one that is awaited: what is under way for
        the call is canceled. When it has failed, the outcome takes the place of the one that history holds, and the orchestration
        is rewound. History says that it came from outside, and why. Nothing comes of an outcome for a call whose failure the
        orchestrator has dealt with.

        Args:
            call: its number: ``.command`` of its events in ``run.history()``.
            result: what it returns.
            error: what it raises, instead.
            reason: kept in history.
            dry_run: change nothing, and return what the orchestrator would do next; needs its code in this process.

        Raises:
            InvalidState: the orchestration is over and has not failed, or it lives and the call has completed.
            ValueError: there is no such call.
            PayloadError: the result cannot be encoded.
        """
        forecast: Forecast | None = self._runtime.client.override(self.id, call, result, error, reason, is_dry=dry_run)
        self._record = None
        return forecast

    def skip(self, call: int, reason: str | None = None, *, dry_run: bool = False) -> Forecast | None:
        """Let a call return None, whatever became of it; see ``override``."""
        return self.override(call, None, reason=reason or "skipped", dry_run=dry_run)

    def restart(self, new_id: str | None = None) -> Orchestration:
        """Start it once more with the same input, on the newest version of the orchestrator, and return the handle.

        Without ``new_id`` it takes the place of this one, which must be over: its history is deleted. Tags and queue are kept,
        callbacks (link, chain, chord) are not.

        Raises:
            InvalidState: it is not over, and no ``new_id`` is given.
            InstanceExists: ``new_id`` is in use.
        """
        started = self._runtime.client.restart(self.id, new_id)
        self._record = None
        return self if new_id is None else Orchestration(started, app=self.app)

    def purge(self, recursive: bool = True) -> None:
        """Delete a finished orchestration with its history.

        Raises:
            InvalidState: it is not over.
        """
        self._runtime.client.purge(self.id, recursive=recursive)
        self._record = None

    def nudge(self) -> None:
        """Send the first turn now, after a transaction that ``start(session=connection)`` joined was committed."""
        if self._nudge is not None:
            self._nudge()


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)
