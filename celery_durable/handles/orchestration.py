"""The handle of an orchestration: Celery's ``AsyncResult``, and all that the store knows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from celery import Celery

from ..core.guard import refuse_inside_orchestrator
from ..core.status import RuntimeStatus
from ..engine.listing import InstanceRecord
from ..errors import OrchestrationFailed, OrchestrationRevoked, WaitTimeout
from .aio import in_thread, twin, wait_for_end_async
from .asking import Asking
from .async_result import AsyncResult
from .audit import AuditEntry, read_audit
from .fields import StatusFields
from .history import HistoryEvent, read_events
from .waiting import wait_for_end

__all__ = ["Orchestration"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with defaults

    from ..engine.explain import Explanation
    from ..engine.forecast import Forecast

    #: What the orchestrator returns; anything, where that is not known.
    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


class Orchestration(Asking, StatusFields, AsyncResult, Generic[R]):  # type: ignore[misc]
    """One orchestration.

    Status fields are read from the store at first use, and again by ``refresh()``.

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

    def history(self) -> list[HistoryEvent]:
        """Return the events of the current execution, in order.

        Raises:
            PayloadError: the history is damaged.

        Example:
            >>> for event in run.history():
            ...     print(event.number, event.time, event.kind, event.name, event.value)
        """
        runtime = self._runtime
        return read_events(runtime.client.history(self.id), runtime.codec)

    def explain(self) -> Explanation:
        """Say what it waits for, since when, and what to do.

        ``print(run.explain())`` is for people.

        It has ``.waits_for`` (a list of texts), ``.last_error`` and ``.advice``. Which events it
        waits for is known where its code is registered.

        Example:
            >>> print(run.explain().advice)
        """
        runtime = self._runtime
        from ..engine.explain import explain

        return explain(runtime.store, runtime.runner, runtime.client.fetch(self.id))

    @property
    def _waits_for(self) -> str:
        """What it waits for, in one line; its state if that is not known."""
        found = self.explain()
        return f"it waits for {', '.join(found.waits_for)}" if found.waits_for else found.state

    def export_history(self) -> str:
        """Return the history of the current execution as a JSON document for ``durable.replay``.

        Raises:
            PayloadError: the history is damaged.

        Example:
            >>> Path("order-42.json").write_text(run.export_history())
        """
        runtime = self._runtime
        record = runtime.client.fetch(self.id)
        runtime.client.history(self.id)
        from ..engine.verify import export_history

        return export_history(record, runtime.store.reads.events(self.id))

    def children(self) -> list[Orchestration]:  # type: ignore[override]
        """Return the direct sub-orchestrations, oldest first.

        Example:
            >>> failed = [child for child in run.children() if child.runtime_status == "FAILED"]
        """
        return [
            Orchestration(record.id, app=self.app, record=record)
            for record in self._runtime.client.children(self.id)
        ]

    def audit(self, limit: int = 100) -> list[AuditEntry]:
        """Return who did what to it, newest first; also after it was purged.

        Example:
            >>> for entry in run.audit():
            ...     print(entry.at, entry.actor, entry.door, entry.verb, entry.effect)
        """
        return read_audit(self._runtime, self.id, None, None, limit, None).items

    # -- waiting -----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None, **_: Any) -> R:
        """Return the output, or raise the failure.

        Waits while the orchestration runs, also while it is suspended.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            WaitTimeout: it is not over in time; any other ``TimeoutError`` is what it failed with.
            OrchestrationFailed: it was canceled or terminated.
            DurableError: called inside an orchestrator; or, with ``task_always_eager``, it waits
                for what nothing here brings about: at once inside a task, and after ten seconds
                where no ``timeout`` is given.

        Example:
            >>> receipt = done.wait(timeout=60)
        """
        refuse_inside_orchestrator("wait()")
        publisher = self._runtime.publisher
        wait_for_end(
            self.id,
            timeout,
            self._read_status,
            is_eager=bool(self.app.conf.task_always_eager),
            is_draining=lambda: publisher.is_draining,
            waits_for=lambda: self._waits_for,
        )
        output: R = self._end()
        return output

    async def aget(
        self, timeout: float | None = None, propagate: bool = True, **options: Any
    ) -> Any:
        """Do the same as ``get`` and ``wait``, for code that runs on an event loop.

        No thread waits meanwhile; who is cancelled leaves the orchestration alone. ``await run`` is
        ``await run.aget()``. Its properties touch no store after that.
        """
        refuse_inside_orchestrator("aget()")
        await wait_for_end_async(self._runtime, self.id, timeout)
        try:
            return await in_thread(self._end)
        except Exception as error:
            if propagate:
                raise
            return error

    def __await__(self) -> Generator[Any, Any, R]:
        return self.aget().__await__()

    async def arefresh(self) -> Self:
        """Do the same as ``refresh``, for code that runs on an event loop; then the properties
        touch no store.
        """
        await in_thread(self.refresh)
        return self

    def _read_status(self) -> tuple[RuntimeStatus | None, bool]:
        """Return the status now, and whether it is the last one: also where nothing is there, and
        nothing is under way that would start it.
        """
        status = self._runtime.store.reads.status_of(self.id)
        self._may_come = self._may_come and status is None
        return status, not self._may_come if status is None else status.is_terminal

    def get(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> Any:
        """Do the same as ``wait``.

        With ``propagate=False`` return the exception instead of raising it.
        """
        try:
            return self.wait(timeout)
        except Exception as error:
            is_own = isinstance(error, WaitTimeout) and error.facts.get("instance_id") == self.id
            if propagate or is_own:
                raise
            return error

    def _end(self) -> Any:
        record = self.refresh()._known
        if record.status is RuntimeStatus.COMPLETED:
            return self.output
        if record.status is RuntimeStatus.FAILED:
            raise self.failure or OrchestrationFailed(
                f"orchestration {self.id!r} failed", instance_id=self.id
            )
        because = f": {record.reason}" if record.reason else ""
        raise OrchestrationRevoked(
            f"orchestration {self.id!r} is {record.status}{because}",
            instance_id=self.id,
            status=record.status,
            reason=record.reason,
        )

    # -- verbs -------------------------------------------------------------------------------------

    def raise_event(
        self, name: str, data: Any = None, event_id: str | None = None, *, session: Any = None
    ) -> None:
        """Raise an external event; ``event_id`` deduplicates within an execution.

        Args:
            name: what the orchestrator waits for by ``ctx.wait_event(name)``.
            data: the payload.
            event_id: an id of the event's own.
            session: an SQLAlchemy session or connection whose transaction the event joins.

        Raises:
            InvalidState: the orchestration is over.
            InstanceNotFound: there is none.

        Example:
            >>> run.raise_event("approved", {"by": "ada"}, event_id="mail-17")
        """
        self.app.durable.raise_event(self.id, name, data, event_id, session=session)

    def set_tags(
        self, tags: Mapping[str, str] | None = None, *, remove: Iterable[str] = ()
    ) -> None:
        """Set some of its tags and remove others, at once and in any status; those that are not
        named stay. The code itself does so by ``ctx.set_tags``.

        Raises:
            InstanceNotFound: there is no such orchestration (any more).
            TypeError: a name or a value is no string.
            ValueError: a tag is to be both set and removed, or cannot be stored.

        Example:
            >>> run.set_tags({"customer": "ada"}, remove=["draft"])
        """
        self._runtime.client.set_tags(self.id, tags, remove)
        self._record = None

    def suspend(self, reason: str | None = None) -> None:
        """Stop taking turns; what arrives is kept, running activities finish.

        Example:
            >>> run.suspend("the bank is down")
        """
        self._runtime.client.suspend(self.id, reason)
        self._record = None

    def resume(self, reason: str | None = None) -> None:
        """Go on after a suspension.

        Example:
            >>> run.resume("the bank is back")
        """
        self._runtime.client.resume(self.id, reason)
        self._record = None

    def cancel(self, reason: str | None = None) -> None:
        """Ask it to cancel: ``CancelledError`` in the orchestrator, once, at its current await.

        Example:
            >>> run.cancel("the customer left")
        """
        self._runtime.client.cancel(self.id, reason)
        self._record = None

    def revoke(self, *args: Any, reason: str | None = None, **options: Any) -> None:
        """Do the same as ``cancel``, by Celery's name for it."""
        self.cancel(reason or "revoked")

    def terminate(
        self, output: Any = None, recursive: bool = True, reason: str | None = None
    ) -> None:
        """End it at once, with its children; queued activities do not start.

        Example:
            >>> run.terminate(reason="a duplicate of order-41")
        """
        self._runtime.client.terminate(self.id, reason, output, recursive=recursive)
        self._record = None

    def rewind(self, reason: str | None = None, *, dry_run: bool = False) -> Forecast | None:
        """Run what failed again, and keep what has succeeded.

        The calls whose failures made it fail are tried again with a fresh count of attempts, a
        failed sub-orchestration is rewound in its turn, and what a saga undid is done again. If the
        code was corrected instead, it continues where it failed. What an ``except`` block did by
        itself to make up for the failure is not known to be undone. History keeps the old attempts.

        Args:
            reason: kept in history.
            dry_run: change nothing, and return what the orchestrator would do next; needs its code
                in this process.

        Raises:
            InvalidState: it has not failed.

        Example:
            >>> print(failed.rewind(dry_run=True))
            >>> failed.rewind("the card was topped up")
        """
        if dry_run:
            forecast: Forecast = self._runtime.client.forecast_rewind(self.id)
            return forecast
        self._runtime.client.rewind(self.id, reason)
        self._record = None
        return None

    def fork(self, at: int, new_id: str | None = None, reason: str | None = None) -> Orchestration:
        """Start another orchestration that shares the history of this one up to an event, and
        continues from there.

        What was under way then is started again: activities and sub-orchestrations run again, under
        the new id.

        Args:
            at: the number of the last event that is kept, counted from 1 in ``run.history()``; what
                the orchestrator asked for upon it is kept as well.
            new_id: of the new one; a random UUID if left out.
            reason: kept in the history of the new one.

        Raises:
            ValueError: there is no such event, or it was over by then.
            InstanceExists: ``new_id`` is in use.

        Example:
            >>> other = run.fork(at=2, new_id="order-42-again")
        """
        return Orchestration(self._runtime.client.fork(self.id, at, new_id, reason), app=self.app)

    def override(
        self,
        call: int,
        result: Any = None,
        *,
        error: BaseException | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Forecast | None:
        """Give an activity or a sub-orchestration an outcome from outside.

        While the orchestration lives, the outcome is injected in the place of the one that is
        awaited: what is under way for the call is canceled. When it has failed, the outcome takes
        the place of the one that history holds, and the orchestration is rewound. History says that
        it came from outside, and why. Nothing comes of an outcome for a call whose failure the
        orchestrator has dealt with.

        Args:
            call: its number: ``.command`` of its events in ``run.history()``.
            result: what it returns.
            error: what it raises, instead.
            reason: kept in history.
            dry_run: change nothing, and return what the orchestrator would do next; needs its code
                in this process.

        Raises:
            InvalidState: the orchestration is over and has not failed, or it lives and the call has
                completed.
            ValueError: there is no such call.
            PayloadError: the result cannot be encoded.

        Example:
            >>> failed.override(1, "paid by hand", reason="receipt 1234")
        """
        forecast: Forecast | None = self._runtime.client.override(
            self.id, call, result, error, reason, is_dry=dry_run
        )
        self._record = None
        return forecast

    def skip(
        self, call: int, reason: str | None = None, *, dry_run: bool = False
    ) -> Forecast | None:
        """Let a call return None, whatever became of it; see ``override``."""
        return self.override(call, None, reason=reason or "skipped", dry_run=dry_run)

    def restart(self, new_id: str | None = None) -> Orchestration:
        """Start it once more with the same input, on the newest version of the orchestrator, and
        return the handle.

        Without ``new_id`` it takes the place of this one, which must be over: its history is
        deleted. Tags and queue are kept, callbacks (link, chain, chord) are not.

        Raises:
            InvalidState: it is not over, and no ``new_id`` is given.
            InstanceExists: ``new_id`` is in use.

        Example:
            >>> again = done.restart(new_id="order-42-again")
        """
        started = self._runtime.client.restart(self.id, new_id)
        self._record = None
        return self if new_id is None else Orchestration(started, app=self.app)

    def purge(self, recursive: bool = True) -> None:
        """Delete a finished orchestration with its history.

        Raises:
            InvalidState: it is not over.

        Example:
            >>> done.purge()
        """
        self._runtime.client.purge(self.id, recursive=recursive)
        self._record = None

    def nudge(self) -> None:
        """Send the first turn now, after a transaction that ``start(session=connection)`` joined
        was committed.

        Example:
            >>> with Session(engine) as session, session.begin():
            ...     run = durable.start(fulfil.s("42"), session=session)
            >>> run.nudge()
        """
        if self._nudge is not None:
            self._nudge()

    # -- twins for code that runs on an event loop -------------------------------------------------

    ahistory: Final = twin(history)
    aexplain: Final = twin(explain)
    aaudit: Final = twin(audit)
    aexport_history: Final = twin(export_history)
    achildren: Final = twin(children)
    araise_event: Final = twin(raise_event)
    asuspend: Final = twin(suspend)
    aresume: Final = twin(resume)
    acancel: Final = twin(cancel)
    arevoke: Final = twin(revoke)
    aterminate: Final = twin(terminate)
    arewind: Final = twin(rewind)
    afork: Final = twin(fork)
    aoverride: Final = twin(override)
    askip: Final = twin(skip)
    arestart: Final = twin(restart)
    apurge: Final = twin(purge)
    anudge: Final = twin(nudge)
    aset_tags: Final = twin(set_tags)
