"""Turns without a message of their own: when they are taken, and what is left to the longer way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.decision import Decision
from celery_durable.core.kinds import CompleteExecution
from celery_durable.core.status import MOVING, RuntimeStatus
from celery_durable.engine.decide import Decided
from celery_durable.engine.inline_turns import InlineTurns
from celery_durable.engine.intake import in_order
from celery_durable.engine.records import ActivityAttemptId, ActivityStart, Outcome
from celery_durable.engine.writes import Admission, Committed, NewInstance, TurnCommit
from celery_durable.errors import StoreError

from .rows import NOW, instance_row

END = CompleteExecution(9, "null")
OUTCOME = Outcome(ActivityAttemptId("e", 3, 2), "5", has_failed=False)


class Scene:
    """The turns, what they are decided from, and what is done with them, in order."""

    def __init__(self, **decision: Any) -> None:
        self.log: list[Any] = []
        self.decision, self.decides = Decision(**decision), True
        self.has_code = self.is_committed = self.store_is_up = True
        self.pause: Any = None
        self.has_untaken = False
        self.sequence, self.observed = 4, ()
        self.made = TurnCommit("i", "e", 1, MOVING)
        self.seen: Any = None
        self.messages: Any = None
        switches = SimpleNamespace(current=self._switches)
        code = SimpleNamespace(
            get=lambda *_: self.has_code or None, code_of=lambda _: self.has_code or None
        )
        store = SimpleNamespace(
            starts=SimpleNamespace(insert_with_turn=lambda *_: self._commit()),
            turns=SimpleNamespace(has_untaken=lambda _: self.has_untaken),
        )
        parts: Any = SimpleNamespace(
            registry=code,
            versions=code,
            switches=switches,
            clock=SimpleNamespace(now=lambda: NOW),
            store=store,
            notifier=SimpleNamespace(started=self._say("started"), committed=self._say("told")),
            live=SimpleNamespace(put=self._say("kept")),
        )
        decider: Any = SimpleNamespace(decide=self._decide, commit=lambda _: self._commit())
        dispatcher: Any = SimpleNamespace(send=self._say("sent"))
        self.turns = InlineTurns(parts, decider, dispatcher, self._say("taken"))

    def _say(self, word: str) -> Any:
        return lambda *_: self.log.append(word)

    def abandon(self) -> None:
        self.log.append("dropped")

    def _switches(self) -> Any:
        if not self.store_is_up:
            raise StoreError("down")
        return SimpleNamespace(of_turns=lambda *_: self.pause)

    def _decide(self, snapshot: Any, cached: Any, definition: Any, messages: Any) -> Decided:
        self.log.append("decide")
        self.seen, self.messages = snapshot, messages
        if not self.decides:
            raise ValueError("not here")
        live: Any = self
        return Decided(live, self.decision, self.made)

    def _commit(self) -> Committed | None:
        self.log.append("commit")
        return Committed(NOW) if self.is_committed else None

    def begin(self, **values: Any) -> bool:
        return self.turns.begin(NewInstance("i", "e", "flow", None, "[[], {}]", None, **values))

    def complete(self, cached: Any = None, **instance: Any) -> bool:
        unused: Any = None
        row = instance_row(**instance)
        start = ActivityStart(row, [], None, None, "t", False, unused, None, False, NOW)
        return self.turns.complete(OUTCOME, start, cached)


# -- with the start --------------------------------------------------------------------------------


def test_a_first_turn_is_committed_with_its_start_and_its_machine_not_kept() -> None:
    scene = Scene()
    assert scene.begin()
    assert scene.log == ["decide", "commit", "dropped", "started", "told", "sent"]
    instance = scene.seen.instance
    assert (instance.status, instance.sequence) == (RuntimeStatus.PENDING, 0)


@pytest.mark.parametrize("values", [{"start_at": 0}, {"admission": Admission(())}])
def test_what_starts_later_or_waits_for_admission_has_no_first_turn_here(values: Any) -> None:
    scene = Scene()
    assert not scene.begin(**values)
    assert scene.log == []


def test_a_first_turn_needs_the_code_and_no_pause() -> None:
    stranger, paused = Scene(), Scene()
    stranger.has_code, paused.pause = False, "pause"
    assert not stranger.begin() and not paused.begin()
    assert stranger.log == paused.log == []


@pytest.mark.parametrize(("count", "is_taken"), [(20, True), (21, False)])
def test_a_first_turn_of_many_commands_is_left_to_a_worker(count: int, is_taken: bool) -> None:
    scene = Scene(commands=[END] * count)
    assert scene.begin() is is_taken
    assert ("commit" in scene.log) is is_taken and "dropped" in scene.log


def test_a_first_turn_that_would_suspend_or_cannot_be_decided_writes_nothing() -> None:
    odd, broken = Scene(suspend_reason="odd"), Scene()
    broken.decides = False
    assert not odd.begin() and not broken.begin()
    assert (odd.log, broken.log) == (["decide", "dropped"], ["decide"])


def test_a_start_that_did_not_count_is_announced_to_no_observer() -> None:
    scene = Scene()
    scene.is_committed = False
    assert not scene.begin()
    assert scene.log == ["decide", "commit", "dropped"]


# -- with an outcome -------------------------------------------------------------------------------


def test_an_outcome_is_committed_with_its_turn_if_no_other_message_is_there() -> None:
    scene = Scene()
    assert scene.complete()
    assert (scene.made.outcome, scene.made.requires_empty_inbox) == (OUTCOME.ticket, True)
    assert scene.log == ["decide", "commit", "told", "kept", "sent"]
    [row] = scene.seen.inbox
    assert (row.kind, row.command, row.attempt) == (OUTCOME.kind, 3, 2)
    assert scene.sequence == 5


def test_the_message_of_an_outcome_is_the_one_that_an_inbox_would_give() -> None:
    scene = Scene()
    assert scene.complete()
    assert len(scene.messages) == 1
    assert scene.messages == in_order(scene.seen)


def test_the_machine_of_an_execution_that_has_ended_is_dropped() -> None:
    scene = Scene(final=END)
    assert scene.complete()
    assert scene.log == ["decide", "commit", "told", "dropped", "sent"]


@pytest.mark.parametrize("state", [{"has_code": False}, {"pause": "pause"}, {"store_is_up": False}])
def test_an_outcome_goes_alone_where_no_turn_may_be_taken(state: dict[str, Any]) -> None:
    scene = Scene()
    for name, value in state.items():
        setattr(scene, name, value)
    assert not scene.complete(cached=scene)
    assert scene.log == ["dropped"]


@pytest.mark.parametrize("status", sorted(set(RuntimeStatus) - {RuntimeStatus.RUNNING}))
def test_an_outcome_goes_alone_where_its_instance_does_not_run(status: RuntimeStatus) -> None:
    scene = Scene()
    assert not scene.complete(status=status)
    assert scene.log == []


def test_a_turn_that_was_outrun_is_told_and_sent_to_none() -> None:
    scene = Scene()
    scene.is_committed = False
    assert not scene.complete()
    assert scene.log == ["decide", "commit"]


@pytest.mark.parametrize(
    ("formed", "ended", "clears", "is_taken"),
    [
        ({1}, set(), False, True),
        (set(), {1}, False, True),
        (set(), set(), False, False),
        ({1}, set(), True, False),
    ],
)
def test_joins_that_change_have_a_turn_for_what_came_meanwhile(
    formed: set[int], ended: set[int], clears: bool, is_taken: bool
) -> None:
    scene = Scene(joins_formed=formed, joins_ended=ended)
    scene.has_untaken, scene.made.clears = True, clears
    assert scene.complete()
    assert ("taken" in scene.log) is is_taken


def test_no_turn_follows_where_nothing_came_meanwhile() -> None:
    scene = Scene(joins_formed={1})
    assert scene.complete()
    assert "taken" not in scene.log
