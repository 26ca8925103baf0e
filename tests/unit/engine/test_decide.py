"""What a turn decides: nothing of it counts before the commit, and whatever goes wrong on the way
leaves no code of the user behind.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import CO_GENERATOR
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.history import EventKind, load_events
from celery_durable.core.machine import Machine
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine import decide
from celery_durable.engine.cache import known_of
from celery_durable.engine.decide import Decided, Decider
from celery_durable.engine.intake import Message, in_order
from celery_durable.engine.observers import PropagatedContext
from celery_durable.engine.records import InboxKind, InboxRow, Snapshot
from celery_durable.engine.registry import Definition
from celery_durable.engine.replay import StaleReadError
from celery_durable.engine.writes import DEADLINE
from celery_durable.errors import DurableError, PayloadError, StoreError, TurnLimitExceeded
from celery_durable.settings import Settings
from celery_durable.store import open_store
from tests.contract.builders import everything
from tests.contract.world import World, sig

from .rows import SECOND, inbox_row

HOUR = 3_600 * SECOND


class Fault(BaseException):
    """Something that nobody expects."""


class Scene(World):
    """A process whose orchestrator waits for events and does what they say."""

    def __init__(self, store: Any, **settings: Any) -> None:
        super().__init__(store, **settings)
        self.decider: Decider = self.runner.turns.decider
        #: The contexts of the code that has begun, which keep it from being collected.
        self.begun: list[Any] = []
        #: How many of these have ended, in whatever way.
        self.ended = 0
        #: Called by the code whenever it goes on.
        self.going_on: Callable[[], object] = list
        self.called = "charge"
        #: When it looks; all looks are of one moment.
        self.now = 0
        self.task(charge)
        self.task(fails)
        self.declare()

    def declare(self, version: str | None = None, **own: Any) -> None:
        async def flow(ctx: Any, place: Any = None) -> Any:
            self.begun.append(ctx)
            try:
                return await self.body(ctx)
            finally:
                self.ended += 1

        self.orchestrator(flow, version, **own)

    async def body(self, ctx: Any) -> Any:
        while True:
            self.going_on()
            ctx.call(sig(self.called))
            match await ctx.wait_event("go"):
                case "end":
                    return 5
                case "fail":
                    await ctx.call(sig("fails"))
                case ["renew", args, upgrade]:
                    ctx.continue_as_new(*args, upgrade=upgrade)

    @property
    def open(self) -> int:
        """Of how many executions the code is in memory."""
        return len(self.begun) - self.ended

    def open_one(self, *events: Any, **kept: Any) -> None:
        """Start one, and let it take all of these events but the last; nothing of it stays in
        memory.
        """
        context = {"context": {"values": {"language": "de"}}}
        self.start("flow", canvas={**context, **kept})
        for each in events:
            self.pump()
            self.raise_event("i", "go", each)
        self.publisher.forget()
        self.live.clear()

    def look(self, cached: Machine | None = None) -> Snapshot:
        snapshot = self.store.turns.load("i", known_of(cached))
        assert snapshot is not None
        self.now = self.now or snapshot.now
        return replace(snapshot, now=self.now)

    def standing(self) -> Machine:
        """Return an execution that has replayed what is history."""
        whole = self.look()
        return self.decider.replayer.to_the_end(whole.instance, whole.history, None, self.code)

    @property
    def code(self) -> Definition:
        found = self.registry.get("flow", None)
        assert found is not None
        return found

    def decide(
        self,
        cached: Machine | None = None,
        *,
        messages: Sequence[Message] | None = None,
        rewind: InboxRow | None = None,
    ) -> Decided:
        return self.decide_by(self.look(cached), cached, messages=messages, rewind=rewind)

    def decide_by(
        self,
        snapshot: Snapshot,
        cached: Machine | None = None,
        *,
        messages: Sequence[Message] | None = None,
        rewind: InboxRow | None = None,
    ) -> Decided:
        given = in_order(snapshot) if messages is None else messages
        return self.decider.decide(snapshot, cached, self.code, given, rewind)


def charge() -> int:
    return 1


def fails() -> None:
    raise StoreError("down")


@pytest.fixture
def make(sqlite_template: Path, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Give a process over a store of its own."""
    shutil.copy(sqlite_template, tmp_path / "own.db")
    store = open_store(Settings(backend_url=f"sqlite:///{tmp_path / 'own.db'}"))
    yield lambda **settings: Scene(store, **settings)
    store.database.dispose()


@pytest.fixture
def scene(make: Callable[..., Scene]) -> Scene:
    return make()


# -- each way by which a turn is decided -----------------------------------------------------------


def first(scene: Scene) -> Callable[[], Decided]:
    scene.declare(timeout=HOUR)
    scene.open_one()
    return scene.decide


