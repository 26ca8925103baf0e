"""Verbs on ``Durable``: for one orchestration by its id, or for many by filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from ..core.flags import check_flags
from ..handles.aio import in_thread, twin

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.bulk import BulkResult
    from ..engine.forecast import Forecast
    from ..engine.verb import Verb
    from ..handles.orchestration import Orchestration
    from ..worker.runtime import Runtime
    from .typed import BulkFilters

__all__ = ["Steering"]


class Steering:
    """What is done to orchestrations that exist."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    else:  # the methods below are written out for their types; others come from the table

        def __getattr__(self, name: str) -> Any:
            from ..engine.verbs import VERBS

            verb = VERBS.get(name)
            if verb is not None and verb.is_bulk:
                return partial(self._apply_row, verb)
            verb = VERBS.get(name.removeprefix("a"))
            if verb is not None and verb.is_bulk:
                return partial(in_thread, self._apply_row, verb)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _apply_row(self, verb: Verb, instance_id: str | None = None, **options: Any) -> BulkResult:
        """Apply a verb that has no method of its own here."""
        from .bulk import apply_verb

        taken = {"reason", *(each.name for each in verb.arguments)}
        given = {key: value for key, value in options.items() if key in taken}
        filters = {key: value for key, value in options.items() if key not in taken}
        return apply_verb(self.runtime.client, verb.name, instance_id, given, filters)

    def suspend(
        self,
        instance_id: str | None = None,
        *,
        reason: str | None = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Suspend one orchestration by its id, or all that match the filters of ``find``.

        See ``Orchestration.suspend``.

        All verbs here take ``limit=``, at most so many, newest first. Without ``status=`` they
        choose those on which they act. When a call breaks off, make it again: what is done stays
        done.

        Raises:
            ValueError: neither an id nor a filter is given.
            InvalidState, InstanceNotFound: for one given by its id; of many, they are in
                ``.refused``.

        Example:
            >>> durable.suspend(tags={"customer": "ada"}, reason="the bank is down")
        """
        return self._apply("suspend", instance_id, {"reason": reason}, filters)

    def resume(
        self,
        instance_id: str | None = None,
        *,
        reason: str | None = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Resume one or many; see ``suspend`` and ``Orchestration.resume``.

        Example:
            >>> durable.resume(tags={"customer": "ada"}, reason="the bank is back")
        """
        return self._apply("resume", instance_id, {"reason": reason}, filters)

    def cancel(
        self,
        instance_id: str | None = None,
        *,
        reason: str | None = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Ask one or many to cancel; see ``suspend`` and ``Orchestration.cancel``.

        Example:
            >>> durable.cancel("order-1", reason="the customer left")
        """
        return self._apply("cancel", instance_id, {"reason": reason}, filters)

    def terminate(
        self,
        instance_id: str | None = None,
        *,
        output: Any = None,
        recursive: bool = True,
        reason: str | None = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """End one or many at once; see ``suspend`` and ``Orchestration.terminate``.

        Example:
            >>> durable.terminate("order-1", reason="a duplicate")
        """
        given = {"output": output, "recursive": recursive, "reason": reason}
        return self._apply("terminate", instance_id, given, filters)

    def rewind(
        self,
        instance_id: str | None = None,
        *,
        reason: str | None = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Rewind one or many failed ones; see ``suspend`` and ``Orchestration.rewind``.

        Example:
            >>> result = durable.rewind(name=fulfil.name, limit=100)
        """
        return self._apply("rewind", instance_id, {"reason": reason}, filters)

    def restart(self, instance_id: str | None = None, **filters: Unpack[BulkFilters]) -> BulkResult:
        """Start one or many finished ones once more, in their own place.

        See ``suspend`` and ``Orchestration.restart``.

        Example:
            >>> durable.restart(status="COMPLETED", limit=10)
        """
        return self._apply("restart", instance_id, {}, filters)

    def fork(
        self, instance_id: str, *, at: int, new_id: str | None = None, reason: str | None = None
    ) -> Orchestration:
        """Start another orchestration from a point in the history of one.

        See ``Orchestration.fork``.

        Example:
            >>> other = durable.fork("order-1", at=2)
        """
        from ..handles.orchestration import Orchestration

        return Orchestration(
            self.runtime.client.fork(instance_id, at, new_id, reason), app=self.app
        )

    def override(
        self,
        instance_id: str,
        call: int,
        result: Any = None,
        *,
        error: BaseException | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Forecast | None:
        """Give an activity or a sub-orchestration of one an outcome from outside.

        See ``Orchestration.override``.

        Example:
            >>> durable.override("order-2", 1, "paid by hand", reason="receipt 1234")
        """
        check_flags(dry_run=dry_run)
        client = self.runtime.client
        return client.override(instance_id, call, result, error, reason, is_dry=dry_run)

    def purge(
        self,
        instance_id: str | None = None,
        *,
        recursive: bool = True,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Delete one or many finished ones; see ``suspend`` and ``Orchestration.purge``.

        Example:
            >>> durable.purge(created_before=datetime.now(UTC) - timedelta(days=90))
        """
        return self._apply("purge", instance_id, {"recursive": recursive}, filters)

    def _apply(
        self, verb: str, instance_id: str | None, given: Mapping[str, Any], filters: BulkFilters
    ) -> BulkResult:
        from .bulk import apply_verb

        return apply_verb(self.runtime.client, verb, instance_id, given, {**filters})

    def raise_event(
        self,
        instance_id: str,
        name: str,
        data: Any = None,
        event_id: str | None = None,
        *,
        session: Any = None,
    ) -> None:
        """Raise an external event on an orchestration; see ``Orchestration.raise_event``.

        Example:
            >>> durable.raise_event("order-1", "approved", {"by": "ada"})
        """
        self.runtime.client.raise_event(instance_id, name, data, event_id, session)

    def raise_event_many(
        self,
        name: str,
        data: Any = None,
        /,
        *,
        event_id: str | None = None,
        session: Any = None,
        **filters: Unpack[BulkFilters],
    ) -> BulkResult:
        """Raise one external event on all orchestrations that match the filters of ``find``, newest
        first, also in time for those that do not wait for it yet.

        Each batch of two hundred is one commit; in a transaction of yours (``session``, or Django's
        ``atomic()``) all of them are part of that. Entities get none.

        Args:
            name: of the event; ``name=`` is the filter.
            data: the payload, the same for all.
            event_id: each takes an event of one id once. Give one, and call again with it when a
                call breaks off: those that have the event do not get it twice.
            session: an SQLAlchemy session or connection whose transaction it joins.
            **filters: those of ``find``, at least one, and ``limit=``, at most so many. Without
                ``status=`` all that are not over.

        Returns:
            How many matched, how many have the event now, and which ended meanwhile.

        Raises:
            ValueError: no filter is given, or the event's name or id cannot be used.
            TypeError: there is no such filter.
            PayloadError: the data cannot be encoded.

        Example:
            >>> result = durable.raise_event_many(
            ...     "prices_changed", {"list": 7}, tags={"shop": "oslo"}, event_id="prices-7"
            ... )
            >>> result.done
            0
        """
        from .bulk import raise_event_on_all

        client = self.runtime.client
        return raise_event_on_all(client, name, data, event_id, session, {**filters})

    def set_tags(
        self, instance_id: str, tags: Mapping[str, str] | None = None, *, remove: Iterable[str] = ()
    ) -> None:
        """Set some tags of one orchestration, and remove others; see ``Orchestration.set_tags``.

        Example:
            >>> durable.set_tags("order-1", {"customer": "ada"})
        """
        self.runtime.client.set_tags(instance_id, tags, remove)

    # -- twins for code that runs on an event loop -------------------------------------------------

    asuspend: Final = twin(suspend)
    aresume: Final = twin(resume)
    acancel: Final = twin(cancel)
    aterminate: Final = twin(terminate)
    arewind: Final = twin(rewind)
    arestart: Final = twin(restart)
    afork: Final = twin(fork)
    aoverride: Final = twin(override)
    apurge: Final = twin(purge)
    araise_event: Final = twin(raise_event)
    araise_event_many: Final = twin(raise_event_many)
    aset_tags: Final = twin(set_tags)
