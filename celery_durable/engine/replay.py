"""Bringing an orchestrator to where its history ends, and through a rewind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .._errors import PayloadError
from ..core import determinism
from ..core.canvas_options import CanvasOptions
from ..core.decision import Decision
from ..core.history import Event, EventKind, load_events
from ..core.machine import Machine
from ..core.plain_task import TASK
from ..core.ports import ExecutionInfo
from ..core.rewind import Override, rewind
from .call_types import DeclaredTypes
from .parts import Parts
from .propagation import as_context, kept_context
from .records import InboxRow, InstanceRow, Snapshot
from .registry import Definition

__all__ = [
    "Replayer",
    "StaleReadError",
    "awaits_rewind",
    "current_events",
    "current_rows",
    "events_of",
    "facts_of",
    "replay_rows",
]

M = TypeVar("M", bound=Machine)
_REWRITTEN = '[["HistoryRewritten"'
_REOPENED = '[["ExecutionRewound"'
#: What a damaged row makes its reader raise.
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


class StaleReadError(Exception):
    """What was read does not fit together, because the instance moved meanwhile: read again."""


@dataclass(slots=True)
class Replayer:
    """Makes executions of this process's code, and replays history through them."""

    parts: Parts

    def new(
        self,
        instance: InstanceRow,
        definition: Definition,
        *,
        traces: bool = False,
        is_dry: bool = False,
    ) -> Machine:
        """Return an execution that has not replayed anything yet.

        Args:
            instance: whose.
            definition: its code.
            traces: let a disagreement with history name the line of the code.
            is_dry: run nothing that ``ctx.run`` is given.
        """
        return self.new_of(Machine, instance, definition, traces=traces, is_dry=is_dry)

    def new_of(
        self,
        kind: type[M],
        instance: InstanceRow,
        definition: Definition,
        *,
        traces: bool = False,
        checks_arguments: bool = False,
        is_dry: bool = False,
    ) -> M:
        """Return an execution of a kind of its own; see ``new``.

        With ``checks_arguments``, other arguments of a call than history's are a disagreement.
        """
        kept = kept_context(self.parts.codec, instance.canvas)
        facts = ExecutionInfo(
            instance.id,
            instance.execution,
            instance.name,
            instance.version,
            instance.parent_id,
            as_context(kept),
            kept.get("values") or {},
            self._task_options(instance),
            self.parts.propagators.restored_values,
        )
        determinism.install()
        execution = kind(
            facts,
            definition.function,
            self.parts.codec,
            self.parts.registry.__contains__,
            most_commands=self.parts.settings.max_turn_commands,
            traces=traces,
            checks_arguments=checks_arguments,
            types=DeclaredTypes(
                self.parts.codec, self.parts.versions, self.parts.tasks, instance.id, definition
            ),
            running=self.parts.running,
        )
        execution.is_dry = is_dry
        return execution

    def _task_options(self, instance: InstanceRow) -> Mapping[str, Any]:
        if instance.version != TASK or not CanvasOptions.may_have(instance.canvas, "plain_task"):
            return {}
        return CanvasOptions.read(self.parts.codec, instance.canvas).task

    def to_the_end(
        self,
        instance: InstanceRow,
        history: Sequence[str],
        cached: Machine | None,
        definition: Definition,
    ) -> Machine:
        """Return an execution that stands where history ends; the one in memory, if there is one.

        Raises:
            StaleReadError: what was read and the one in memory do not meet.
            PayloadError: rows are missing or damaged.
            NonDeterminismError: the code asks for something else than what is recorded.
        """
        if cached is not None and (
            cached.info.execution_id != instance.execution
            or cached.sequence + len(history) != instance.sequence
        ):
            cached.abandon()
            raise StaleReadError(f"history of {instance.id!r} moved while it was read")
        if cached is None:
            _expect_whole(instance, history)
        execution = cached or self.new(instance, definition)
        try:
            replay_rows(execution, history)
        except BaseException:
            execution.abandon()
            raise
        return execution

    def rewound(
        self,
        snapshot: Snapshot,
        definition: Definition,
        request: InboxRow,
        undelivered: Sequence[Event] = (),
        *,
        is_dry: bool = False,
    ) -> tuple[Machine, Decision]:
        """Return a failed execution as it runs again, as a message asks, and what to commit.

        See ``core.rewind``.
        """
        instance, facts = snapshot.instance, facts_of(request)
        _expect_whole(instance, snapshot.history)
        events = current_events(snapshot.history, instance.id)
        override = None
        if request.command:
            override = Override(
                request.command,
                request.payload or "null",
                bool(facts.get("failed")),
                facts.get("reason"),
            )
        noted = Event(
            EventKind.EXECUTION_REWOUND, request.visible_at, facts={"reason": facts.get("reason")}
        )
        execution, decision = rewind(
            lambda: self.new(instance, definition, is_dry=is_dry),
            events,
            noted,
            override,
            undelivered,
        )
        execution.sequence = instance.sequence
        return execution, decision


def _expect_whole(instance: InstanceRow, history: Sequence[str]) -> None:
    if len(history) != instance.sequence:
        raise PayloadError(
            f"history of {instance.id!r} is damaged: {len(history)} of {instance.sequence} rows"
            " are there"
        )


def facts_of(row: InboxRow) -> dict[str, Any]:
    """Return the facts of a message; none if they are damaged."""
    return row.facts if isinstance(row.facts, dict) else {}


def current_rows(rows: Sequence[str]) -> int:
    """Return how many rows replay passes over: those before the last rewind."""
    numbers = range(len(rows) - 1, -1, -1)
    return next((number for number in numbers if rows[number].startswith(_REWRITTEN)), 0)


def current_events(rows: Sequence[str], instance_id: str) -> list[Event]:
    """Return the events of the rows that replay does not pass over.

    Raises:
        PayloadError: a row is damaged.
    """
    first = current_rows(rows)
    return [
        event
        for number, row in enumerate(rows[first:], first + 1)
        for event in events_of(row, instance_id, number)
    ]


def awaits_rewind(rows: Sequence[str]) -> bool:
    """Tell whether an instance was reopened for a rewind that has not taken place yet."""
    noted = (row for row in reversed(rows) if row.startswith((_REOPENED, _REWRITTEN)))
    return next((row.startswith(_REOPENED) for row in noted), False)


def replay_rows(execution: Machine, rows: Sequence[str]) -> None:
    """Replay the history rows that follow those which the execution knows.

    Raises:
        NonDeterminismError: the code asks for something else.
        PayloadError: a row is damaged.
    """
    if not rows:
        return
    first = current_rows(rows)
    if first or (execution.sequence and rows[0].startswith(_REWRITTEN)):
        if execution.sequence:
            raise StaleReadError(f"{execution.info.instance_id!r} was rewound elsewhere")
        execution.sequence = first
    for row in rows[first:]:
        _replay_row(execution, row)


def _replay_row(execution: Machine, row: str) -> None:
    id_, number = execution.info.instance_id, execution.sequence + 1
    try:
        execution.replay(events_of(row, id_, number))
    except _DAMAGE as error:  # not the user's code: its errors stay in its tasks
        if isinstance(error, PayloadError):
            raise
        raise PayloadError(
            f"history of {id_!r} is damaged at row {number}: {type(error).__name__}: {error}"
        ) from error


def events_of(row: str, instance_id: str, sequence: int) -> list[Event]:
    """Decode the history row of one turn.

    Raises:
        PayloadError: it is damaged.
    """
    try:
        return load_events(row)
    except _DAMAGE as error:
        raise PayloadError(
            f"history of {instance_id!r} is damaged at row {sequence}: {error}"
        ) from error
