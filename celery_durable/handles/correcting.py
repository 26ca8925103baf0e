"""Verbs of an orchestration's handle for one that went wrong: another attempt, another outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from ..core.flags import check_flags
from .aio import twin

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.forecast import Forecast
    from ..engine.listing import InstanceRecord
    from ..engine.runtime import Runtime

__all__ = ["Correcting"]


class Correcting:
    """What is done about an orchestration that failed, or took another way than it should."""

    if TYPE_CHECKING:
        id: str
        app: Any

        @property
        def _runtime(self) -> Runtime: ...

        def __init__(self, id: str, app: Celery | None = None) -> None: ...

    _record: InstanceRecord | None

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
        check_flags(dry_run=dry_run)
        if dry_run:
            forecast: Forecast = self._runtime.client.forecast_rewind(self.id)
            return forecast
        self._runtime.client.rewind(self.id, reason)
        self._record = None
        return None

    def fork(self, at: int, new_id: str | None = None, reason: str | None = None) -> Self:
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
        return type(self)(self._runtime.client.fork(self.id, at, new_id, reason), app=self.app)

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
        check_flags(dry_run=dry_run)
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

    def restart(self, new_id: str | None = None) -> Self:
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
        return self if new_id is None else type(self)(started, app=self.app)

    # -- twins for code that runs on an event loop -------------------------------------------------

    arewind: Final = twin(rewind)
    afork: Final = twin(fork)
    aoverride: Final = twin(override)
    askip: Final = twin(skip)
    arestart: Final = twin(restart)
