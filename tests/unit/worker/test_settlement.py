"""Rows and outcome in one commit: what an attempt does if that fails, or is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject

from celery_durable.engine.at_most_once import CommitInDoubt, OutcomeRefused
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import PayloadError, StoreError
from celery_durable.settings import Settings
from celery_durable.worker.settlement import Settlement

TICKET = ActivityAttemptId("e", 1, 1)
RECORDED = object()


class Stage:
    """A settlement over a store that says whether the activity is still outstanding."""

    def __init__(
        self,
        *,
        repeats: bool = True,
        is_there: bool = True,
        is_deferred: bool = False,
        patience: float = 0,
    ) -> None:
        self.begun = 0
        store = SimpleNamespace(
            attempts=SimpleNamespace(begin=lambda *_: object() if is_there else None),
            outcomes=SimpleNamespace(is_deferred=lambda ticket: is_deferred),
        )
        runtime: Any = SimpleNamespace(store=store, settings=Settings(store_patience=patience))
        given: Any = lambda result: result
        self.settlement = Settlement(runtime, TICKET, given, repeats)

    def run(self, *ends: BaseException | None) -> Any:
        """Run a body whose transactions end so, one after the other."""
        left = list(ends)

        def transact(*, outcome_of: Callable[..., Any], repeats: bool) -> Any:
            self.begun += 1
            assert self.settlement.is_open
            if (end := left.pop(0)) is not None:
                raise end
            return "result", RECORDED

        try:
            return self.settlement.run(transact)
        finally:
            assert not self.settlement.is_open


def test_a_commit_gives_the_result_and_what_the_store_said() -> None:
    stage = Stage()
    assert stage.run(None) == "result"
    assert (stage.settlement.is_done, stage.settlement.recorded) == (True, RECORDED)


def test_an_outcome_that_comes_too_late_ends_the_attempt_without_a_word() -> None:
    stage = Stage()
    with pytest.raises(Ignore):
        stage.run(OutcomeRefused())
    assert stage.settlement.is_done  # no other outcome is to be recorded
    assert stage.settlement.recorded is None


def test_a_result_that_cannot_be_encoded_is_left_to_the_attempt() -> None:
    stage = Stage()
    with pytest.raises(PayloadError):
        stage.run(PayloadError("no"))
    assert not stage.settlement.is_done


def test_a_store_that_is_down_for_a_moment_has_the_body_run_again() -> None:
    stage = Stage(patience=5)
    assert stage.run(StoreError("down"), None) == "result"
    assert stage.begun == 2


def test_a_store_that_stays_down_puts_the_message_back() -> None:
    stage = Stage()
    with pytest.raises(Reject) as caught:
        stage.run(StoreError("down"))
    assert caught.value.requeue
    assert not stage.settlement.is_done


def test_a_body_that_may_not_run_again_does_not() -> None:
    stage = Stage(repeats=False, patience=5)
    with pytest.raises(StoreError, match="down"):
        stage.run(StoreError("down"), None)
    assert stage.begun == 1


def test_a_refusal_of_the_store_that_stays_is_the_outcome() -> None:
    error = StoreError("too long")
    error.is_permanent = True
    with pytest.raises(StoreError, match="too long"):
        Stage().run(error)


@pytest.mark.parametrize(
    ("is_there", "is_deferred", "is_committed"),
    [(False, False, True), (True, True, True), (True, False, False)],
    ids=["its row is gone", "its row is deferred", "its row is there"],
)
def test_of_a_commit_in_doubt_the_row_of_the_activity_tells(
    is_there: bool, is_deferred: bool, is_committed: bool
) -> None:
    stage = Stage(is_there=is_there, is_deferred=is_deferred)
    if is_committed:
        assert stage.run(CommitInDoubt("kept")) == "kept"
    else:
        with pytest.raises(Reject, match="was not committed"):
            stage.run(CommitInDoubt("kept"))
    assert stage.settlement.is_done is is_committed
    assert stage.settlement.recorded is None
