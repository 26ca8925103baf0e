"""The audit trail on ``Durable``: who acts, and who did what."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..core.names import check_text
from ..handles.aio import twin

if TYPE_CHECKING:
    from ..handles.audit import AuditPage
    from ..worker.runtime import Runtime

__all__ = ["Auditing"]


class Auditing:
    """Leaves entries in the audit trail, and reads it."""

    if TYPE_CHECKING:

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def actor(self, name: str) -> AbstractContextManager[None]:
        """Say who acts within a block: each verb and start there leaves an entry in the audit
        trail, over the door "code".

        It holds for this thread, and for the tasks of an event loop that are begun in the block.
        The command line, the admin, Flower and HTTP say themselves who acts; code that says
        nothing is not audited, and pays nothing.

        Args:
            name: of the user or program; 1 to 200 characters are kept.

        Raises:
            TypeError: it is no text.
            ValueError: it is empty.

        Example:
            >>> with durable.actor("ann@shop.example"):
            ...     run.cancel("the customer left")
        """
        from ..engine.audit import acting
        from ..engine.verb import Surface

        check_text("an actor's name", name)
        if not name.strip():
            raise ValueError("an actor's name is not empty")
        return acting(name, Surface.CODE)

    def audit(
        self,
        target: str | None = None,
        *,
        kind: str | None = None,
        actor: str | None = None,
        door: str | None = None,
        verb: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AuditPage:
        """Return a page of the audit trail, newest first: who did what, over which door, when, why,
        and whether it took effect.

        Args:
            target: an instance id, or the name of a schedule or of what a pause is about; also
                finds what an orchestration was made by.
            kind: "orchestration", "schedule", "task", "queue" or "orchestrator".
            actor: the name of who did it.
            door: "cli", "admin", "flower", "http" or "code".
            verb: what was done.
            since: from this time on; aware.
            until: before this time; aware.
            limit: at most this many, up to 1000.
            cursor: ``next_cursor`` of the page at hand.

        Raises:
            ValueError: ``limit``, ``cursor`` or a time cannot be used.
            StoreError: the store cannot be reached.

        Example:
            >>> for entry in durable.audit(verb="purge").items:
            ...     print(entry.at, entry.actor, entry.door, entry.target, entry.reason)
        """
        from ..handles.audit import read_audit

        return read_audit(
            self.runtime,
            target,
            since,
            until,
            limit,
            cursor,
            kind=kind,
            actor=actor,
            door=door,
            verb=verb,
        )

    # -- twins for code that runs on an event loop -------------------------------------------------

    aaudit: Final = twin(audit)
