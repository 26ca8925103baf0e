"""Rewinding: an execution that has failed lives once more through what history holds, without what made it fail.

History is not replayed but *retraced*: the orchestrator runs anew, and each recorded input is applied if the code asks, under
the same number, for the same thing as before. What has succeeded so keeps its outcome; what failed for good is asked for again,
with a fresh count of attempts. The result is written as one row, with which replay begins from then on; the rows before it stay
for people to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import ActivityTimeout, InstanceExists, InstanceNotFound, OrchestrationFailed
from .calls import ChildCall
from .commands import (
    CancelChild,
    CancelExecution,
    Command,
    CompleteExecution,
    ContinueAsNew,
    FailExecution,
    RecordRun,
    SendEvent,
)
from .events import CONFIRMATIONS, INPUTS, RESOLUTIONS, Event, EventKind
from .replay import Decision, Execution

__all__ = ["Override", "last_outcome", "rewind"]

_CONFIRMING = frozenset(CONFIRMATIONS.values())
_FINAL = frozenset(
    CONFIRMATIONS[kind.__name__] for kind in (CancelExecution, CompleteExecution, ContinueAsNew, FailExecution)
)
_GONE = (ActivityTimeout, InstanceExists, InstanceNotFound, OrchestrationFailed)
_OUTCOMES = frozenset(kind for kind in RESOLUTIONS if kind is not EventKind.TIMER_FIRED)


class Override(NamedTuple):
    """An outcome to take the place of the one that history holds of a command."""

    command: int
    payload: str
    has_failed: bool
    reason: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What history keeps beside the outcome."""
        return {"injected": True, "reason": self.reason}

    def kind_for(self, call: Event) -> EventKind:
        """Return the kind of the outcome, by any event of the call that it is for."""
        if call.kind in (EventKind.CHILD_STARTED, EventKind.CHILD_COMPLETED, EventKind.CHILD_FAILED):
            return EventKind.CHILD_FAILED if self.has_failed else EventKind.CHILD_COMPLETED
        return EventKind.ACTIVITY_FAILED if self.has_failed else EventKind.ACTIVITY_COMPLETED

    def instead_of(self, event: Event) -> Event:
        """Return the event that takes the place of a recorded outcome."""
        return event._replace(kind=self.kind_for(event), payload=self.payload, facts=self.facts)


def last_outcome(events: Sequence[Event], command: int) -> int | None:
    """Return the position of the last outcome that history holds of a command."""
    found = [number for number, event in enumerate(events) if event.command == command and event.kind in _OUTCOMES]
    return found[-1] if found else None


def rewind(
    make: Callable[[], Execution], history: Sequence[Event], request: Event, override: Override | None = None
) -> tuple[Execution, Decision]:
    """Bring a failed execution back to life.

    Args:
        make: gives an execution that has not run yet.
        history: the events since the orchestration began, or since it was rewound last.
        request: the wish to rewind; its time and facts are kept.
        override: an outcome that takes the place of a recorded one.

    Returns:
        The execution, and what to commit: it begins with ``HistoryRewritten``.
    """
    instead: dict[int, Event] = {}
    if override is not None and (place := last_outcome(history, override.command)) is not None:
        instead[place] = override.instead_of(history[place])
    trace = _Trace(make(), history, instead)
    try:
        trace.run()
        causes = trace.causes()
        without = (causes.places - set(instead)) | trace.stale_grants()
        while not without <= trace.without:
            trace.execution.abandon()
            trace = _Trace(make(), history, instead, without)
            trace.run()
            without = without | trace.stale_grants()
        return trace.execution, trace.decide(request, causes)
    except BaseException:
        trace.execution.abandon()
        raise


@dataclass
class _Causes:
    """The places in history of what made an execution fail, which children failed by themselves, and what was undone."""

    places: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    undone: set[int] = field(default_factory=set)


