"""What is sent after a commit, to whom and when, and what becomes of what cannot be sent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.permits import Permit
from celery_durable.core.plain_task import TASK
from celery_durable.core.status import MOVING, RuntimeStatus
from celery_durable.engine.dispatch import Dispatcher, address_of
from celery_durable.engine.ports import SendFailure
from celery_durable.engine.records import (
    ActivityAttemptId,
    ActivityRow,
    Outcome,
    Recorded,
    TurnAddress,
)
from celery_durable.engine.writes import (
    Admission,
    ChildInstance,
    Committed,
    NewActivity,
    NewInbox,
    Revival,
    TurnCommit,
)
from celery_durable.errors import PayloadError, StoreError
from celery_durable.payload import PayloadCodec
from celery_durable.settings import Settings

from .rows import NOW, SECOND, instance_row


class Scene:
    """A dispatcher, with all that it asks for and sends."""

    def __init__(self, resend_after: float = 3_600) -> None:
        self.log: list[Any] = []
        self.failed: dict[ActivityAttemptId, Exception] = {}
        self.failure, self.is_eager = SendFailure.PASSES, False
        self.store_error: Exception | None = None
        self.gone: set[str] = set()
        self.is_complete = False
        outcomes: list[Outcome] = []
        self.outcomes, self.suspended = outcomes, dict[str, Exception]()
        store = SimpleNamespace(
            reads=SimpleNamespace(turn_addresses=self._addresses),
            attempts=SimpleNamespace(unsend=self._unsend),
            turns=SimpleNamespace(note_waiting=lambda *args: self.log.append(("note", *args))),
            outcomes=SimpleNamespace(finish_join=self._finish_join),
            workers=SimpleNamespace(keep=lambda *args, **_: self.log.append(("keep", *args))),
        )
        parts: Any = SimpleNamespace(
            store=store,
            publisher=self,
            codec=PayloadCodec(),
            settings=Settings(resend_after=resend_after),
            limits=SimpleNamespace(
                admit=lambda send, is_likely, notes_try: self.log.append(("admit", is_likely))
            ),
        )
        admission: Any = SimpleNamespace(after=lambda *args: self.log.append(("after", *args)))
        self.dispatcher = Dispatcher(
            parts, admission, self.suspended.__setitem__, self.outcomes.append
        )

    # -- what is asked of the store ----------------------------------------------------------------

    def _addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        return [TurnAddress(id_, "o", None, None) for id_ in ids if id_ not in self.gone]

    def _unsend(self, tickets: Any, delay: int) -> None:
        self.log.append(("unsend", [each.command for each in tickets], delay))
        if self.store_error is not None:
            raise self.store_error

    def _finish_join(self, execution: str, instance: str, join: int) -> bool:
        self.log.append(("join", execution, instance, join))
        return self.is_complete

    # -- what is sent ------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Any:
        self.log.append("together")
        yield

    def publish_turn(self, address: TurnAddress, *, delay: int = 0, due: int | None = None) -> None:
        self.log.append(("turn", address.id, delay, due))

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        self.log.append(("activities", [row.ticket.command for row in rows]))
        tickets = {row.ticket for row in rows}
        return {ticket: each for ticket, each in self.failed.items() if ticket in tickets}

    def classify(self, error: Exception) -> SendFailure:
        return self.failure

    def finish(self, address: TurnAddress, *values: Any) -> None:
        self.log.append(("finish", address.id, *values))

    # -- how it is used ----------------------------------------------------------------------------

    def send(
        self,
        *,
        released: Sequence[ActivityRow] = (),
        started: Sequence[ChildInstance] = (),
        left: Sequence[NewInbox] = (),
        **commit: Any,
    ) -> list[Any]:
        made = TurnCommit("i", "e", 1, MOVING, **commit)
        done = Committed(NOW, list(released), list(started), list(left))
        self.dispatcher.send(instance_row(), made, done)
        assert self.log.pop()[0] == "after"
        return [each for each in self.log if each != ("activities", [])]


def row(number: int, instance: str = "i") -> ActivityRow:
    ticket = ActivityAttemptId("e", number, 1)
    return ActivityRow(ticket, instance, "activity", "charge", "", None, 0)


def activity(number: int, **values: Any) -> NewActivity:
    return NewActivity(number, 1, "activity", "charge", "", None, **values)


def message(instance: str, visible_at: int | None = None, **values: Any) -> NewInbox:
    return NewInbox(instance, "event", f"k{visible_at}", visible_at=visible_at, **values)


def child(id_: str, **values: Any) -> ChildInstance:
    return ChildInstance(id_, "e2", "c", None, "", None, **values)


def test_new_activities_and_released_ones_are_sent_but_none_that_waits() -> None:
    crm = (Permit("crm", None, 1, None, "crm"),)
    new = [activity(1), activity(2, is_held=True), activity(3, is_sent=False)]
    assert Scene().send(activities=new, released=[row(9)]) == [("activities", [1, 9])]
    assert Scene().send(activities=[activity(4, permits=crm)]) == [("admit", True)]


def test_what_gives_slots_back_lets_others_in_where_nothing_else_soon_does() -> None:
    scene = Scene()
    assert scene.send(clears=True) == []
    scene.is_eager = True
    assert scene.send(clears=True) == [("admit", False)]
    assert scene.send(canceled_commands=[1])[1:] == [("admit", False)]


def test_own_messages_bring_turns_when_they_are_due() -> None:
    later = NOW + 3 * SECOND
    own = [
        message("i", later, check_after=0),
        message("i", NOW - SECOND, check_after=5),
        message("i", later, check_after=-5),  # so far ahead that recovery sends it
        message("i", later),
        message("i", None, check_after=0),
    ]
    assert Scene().send(own_inbox=own) == [
        ("turn", "i", 3 * SECOND, later),
        ("turn", "i", 0, NOW - SECOND),
    ]


def test_the_next_execution_begins_at_once_unless_it_awaits_a_message() -> None:
    assert Scene().send(next_execution="e2") == [("turn", "i", 0, None)]
    assert Scene().send(next_execution="e2", awaits_message=True) == []


def test_children_that_start_together_are_sent_together_when_they_are_to_begin() -> None:
    some = [child("a"), child("b", start_at=NOW + SECOND), child("c", start_at=NOW - SECOND)]
    assert Scene().send(children=some, started=some) == [
        "together",
        ("turn", "a", 0, None),
        ("turn", "b", SECOND, None),
        ("turn", "c", 0, None),
    ]
    assert Scene().send(children=some[:1], started=some[:1]) == [("turn", "a", 0, None)]


def test_a_child_that_waits_for_admission_is_not_sent_and_a_refused_one_is_told() -> None:
    waits = child("a", admission=Admission(()))
    assert Scene().send(children=[waits], started=[waits]) == []
    assert Scene().send(children=[child("a")]) == [("turn", "i", 0, None)]


def test_others_that_were_sent_messages_have_one_turn_for_each_moment() -> None:
    scene, later = Scene(), NOW + SECOND
    scene.gone = {"gone"}
    others = [
        message("b"),
        message("a", later),
        message("a", NOW - 1),
        message("a", None),
        message("gone"),
        message("far", later, check_after=-1),
    ]
    assert scene.send(other_inboxes=others, left=[message("c")]) == [
        ("turn", "a", 0, None),
        ("turn", "a", SECOND, later),
        ("turn", "b", 0, None),
        ("turn", "c", 0, None),
    ]


def test_a_rewind_sends_turns_to_the_children_that_it_asks_and_to_itself() -> None:
    asked = [Revival(id_, None, lambda _: message("i")) for id_ in ("b", "a", "b")]
    assert Scene().send(revivals=asked) == [
        ("turn", "i", 0, None),
        ("turn", "a", 0, None),
        ("turn", "b", 0, None),
    ]


def test_celery_is_told_of_an_end_and_of_nothing_else() -> None:
    done = RuntimeStatus.COMPLETED
    assert Scene().send(status=done, output="5") == [("finish", "i", "e", done, "5", None, None)]
    assert Scene().send(status=RuntimeStatus.SUSPENDED) == []


def test_the_turns_of_a_plain_task_are_sent_to_what_carries_them() -> None:
    plain = address_of(instance_row(name="shop.charge", version=TASK, queue="q", root_id="r"))
    assert plain.name != "shop.charge"
    assert (plain.id, plain.queue, plain.root_id) == ("i", "q", "r")
    assert address_of(instance_row(name="flow")).name == "flow"


@pytest.mark.parametrize(
    ("wakes", "completes", "turns"),
    [(True, False, ["i"]), (False, True, ["i"]), (False, False, [])],
)
def test_an_outcome_brings_a_turn_if_it_wakes_or_completes_its_join(
    wakes: bool, completes: bool, turns: list[str]
) -> None:
    scene, taken = Scene(), list[str]()
    scene.is_complete = completes
    recorded = Recorded("i", 7, wakes, [row(4)])
    scene.dispatcher.follow(ActivityAttemptId("e", 3, 1), recorded, taken.append)
    assert scene.log == [("activities", [4]), ("join", "e", "i", 7)]
    assert taken == turns


def test_no_join_is_looked_at_where_there_is_none() -> None:
    scene, taken = Scene(), list[str]()
    recorded = Recorded("i", None, True)
    scene.dispatcher.follow(ActivityAttemptId("e", 3, 1), recorded, taken.append)
    assert (scene.log, taken) == ([], ["i"])


def test_many_activities_go_in_parts_and_recovery_leaves_the_rest_alone_if_that_takes_long() -> (
    None
):
    many = [row(number) for number in range(450)]
    scene, slow = Scene(), Scene(resend_after=1e-9)
    scene.dispatcher.activities(many)
    assert [len(numbers) for _, numbers in scene.log] == [200, 200, 50]
    slow.dispatcher.activities(many)
    assert [each for each in slow.log if each[0] == "activities"] == scene.log
    kept = [
        [ticket.command for ticket in tickets] for kind, tickets, *_ in slow.log if kind == "keep"
    ]
    assert kept == [list(range(200, 450)), list(range(400, 450))]


def test_what_the_broker_does_not_take_is_soon_sent_again() -> None:
    scene = Scene()
    scene.failed = {row(2).ticket: OSError("refused")}
    scene.dispatcher.activities([row(1), row(2)])
    assert scene.log[1:] == [("unsend", [2], SECOND)]
    assert (scene.outcomes, scene.suspended) == ([], {})


def test_what_can_never_be_sent_has_failed() -> None:
    scene = Scene()
    scene.failed, scene.failure = {row(2).ticket: TypeError("no JSON")}, SendFailure.IS_FINAL
    scene.dispatcher.activities([row(1), row(2)])
    [outcome] = scene.outcomes
    assert outcome.ticket == row(2).ticket and outcome.has_failed
    assert "TypeError: no JSON" in outcome.payload and "builtins.TypeError" in outcome.payload


def test_what_else_keeps_it_from_being_sent_is_noted_for_people() -> None:
    scene = Scene()
    scene.failed, scene.failure = {row(2).ticket: KeyError("router")}, SendFailure.IS_ODD
    scene.dispatcher.activities([row(2)])
    _, _, (kind, instance, text) = scene.log
    assert (kind, instance) == ("note", "i")
    assert "charge could not be sent: KeyError" in text and scene.outcomes == []


def test_a_damaged_row_suspends_its_instance_and_is_left_alone_for_a_while() -> None:
    scene = Scene()
    damage = PayloadError("damaged")
    scene.failed = {row(1, "bad").ticket: damage, row(2).ticket: TypeError()}
    scene.failure = SendFailure.IS_FINAL
    scene.dispatcher.activities([row(1, "bad"), row(2)])
    assert scene.log[1:] == [("unsend", [1, 2], 60 * SECOND)]
    assert scene.suspended == {"bad": damage}
    assert [each.ticket.command for each in scene.outcomes] == [2]


def test_a_store_that_is_down_meanwhile_is_no_error_of_the_sender() -> None:
    scene = Scene()
    scene.failed, scene.store_error = {row(1).ticket: OSError()}, StoreError("down")
    scene.dispatcher.activities([row(1)])
    assert scene.outcomes == []
