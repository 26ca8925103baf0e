"""Rewinding: an execution that has failed lives once more through what history holds, without what
made it fail.

History is not replayed but *re-executed*: the orchestrator runs again, and each recorded input is
applied if the code asks, under the same number, for the same thing as before. What has succeeded so
keeps its outcome; what failed is asked for again, with a fresh count of attempts. What had arrived
and was not heard before the failure is heard now, and an activity that may run only once and had
begun has failed. The result is written as one row, with which replay begins from then on; the rows
before it stay for people to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._errors import ActivityTimeout, InstanceExists, InstanceNotFound, OrchestrationFailed
from .commands import Command
from .decision import Decision
from .history import Event, EventKind
from .kinds import (
    CALL_OUTCOMES,
    CALL_RESULTS,
    KINDS,
    Activities,
    Call,
    Calls,
    ChildCall,
    Children,
    EntityCalls,
    Lifecycle,
    Timers,
)
from .machine import Machine
from .rewind_inputs import RecordedInputs

__all__ = ["Override", "last_outcome", "rewind"]

_FINAL = frozenset(command.confirmed_by for command in Lifecycle.commands)
_GONE = (ActivityTimeout, InstanceExists, InstanceNotFound, OrchestrationFailed)
_ENDS = CALL_OUTCOMES | {EventKind.ACTIVITY_ABANDONED}


class Override(NamedTuple):
    """An outcome to take the place of the one that history holds of a command."""

    #: The call whose outcome it is.
    command: int
    #: A result or a failure, encoded.
    payload: str
    has_failed: bool
    #: Why; None if nothing was said.
    reason: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What history keeps beside the outcome."""
        return {"injected": True, "reason": self.reason}

    def kind_for(self, call: Event) -> str:
        """Return the kind of the outcome, by any event of the call that it is for."""
        kind = Children if KINDS.owners.get(call.kind) is Children else Activities
        return kind.failed if self.has_failed else kind.completed

    def instead_of(self, event: Event) -> Event:
        """Return the event that takes the place of a recorded outcome."""
        return event._replace(kind=self.kind_for(event), payload=self.payload, facts=self.facts)


def last_outcome(events: Sequence[Event], command: int) -> int | None:
    """Return the position of the last outcome that history holds of a command, or of the note that
    it will have none.
    """
    found = [
        number
        for number, event in enumerate(events)
        if event.command == command and event.kind in _ENDS
    ]
    return found[-1] if found else None


def rewind(
    make: Callable[[], Machine],
    history: Sequence[Event],
    request: Event,
    override: Override | None = None,
    undelivered: Sequence[Event] = (),
) -> tuple[Machine, Decision]:
    """Bring a failed execution back to life.

    Args:
        make: gives an execution that has not run yet.
        history: the events since the orchestration began, or since it was rewound last.
        request: the request to rewind; its time and facts are kept.
        override: an outcome that takes the place of a recorded one.
        undelivered: what has arrived since, in order, and is not in history.

    Returns:
        The execution, and what to commit: it begins with ``HistoryRewritten``.
    """
    instead: dict[int, Event] = {}
    if override is not None and (place := last_outcome(history, override.command)) is not None:
        instead[place] = override.instead_of(history[place])
    inputs = RecordedInputs(history, undelivered, instead)
    trace = _Trace(make(), inputs)
    try:
        # once with all that happened, to see what made it fail
        trace.run()
        causes = trace.causes()
        without = (causes.places - set(instead)) | trace.stale_grants()
        # then without that, until the code holds no lock that was given back
        while not without <= trace.without:
            trace.machine.abandon()
            trace = _Trace(make(), inputs, without)
            trace.run()
            without = without | trace.stale_grants()
        return trace.machine, trace.decide(request, causes)
    except BaseException:
        trace.machine.abandon()
        raise


@dataclass
class _Causes:
    """The places in history of what made an execution fail, which children failed by themselves,
    and what was undone.
    """

    places: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    undone: set[int] = field(default_factory=set)