class _Trace:
    """One run of the code through recorded inputs."""

    def __init__(
        self,
        execution: Execution,
        history: Sequence[Event],
        instead: dict[int, Event],
        without: set[int] | frozenset[int] = frozenset(),
    ) -> None:
        self.execution = execution
        self._history = history
        self._instead = instead
        self.without = without
        self._recorded = {(e.kind, e.command, e.attempt): e for e in history if e.kind in _CONFIRMING}
        self._agreed: set[int] = set()
        self._kept: list[Event] = []
        self._commands: list[Command] = []
        self._place = 0
        self._failures: dict[int, tuple[int, BaseException]] = {}
        self._completions: dict[int, int] = {}

    def run(self) -> None:
        """Apply what history holds, as far as the code still asks for it."""
        execution = self.execution
        execution.begin_retrace(self._history, self._note_failure)
        for place, recorded in enumerate(self._history):
            self._place = place
            if execution.final is not None:
                break
            if recorded.kind not in INPUTS or place in self.without:
                continue
            event = self._instead.get(place, recorded)
            is_outcome = event.kind in RESOLUTIONS or (event.kind is EventKind.EVENT_RAISED and event.command)
            if execution.is_wanted(event) and (not is_outcome or event.command in self._agreed):
                self._apply(event)

    def _apply(self, event: Event) -> None:
        self._kept.append(event)
        if event.kind in (EventKind.ACTIVITY_COMPLETED, EventKind.CHILD_COMPLETED):
            self._completions[event.command] = self._place
        for command in self.execution.apply(event):
            confirmation = command.confirmation(self.execution.now)
            known = self._recorded.get((confirmation.kind, confirmation.command, confirmation.attempt))
            is_as_due = known is None or known.kind is not EventKind.TIMER_CREATED or known.facts == confirmation.facts
            if known is not None and is_as_due and command.agrees_with(known) and command.has_arguments_of(known):
                self._agreed.add(command.command)
            elif isinstance(command, (SendEvent, CancelChild, RecordRun)):
                self._commands.append(command)
            if command.is_final:
                self._commands.append(command)
            self._kept.append(confirmation)

    def _note_failure(self, command: int, error: BaseException) -> None:
        self._failures[command] = self._place, error

    def causes(self) -> _Causes:
        """Return what made the code fail: the calls whose exceptions it raised, and what a saga has undone since.

        If none of them is known, the calls whose exceptions were collected, as by ``gather(return_exceptions=True)``: one
        that was raised into the code was dealt with there.
        """
        error = self.execution.error
        if error is None:
            return _Causes()
        chain = {id(each) for each in _whole(error)}
        guilty = {command for command, (_, raised) in self._failures.items() if id(raised) in chain}
        guilty = guilty or {c for c, (_, raised) in self._failures.items() if raised.__traceback__ is None}
        undone = self.execution.undone
        children = {
            command
            for command in guilty | undone
            if command in self._failures and not isinstance(self._failures[command][1], _GONE)
            and not (self._history[self._failures[command][0]].facts or {}).get("refused")
        }  # fmt: skip
        places = {self._failures[command][0] for command in guilty | undone if command in self._failures}
        return _Causes(places | {self._completions[c] for c in undone if c in self._completions}, children, undone)

    def stale_grants(self) -> set[int]:
        """Return the places of the locks that the code holds now: they were given back when it failed."""
        lock = self.execution.lock
        commands = set() if lock is None else lock.commands
        return {
            place
            for place, event in enumerate(self._history)
            if event.kind is EventKind.EVENT_RAISED and event.command in commands
        }

    def decide(self, request: Event, causes: _Causes) -> Decision:
        """Return what to commit: history as it is now, and all that is under way asked for again."""
        execution, failed_children = self.execution, causes.children
        kept = [
            [call.command, call.command in failed_children]
            for call in execution.calls
            if isinstance(call, ChildCall) and call.command in self._agreed and self._is_there(call, failed_children)
        ]
        note = Event(EventKind.HISTORY_REWRITTEN, request.at, facts=request.facts)
        undone = sorted(causes.undone.intersection(call.command for call in execution.calls))
        facts = {**({"kept": kept} if kept else {}), **self._used({command for command, _ in kept})}
        facts |= {"undone": undone} if undone else {}
        renewal = Event(EventKind.WORK_RENEWED, request.at, facts=facts or None)
        return execution.renew(Decision([note, *self._kept], self._commands), renewal)

    def _used(self, kept: set[int]) -> dict[str, Any]:
        """Return the numbers of before that must not be given to anything else: late messages would be taken for its own."""
        commands = [event.command for event in self._history if event.kind not in _FINAL]
        commands += [(e.facts or {}).get("commands", 0) for e in self._history if e.kind is EventKind.WORK_RENEWED]
        attempts: dict[int, int] = {}
        for event in self._history:
            attempts[event.command] = max(attempts.get(event.command, 0), event.attempt)
        calls = [call for call in self.execution.calls if call.command not in kept]
        skipped = [[c.command, n] for c in calls if (n := attempts.get(c.command, 0)) > c.attempt]
        highest = max(commands, default=0)
        return {
            **({"commands": highest} if highest > self.execution.last_command else {}),
            **({"attempts": skipped} if skipped else {}),
        }

    def _is_there(self, call: ChildCall, failed: set[int]) -> bool:
        """Tell whether the child of before is the one to wait for: not if it was canceled, or never began."""
        if call.command in failed:
            return True
        return not any(
            event.command == call.command and event.kind in _OUTCOMES and place in self.without
            for place, event in enumerate(self._history)
        ) and not any(
            event.kind is EventKind.CHILD_CANCELED and (event.command, event.attempt) == (call.command, call.attempt)
            for event in self._history
        )


def _whole(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, what caused it, and what is in its group."""
    seen: set[int] = set()
    rest: list[Any] = [error]
    while rest:
        one = rest.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            rest += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
