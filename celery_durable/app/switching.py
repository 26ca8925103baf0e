"""Switches on ``Durable``: pauses, and ramps of versions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ..handles.aio import twin

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.registry import Registry
    from ..engine.switches import SwitchKind
    from ..handles.pause import Pause
    from ..worker.runtime import Runtime

__all__ = ["Switching", "shown_pauses"]

log: logging.Logger = logging.getLogger("celery_durable.flow")


class Switching:
    """What is set for all workers, and kept in the store."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def pause(
        self,
        *,
        task: Any = None,
        queue: str | None = None,
        orchestrator: Any = None,
        reason: str | None = None,
    ) -> Pause:
        """Let nothing begin of a task, in a queue or of an orchestrator, until ``unpause``.

        A name that this process does not know is paused too, with a warning in the log.

        It is kept in the store, holds over restarts, and is in force everywhere within
        ``durable_heartbeat_interval`` plus a second. What has begun ends as usual, and what is held
        is neither lost nor timed out: the time limits of a held attempt count from when it is let
        go. Plain ``.delay()`` is not held. Paused once more, it has the newer reason and the older
        time.

        Args:
            task: its name, the task, or a pattern such as ``"shop.*"``: no attempt of it begins as
                an activity, also none whose message is in a queue already.
            queue: its name or a pattern: no activity in it begins, and no turn is taken of an
                orchestration whose messages go there.
            orchestrator: its name, the task, or a pattern: starts are accepted and stay PENDING,
                and running ones take no turn. Events, outcomes and timers wait; activities under
                way go on; ``terminate`` acts.
            reason: for people to see.

        Raises:
            TypeError: not exactly one of ``task``, ``queue`` and ``orchestrator`` is given.
            StoreError: the store cannot be reached.

        Example:
            >>> pause = durable.pause(task=charge, reason="the bank is down")
            >>> durable.pauses()[0].reason
            'the bank is down'
            >>> durable.unpause(task=charge)
            True
        """
        from ..handles.pause import set_pause, target_of

        kind, name = target_of(task, queue, orchestrator, "durable.pause()")
        set_one = set_pause(self.runtime, kind, name, reason)
        if problem := _about_unknown(self.app, self.runtime.registry, kind, name):
            log.warning("%s %r is paused, but %s", kind, name, problem)
        return set_one

    def unpause(
        self, *, task: Any = None, queue: str | None = None, orchestrator: Any = None
    ) -> bool:
        """Let go of what a pause holds; it takes the keyword that ``pause`` was given.

        What was held continues in its old order, in portions.

        Returns:
            Whether there was a pause of this very name or pattern: what a pattern holds, only
            unpausing that pattern lets go.

        Raises:
            TypeError: not exactly one of ``task``, ``queue`` and ``orchestrator`` is given.
            StoreError: the store cannot be reached.

        Example:
            >>> durable.unpause(queue="imports")
            False
        """
        from ..handles.pause import target_of, unset_pause

        kind, name = target_of(task, queue, orchestrator, "durable.unpause()")
        return unset_pause(self.runtime, kind, name)

    def pauses(self) -> list[Pause]:
        """Return the pauses in force, the oldest first.

        Raises:
            StoreError: the store cannot be reached.

        Example:
            >>> for pause in durable.pauses():
            ...     print(pause.kind, pause.name, pause.since, pause.held)
        """
        from ..handles.pause import list_pauses

        return list_pauses(self.runtime)

    def ramp(self, name: Any, version: str | None, *, share: float = 1.0) -> None:
        """Let a share of the new starts of an orchestrator have a version.

        Which start is in the share depends on its id alone: the same id gets the same version, and
        a larger share takes none out. The others get the newest version but this one. It holds for
        every start without ``version=``, on all processes, within about two seconds, and replaces
        the ramp that the name has; ``share=0`` is the way back at once.

        Args:
            name: of the orchestrator, or the task.
            version: of its code; None removes the ramp, so that starts get the newest version.
            share: 0 to 1.

        Raises:
            ConfigurationError: this process does not have the version.
            ValueError: ``share`` is not between 0 and 1.
            StoreError: the store cannot be reached.

        Example:
            >>> durable.ramp(fulfil, None)
        """
        from ..handles.pause import set_ramp

        set_ramp(self.runtime, name, version, share)

    # -- twins for code that runs on an event loop -------------------------------------------------

    apause: Final = twin(pause)
    aunpause: Final = twin(unpause)
    apauses: Final = twin(pauses)
    aramp: Final = twin(ramp)


def _about_unknown(app: Celery, known: Registry, kind: SwitchKind, name: str) -> str:
    """Return what speaks against a name that is no pattern; nothing, if this process knows it."""
    from ..core.misspelt import which_is_meant
    from ..engine.switches import SwitchKind

    if kind is SwitchKind.QUEUE or any(char in name for char in "*?["):
        return ""
    if kind is SwitchKind.TASK and name in known:
        return "it is an orchestrator, of which orchestrator= holds the turns"
    if name in app.tasks or name in known:
        return ""
    names = known.names() if kind is SwitchKind.ORCHESTRATOR else list(app.tasks)
    question = which_is_meant(name, names, likeness=0.8)
    return f"no {kind} of that name is known here. {question}".rstrip()


def shown_pauses(durable: Switching) -> list[Pause]:
    """Return the pauses in force for a page that is looked at often: nothing is read where this
    process knows of none.
    """
    return durable.pauses() if durable.runtime.runner.switches.current().pauses else []
