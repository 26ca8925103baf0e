"""How often a body may begin, and what is noted when it asks for something or is interrupted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry

from celery_durable.engine.at_most_once import RunMark
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import StoreError
from celery_durable.payload import PayloadCodec
from celery_durable.settings import Settings
from celery_durable.worker.delivery import (
    AtLeastOnce,
    AtMostOnce,
    delay_of,
    delivery_of,
    is_replaced,
    is_replacement,
)
from celery_durable.worker.runtime import OutcomeLost

TICKET = ActivityAttemptId("e", 1, 1)
LEASE, SECOND = 30_000_000, 1_000_000
REPLACED = Ignore("Replaced by new task")


class Stage:
    """A store that answers what it is told to, and remembers what it was asked."""

    def __init__(self, *claims: bool | None | Exception, patience: float = 0) -> None:
        self.claims = list(claims)
        self.asked: list[tuple[Any, ...]] = []
        self.outcomes: list[Any] = []
        self.begins_once: Any = None
        names = ("postpone", "delegate", "postpone_once", "delegate_once")
        attempts = SimpleNamespace(
            begin=self.begin,
            begin_once=self.begin_once,
            find_instance_of=lambda ticket: "i",
            **{name: self.noting(name) for name in names},
        )
        self.runtime: Any = SimpleNamespace(
            store=SimpleNamespace(attempts=attempts),
            settings=Settings(worker_lease=30, store_patience=patience),
            worker_id="w",
            codec=PayloadCodec(),
            runner=SimpleNamespace(outcomes=SimpleNamespace(accept=self.outcomes.append)),
        )

    def noting(self, name: str) -> Any:
        return lambda *given, **more: self.asked.append((name, *given))

    def begin(self, ticket: ActivityAttemptId, known: Any, claim: Any) -> Any:
        self.asked.append(("begin", claim))
        answer = self.claims.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else SimpleNamespace(is_claimed=answer)

    def begin_once(self, ticket: Any, worker: str, level: int, mark: RunMark, **more: Any) -> Any:
        self.asked.append(("begin_once", level, more["is_again"]))
        return mark if self.begins_once else None

    def delivery(self, kind: Any, **request: Any) -> Any:
        given = {"retries": 0, **request}
        return kind(self.runtime, SimpleNamespace(name="charge"), SimpleNamespace(**given), TICKET)


# -- at least once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, False, None])
def test_a_run_begins_if_it_gets_the_activity_and_asks_once(answer: bool | None) -> None:
    stage = Stage(answer)
    start = stage.delivery(AtLeastOnce).begin(None)
    assert (start and start.is_claimed) == answer
    [(_, claim)] = stage.asked
    assert (claim.worker, claim.lease, claim.is_again) == ("w", LEASE, False)


@pytest.mark.parametrize(
    "request_", [{"retries": 1}, {"replaced_task_nesting": 1}], ids=["a retry", "a replacement"]
)
def test_a_run_that_was_asked_for_waits_until_the_one_before_has_let_go(
    request_: dict[str, int],
) -> None:
    stage = Stage(False, False, True)
    assert stage.delivery(AtLeastOnce, **request_).begin(None).is_claimed
    assert len(stage.asked) == 3


def test_a_repeat_after_a_lost_answer_may_find_itself() -> None:
    stage = Stage(StoreError("lost"), True, patience=5)
    stage.delivery(AtLeastOnce).begin(None)
    assert [claim.is_again for _, claim in stage.asked] == [False, True]
    stage = Stage(True)
    stage.delivery(AtLeastOnce).begin(None, is_again=True)
    assert [claim.is_again for _, claim in stage.asked] == [True]


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (Retry(when=5), ("postpone", TICKET, 5 * SECOND + LEASE, "w")),
        (REPLACED, ("delegate", TICKET)),
        (Reject("x", requeue=True), ("postpone", TICKET, LEASE, "w")),
        (Reject("x", requeue=False), None),
        (Ignore("enough"), None),
    ],
)
def test_what_a_body_asks_for_is_noted_or_its_end(
    request_: BaseException, asked: tuple[Any, ...] | None
) -> None:
    stage = Stage()
    assert stage.delivery(AtLeastOnce).control(request_) is (asked is not None)
    assert stage.asked == ([] if asked is None else [asked])


def test_an_interruption_is_nothing_and_an_unreachable_store_puts_the_message_back() -> None:
    stage = Stage()
    delivery = stage.delivery(AtLeastOnce)
    delivery.interrupted("its time was over")
    assert (stage.asked, stage.outcomes) == ([], [])
    assert delivery.unreachable(StoreError("down")).requeue


# -- at most once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begins", [True, False])
def test_a_run_begins_if_it_could_set_its_mark(begins: bool) -> None:
    stage = Stage(True)
    stage.begins_once = begins
    delivery = stage.delivery(AtMostOnce, retries=2, replaced_task_nesting=1)
    assert delivery.begin(None).is_claimed is begins
    assert (delivery.mark is not None) is begins
    assert stage.asked == [("begin", None), ("begin_once", 66, False)]


def test_what_is_not_wanted_any_more_is_not_marked() -> None:
    stage = Stage(None)
    assert stage.delivery(AtMostOnce).begin(None) is None
    assert stage.asked == [("begin", None)]


MARK = RunMark(0, 7)


@pytest.mark.parametrize(
    ("mark", "request_", "asked", "is_noted"),
    [
        (MARK, Retry(when=5), ("postpone_once", TICKET, MARK, 5 * SECOND + LEASE), True),
        (MARK, REPLACED, ("delegate_once", TICKET, MARK), True),
        (None, Retry(when=5), None, False),
        (None, REPLACED, None, False),
        (MARK, Reject("x", requeue=False), None, False),
    ],
)
def test_the_mark_says_that_a_body_has_let_go(
    mark: RunMark | None, request_: BaseException, asked: Any, is_noted: bool
) -> None:
    stage = Stage()
    delivery = stage.delivery(AtMostOnce)
    delivery.mark = mark
    assert delivery.control(request_) is is_noted
    assert stage.asked == ([] if asked is None else [asked])


def test_a_message_that_is_put_back_has_failed_instead_of_running_again() -> None:
    stage = Stage()
    assert stage.delivery(AtMostOnce).control(Reject("x", requeue=True))
    [outcome] = stage.outcomes
    error = stage.runtime.codec.decode_failure(outcome.payload)[0]
    assert (outcome.ticket, outcome.has_failed) == (TICKET, True)
    assert "runs at most once and was interrupted: its message was put back" in str(error)
    assert (error.instance_id, error.task, error.attempt) == ("i", "charge", 1)


def test_what_fails_while_an_interruption_is_noted_is_left_to_recovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    stage.runtime.runner = None
    stage.delivery(AtMostOnce).interrupted("its worker stops")
    assert "is left to recovery" in caplog.text


def test_an_unreachable_store_drops_its_message() -> None:
    assert isinstance(Stage().delivery(AtMostOnce).unreachable(StoreError("down")), OutcomeLost)


# -- questions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (SimpleNamespace(), AtLeastOnce),
        (SimpleNamespace(at_most_once=False), AtLeastOnce),
        (SimpleNamespace(at_most_once=True), AtMostOnce),
    ],
)
def test_the_task_says_how_it_is_delivered(task: Any, kind: Any) -> None:
    found = delivery_of(Stage().runtime, task, SimpleNamespace(), TICKET)
    assert type(found) is kind
    assert found.repeats is (kind is AtLeastOnce)


def test_a_replacement_is_told_by_its_nesting_and_by_its_text() -> None:
    assert [is_replacement(SimpleNamespace(replaced_task_nesting=each)) for each in (0, 1)] == [
        False,
        True,
    ]
    assert not is_replacement(SimpleNamespace())
    assert is_replaced(REPLACED)
    assert not is_replaced(Ignore("enough")) and not is_replaced(Reject("Replaced by new task"))


@pytest.mark.parametrize(
    ("when", "least", "most"),
    [
        (None, 0, 0),
        (5, 5 * SECOND, 5 * SECOND),
        (0.5, SECOND // 2, SECOND // 2),
        (datetime(2000, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(2000, 1, 1), 0, 0),
    ],
)
def test_a_retry_comes_after_its_delay(when: Any, least: int, most: int) -> None:
    assert least <= delay_of(Retry(when=when)) <= most


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=5))])
def test_a_retry_comes_at_its_time_in_whatever_zone(zone: Any) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    when = moment.replace(tzinfo=None) if zone is None else moment.astimezone(zone)
    assert 3_000 * SECOND < delay_of(Retry(when=when)) <= 3_600 * SECOND
