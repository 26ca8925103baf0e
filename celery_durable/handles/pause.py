"""The handle of a pause: what is kept from beginning, since when and why; and setting switches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from billiard.exceptions import WorkerLostError

from ..core.flags import is_number
from ..core.guard import refuse_inside_orchestrator
from ..core.names import check_reason, checked_name
from ..core.times import EPOCH
from ..engine.recovery import let_go
from ..engine.switches import PAUSES, Ramp, Switch, Switched, SwitchKind, until_of
from .aio import twin

if TYPE_CHECKING:
    from ..engine.runtime import Runtime

__all__ = ["Pause", "PauseKind", "list_pauses", "set_pause", "set_ramp", "target_of", "unset_pause"]

PauseKind = Literal["task", "queue", "orchestrator"]


@dataclass(frozen=True)
class Pause:
    """A task, a queue or an orchestrator that begins nothing, as ``durable.pauses()`` found it.

    Example:
        >>> pause = durable.pause(task="shop.charge", reason="the bank is down")
        >>> pause.kind, pause.name, pause.reason
        ('task', 'shop.charge', 'the bank is down')
        >>> pause.unpause()
        True
    """

    #: What is paused: "task", "queue" or "orchestrator".
    kind: PauseKind
    #: Its name, or the pattern.
    name: str
    reason: str | None
    #: Since when, aware UTC.
    since: datetime
    #: How many attempts and orchestrations it was seen to hold when this was read.
    held: int
    #: When it ends by itself, aware UTC, as ``PauseAfter`` says; None: not before ``unpause``.
    until: datetime | None
    _unset: Callable[[], bool] = field(repr=False, compare=False)

    def unpause(self) -> bool:
        """Let go of what it holds; False if it is not in force any more.

        Raises:
            StoreError: the store cannot be reached.
        """
        return self._unset()

    aunpause: ClassVar[Callable[[Pause], Coroutine[Any, Any, bool]]] = twin(unpause)


def target_of(task: Any, queue: Any, orchestrator: Any, verb: str) -> tuple[SwitchKind, str]:
    """Return what the one keyword names.

    Raises:
        TypeError: none is given, or more than one, or no name.
        ValueError: the name is empty or too long.
    """
    given = {SwitchKind.TASK: task, SwitchKind.QUEUE: queue, SwitchKind.ORCHESTRATOR: orchestrator}
    chosen = [(kind, each) for kind, each in given.items() if each is not None]
    if len(chosen) != 1:
        raise TypeError(f"{verb} takes exactly one of task=, queue= and orchestrator=")
    ((kind, target),) = chosen
    name = target if isinstance(target, str) else getattr(target, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{verb}: {kind}= takes a name or a pattern, not {target!r}")
    return kind, checked_name(name, f"{verb}: {kind}=")


def set_pause(runtime: Runtime, kind: SwitchKind, name: str, reason: str | None) -> Pause:
    """Pause something, or say once more why."""
    refuse_inside_orchestrator("durable.pause()")
    check_reason(reason)
    with runtime.client.auditor.around(kind, name, "pause", reason):
        row = runtime.store.switches.set(kind, name, None, reason)
    return _pauses(runtime, [row], runtime.runner.switches.refresh())[0]


def unset_pause(runtime: Runtime, kind: str, name: str) -> bool:
    """Let go of what a pause holds."""
    refuse_inside_orchestrator("durable.unpause()")
    with runtime.client.auditor.around(kind, name, "unpause"):
        was_in_force = runtime.store.switches.lift(kind, name)
    runtime.runner.switches.refresh()
    if was_in_force and runtime.publisher.is_eager:
        let_go(runtime, WorkerLostError)
    return was_in_force


def list_pauses(runtime: Runtime) -> list[Pause]:
    """Return the pauses in force, the oldest first."""
    refuse_inside_orchestrator("durable.pauses()")
    rows = runtime.store.switches.read()
    found = [row for row in rows if row.kind in PAUSES and row.lifted_at is None]
    found.sort(key=lambda row: (row.since, row.kind, row.name))
    return _pauses(runtime, found, Switched.of(rows))


def set_ramp(runtime: Runtime, orchestrator: Any, version: str | None, share: float) -> None:
    """Let a share of the new starts of an orchestrator have a version; None removes the ramp."""
    refuse_inside_orchestrator("durable.ramp()")
    name = checked_name(orchestrator, "durable.ramp(): a name")
    if not is_number(share) or not 0 <= share <= 1:
        raise ValueError(f"durable.ramp(): share is between 0 and 1, not {share!r}")
    rows = runtime.store.switches
    shown = {"version": version, "share": None if version is None else float(share)}
    with runtime.client.auditor.around(SwitchKind.ORCHESTRATOR, name, "ramp", None, shown):
        if version is None:
            rows.delete(SwitchKind.RAMP, name)
        else:
            runtime.registry.chosen(name, version)
            rows.set(SwitchKind.RAMP, name, Ramp(version, float(share)).to_text(), None)
    runtime.runner.switches.refresh()


def _pauses(runtime: Runtime, rows: Sequence[Switch], switched: Switched) -> list[Pause]:
    """Return pauses in force, with what they hold: also attempts that no pass admits."""
    store, unsent = runtime.store, Counter[tuple[str, str]]()
    for task, queue, number in store.limits.by_task() if rows else ():
        if (pause := _holder(switched, task, queue)) is not None:
            unsent[pause.kind, pause.name] += number
    return [
        _pause(runtime, row, store.switches.held(row.kind, row.name) + unsent[row.kind, row.name])
        for row in rows
    ]


def _holder(switched: Switched, task: str, queue: str | None) -> Switch | None:
    return switched.of_activity(task, lambda: queue)


def _pause(runtime: Runtime, row: Switch, held: int) -> Pause:
    until = until_of(row)
    return Pause(
        cast(PauseKind, str(row.kind)),
        row.name,
        row.reason,
        EPOCH + timedelta(microseconds=row.since),
        held,
        None if until is None else EPOCH + timedelta(microseconds=until),
        lambda: unset_pause(runtime, row.kind, row.name),
    )
