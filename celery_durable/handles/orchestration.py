"""The handle of an orchestration: Celery's ``AsyncResult``, and all that the store knows."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, overload

from ..core.flags import check_flags
from ..core.guard import refuse_inside_orchestrator
from ..core.status import RuntimeStatus
from ..errors import OrchestrationFailed, OrchestrationRevoked, WaitTimeout
from .aio import in_thread, twin, wait_for_end_async
from .asking import Asking
from .async_result import AsyncResult
from .audit import AuditEntry, read_audit
from .correcting import Correcting
from .fields import StatusFields, record_of
from .history import HistoryEvent, read_events
from .operating import Operating
from .waiting import wait_for_end

__all__ = ["Orchestration"]

if TYPE_CHECKING:
    from celery import Celery
    from typing_extensions import TypeVar  # with defaults

    from ..engine.explain import Explanation
    from ..engine.listing import InstanceRecord

    #: What the orchestrator returns; anything, where that is not known.
    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


class Orchestration(  # type: ignore[misc]
    Operating, Correcting, Asking, StatusFields, AsyncResult, Generic[R]
):
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

    @overload
    async def aget(
        self, timeout: float | None = None, propagate: Literal[True] = True, **options: Any
    ) -> R: ...
    @overload
    async def aget(
        self, timeout: float | None = None, *, propagate: bool, **options: Any
    ) -> R | BaseException: ...
    @overload
    async def aget(
        self, timeout: float | None, propagate: bool, **options: Any
    ) -> R | BaseException: ...
    async def aget(
        self, timeout: float | None = None, propagate: bool = True, **options: Any
    ) -> Any:
        """Do the same as ``get`` and ``wait``, for code that runs on an event loop.

        No thread waits meanwhile; who is cancelled leaves the orchestration alone. ``await run`` is
        ``await run.aget()``. Its properties touch no store after that.
        """
        check_flags(propagate=propagate)
        refuse_inside_orchestrator("aget()")
        runtime = await in_thread(lambda: self._runtime)  # made at its first use, which takes time
        await wait_for_end_async(runtime, self.id, timeout)
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

    @overload
    def get(
        self, timeout: float | None = None, propagate: Literal[True] = True, **options: Any
    ) -> R: ...
    @overload
    def get(
        self, timeout: float | None = None, *, propagate: bool, **options: Any
    ) -> R | BaseException: ...
    @overload
    def get(self, timeout: float | None, propagate: bool, **options: Any) -> R | BaseException: ...
    def get(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> Any:
        """Do the same as ``wait``.

        With ``propagate=False`` return the exception instead of raising it.
        """
        check_flags(propagate=propagate)
        try:
            return self.wait(timeout)
        except Exception as error:
            is_own = isinstance(error, WaitTimeout) and error.facts.get("instance_id") == self.id
            if propagate or is_own:
                raise
            return error

    def _end(self) -> Any:
        record = record_of(self.refresh())
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

    # -- twins for code that runs on an event loop -------------------------------------------------

    ahistory: Final = twin(history)
    aexplain: Final = twin(explain)
    aaudit: Final = twin(audit)
    aexport_history: Final = twin(export_history)
    achildren: Final = twin(children)