def replayed(scene: Scene) -> Callable[[], Decided]:
    scene.open_one(1)
    return scene.decide


def in_memory(scene: Scene) -> Callable[[], Decided]:
    scene.open_one(1, 2)
    return lambda: scene.decide(scene.standing())


def of_an_end(scene: Scene) -> Callable[[], Decided]:
    scene.open_one("end")
    return scene.decide


def renewed(scene: Scene) -> Callable[[], Decided]:
    scene.open_one(["renew", [1], True])
    scene.declare("2")
    return scene.decide


def rewound(scene: Scene) -> Callable[[], Decided]:
    scene.publisher.needs_finish = lambda *_: False  # type: ignore[method-assign]
    scene.open_one("fail")
    scene.runner.run("i")
    scene.pump()
    scene.client.rewind("i", "again")
    request = inbox_row(9, kind=InboxKind.REWIND, facts={"reason": "again"})
    return lambda: scene.decide(rewind=request)


WAYS = [first, replayed, in_memory, of_an_end, renewed, rewound]
Way = Callable[[Scene], Callable[[], Decided]]


@contextmanager
def fault_at(number: int) -> Iterator[list[str]]:
    """Let the n-th function that the module calls raise; give the names of those that were
    called.
    """
    called: list[str] = []

    def look(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back
        code = frame.f_code
        # a generator that is closed cannot say what it raises
        if event == "call" and caller is not None and not code.co_flags & CO_GENERATOR:
            if caller.f_code.co_filename == decide.__file__:
                called.append(code.co_qualname)
                if len(called) == number:
                    raise Fault(called[-1])

    sys.setprofile(look)
    try:
        yield called
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("way", WAYS)
def test_whatever_fails_leaves_no_code_in_memory_and_nothing_in_the_store(
    make: Callable[..., Scene], way: Way
) -> None:
    scene = make()
    scene.runner.propagators.add(Language())
    decided = way(scene)
    before, number, made = everything(scene.store), 0, None
    while made is None:
        number += 1
        with fault_at(number) as called:
            try:
                made = decided()
            except Fault:
                assert scene.open == 0, called[-1]
        assert everything(scene.store) == before, called[-1]
    assert {"Watchdog.watch", "compile_decision", "AdmissionController.complete"} <= set(called)
    assert scene.open == (0 if made.decision.final is not None else 1)
    # another try decides the same
    made.execution.abandon()
    again = decided() if way is rewound else scene.decide()
    assert again.decision == made.decision
    again.execution.abandon()


class Language:
    """A value that travels."""

    key = "language"

    def __init__(self) -> None:
        self.value: str | None = "de"
        self.breaks_on_leaving = False

    def capture(self) -> str | None:
        return self.value

    @contextmanager
    def restore(self, value: str) -> Iterator[None]:
        before, self.value = self.value, value
        try:
            yield
        finally:
            self.value = before
        if self.breaks_on_leaving:
            raise OSError


@pytest.mark.parametrize("way", [first, replayed, in_memory])
def test_code_runs_with_the_values_of_its_start_also_where_others_hold(
    scene: Scene, way: Way
) -> None:
    language, seen = Language(), list[str | None]()
    scene.runner.propagators.add(language)
    scene.going_on = lambda: seen.append(language.value)
    decided = way(scene)
    language.value = "fr"
    seen.clear()
    decided()
    assert seen[-1] == "de"
    assert language.value == "fr"


def test_a_propagator_that_fails_on_its_way_out_leaves_no_code_in_memory(scene: Scene) -> None:
    language = Language()
    scene.runner.propagators.add(language)
    decided = first(scene)
    language.breaks_on_leaving = True
    with pytest.raises(OSError):
        decided()
    assert (len(scene.begun), scene.open) == (1, 0)


@pytest.mark.parametrize("way", [first, in_memory, rewound])
def test_a_turn_that_is_interrupted_at_its_very_end_leaves_no_code_in_memory(
    scene: Scene, way: Way
) -> None:
    decided = way(scene)
    asked: list[str] = []

    def watch(id_: str, turn: Callable[[], object]) -> None:
        turn()
        asked.append(id_)
        raise TurnLimitExceeded("late")

    dog: Any = SimpleNamespace(watch=watch)
    scene.runner.watchdog = dog
    with pytest.raises(TurnLimitExceeded):
        decided()
    assert (asked, scene.open) == (["i"], 0)


# -- what it stands on -----------------------------------------------------------------------------


def test_code_in_memory_is_continued_and_other_code_begins_again(scene: Scene) -> None:
    scene.open_one(1, 2)
    cached = scene.standing()
    before = len(scene.begun)
    assert scene.decide(cached).execution is cached
    assert len(scene.begun) == before
    other = scene.decide().execution
    assert other is not cached
    assert len(scene.begun) == before + 1


def test_code_that_stands_elsewhere_than_the_instance_is_dropped(scene: Scene) -> None:
    scene.open_one(1, 2)
    cached = scene.standing()
    snapshot = scene.look(cached)
    cached.sequence -= 1
    with pytest.raises(StaleReadError):
        scene.decide_by(snapshot, cached)
    assert scene.open == 0


def test_only_the_messages_that_are_given_are_taken(scene: Scene) -> None:
    scene.open_one(1)
    decided = scene.decide(messages=[])
    assert (decided.decision.events, decided.decision.applied) == ([], 0)
    decided.execution.abandon()
    assert scene.decide().decision.applied == 1


def test_a_rewind_hears_what_has_arrived_since_the_failure(scene: Scene) -> None:
    decided = rewound(scene)
    scene.raise_event("i", "go", "end")
    made = decided()
    assert made.decision.events[0].kind is EventKind.HISTORY_REWRITTEN
    heard = [each.payload for each in made.decision.events if each.kind is EventKind.EVENT_RAISED]
    assert '"end"' in heard


# -- the time that a whole run may take ------------------------------------------------------------


def deadlines(decided: Decided) -> list[int | None]:
    return [each.visible_at for each in decided.commit.own_inbox if each.facts == DEADLINE]


@pytest.mark.parametrize(
    ("declared", "given", "limit"),
    [
        (None, None, None),
        (HOUR, None, HOUR),
        (None, 2 * HOUR, 2 * HOUR),
        (HOUR, 2 * HOUR, 2 * HOUR),
    ],
)
def test_a_run_that_begins_is_told_its_deadline_that_of_the_start_before_the_declared_one(
    scene: Scene, declared: int | None, given: int | None, limit: int | None
) -> None:
    scene.declare(timeout=declared)
    scene.open_one(**({} if given is None else {"timeout": given}))
    decided = scene.decide()
    [begun] = [e for e in decided.decision.events if e.kind is EventKind.EXECUTION_STARTED]
    if limit is None:
        assert (deadlines(decided), (begun.facts or {}).get("limit")) == ([], None)
    else:
        assert deadlines(decided) == [scene.now + limit]
        assert begun.facts == {"limit": [limit, scene.now + limit]}


def test_a_start_that_has_a_deadline_keeps_it_with_what_else_it_notes(scene: Scene) -> None:
    """The next execution of a run has the deadline of the whole."""
    scene.declare(timeout=HOUR)
    scene.open_one()
    [(row, event)] = in_order(scene.look())
    facts = {"limit": [HOUR, 7], "seed": "s"}
    told = scene.decide(messages=[(row, event._replace(facts=facts))])
    assert told.decision.events[0].facts == facts


def test_messages_that_come_with_a_start_are_given_no_deadline(scene: Scene) -> None:
    scene.declare(timeout=HOUR)
    scene.open_one()
    scene.raise_event("i", "go", 1)
    facts = {e.kind: e.facts or {} for e in scene.decide().decision.events}
    assert "limit" in facts[EventKind.EXECUTION_STARTED]
    assert "limit" not in facts[EventKind.EVENT_RAISED]


@pytest.mark.parametrize("way", [replayed, in_memory])
def test_a_run_that_has_begun_gets_no_deadline_any_more(scene: Scene, way: Way) -> None:
    decided = way(scene)
    scene.declare(timeout=HOUR)
    assert deadlines(decided()) == []


def test_a_run_that_was_suspended_before_it_began_is_told_its_deadline(scene: Scene) -> None:
    scene.declare(timeout=HOUR)
    scene.open_one()
    scene.client.suspend("i", "later")
    scene.client.resume("i", "now")
    assert deadlines(scene.decide()) == [scene.now + HOUR]


def test_options_of_a_start_that_are_damaged_are_told(scene: Scene) -> None:
    scene.open_one(timeout=HOUR)
    snapshot = scene.look()
    snapshot.instance.canvas = '["timeout"]'
    with pytest.raises(PayloadError, match="stored options"):
        scene.decide_by(snapshot)


# -- what is committed -----------------------------------------------------------------------------


def test_the_commit_is_of_the_look_that_was_decided_by(scene: Scene) -> None:
    scene.open_one(1)
    decided = scene.decide()
    commit, instance = decided.commit, scene.look().instance
    assert (commit.instance_id, commit.execution, commit.sequence) == (
        "i",
        instance.execution,
        instance.sequence,
    )
    assert load_events(commit.events or "") == decided.decision.events
    assert decided.execution.sequence == instance.sequence
    assert [new.name for new in commit.activities] == ["charge"]


@pytest.mark.parametrize(("declared", "of_all"), [(3, 7), (None, 7), (None, None)])
def test_of_two_limits_of_activities_the_one_of_the_code_holds(
    make: Callable[..., Scene], declared: int | None, of_all: int | None
) -> None:
    scene = make(max_instance_activities=of_all or 0)
    scene.declare(max_activities=declared)
    scene.open_one()
    assert scene.decide().commit.max_activities == (declared or of_all)


def test_an_end_keeps_its_rows_as_long_as_was_agreed_at_the_start(scene: Scene) -> None:
    scene.declare(retention={str(RuntimeStatus.COMPLETED): 5})
    scene.open_one("end")
    assert scene.decide().commit.keeps_for == 5
    going = scene.decide(messages=[])
    assert going.commit.keeps_for is None


def test_a_child_that_cannot_be_is_refused_as_of_the_look(scene: Scene) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise ValueError("no key")

    policy: Any = SimpleNamespace(admission=refuses)
    scene.registry.add(Definition("part", None, charge, flow=policy))

    scene.called = "part"
    scene.open_one()
    commit = scene.decide().commit
    [refusal] = commit.own_inbox
    found = commit.children, refusal.visible_at, refusal.facts
    assert found == ([], scene.now, {"refused": True})


class Watcher:
    """An observer that sees what has happened, and lets a header travel."""

    needs_summary = is_on = True

    def __init__(self) -> None:
        self.turns: list[int] = []

    def carried(self, instance: Any, summary: Any) -> PropagatedContext:
        self.turns.append(summary.sequence)
        return PropagatedContext({"trace": "7"}, {}, {})

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize("way", [first, replayed, in_memory])
def test_observers_know_the_whole_history_and_what_they_give_travels(
    scene: Scene, way: Way
) -> None:
    decided = way(scene)
    watcher: Any = Watcher()
    scene.runner.notifier.observers.append(watcher)
    commit = decided().commit
    assert watcher.turns == [commit.sequence + 1]
    assert all('"trace"' in new.message for new in commit.activities) and commit.activities


# -- the version of the next execution -------------------------------------------------------------


@dataclass
class Place:
    street: str


PLACE = {"street": "Elm"}


async def moves(ctx: Any, place: Place) -> None:
    pass


@pytest.mark.parametrize(
    ("args", "upgrade", "version"),
    [([PLACE], True, "2"), ([1, 2], False, None), ([PLACE], "2", "2"), ([1, 2], "3", "3")],
)
def test_the_next_execution_has_the_version_that_it_asks_for(
    scene: Scene, args: list[Any], upgrade: bool | str, version: str | None
) -> None:
    """Arguments are held against the code of another version only, where that is known here."""
    scene.open_one(["renew", args, upgrade])
    scene.registry.add(Definition("flow", "2", moves))
    commit = scene.decide().commit
    assert commit.next_execution is not None
    assert commit.next_version == version


@pytest.mark.parametrize("args", [[], [PLACE, 2], ["Elm"]])
def test_a_version_that_does_not_take_the_arguments_is_not_entered(
    scene: Scene, args: list[Any]
) -> None:
    scene.open_one(["renew", args, True])
    scene.registry.add(Definition("flow", "2", moves))
    with pytest.raises(DurableError, match=r"'i' \(flow\) cannot continue as version '2'") as told:
        scene.decide()
    assert told.value.facts["instance_id"] == "i"
    assert scene.open == 0


def test_an_execution_that_has_not_ended_has_no_next_version(scene: Scene) -> None:
    scene.open_one(1)
    scene.registry.add(Definition("flow", "2", moves))
    assert scene.decide().commit.next_version is None


# -- the commit ------------------------------------------------------------------------------------


def test_what_was_committed_stays_in_memory_and_what_was_outrun_does_not(scene: Scene) -> None:
    scene.open_one(1)
    won, lost = scene.decide(), scene.decide()
    for each in (won, lost):
        each.commit.taken = [row.id for row in scene.look().inbox]
    committed = scene.decider.commit(won)
    assert committed is not None
    assert scene.decider.commit(lost) is None
    assert scene.open == 1 and not won.execution.loop.is_closed()
    assert scene.look().instance.sequence == won.commit.sequence + 1


def test_a_commit_of_which_nothing_is_known_drops_the_code(scene: Scene) -> None:
    scene.open_one(1)
    decided = scene.decide()
    with fault_at(1), pytest.raises(Fault):
        scene.decider.commit(decided)
    assert scene.open == 0
    scene.interpose("commit", before=fails)
    decided = scene.decide()
    with pytest.raises(StoreError):
        scene.decider.commit(decided)
    assert scene.open == 0
