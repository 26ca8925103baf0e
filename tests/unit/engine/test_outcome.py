"""How an outcome comes in: with its turn where that may be, else alone, and what follows then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.outcome import AttemptView, OutcomeDesk, Verdict
from celery_durable.engine.records import (
    ActivityAttemptId,
    ActivityStart,
    Deferral,
    Outcome,
    Recorded,
)
from celery_durable.errors import StoreError

from .rows import NOW, instance_row

TICKET = ActivityAttemptId("e", 3, 1)
OUTCOME = Outcome(TICKET, "5", has_failed=False)
MACHINE: Any = object()


class Desk:
    """A desk, and what it asks for, in order."""

    def __init__(self, *, completes: Any = True, recorded: Recorded | None = None) -> None:
        self.log: list[Any] = []
        self.completes, self.recorded = completes, recorded
        self.follow_error: Exception | None = None
        self.was_recorded = False
        outcomes = SimpleNamespace(
            record=self._record, defer=self._defer, was_recorded=lambda *_: self.was_recorded
        )
        parts: Any = SimpleNamespace(
            store=SimpleNamespace(outcomes=outcomes),
            live=SimpleNamespace(put=lambda live: self.log.append(("kept", live))),
            publisher=SimpleNamespace(
                publish_turn=lambda address: self.log.append(("sent", address.id))
            ),
        )
        inline: Any = SimpleNamespace(
            complete=self._complete, run=lambda id_: self.log.append(("taken", id_))
        )
        dispatcher: Any = SimpleNamespace(
            follow=self._follow,
            turn_of=lambda id_: self.log.append(("told", id_)),
            admit_eagerly=lambda: self.log.append("admitted"),
        )
        self.desk = OutcomeDesk(parts, inline, dispatcher)

    def _complete(self, outcome: Outcome, start: ActivityStart, live: Any) -> bool:
        self.log.append(("complete", live))
        if isinstance(self.completes, Exception):
            raise self.completes
        return bool(self.completes)

    def _record(self, outcome: Outcome, *, release: bool) -> Recorded | None:
        self.log.append("record and release" if release else "record")
        return self.recorded

    def _defer(self, deferral: Deferral) -> Recorded | None:
        self.log.append("defer")
        return self.recorded

    def _follow(
        self, ticket: ActivityAttemptId, recorded: Recorded, take: Callable[[str], None]
    ) -> None:
        assert ticket == TICKET
        if self.follow_error is not None:
            raise self.follow_error
        take(recorded.instance)


def view(
    *, join: int | None = None, window: int | None = None, may: bool = True, **values: Any
) -> AttemptView:
    start = ActivityStart(
        instance_row(), [], join, window, "charge", False, None, None, False, NOW, True
    )
    return AttemptView(start, MACHINE, lambda: may, **values)


def wanted() -> Recorded:
    return Recorded("i", None, True)


def test_where_the_body_ran_the_outcome_and_its_turn_are_one_commit() -> None:
    scene, attempt = Desk(), view()
    assert scene.desk.accept(OUTCOME, attempt) is Verdict.WITH_TURN
    assert scene.log == [("complete", MACHINE)]
    assert attempt.live is None, "the machine is given away"


def test_that_commit_is_within_the_mark_of_a_turn() -> None:
    scene = Desk()

    @contextmanager
    def marking() -> Iterator[None]:
        scene.log.append("marked")
        yield
        scene.log.append("unmarked")

    scene.desk.accept(OUTCOME, view(marking=marking))
    assert scene.log == ["marked", ("complete", MACHINE), "unmarked"]


@pytest.mark.parametrize(
    ("attempt", "records"),
    [
        (view(may=False), "record"),
        (view(join=2), "record"),
        (view(window=2), "record and release"),
        (view(is_copy=True), "record"),
        (view(shares_commit=False), "record"),
    ],
    ids=["no turn here", "a join waits", "a window waits", "a copy", "shares none"],
)
def test_else_it_is_recorded_alone_and_the_machine_is_kept(
    attempt: AttemptView, records: str
) -> None:
    scene = Desk(recorded=wanted())
    assert scene.desk.accept(OUTCOME, attempt) is Verdict.ALONE
    assert scene.log[:2] == [("kept", MACHINE), records]


@pytest.mark.parametrize("completes", [False, StoreError("down")])
def test_a_turn_that_cannot_be_taken_does_not_lose_the_outcome(completes: Any) -> None:
    scene = Desk(completes=completes, recorded=wanted())
    assert scene.desk.accept(OUTCOME, view()) is Verdict.ALONE
    assert scene.log == [("complete", MACHINE), "record", ("taken", "i")]


def test_another_error_than_the_stores_is_for_the_caller() -> None:
    scene = Desk(completes=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        scene.desk.accept(OUTCOME, view())
    assert scene.log == [("complete", MACHINE)]


def test_one_from_elsewhere_may_release_and_its_turn_is_sent() -> None:
    scene = Desk(recorded=wanted())
    assert scene.desk.accept(OUTCOME) is Verdict.ALONE
    assert scene.log == ["record and release", ("told", "i"), "admitted"]


def test_the_turn_that_follows_is_taken_here_or_sent() -> None:
    turns = []
    for attempt in (view(join=2), view(join=2, may=False), view(join=2, is_copy=True)):
        scene = Desk(recorded=wanted())
        scene.desk.accept(OUTCOME, attempt)
        turns.append(scene.log[2:])
    assert turns == [[("taken", "i")], [("sent", "i")], [("sent", "i")]]


def test_the_store_is_waited_for_with_the_patience_of_the_caller() -> None:
    scene, tries = Desk(recorded=wanted()), []

    def patience(work: Callable[[], Any]) -> Any:
        tries.append("waited")
        return work()

    scene.desk.accept(OUTCOME, None, patience)
    scene.desk.defer(Deferral(TICKET), view(), patience)
    assert tries == ["waited", "waited"]
    assert scene.log == ["record and release", ("told", "i"), "admitted", "defer", ("taken", "i")]


def test_what_the_store_did_not_record_came_too_late_or_was_recorded_before() -> None:
    scene = Desk()
    assert scene.desk.accept(OUTCOME) is Verdict.LATE
    assert scene.desk.accept(OUTCOME, view(join=1)) is Verdict.LATE
    assert not [each for each in scene.log if each in (("taken", "i"), ("told", "i"))]
    scene.was_recorded = True  # the answer of the first commit was lost
    assert scene.desk.accept(OUTCOME, view(join=1)) is Verdict.ALONE
    assert scene.log[-1] == ("taken", "i")


def test_what_fails_after_the_record_is_left_to_recovery() -> None:
    scene = Desk(recorded=wanted())
    scene.follow_error = RuntimeError("the broker is down")
    assert scene.desk.accept(OUTCOME) is Verdict.ALONE
    assert scene.log == ["record and release"]
