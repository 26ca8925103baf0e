"""Starting on ``Durable``: an orchestration, a plain task as one, a canvas."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from .._errors import InstanceNotFound
from ..core.guard import refuse_inside_orchestrator
from ..handles.aio import in_thread, of_this_thread

if TYPE_CHECKING:
    from celery import Celery

    from ..core.retry import Interval, RetryPolicy
    from ..core.typed import SignatureOf
    from ..engine.start import IfExists
    from ..handles.canvas import DurableCanvas
    from ..handles.orchestration import Orchestration
    from ..worker.runtime import Runtime
    from .typed import OneStart

__all__ = ["Starting"]

R = TypeVar("R")


class Starting:
    """Starts one orchestration."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    @overload
    def start(
        self,
        signature: SignatureOf[R],
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[R]: ...
    @overload
    def start(
        self,
        signature: Mapping[str, Any],
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[Any]: ...
    def start(
        self,
        signature: Any,
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[Any]:
        """Start an orchestration, or a plain task as one.

        A plain task is an orchestration of one activity: it runs at least once, whatever becomes of
        workers and broker, and its output is its result.

        Args:
            signature: of an orchestrator or of any task, such as ``fulfil_order.s(order)``; its
                options (queue, link, ...) are honoured.
            instance_id: 1 to 150 characters; a random UUID if left out. Starting twice with one id
                starts once.
            start_at: an aware ``datetime`` to begin at.
            tags: strings to find it by.
            if_exists: "return" the one there, "raise", "restart" a finished one, or "replace" any.
            session: an SQLAlchemy session or connection whose transaction the start joins.
            retry: of a plain task: how often it is tried; once if left out. ``retry_if`` must be
                importable.
            timeout: how long the whole run may take, from its first turn on, in seconds or as
                ``timedelta``; in the place of what the orchestrator declares. After that it goes as
                with ``cancel()``, and ends FAILED with ``OrchestrationTimeout``.
            attempt_timeout, heartbeat_timeout: of a plain task: of each attempt, as ``timeout`` and
                ``heartbeat_timeout`` of ``ctx.call``.
            version: which of the versions of its code it has; the newest if left out.

        Raises:
            InstanceExists, InvalidState: see ``if_exists``.
            TypeError: ``signature`` is not of a task, its arguments do not fit, it has an option
                without meaning, or an argument here is not for its kind.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started.
            ConfigurationError: this process does not have the version.

        Example:
            >>> run = durable.start(
            ...     fulfil.s("42"), instance_id="order-42", tags={"customer": "ada"}
            ... )
            >>> payment = durable.start(charge.s("42"), retry=RetryPolicy(max_attempts=5))
        """
        from ..handles.orchestration import Orchestration
        from .signatures import PlainChoice, requested

        runtime = self.runtime
        request = requested(
            runtime,
            signature,
            instance_id,
            start_at,
            tags,
            if_exists,
            timeout=timeout,
            version=version,
            plain=PlainChoice(retry, attempt_timeout, heartbeat_timeout),
        )
        started = runtime.client.start(request, session)
        return Orchestration(started.id, app=self.app, nudge=started.nudge)

    @overload
    async def astart(
        self, signature: SignatureOf[R], *, session: Any = None, **options: Unpack[OneStart]
    ) -> Orchestration[R]: ...
    @overload
    async def astart(
        self, signature: Mapping[str, Any], *, session: Any = None, **options: Unpack[OneStart]
    ) -> Orchestration[Any]: ...
    async def astart(
        self, signature: Any, *, session: Any = None, **options: Unpack[OneStart]
    ) -> Orchestration[Any]:
        """Start an orchestration as ``start`` does, from code that runs on an event loop.

        What it returns has everything read: its properties touch no store.

        Args:
            signature: see ``start``.
            session: also an ``AsyncSession`` or ``AsyncConnection`` of SQLAlchemy (psycopg,
                asyncpg, aiosqlite, asyncmy), whose transaction the start joins.
            **options: those of ``start``.

        Example:
            >>> import asyncio
            >>> async def view():
            ...     run = await durable.astart(fulfil.s("43"), instance_id="order-43")
            ...     return run.runtime_status
            >>> status = asyncio.run(view())
        """
        refuse_inside_orchestrator("astart()")
        session = of_this_thread(session)
        if hasattr(session, "run_sync"):
            started: Orchestration[Any] = await session.run_sync(
                lambda sync: self.start(signature, session=sync, **options)
            )
            return started
        return await in_thread(self._start_and_read, signature, session=session, **options)

    def _start_and_read(self, signature: Any, **options: Any) -> Orchestration[Any]:
        started = self.start(signature, **options)
        with suppress(InstanceNotFound):  # it is not committed yet
            started.refresh()
        return started

    def canvas(self, signature: Any) -> DurableCanvas:
        """Run any Celery canvas on this engine: ``durable.canvas(chain(a.s(1), group(b.s(), c.s()),
        d.s())).apply_async()``.

        Args:
            signature: a chain, group, chord, chunks, map or starmap, nested as deep as it likes, or
                a single signature.

        Example:
            >>> durable.canvas(chain(charge.s("42"), ship.s())).apply_async()
        """
        from ..handles.canvas import DurableCanvas

        return DurableCanvas(self, signature)
