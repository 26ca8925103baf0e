"""Ends of activities that come by a token: for webhooks, and for workers of another kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..handles.aio import twin

if TYPE_CHECKING:
    from ..worker.runtime import Runtime

__all__ = ["Completing"]


class Completing:
    """What is done with the token of ``durable_context().defer()``."""

    if TYPE_CHECKING:

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def complete(self, token: str, value: Any = None, *, session: Any = None) -> bool:
        """Give an activity its result, and its orchestration a turn.

        Only the first outcome of an attempt counts. It may come before the activity's function has
        returned. Within Django's ``atomic()``, or the transaction of a ``session``, it is recorded
        if that commits.

        Args:
            token: what ``durable_context().defer()`` gave.
            value: the result, as if the function had returned it.
            session: an SQLAlchemy session or connection whose transaction it joins.

        Returns:
            True if it is recorded. False if the attempt is over already (it was completed, has
            failed, timed out, was canceled, or its orchestration is over) or the token is of
            another store: nothing was changed.

        Raises:
            ValueError: the token is damaged.
            PayloadError: the value cannot be encoded.
            StoreError: the store cannot be reached; nothing was recorded.

        Example:
            >>> token = "AWRyWj7LkO77GOeV34G6ICg_4pkhTmc2afnNssh37NQeHmnFrBjkE3ExQ5iC"
            >>> durable.complete(token, {"size": 3})
            False
        """
        from ..engine.records import Outcome
        from ..worker.deferral import own_deferral

        if (own := own_deferral(token)) is not None:
            ticket, deferral = own
            payload = self.runtime.codec.encode(value)
            return deferral.settle(Outcome(ticket, payload, has_failed=False))
        return self.runtime.client.complete(token, value, session)

    def fail(self, token: str, error: BaseException | str, *, session: Any = None) -> bool:
        """Let the attempt of an activity have failed; the ``retry`` of its call decides what
        follows.

        Args:
            token: what ``durable_context().defer()`` gave.
            error: an exception, as if the function had raised it, or text, which becomes an
                ``ActivityError``.
            session: as for ``complete``.

        Returns:
            As for ``complete``.

        Raises:
            ValueError: the token is damaged.
            TypeError: ``error`` is neither an exception nor text.
            StoreError: the store cannot be reached; nothing was recorded.

        Example:
            >>> token = "AWRyWj7LkO77GOeV34G6ICg_4pkhTmc2afnNssh37NQeHmnFrBjkE3ExQ5iC"
            >>> durable.fail(token, "bad codec")
            False
        """
        from ..engine.completion import failure_of
        from ..engine.records import Outcome
        from ..worker.deferral import own_deferral

        if (own := own_deferral(token)) is not None:
            ticket, deferral = own
            payload = self.runtime.codec.encode_failure(failure_of(error))
            return deferral.settle(Outcome(ticket, payload, has_failed=True))
        return self.runtime.client.fail(token, error, session)

    def heartbeat(self, token: str, details: Any = None) -> bool:
        """Say that an activity makes progress, as ``durable_context().heartbeat()`` does within it:
        its ``heartbeat_timeout`` begins again.

        Args:
            token: what ``durable_context().defer()`` gave.
            details: what the function finds if it runs again.

        Returns:
            As for ``complete``; False tells that the result is not wanted any more.

        Raises:
            ValueError: the token is damaged.
            PayloadError: ``details`` cannot be encoded.
            StoreError: the store cannot be reached.

        Example:
            >>> token = "AWRyWj7LkO77GOeV34G6ICg_4pkhTmc2afnNssh37NQeHmnFrBjkE3ExQ5iC"
            >>> durable.heartbeat(token, {"percent": 40})
            False
        """
        return self.runtime.client.heartbeat(token, details)

    acomplete: Final = twin(complete)
    afail: Final = twin(fail)
    aheartbeat: Final = twin(heartbeat)
