"""Many starts in one commit, on ``Durable``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..core.guard import refuse_inside_orchestrator
from ..handles.aio import in_thread, of_this_thread

if TYPE_CHECKING:
    from celery import Celery

    from ..core.retry import Interval, RetryPolicy
    from ..core.typed import SignatureOf
    from ..engine.start import IfExists
    from ..handles.orchestration import Orchestration
    from ..worker.runtime import Runtime
    from .typed import ManyStarts

__all__ = ["StartingMany"]

R = TypeVar("R")
T = TypeVar("T")


class StartingMany:
    """Starts many orchestrations at once."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    @overload
    def start_many(
        self,
        signatures: Iterable[SignatureOf[R]],
        *,
        instance_ids: Sequence[str | None] | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> list[Orchestration[R]]: ...
    @overload
    def start_many(
        self,
        signatures: Iterable[Mapping[str, Any]],
        *,
        instance_ids: Sequence[str | None] | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> list[Orchestration[Any]]: ...
    def start_many(
        self,
        signatures: Iterable[Any],
        *,
        instance_ids: Sequence[str | None] | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> list[Orchestration[Any]]:
        """Start many orchestrations, or plain tasks, in one commit: all of them, or none.

        Each is started as ``start`` would, with its limits, its version and what travels with it;
        but they are inserted by a few statements for each five hundred. After the commit the first
        turn of each is one message.

        Args:
            signatures: of orchestrators and of tasks, also mixed; ``.set(task_id="order-42")``
                names one of them.
            instance_ids: their ids, one for each signature; None is a random one. An id that comes
                twice is started once.
            start_at: an aware ``datetime`` that all begin at.
            tags: strings to find them by: those of all, or a list with those of each.
            if_exists: for ids that are taken: "return" those that are there, or "raise", and start
                nothing.
            session: an SQLAlchemy session or connection whose transaction they join; in Django
                they join the open ``atomic()`` block without it.
            retry, attempt_timeout, heartbeat_timeout: as of ``start``, if all are plain tasks.
            timeout: of each whole run, as of ``start``.
            version: as of ``start``, if all are of orchestrators that have it.

        Returns:
            Their handles, in the order of the signatures.

        Raises:
            InstanceExists: an id is taken, or comes twice, and ``if_exists`` is "raise".
            ConfigurationError: ``if_exists`` is "restart" or "replace", an orchestrator is
                debounced, or this process does not have the version.
            TypeError, PayloadError: as of ``start``; the first that does not fit.
            ValueError: there are more or fewer ids, or tags, than signatures.
            StoreError: the store cannot be reached; nothing was started.

        Example:
            >>> runs = durable.start_many(
            ...     [fulfil.s(order) for order in ("50", "51")],
            ...     instance_ids=["order-50", "order-51"],
            ...     tags={"batch": "monday"},
            ... )
            >>> [run.id for run in runs]
            ['order-50', 'order-51']
        """
        from ..handles.orchestration import Orchestration
        from .signatures import PlainChoice, requested

        runtime, given = self.runtime, list(signatures)
        ids = _of_each(given, instance_ids, "instance_ids")
        own_tags: Sequence[Mapping[str, str] | None] = (
            [tags] * len(given)
            if tags is None or isinstance(tags, Mapping)
            else _of_each(given, tags, "tags")
        )
        plain = PlainChoice(retry, attempt_timeout, heartbeat_timeout)
        clock = cache(runtime.store.now)  # asked once, for all options that are relative
        requests = [
            requested(
                runtime,
                signature,
                instance_id,
                start_at,
                each_tags,
                if_exists,
                verb="durable.start_many()",
                timeout=timeout,
                version=version,
                plain=plain,
                clock=clock,
            )
            for signature, instance_id, each_tags in zip(given, ids, own_tags, strict=True)
        ]
        return [
            Orchestration(started.id, app=self.app, nudge=started.nudge)
            for started in runtime.client.start_many(requests, session, clock)
        ]

    @overload
    async def astart_many(
        self,
        signatures: Iterable[SignatureOf[R]],
        *,
        session: Any = None,
        **options: Unpack[ManyStarts],
    ) -> list[Orchestration[R]]: ...
    @overload
    async def astart_many(
        self,
        signatures: Iterable[Mapping[str, Any]],
        *,
        session: Any = None,
        **options: Unpack[ManyStarts],
    ) -> list[Orchestration[Any]]: ...
    async def astart_many(
        self, signatures: Iterable[Any], *, session: Any = None, **options: Unpack[ManyStarts]
    ) -> list[Orchestration[Any]]:
        """Start many as ``start_many`` does, from code that runs on an event loop.

        What it returns has everything read: its properties touch no store.

        Args:
            signatures: see ``start_many``.
            session: also an ``AsyncSession`` or ``AsyncConnection`` of SQLAlchemy (psycopg,
                asyncpg, aiosqlite, asyncmy), whose transaction they join.
            **options: those of ``start_many``.

        Example:
            >>> import asyncio
            >>> runs = asyncio.run(durable.astart_many([fulfil.s("52"), fulfil.s("53")]))
        """
        refuse_inside_orchestrator("astart_many()")
        session = of_this_thread(session)
        if hasattr(session, "run_sync"):
            started: list[Orchestration[Any]] = await session.run_sync(
                lambda sync: self.start_many(signatures, session=sync, **options)
            )
            return started
        return await in_thread(self._start_many_and_read, signatures, session=session, **options)

    def _start_many_and_read(
        self, signatures: Iterable[Any], **options: Any
    ) -> list[Orchestration[Any]]:
        runs = self.start_many(signatures, **options)
        records = self.runtime.store.reads.fetch_many([run.id for run in runs])
        for run in runs:
            run._record = records.get(run.id)  # None: it is not committed yet
        return runs


def _of_each(signatures: Sequence[Any], given: Sequence[T] | None, what: str) -> Sequence[T | None]:
    """Return what is given for each signature.

    Raises:
        TypeError: it is no list.
        ValueError: it is another number than there are signatures.
    """
    if given is None:
        return [None] * len(signatures)
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise TypeError(f"durable.start_many(): {what} is a list, one for each, not {given!r}")
    if len(given) != len(signatures):
        raise ValueError(
            f"durable.start_many(): there are {len(signatures)} signatures, but {len(given)} {what}"
        )
    return given
