"""A world in memory for one orchestrator: it answers commands in virtual time and checks each life
it has seen.

``live`` runs a function to its end (or until nothing is left to happen). Every life is then
checked: its history, read back from text, replays clean and ends alike; every turn, taken again by
a fresh execution, decides alike; and all its inputs in a single batch give the same history. So
each test that goes through here is a test of replay too.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from celery_durable.core import determinism
from celery_durable.core.commands import Command
from celery_durable.core.decision import Decision
from celery_durable.core.history import NOTES, Event, EventKind, dump_events, load_events
from celery_durable.core.kinds import (
    INPUTS,
    CancelActivity,
    CancelChild,
    CancelExecution,
    CancelTimer,
    CompleteExecution,
    ContinueAsNew,
    CreateTimer,
    FailExecution,
    ScheduleActivity,
    StartChild,
)
from celery_durable.core.machine import Machine
from celery_durable.core.ports import ExecutionInfo
from celery_durable.payload import PayloadCodec

START = 1_750_000_000_000_000
SECOND = 1_000_000
CODEC = PayloadCodec(exception_modules=lambda: ["tests"])
FACTS = ExecutionInfo("order-42", "e1a2b3c4d5e6f7a8b9c0", "shop.fulfil_order", "3", None)
NEVER = object()


@dataclass(frozen=True)
class After:
    """An answer that takes its time."""

    seconds: float
    value: Any


# -- activities and children -----------------------------------------------------------------------

app = Celery("harness", set_as_current=False)


@app.task(shared=False, name="echo")
def echo(value: Any = None) -> Any:
    return value


@app.task(shared=False, name="add")
def add(*numbers: Any) -> Any:
    return sum(numbers)


@app.task(shared=False, name="total")
def total(numbers: list[Any]) -> Any:
    return sum(numbers)


@app.task(shared=False, name="fail")
def fail(message: str = "broken", *ignored: Any) -> None:
    raise ValueError(message)


@app.task(shared=False, name="slow")
def slow(seconds: float, value: Any = None) -> Any:
    return After(seconds, value)


@app.task(shared=False, name="slow_fail")
def slow_fail(seconds: float, message: str = "broken late") -> Any:
    return After(seconds, ValueError(message))


@app.task(shared=False, name="never")
def never(*ignored: Any) -> Any:
    return NEVER


@app.task(shared=False, name="flaky")
def flaky(*ignored: Any) -> Any:
    raise AssertionError("a test that uses flaky scripts its answers")


@app.task(shared=False, name="child")
def child(value: Any = None) -> Any:
    return value


@app.task(shared=False, name="child.fail")
def failing_child(message: str = "child is broken") -> None:
    raise KeyError(message)


@app.task(shared=False, name="child.never")
def endless_child() -> Any:
    return NEVER


def is_orchestrator(name: str) -> bool:
    return name.split(".")[0] == "child"


# -- what comes from outside -----------------------------------------------------------------------


def raised(name: str, data: Any = None, *, at: float = 1, event_id: str | None = None) -> Event:
    """An external event, ``at`` seconds after the start."""
    facts = {"id": event_id} if event_id else None
    return Event(
        EventKind.EVENT_RAISED, moment(at), name=name, payload=CODEC.encode(data), facts=facts
    )


def cancel(*, at: float = 1) -> Event:
    return Event(EventKind.CANCEL_REQUESTED, moment(at), facts={"reason": "a test"})


def resume(*, at: float = 1) -> Event:
    return Event(EventKind.EXECUTION_RESUMED, moment(at))


def started(*args: Any, **kwargs: Any) -> Event:
    return Event(EventKind.EXECUTION_STARTED, START, payload=CODEC.encode([list(args), kwargs]))


def moment(seconds: float) -> int:
    return START + round(seconds * SECOND)


def fresh(function: Callable[..., Any], facts: ExecutionInfo = FACTS) -> Machine:
    determinism.install()
    return Machine(facts, function, CODEC, is_orchestrator)


# -- one life --------------------------------------------------------------------------------------


@dataclass
class Life:
    """All that was seen of one execution."""

    function: Callable[..., Any]
    facts: ExecutionInfo
    rows: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    turns: list[list[Event]] = field(default_factory=list)
    final: Command | None = None
    now: int = START

    @property
    def history(self) -> list[Event]:
        return [event for row in self.rows for event in load_events(row)]

    @property
    def facts_of_history(self) -> list[Event]:
        """The history without notes, which alone may depend on how inputs were batched."""
        return [event for event in self.history if event.kind not in NOTES]

    @property
    def commands(self) -> list[Command]:
        return [command for decision in self.decisions for command in decision.commands]

    @property
    def asked(self) -> list[str]:
        """The commands in words, the final one left out."""
        return [command.describe() for command in self.commands if not command.is_final]

    @property
    def scheduled(self) -> list[ScheduleActivity]:
        return [command for command in self.commands if isinstance(command, ScheduleActivity)]

    @property
    def children(self) -> list[StartChild]:
        return [command for command in self.commands if isinstance(command, StartChild)]

    @property
    def timers(self) -> list[float]:
        """When each timer is due, in seconds after the start."""
        return [
            (command.due - START) / SECOND
            for command in self.commands
            if isinstance(command, CreateTimer)
        ]

    @property
    def seconds(self) -> float:
        """When the life ended, in seconds after its start."""
        return (self.now - START) / SECOND

    @property
    def statuses(self) -> list[Any]:
        return [
            CODEC.decode(d.custom_status) for d in self.decisions if d.custom_status is not None
        ]

    @property
    def is_waiting(self) -> bool:
        return self.final is None

    @property
    def is_canceled(self) -> bool:
        return isinstance(self.final, CancelExecution)

    @property
    def suspend_reason(self) -> str | None:
        return self.decisions[-1].suspend_reason

    @property
    def value(self) -> Any:
        """What the orchestrator returned; what it raised is raised."""
        if isinstance(self.final, FailExecution):
            raise self.error
        assert isinstance(self.final, CompleteExecution), f"no value: {self.final}"
        return CODEC.decode(self.final.output)

    @property
    def error(self) -> BaseException:
        assert isinstance(self.final, FailExecution), f"no failure: {self.final}"
        return CODEC.decode_failure(self.final.failure)[0]

    @property
    def next_input(self) -> Any:
        assert isinstance(self.final, ContinueAsNew), f"not continued: {self.final}"
        return CODEC.decode(self.final.input)

    def replayed(self, function: Callable[..., Any] | None = None) -> Machine:
        """Replay this history, on other code if given."""
        execution = fresh(function or self.function, self.facts)
        try:
            for row in self.rows:
                execution.replay(load_events(row))
        finally:
            execution.abandon()
        return execution

    # -- what holds of every life -----------------------------------------------------------------

    def check(self) -> Life:
        self._check_replay()
        self._check_every_turn_again()
        self._check_single_batch()
        return self

    def _check_replay(self) -> None:
        assert "".join(dump_events(load_events(row)) for row in self.rows) == "".join(self.rows)
        replayed = self.replayed()
        assert replayed.final == self.final
        assert replayed.sequence == len(self.rows)

    def _check_every_turn_again(self) -> None:
        for number in range(min(len(self.turns), 25)):
            execution = fresh(self.function, self.facts)
            try:
                for row in self.rows[:number]:
                    execution.replay(load_events(row))
                assert execution.take(self.turns[number]) == self.decisions[number], (
                    f"turn {number} decides otherwise"
                )
            finally:
                execution.abandon()

    def _check_single_batch(self) -> None:
        if any(decision.suspend_reason for decision in self.decisions):
            return
        inputs = [event for event in self.history if event.kind in INPUTS]
        execution = fresh(self.function, self.facts)
        decision = execution.take(inputs)
        execution.abandon()
        assert [
            event for event in decision.events if event.kind not in NOTES
        ] == self.facts_of_history
        assert execution.final == self.final


class World:
    """Keeps what is under way, and hands out the next inputs in order of virtual time."""

    def __init__(self, script: Mapping[str, Iterable[Any]], order: str | int) -> None:
        self._script = {name: iter(answers) for name, answers in script.items()}
        self._order = order
        self._dice = random.Random(order)
        self._tickets = itertools.count(1)
        self._due: list[tuple[int, bool, float, int, Event]] = []
        self._gone: set[tuple[str, int]] = set()
        self._windows: dict[int, deque[ScheduleActivity]] = {}
        self._window_of: dict[int, int] = {}

    def happens(self, event: Event) -> None:
        ticket = next(self._tickets)
        tie = {"first": ticket, "last": -ticket}.get(self._order, self._dice.random())  # type: ignore[call-overload]
        heapq.heappush(
            self._due, (event.at, event.kind is EventKind.TIMER_FIRED, tie, ticket, event)
        )

    def next_inputs(self, count: int) -> list[Event]:
        inputs: list[Event] = []
        while self._due and len(inputs) < count:
            event = heapq.heappop(self._due)[-1]
            if (_subject(event.kind), event.command) not in self._gone:
                inputs.append(event)
        return inputs

    def carries_out(self, decision: Decision) -> None:
        for event in decision.events:
            if event.kind is EventKind.ACTIVITY_COMPLETED and event.command in self._window_of:
                self._open_slot(self._window_of[event.command], decision.now)
        for command in decision.commands:
            self._carry_out(command, decision.now)
        for window, slots in decision.released_slots.items():
            for _ in range(slots):
                self._open_slot(window, decision.now)

    def _carry_out(self, command: Command, now: int) -> None:
        if isinstance(command, ScheduleActivity):
            if command.window is not None:
                self._window_of[command.command] = command.window
            if command.is_held:
                self._windows.setdefault(command.window or 0, deque()).append(command)
            else:
                self._answer(command, command.task, command.args, command.kwargs, now)
        elif isinstance(command, StartChild):
            args, kwargs = CODEC.decode(command.input)
            self._answer(command, command.name, args, kwargs, now)
        elif isinstance(command, CreateTimer):
            self.happens(Event(EventKind.TIMER_FIRED, max(command.due, now), command.command))
        elif isinstance(command, (CancelActivity, CancelChild, CancelTimer)):
            self._gone.add(
                ("TimerFired" if isinstance(command, CancelTimer) else "outcome", command.command)
            )

    def _open_slot(self, window: int, now: int) -> None:
        held = self._windows.get(window)
        while held:
            command = held.popleft()
            if ("outcome", command.command) not in self._gone:
                self._answer(command, command.task, command.args, command.kwargs, now)
                return

    def _answer(
        self, command: Any, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], now: int
    ) -> None:
        self._gone.discard(("outcome", command.command))
        answer = self._ask(task, args, kwargs)
        delay = 1.0
        if isinstance(answer, After):
            delay, answer = answer.seconds, answer.value
        if answer is NEVER:
            return
        who = "ACTIVITY" if isinstance(command, ScheduleActivity) else "CHILD"
        if isinstance(answer, BaseException):
            kind, payload = EventKind[f"{who}_FAILED"], CODEC.encode_failure(answer)
        else:
            kind, payload = EventKind[f"{who}_COMPLETED"], CODEC.encode(answer)
        at = now + round(delay * SECOND)
        self.happens(Event(kind, at, command.command, command.attempt, payload=payload))

    def _ask(self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            if task in self._script:
                return next(self._script[task])
            return app.tasks[task](*args, **kwargs)
        except Exception as error:
            return error


def _subject(kind: EventKind) -> str:
    return "TimerFired" if kind is EventKind.TIMER_FIRED else "outcome"


def live(
    function: Callable[..., Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    inputs: Iterable[Event] = (),
    script: Mapping[str, Iterable[Any]] | None = None,
    order: str | int = "first",
    batch: int = 1,
    facts: ExecutionInfo = FACTS,
    start_facts: Mapping[str, Any] | None = None,
    check: bool = True,
) -> Life:
    """Run an orchestrator in a world of its own.

    Args:
        function: the orchestrator.
        args: its arguments.
        kwargs: its keyword arguments.
        inputs: what comes from outside: ``raised(...)``, ``cancel(...)``, ``resume(...)``.
        script: task name -> answers, in order of scheduling; other tasks run their own body.
        order: which of several answers of one instant comes first: "first" or "last" scheduled, or
            a seed to draw.
        batch: how many inputs a turn takes at most.
        facts: who the execution is.
        start_facts: what its start says.
        check: whether the life is replayed in every way afterwards.
    """
    world = World(script or {}, order)
    for event in inputs:
        world.happens(event)
    life = Life(function, facts)
    execution = fresh(function, facts)
    try:
        start = started(*args, **(kwargs or {}))._replace(
            facts=None if start_facts is None else dict(start_facts)
        )
        _run_to_the_end(execution, world, life, start, batch)
    finally:
        execution.abandon()
    return life.check() if check else life


def _run_to_the_end(execution: Machine, world: World, life: Life, start: Event, batch: int) -> None:
    turn, parked = [start], []
    while turn and life.final is None:
        decision = execution.take(turn)
        life.turns.append(turn)
        life.decisions.append(decision)
        life.rows.append(dump_events(decision.events))
        life.final, life.now = decision.final, execution.now
        world.carries_out(decision)
        assert len(life.turns) < 5_000, "this orchestrator never ends"
        turn = world.next_inputs(batch)
        while decision.suspend_reason and turn:
            parked += turn
            if parked[-1].kind is EventKind.EXECUTION_RESUMED:
                turn, parked = parked, []
                break
            turn = world.next_inputs(1)
