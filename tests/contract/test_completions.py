"""Outcomes that come by a token, as far as they depend on the database: who may touch a deferred
attempt, and whose commit comes first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from sqlalchemy.orm import Session

from celery_durable import durable_context
from celery_durable.engine.completion_tokens import checked, opened, token_of
from celery_durable.engine.records import ActivityAttemptId, Deferral
from celery_durable.store import Store

from .builders import (
    SECOND,
    activity,
    at_once,
    begin,
    begin_join,
    everything,
    failed,
    hold,
    kinds,
    record,
    rows,
    succeeded,
    take,
)
from .proxy import Wire
from .test_effects import OURS, Bench, bench, declare_debit, open_bench, wire  # noqa: F401

FAR = 3_600 * SECOND


def ticket_of(execution: str, command: int = 1) -> ActivityAttemptId:
    return ActivityAttemptId(execution, command, 1)


# -- the row ---------------------------------------------------------------------------------------


def test_a_deferred_attempt_is_nobodys_and_is_looked_at_for_its_time_limits_alone(
    store: Store,
) -> None:
    execution = begin(store, activities=[activity(1), activity(2, timeout=FAR), activity(3)])
    hold(store, "a", [ticket_of(execution, command) for command in (1, 2)])
    for command in (1, 2):
        recorded = store.outcomes.defer(Deferral(ticket_of(execution, command), ran=7))
        assert recorded is not None and recorded.wakes
        assert store.outcomes.is_deferred(ticket_of(execution, command))
    assert not store.outcomes.is_deferred(ticket_of(execution, 3))
    found = {row["command"]: row for row in rows(store, "outbox")}
    assert [found[n]["holder"] for n in (1, 2)] == [None, None]
    assert found[1]["check_at"] is None and found[2]["check_at"] == found[2]["deadline_at"]
    before = everything(store)
    assert store.outcomes.defer(Deferral(ticket_of(execution))) is None
    assert store.outcomes.defer(Deferral(ticket_of("unknown"))) is None
    for worker in ("a", "b", None):
        assert not take(store, ticket_of(execution), worker, FAR)
    assert store.workers.free_abandoned(0) == 0
    assert not store.workers.free_claimed(ticket_of(execution), "a")
    assert everything(store) == before
    assert kinds(store) == ["ActivityDeferred"] * 2
    assert record(store, succeeded(execution)) is not None
    assert record(store, failed(execution)) is None
    assert kinds(store) == ["ActivityDeferred"] * 2 + ["ActivityCompleted"]


def test_a_member_of_a_join_tells_of_it_without_a_turn(store: Store) -> None:
    execution = begin_join(store, 2)
    recorded = store.outcomes.defer(Deferral(ticket_of(execution)))
    assert recorded is not None and not recorded.wakes and recorded.join_command is None
    row = next(row for row in rows(store, "inbox") if row["kind"] == "ActivityDeferred")
    assert (row["wake_at"], row["check_at"]) == (None, None)


def test_a_heartbeat_from_elsewhere_does_not_keep_a_message_from_being_sent_again(
    store: Store,
) -> None:
    execution = begin(store, activities=[activity(heartbeat_timeout=60 * SECOND)])
    beat = store.attempts.heartbeat_outside
    (before,) = rows(store, "outbox")
    assert beat(ticket_of(execution), "1")
    (row,) = rows(store, "outbox")
    assert (row["check_at"], row["beat_by"]) == (before["check_at"], None)
    hold(store, "a", [ticket_of(execution)])
    store.outcomes.defer(Deferral(ticket_of(execution)))
    (deferred,) = rows(store, "outbox")
    assert abs(deferred["beat_by"] - deferred["check_at"]) < SECOND
    assert beat(ticket_of(execution), None)
    (row,) = rows(store, "outbox")
    assert abs(row["beat_by"] - row["check_at"]) < SECOND
    assert row["check_at"] > deferred["check_at"]
    assert bytes(row["details"]) == b"1"
    assert not beat(ticket_of("unknown"), None)


# -- tokens ----------------------------------------------------------------------------------------


def test_a_store_has_one_secret_no_matter_who_asks_first(
    store: Store, open_url: Callable[..., Store]
) -> None:
    with store.database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM durable_meta WHERE name = 'completion_key'"))
    url = store.database.url.render_as_string(hide_password=False)
    others = [open_url(url) for _ in range(4)]
    assert others[0].completion_key() is None
    found = at_once([lambda each=each: each.completion_key(makes=True) for each in others])
    assert len(set(found)) == 1 and len(found[0] or "") == 64
    ticket = ActivityAttemptId("0123456789abcdef0123", 2, 3)
    token = token_of(others[1], ticket)
    assert token == token_of(others[2], ticket)
    assert opened(found[0], checked(token)) == ticket
    assert token_of(others[1], ticket._replace(attempt=4)) != token


def test_of_many_simultaneous_completions_one_counts(bench: Bench) -> None:  # noqa: F811
    given: list[str] = []

    @bench.task()
    def encode() -> None:
        given.append(durable_context().defer())

    bench.orchestrate(encode.s())
    assert bench.perform(encode).state == "IGNORED"
    calls = [lambda n=n: bench.durable.complete(given[0], n) for n in range(8)]
    done = at_once(calls)
    assert done.count(True) == 1
    assert bench.finish() == done.index(True)


@pytest.mark.parametrize("error", [WorkerLostError("gone"), TimeLimitExceeded(1)])
def test_a_process_that_dies_after_the_deferral_changes_nothing(
    bench: Bench,  # noqa: F811
    error: Exception,
) -> None:
    given: list[str] = []

    @bench.task()
    def encode() -> None:
        given.append(durable_context().defer())

    ticket = bench.orchestrate(encode.s())
    bench.perform(encode)
    bench.runtime.runner.run("i")
    bench.app.backend.mark_as_failure(ticket.task_id, error, request=OURS)
    bench.recovery().repair_activities()
    assert bench.perform(encode, headers={"durable": {"n": 1}}).state == "IGNORED"
    assert len(given) == 1
    assert bench.durable.complete(given[0], 1)
    assert bench.finish() == 1


# -- transactions ----------------------------------------------------------------------------------


def test_a_completion_waits_for_the_rows_of_the_body(bench: Bench) -> None:  # noqa: F811
    told: list[Any] = []
    threads: list[threading.Thread] = []

    def call_back(token: str) -> None:
        told.append((bench.durable.complete(token, "by token"), bench.balance()))

    def defer(session: Session) -> str:
        threads.append(threading.Thread(target=call_back, args=[durable_context().defer()]))
        threads[0].start()
        threads[0].join(0.5)
        assert told == [], "the rows are not committed yet"
        return "dropped"

    debit = declare_debit(bench, defer)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "IGNORED"
    threads[0].join(30)
    assert told == [(True, 90)]
    assert bench.finish() == "by token"
    assert bench.runs == [10]


def test_another_copy_of_a_deferred_body_leaves_no_rows(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []
    debit = declare_debit(bench, lambda session: given.append(durable_context().defer()))
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "IGNORED"
    real = bench.store.attempts.begin

    def begun_before(ticket: ActivityAttemptId, known: Any, claim: Any = None) -> Any:
        start = real(ticket, known, None)
        assert start is not None
        start.is_claimed = True  # its worker was taken for dead, and was not
        return start

    with monkeypatch.context() as patch:
        patch.setattr(bench.store.attempts, "begin", begun_before)
        assert bench.perform(debit, 10).state == "IGNORED"
    assert len(given) == 2 and len(set(given)) == 1
    assert bench.balance() == 90, "the second copy's rows are undone"
    assert bench.durable.complete(given[0], 1)
    assert bench.finish() == 1


def test_a_transaction_that_runs_again_may_decide_otherwise(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []

    def defer_first(session: Session) -> str:
        if len(bench.runs) == 1:
            given.append(durable_context().defer())
            session.execute(sa.text("SELECT 1 FROM no_such_table"))
        return "done"

    monkeypatch.setattr(bench.store.database, "may_repeat", lambda error: True)
    debit = declare_debit(bench, defer_first)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "SUCCESS"
    assert not bench.durable.complete(given[0], "late")
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


@pytest.mark.parametrize("is_completed_already", [False, True])
def test_a_deferral_whose_answer_is_lost_took_place_once(
    wire: Wire,  # noqa: F811
    open_bench: Callable[[str], Bench],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    is_completed_already: bool,
) -> None:
    bench = open_bench(wire.url)  # noqa: F811
    given: list[str] = []

    def defer(session: Session) -> None:
        wire.cut_after_commit()
        given.append(durable_context().defer())

    debit = declare_debit(bench, defer)
    bench.orchestrate(debit.s(10))
    real = bench.store.attempts.begin

    def look(*args: Any) -> Any:
        if wire.cuts and is_completed_already:
            assert bench.durable.complete(given[0], 1)
        return real(*args)

    monkeypatch.setattr(bench.store.attempts, "begin", look)
    assert bench.perform(debit, 10).state == "IGNORED"
    assert wire.cuts == 1
    assert bench.durable.complete(given[0], 1) is not is_completed_already
    assert bench.finish() == 1
    assert (bench.balance(), bench.runs) == (90, [10])
