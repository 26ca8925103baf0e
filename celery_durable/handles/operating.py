"""Verbs of an orchestration's handle that tell it what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .aio import twin

if TYPE_CHECKING:
    from ..engine.listing import InstanceRecord
    from ..engine.runtime import Runtime

__all__ = ["Operating"]


class Operating:
    """What is done to an orchestration while it lives, and when it has ended."""

    if TYPE_CHECKING:
        id: str
        app: Any

        @property
        def _runtime(self) -> Runtime: ...

    _record: InstanceRecord | None
    _nudge: Callable[[], None] | None

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

    araise_event: Final = twin(raise_event)
    aset_tags: Final = twin(set_tags)
    asuspend: Final = twin(suspend)
    aresume: Final = twin(resume)
    acancel: Final = twin(cancel)
    arevoke: Final = twin(revoke)
    aterminate: Final = twin(terminate)
    apurge: Final = twin(purge)
    anudge: Final = twin(nudge)