class _Trace:
    """One run of the code through recorded inputs."""

    def __init__(
        self,
        machine: Machine,
        inputs: RecordedInputs,
        without: set[int] | frozenset[int] = frozenset(),
    ) -> None:
        self.machine = machine
        self._inputs = inputs
        self._history = inputs.events
        self.without = without
        self._recorded = {
            (e.kind, e.command, e.attempt): e
            for e in self._history
            if e.kind in machine.kinds.confirming
        }
        self._agreed: set[int] = set()
        self._kept: list[Event] = []
        self._commands: list[Command] = []
        self._place = self._reached = 0
        self._failures: dict[int, tuple[int, BaseException]] = {}
        self._completions: dict[int, int] = {}
        #: The places at which the time of the run was over: what that canceled runs again.
        self._deadlines: set[int] = set()

    def run(self) -> None:
        """Apply what history holds, as far as the code still asks for it."""
        machine, kinds = self.machine, self.machine.kinds.inputs
        machine.reexecute(self._history, self._note_failure)
        for place in range(len(self._history)):
            self._place = place
            if machine.final is not None:
                break
            self._reached = place + 1
            if place in self.without or (event := self._inputs.at(place, machine)) is None:
                continue
            is_known = event.command in self._agreed or not kinds[event.kind].is_outcome(event)
            if is_known and machine.is_wanted(event):
                self._apply(event)

    def _apply(self, event: Event) -> None:
        if event.kind is EventKind.WORK_RENEWED:
            event = self._as_it_was(event)
        if event.command == self.machine.of(Timers).deadline:
            self._deadlines.add(self._place)
        self._kept.append(event)
        if event.kind in CALL_RESULTS:
            self._completions[event.command] = self._place
        for command in self.machine.apply(event):
            confirmation = command.confirmation(self.machine.now)
            # what history has of this very command is kept: its outcome holds
            known = self._recorded.get(
                (confirmation.kind, confirmation.command, confirmation.attempt)
            )
            if known is not None and command.repeats(known):
                self._agreed.add(command.command)
            # another one than then: the commit does it again
            elif command.is_one_shot:
                self._commands.append(command)
                command.repeat()
            if command.is_final:
                self._commands.append(command)
            self._kept.append(confirmation)

    def _open_calls(self) -> list[Call]:
        return [*self.machine.of(Calls).open.values()]

    def _as_it_was(self, renewal: Event) -> Event:
        """Return a renewal of an earlier rewind, which does not start children again whose outcome
        was known then.
        """
        renewed: set[int] = set()
        for event in self._history[self._place + 1 :]:
            if event.kind in self.machine.kinds.inputs:
                break
            renewed.add(event.command)
        calls = self._open_calls()
        left = [
            call.command
            for call in calls
            if isinstance(call, ChildCall) and call.command not in renewed
        ]
        return renewal._replace(facts={**(renewal.facts or {}), "left": left}) if left else renewal

    def _note_failure(self, command: int, error: BaseException) -> None:
        self._failures[command] = self._place, error

    def causes(self) -> _Causes:
        """Return what made the code fail: the calls whose exceptions it raised, and what a saga has
        undone since.

        If none of them is known, the calls whose exceptions were collected, as by
        ``gather(return_exceptions=True)``: one that was raised into the code was dealt with there.
        """
        error = self.machine.of(Lifecycle).error
        if error is None and not self._deadlines:
            return _Causes()
        guilty = set() if error is None else self._guilty_of(error)
        undone = self.machine.undone
        children = {
            command
            for command in guilty | undone
            if command in self._failures
            and not isinstance(self._failures[command][1], _GONE)
            and not (self._history[self._failures[command][0]].facts or {}).get("refused")
        }
        places = {
            self._failures[command][0] for command in guilty | undone if command in self._failures
        }
        places |= self._deadlines
        places |= {
            self._completions[c] for c in undone if c in self._completions
        } | self._inputs.unsure(undone)
        return _Causes(places, children, undone)

    def _guilty_of(self, error: BaseException) -> set[int]:
        """Return the calls whose exceptions made the code raise this one."""
        chain = {id(each) for each in _whole(error)}
        guilty = {command for command, (_, raised) in self._failures.items() if id(raised) in chain}
        return guilty or {
            c for c, (_, raised) in self._failures.items() if raised.__traceback__ is None
        }

    def stale_grants(self) -> set[int]:
        """Return the places of the locks that the code holds now: they were given back when it
        failed.
        """
        lock = self.machine.of(EntityCalls).lock
        commands = set() if lock is None else lock.commands
        return {
            place
            for place, event in enumerate(self._history)
            if event.command in commands and event.kind in self.machine.kinds.inputs
        }

    def decide(self, request: Event, causes: _Causes) -> Decision:
        """Return what to commit: history as it is now, and all that is under way asked for
        again.
        """
        machine, failed_children = self.machine, causes.children
        # children that are still there are asked for their outcomes
        kept = [
            [call.command, call.command in failed_children]
            for call in self._open_calls()
            if isinstance(call, ChildCall)
            and call.command in self._agreed
            and self._is_there(call, failed_children)
        ]
        note = Event(EventKind.HISTORY_REWRITTEN, request.at, facts=request.facts)
        undone = sorted(causes.undone.intersection(call.command for call in self._open_calls()))
        facts = {**({"kept": kept} if kept else {}), **self._used({command for command, _ in kept})}
        facts |= {"undone": undone} if undone else {}
        if fresh := sorted(machine.of(EntityCalls).unanswered - self._agreed):
            facts["fresh"] = fresh
            if machine.final is None:  # the renewal asks them
                self._commands = [
                    command for command in self._commands if command.command not in fresh
                ]
        renewal = Event(EventKind.WORK_RENEWED, request.at, facts=facts or None)
        decision = Decision(
            [note, *self._kept],
            self._commands,
            applied=self._inputs.count_undelivered(self._reached),
        )
        return machine.reissue(decision, renewal)

    def _used(self, kept: set[int]) -> dict[str, Any]:
        """Return the numbers used before that must not be given to anything else: late messages
        would be taken for its own.
        """
        commands = [event.command for event in self._history if event.kind not in _FINAL]
        commands += [
            (e.facts or {}).get("commands", 0)
            for e in self._history
            if e.kind is EventKind.WORK_RENEWED
        ]
        attempts: dict[int, int] = {}
        for event in self._history:
            attempts[event.command] = max(attempts.get(event.command, 0), event.attempt)
        calls = [call for call in self._open_calls() if call.command not in kept]
        skipped = [[c.command, n] for c in calls if (n := attempts.get(c.command, 0)) > c.attempt]
        highest = max(commands, default=0)
        return {
            **({"commands": highest} if highest > self.machine.last_number else {}),
            **({"attempts": skipped} if skipped else {}),
        }

    def _is_there(self, call: ChildCall, failed: set[int]) -> bool:
        """Tell whether the child from before the rewind is the one to wait for: not if it was
        canceled, or never began.
        """
        if call.command in failed:
            return True
        canceled = call.cancel_command()
        return not any(
            event.command == call.command and event.kind in CALL_OUTCOMES and place in self.without
            for place, event in enumerate(self._history)
        ) and not any(map(canceled.agrees_with, self._history))


def _whole(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, what caused it, and what is in its group."""
    seen, rest = set[int](), list[Any]([error])
    while rest:
        one = rest.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            rest += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
