"""Effects: rows that commit with their outcome, and activities that run at most once.

In one process, on every store.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from billiard.process import current_process
from celery import Celery, Task, _state
from celery.app.task import Context
from celery.exceptions import Reject, TimeLimitExceeded, WorkerLostError, WorkerShutdown
from sqlalchemy.orm import Session

from celery_durable import ActivityInterrupted, Durable, RetryPolicy, RuntimeStatus
from celery_durable.engine.at_most_once import RunMark, level_of, may_begin
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.recovery import Recovery
from celery_durable.errors import ActivityError, ConfigurationError, StoreError
from celery_durable.store import Store
from celery_durable.store.database import Database
from celery_durable.worker.request import hold_messages
from celery_durable.worker.runtime import OutcomeLost
from tests.conftest import wait_until
from tests.witnesses import recovery_of

from .builders import hold, rows
from .proxy import Wire

LEASE = 60_000_000
#: The request of a message that the engine has sent.
OURS = Context(headers={"durable": {"n": 0}})


@dataclass
class Bench:
    """One application over a store, whose activities the test performs by hand."""

    app: Celery
    durable: Durable
    runs: list[Any] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)

    @property
    def runtime(self) -> Any:
        return self.durable.runtime

    @property
    def store(self) -> Store:
        return self.durable.runtime.store

    def task(self, **options: Any) -> Callable[..., Any]:
        def declare(function: Any) -> Any:
            task = self.app.task(**{"name": function.__name__, **options})(function)
            self.durable._watch_tasks()
            return task

        return declare

    def orchestrate(self, *signatures: Any, **call: Any) -> ActivityAttemptId:
        """Start an orchestration that calls these one after the other.

        Return the ticket of the first.
        """

        async def calls(ctx: Any) -> Any:
            found = [await ctx.call(signature, **call) for signature in signatures]
            return found[0] if len(found) == 1 else found

        self.durable.orchestrator(calls, name="calls")
        self.run = self.durable.start(self.app.tasks["calls"].s(), instance_id="i")
        self.runtime.runner.run("i")
        return self.ticket()

    def ticket(self) -> ActivityAttemptId:
        (row,) = rows(self.store, "outbox")
        return ActivityAttemptId(row["execution"], row["command"], row["attempt"])

    def perform(
        self, task: Any, *args: Any, ticket: ActivityAttemptId | None = None, **options: Any
    ) -> Any:
        """Deal with the message of an activity as a worker's child does.

        Return Celery's view of it.
        """
        ticket = ticket or self.ticket()
        options["headers"] = {**OURS.headers, **(options.get("headers") or {})}
        return task.apply(args, task_id=ticket.task_id, throw=False, **options)

    def finish(self) -> Any:
        """Take the turns that are due and return the output."""
        self.runtime.runner.run("i")
        assert self.run.refresh().runtime_status is RuntimeStatus.COMPLETED, (
            self.run.runtime_status,
            self.run.reason,
        )
        return self.run.output

    def recovery(self) -> Recovery:
        runtime = self.runtime
        return recovery_of(runtime)

    def row(self) -> dict[str, Any]:
        (row,) = rows(self.store, "outbox")
        return row

    def balance(self) -> int:
        with self.store.database.engine.connect() as connection:
            return connection.scalar(sa.text("SELECT balance FROM accounts WHERE id = 1"))

    def has_failed_with(self, error: type[Exception]) -> bool:
        self.runtime.runner.run("i")
        run = self.run.refresh()
        return run.runtime_status is RuntimeStatus.FAILED and isinstance(run.failure, error)


@pytest.fixture
def open_bench() -> Iterator[Callable[[str], Bench]]:
    """Make applications over databases."""
    made: list[Celery] = []
    shared = set(_state._on_app_finalizers)

    def open_(url: str) -> Bench:
        app = Celery("effects", broker="memory://", set_as_current=False)
        app.conf.update(
            durable_backend_url=url,
            durable_store_patience=2,
            durable_resend_after=3,
            task_default_queue="celery",
            durable_heartbeat_interval=0.05,
            durable_recovery_interval=0.05,
        )
        durable = Durable(app)
        made.append(app)
        runtime = durable.runtime
        runtime.publisher.queues = frozenset({"celery"})
        runtime.worker_id = "me"
        runtime.store.workers.heartbeat("me", "host")
        with runtime.store.database.engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS accounts")
            connection.exec_driver_sql(
                "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)"
            )
            connection.exec_driver_sql("INSERT INTO accounts (id, balance) VALUES (1, 100)")
        return Bench(app, durable)

    yield open_
    for app in made:
        app.durable.runtime.store.database.dispose()
        app.close()
    _state._on_app_finalizers.intersection_update(shared)


@pytest.fixture
def bench(store: Store, open_bench: Callable[[str], Bench]) -> Bench:
    """An application over each store in turn, with an account of 100."""
    return open_bench(store.database.url.render_as_string(hide_password=False))


TAKE = sa.text("UPDATE accounts SET balance = balance - :amount WHERE id = 1")


def declare_debit(
    bench: Bench, inside: Callable[[Session], Any] | None = None, **options: Any
) -> Any:
    @bench.task(**options)
    @bench.durable.transactional
    def debit(session: Session, amount: int) -> Any:
        bench.runs.append(amount)
        session.execute(TAKE, {"amount": amount})
        if inside is not None:
            return inside(session)
        return session.scalar(sa.text("SELECT balance FROM accounts WHERE id = 1"))

    return debit


# -- what callers write ----------------------------------------------------------------------------


def test_callers_leave_the_session_out(bench: Bench) -> None:
    debit = declare_debit(bench)
    assert list(inspect.signature(debit.run).parameters) == ["amount"]
    debit.s(5).freeze()
    for wrong in ((), (1, 2)):
        with pytest.raises(TypeError):
            debit.apply_async(wrong)
    debit.apply_async((5,))

    @bench.task(bind=True)
    @bench.durable.transactional(isolation_level="SERIALIZABLE")
    def bound(self: Any, session: Session, amount: int = 1) -> list[Any]:
        return [self.name, session.execute(TAKE, {"amount": amount}).rowcount]

    with pytest.raises(TypeError):
        bound.apply_async((1, 2))
    assert bound(amount=7) == ["bound", 1]
    assert bench.balance() == 93


def test_a_direct_call_and_a_plain_message_are_transactions_of_their_own(bench: Bench) -> None:
    debit = declare_debit(bench)
    assert debit(30) == 70
    assert debit.apply((30,)).get() == 40
    failing = declare_debit(bench, lambda session: 1 / 0, name="failing")
    with pytest.raises(ZeroDivisionError):
        failing(30)
    assert bench.balance() == 40


def test_what_cannot_be_transactional_is_refused(bench: Bench) -> None:
    async def coroutine(session: Any) -> None: ...

    def generator(session: Any) -> Any:
        yield

    for wrong in (
        coroutine,
        generator,
        lambda amount: 1,
        bench.app.task(generator, name="task"),
        print,
    ):
        with pytest.raises(TypeError):
            bench.durable.transactional(wrong)
    with pytest.raises(ValueError, match="isolation_level"):
        bench.durable.transactional(isolation_level="CHAOS")(lambda session: 1)


def test_transactional_functions_that_a_body_calls_take_part_in_its_transaction(
    bench: Bench,
) -> None:
    debit = declare_debit(bench)

    @bench.task()
    @bench.durable.transactional
    def twice(session: Session, amount: int) -> None:
        debit(amount)
        debit(amount)
        raise ValueError

    bench.orchestrate(twice.s(10))
    bench.perform(twice, 10)
    assert bench.has_failed_with(ValueError)
    assert (bench.balance(), bench.runs) == (100, [10, 10])


def test_a_plain_activity_that_calls_one_records_its_own_outcome(bench: Bench) -> None:
    debit = declare_debit(bench)

    @bench.task()
    def plain(amount: int) -> str:
        return f"left: {debit(amount)}"

    bench.orchestrate(plain.s(10))
    bench.perform(plain, 10)
    assert bench.finish() == "left: 90"


# -- rows and outcome ------------------------------------------------------------------------------


def test_rows_and_outcome_are_one_commit(bench: Bench) -> None:
    seen: list[Any] = []

    def look(session: Session) -> str:
        seen.append((bench.balance(), len(rows(bench.store, "outbox"))))
        return "done"

    debit = declare_debit(bench, look)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "SUCCESS"
    assert seen == [(100, 1)]
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10])


def test_a_member_of_a_join_wakes_it(bench: Bench) -> None:
    debit = declare_debit(bench)

    @bench.durable.orchestrator(name="both")
    async def both(ctx: Any) -> Any:
        return await ctx.all([ctx.call(debit.s(1)), ctx.call(debit.s(2))])

    bench.run = bench.durable.start(bench.app.tasks["both"].s(), instance_id="i")
    bench.runtime.runner.run("i")
    for row, amount in zip(rows(bench.store, "outbox"), (1, 2), strict=True):
        bench.perform(
            debit,
            amount,
            ticket=ActivityAttemptId(row["execution"], row["command"], row["attempt"]),
        )
    assert bench.finish() == [99, 97]


@pytest.mark.parametrize("end", ["raises", "cannot be encoded", "fails at commit"])
def test_a_failure_undoes_the_rows_and_is_recorded(
    bench: Bench, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> Any:
        if end == "raises":
            raise LookupError("no such account")
        if end == "cannot be encoded":
            return object()

        def refuse(_session: Session) -> None:
            raise LookupError("deferred")

        sa.event.listen(session, "before_commit", refuse)
        return 1

    debit = declare_debit(bench, fail)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "FAILURE"
    assert bench.has_failed_with(ValueError if end == "cannot be encoded" else LookupError)
    assert (bench.balance(), bench.runs) == (100, [10])


def test_a_body_that_commits_by_itself_is_told_so(bench: Bench) -> None:
    debit = declare_debit(bench, lambda session: session.commit())
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.has_failed_with(ConfigurationError)
    assert bench.balance() == 100


def test_a_savepoint_may_be_undone_alone(bench: Bench) -> None:
    def nested(session: Session) -> str:
        with session.begin_nested():
            session.execute(TAKE, {"amount": 1})
        savepoint = session.begin_nested()
        session.execute(TAKE, {"amount": 50})
        savepoint.rollback()
        return "done"

    debit = declare_debit(bench, nested)
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.finish() == "done"
    assert bench.balance() == 89


def test_a_start_within_it_commits_with_it(bench: Bench) -> None:
    @bench.durable.orchestrator(name="other")
    async def other(ctx: Any) -> int:
        return 1

    def start(session: Session) -> str:
        return bench.durable.start(
            bench.app.tasks["other"].s(), instance_id="other", session=session
        ).id

    debit = declare_debit(bench, start)
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.finish() == "other"
    assert bench.store.reads.fetch("other") is not None


def test_duplicates_commit_once(bench: Bench) -> None:
    ticket: list[ActivityAttemptId] = []

    def run_a_copy(session: Session) -> str:
        if len(bench.runs) == 1:
            session.rollback()  # the copy is faster, so that it does not wait for this one's locks
            assert bench.store.workers.free_claimed(
                ticket[0], "me"
            )  # this worker was taken for dead
            assert bench.perform(debit, 10, ticket=ticket[0]).state == "SUCCESS"
            session.execute(TAKE, {"amount": 10})
        return "done"

    debit = declare_debit(bench, run_a_copy)
    ticket.append(bench.orchestrate(debit.s(10)))
    assert bench.perform(debit, 10).state == "IGNORED"
    assert bench.perform(debit, 10, ticket=ticket[0]).state == "IGNORED"
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


def test_a_cancellation_while_it_runs_undoes_the_rows(bench: Bench) -> None:
    def cancel(session: Session) -> str:
        session.rollback()
        bench.run.terminate()
        bench.runtime.runner.run("i")
        session.execute(TAKE, {"amount": 10})
        return "done"

    debit = declare_debit(bench, cancel)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "IGNORED"
    assert bench.run.refresh().runtime_status is RuntimeStatus.TERMINATED
    assert bench.balance() == 100


@pytest.mark.parametrize("place", ["in the body", "before the commit", "after the commit"])
def test_a_crash_gives_neither_or_both(bench: Bench, place: str) -> None:
    def die(*_: Any, **__: Any) -> None:
        os._exit(9)

    debit = declare_debit(
        bench, lambda session: die() if place == "in the body" and is_child else "done"
    )
    is_child = False
    ticket = bench.orchestrate(debit.s(10))
    bench.store.database.dispose()
    if not (child := os.fork()):
        is_child = True
        real = Session.commit
        if place == "before the commit":
            Session.commit = die
        elif place == "after the commit":
            Session.commit = lambda self: (real(self), die())
        bench.perform(debit, 10, ticket=ticket)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    is_there = place == "after the commit"
    assert (bench.balance(), len(rows(bench.store, "outbox"))) == (
        (90, 0) if is_there else (100, 1)
    )
    bench.store.workers.free_claimed(ticket, "me")  # a slow machine: it was late, and claimed
    bench.perform(debit, 10, ticket=ticket)
    assert bench.finish() == "done"
    assert bench.balance() == 90


def test_a_deadlock_runs_the_whole_transaction_again(bench: Bench) -> None:
    def fail_once(session: Session) -> str:
        if len(bench.runs) > 1:
            return "done"
        family = bench.store.database.family
        if family == "sqlite":
            import sqlite3

            raise raised_by(session, sqlite3.OperationalError("database is locked"))
        if family == "postgresql":
            session.execute(
                sa.text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")
            )
        else:
            import pymysql

            raise raised_by(session, pymysql.err.OperationalError(1213, "Deadlock found"))
        return "not reached"

    def raised_by(session: Session, original: Exception) -> Exception:
        """What SQLAlchemy makes of an error of this very connection."""
        connection = session.connection()
        try:
            connection._handle_dbapi_exception(original, "SELECT 1", None, None, None)
        except Exception as error:
            return error
        raise AssertionError

    debit = declare_debit(bench, fail_once)
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


def test_a_deadlock_in_another_database_is_the_bodys_own(bench: Bench) -> None:
    def fail(session: Session) -> str:
        elsewhere = Database(bench.store.database.url.render_as_string(hide_password=False))
        try:
            original = {
                "sqlite": lambda: __import__("sqlite3").OperationalError("database is locked"),
                "mysql": lambda: __import__("pymysql").err.OperationalError(1213, "Deadlock found"),
                "postgresql": lambda: __import__("psycopg").errors.DeadlockDetected("deadlock"),
            }[elsewhere.family]()
            with elsewhere.engine.connect() as connection:
                connection._handle_dbapi_exception(original, "SELECT 1", None, None, None)
        finally:
            elsewhere.dispose()
        return "not reached"

    debit = declare_debit(bench, fail)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "FAILURE"
    assert (bench.balance(), bench.runs) == (100, [10])


def test_a_decorator_around_the_body_may_call_it_again_until_it_is_committed(bench: Bench) -> None:
    def stubborn(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            try:
                function(*args)
            except LookupError:
                function(*args)
            with pytest.raises(ConfigurationError):
                function(*args)
            return "ignored"

        return call

    def fail_once(session: Session) -> str:
        if len(bench.runs) == 1:
            raise LookupError
        return "done"

    @bench.task()
    @stubborn
    @bench.durable.transactional
    def debit(session: Session, amount: int) -> Any:
        bench.runs.append(amount)
        session.execute(TAKE, {"amount": amount})
        return fail_once(session)

    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


def test_celerys_own_retry_undoes_the_rows(bench: Bench) -> None:
    def fail_once(session: Session) -> str:
        if len(bench.runs) == 1:
            raise OSError
        return "done"

    debit = declare_debit(bench, fail_once, autoretry_for=(OSError,), default_retry_delay=0)
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


def test_connections_go_back_as_they_were(bench: Bench) -> None:
    debit = declare_debit(bench)
    strict = bench.durable.transactional(lambda session: None, isolation_level="SERIALIZABLE")
    for _ in range(3):
        debit(1)
        strict()
        with bench.store.database.cursor() as cursor:
            cursor.execute("UPDATE accounts SET balance = balance - 1 WHERE id = 1")
    if bench.store.database.family == "mysql":
        levels = set()
        for _ in range(4):
            with bench.store.database.cursor() as cursor:
                cursor.execute(
                    "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation',"
                    " 'transaction_isolation')"
                )
                levels |= {level for _, level in cursor.fetchall()}
        assert levels == {"READ-COMMITTED"}
    bench.store.database.dispose()
    assert bench.balance() == 94


# -- lost answers ----------------------------------------------------------------------------------


@pytest.fixture(params=["postgres", "mariadb"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.getfixturevalue(f"empty_{request.param}"))
    yield wire
    wire.close()


@pytest.mark.parametrize("is_taken_already", [False, True])
def test_a_commit_whose_answer_is_lost_took_place_once(
    wire: Wire,
    open_bench: Callable[[str], Bench],
    monkeypatch: pytest.MonkeyPatch,
    is_taken_already: bool,
) -> None:
    bench = open_bench(wire.url)

    def arm(session: Session) -> Any:
        wire.cut_after_commit()  # now, or the answer to the claim would be lost
        return session.scalar(sa.text("SELECT balance FROM accounts WHERE id = 1"))

    debit = declare_debit(bench, arm)
    bench.orchestrate(debit.s(10))
    real = bench.store.attempts.begin

    def begin(*args: Any) -> Any:
        if wire.cuts and is_taken_already:
            bench.runtime.runner.run("i")
        return real(*args)

    monkeypatch.setattr(bench.store.attempts, "begin", begin)
    assert bench.perform(debit, 10).state == "SUCCESS"
    assert wire.cuts == 1
    assert bench.finish() == 90
    assert (bench.balance(), bench.runs) == (90, [10])


def test_a_connection_that_ends_before_the_commit_leaves_nothing(
    wire: Wire, open_bench: Callable[[str], Bench]
) -> None:
    bench = open_bench(wire.url)

    def cut_once(session: Session) -> str:
        if len(bench.runs) == 1:
            wire.go_down()
            wire.come_up()
        return "done"

    debit = declare_debit(bench, cut_once)
    bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10).state == "SUCCESS"
    assert bench.finish() == "done"
    assert (bench.balance(), bench.runs) == (90, [10, 10])


def test_a_store_that_stays_away_leaves_it_to_a_later_copy(
    wire: Wire, open_bench: Callable[[str], Bench]
) -> None:
    bench = open_bench(wire.url)

    def cut(session: Session) -> str:
        if is_bad:
            wire.go_down()
        return "done"

    is_bad = True
    debit = declare_debit(bench, cut)
    ticket = bench.orchestrate(debit.s(10))
    assert bench.perform(debit, 10, ticket=ticket).state == "REJECTED"
    wire.come_up()
    is_bad = False
    # recovery sees that nobody runs it
    wait_until(lambda: bench.store.workers.free_claimed(ticket, "me"), 30, "the store")
    assert bench.perform(debit, 10, ticket=ticket).state == "SUCCESS"
    assert bench.finish() == "done"
    assert bench.balance() == 90


# -- at most once: who may begin -------------------------------------------------------------------


def declare_charge(bench: Bench, body: Callable[..., Any] = lambda: "paid", **options: Any) -> Any:
    @bench.task(**{"at_most_once": True, "bind": True, "default_retry_delay": 0, **options})
    def charge(self: Any, *args: Any) -> Any:
        bench.runs.append("charge")
        return body(self) if body.__code__.co_argcount else body()

    hold_messages(bench.app)
    return charge


def interrupt_nobody(bench: Bench) -> None:
    """Let recovery look at everything: nothing changes."""
    before = rows(bench.store, "outbox")
    bench.recovery().repair_activities()
    assert rows(bench.store, "outbox") == before


def test_marks_admit_one_run_for_each_wish() -> None:
    first, retry = RunMark.new(0), RunMark.new(1)
    copy = first._replace(run=first.run ^ 1)
    there = first.pack()
    assert RunMark.unpack(there) == first and RunMark.unpack(9) is None
    assert may_begin(0, 0, first) == may_begin(9, 0, first) == first
    assert may_begin(there, 0, copy) is None
    assert may_begin(there, 0, first) is None
    assert may_begin(there, 0, first, is_again=True) == first
    assert may_begin(there + 1, 0, copy) is None, "a crash was counted over a run"
    assert may_begin(there, 1, retry) == retry, (
        "the retry's message may be faster than the note of it"
    )
    assert may_begin(retry.pack(), 1, RunMark.new(1)) is None
    sent_again = may_begin(first.waiting().pack(), 0, copy)
    assert sent_again is not None and sent_again.level > copy.level
    assert may_begin(sent_again.pack(), 1, retry) is None, "the wish has been granted"
    assert may_begin(sent_again.pack(), 2, RunMark.new(2)) is not None
    most = RunMark.new(level_of(10**9, 10**9)).pack() + 2**20
    assert most < 2**31
    assert level_of(0, 1) > level_of(10**9, 0) > level_of(0, 0) == level_of(None, "x")


def test_it_runs_and_its_turn_follows(bench: Bench) -> None:
    seen: list[Any] = []
    charge = declare_charge(bench, lambda: seen.append(bench.row()))
    bench.orchestrate(charge.s())
    assert bench.perform(charge).state == "SUCCESS"
    assert seen[0]["holder"] == "me"
    assert seen[0]["crashes"] >= 2**30
    assert bench.finish() is None


@pytest.mark.parametrize("is_held", [False, True])
def test_a_copy_never_runs_beside_it_or_after_it(bench: Bench, is_held: bool) -> None:
    def run_copies() -> str:
        for headers in ({}, {"durable": {"n": 1}}):
            assert bench.perform(charge, ticket=ticket, headers=headers).state == "IGNORED"
        interrupt_nobody(bench)
        return "paid"

    charge = declare_charge(bench, run_copies)
    ticket = bench.orchestrate(charge.s())
    if is_held:
        hold(bench.store, "me", [ticket])
    assert bench.perform(charge, ticket=ticket).state == "SUCCESS"
    assert bench.perform(charge, ticket=ticket).state == "IGNORED"
    assert bench.finish() == "paid"
    assert bench.runs == ["charge"]


def die_in_the_body(bench: Bench, task: Any, ticket: ActivityAttemptId) -> None:
    """Begin it in a process that does not survive."""
    bench.store.database.dispose()
    if not (child := os.fork()):
        task.run = lambda *args: os._exit(9)
        bench.perform(task, ticket=ticket)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_one_whose_worker_is_gone_is_interrupted(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s(), retry=RetryPolicy(first_interval=0, max_attempts=5))
    die_in_the_body(bench, charge, ticket)
    interrupt_nobody(bench)
    assert bench.perform(charge, headers={"durable": {"n": 1}}).state == "IGNORED"
    bench.store.workers.unregister("me")
    assert bench.store.workers.free_abandoned(LEASE) == 1
    assert bench.perform(charge, headers={"durable": {"n": 1}}).state == "IGNORED"
    bench.recovery().repair_activities()
    assert bench.has_failed_with(ActivityInterrupted), "a policy does not try it again"
    assert bench.runs == []
    error = pickle.loads(pickle.dumps(bench.run.failure))
    assert (error.instance_id, error.task, error.attempt) == ("i", "charge", 1)


def test_one_whose_worker_died_before_it_began_runs(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    hold(bench.store, "gone", [ticket])
    assert bench.store.workers.free_abandoned(LEASE) == 1
    bench.recovery().repair_activities()
    assert bench.perform(charge, headers={"durable": {"n": 1}}).state == "SUCCESS"
    assert bench.finish() == "paid"


@pytest.mark.parametrize("error", [WorkerLostError("gone"), TimeLimitExceeded(1)])
def test_one_whose_process_was_killed_is_interrupted(bench: Bench, error: Exception) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    die_in_the_body(bench, charge, ticket)
    bench.app.backend.mark_as_failure(ticket.task_id, error, request=OURS)
    assert bench.has_failed_with(ActivityInterrupted)
    assert type(error).__name__ in str(bench.run.failure)


def test_one_that_was_revoked_while_it_ran_is_interrupted(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    die_in_the_body(bench, charge, ticket)
    bench.app.backend.mark_as_revoked(
        ticket.task_id, "terminated", request=None, store_result=False
    )
    assert bench.has_failed_with(ActivityInterrupted)


def test_one_whose_process_was_killed_before_it_began_has_failed(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    bench.app.backend.mark_as_failure(ticket.task_id, WorkerLostError("gone"), request=OURS)
    assert bench.has_failed_with(WorkerLostError)


def test_a_retry_on_worker_lost_is_not_heard(bench: Bench) -> None:
    charge = declare_charge(
        bench, acks_late=True, reject_on_worker_lost=True, retry_on_worker_lost=True
    )
    assert (charge.reject_on_worker_lost, charge.retry_on_worker_lost) == (False, False)


@pytest.mark.parametrize(
    "raised", [Reject("later", requeue=True), WorkerShutdown(0)], ids=["Reject", "WorkerShutdown"]
)
def test_a_body_that_ends_otherwise_is_interrupted(bench: Bench, raised: BaseException) -> None:
    def body() -> None:
        raise raised

    charge = declare_charge(bench, body)
    ticket = bench.orchestrate(charge.s())
    try:
        bench.perform(charge, ticket=ticket)
    except SystemExit:
        pass
    assert bench.perform(charge, ticket=ticket).state == "IGNORED"
    assert bench.has_failed_with(ActivityInterrupted)
    assert bench.runs == ["charge"]


class Out(BaseException):
    pass


@pytest.mark.parametrize("at_most_once", [False, True])
@pytest.mark.parametrize(
    "raised",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), Out()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_body_raises_is_the_end_of_its_attempt(
    bench: Bench, raised: BaseException, at_most_once: bool
) -> None:
    """Where there is no process of a pool around it, nobody but the body can have raised it."""

    @bench.task(at_most_once=at_most_once)
    def charge() -> None:
        bench.runs.append("charge")
        raise raised

    bench.orchestrate(charge.s(), retry=RetryPolicy(first_interval=0, max_attempts=2))
    for _ in range(2):
        result = bench.perform(charge)
        assert (result.state, type(result.result)) == ("FAILURE", ActivityError)
    assert bench.has_failed_with(ActivityError)
    assert type(raised).__name__ in str(bench.run.failure)
    assert bench.runs == ["charge"] * 2


def test_in_a_process_of_a_pool_what_ends_it_is_left_to_celery(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_process(), "_name", "ForkPoolWorker-1")

    @bench.task()
    def charge() -> None:
        raise SystemExit(3)

    ticket = bench.orchestrate(charge.s())
    with pytest.raises(SystemExit):
        bench.perform(charge)
    assert bench.ticket() == ticket


def test_a_time_out_of_one_that_began_is_an_interruption(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s(), timeout=0.3, retry=RetryPolicy(first_interval=0))
    die_in_the_body(bench, charge, ticket)
    recovery = bench.recovery()
    wait_until(lambda: recovery.repair_activities() and not rows(bench.store, "outbox"), 20)
    assert bench.has_failed_with(ActivityInterrupted)


def test_an_outcome_that_the_store_cannot_be_told_is_looked_into(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("down")

    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    with monkeypatch.context() as patch:
        patch.setattr(bench.store.outcomes, "record", fail)
        patch.setattr(
            "celery_durable.worker.attempt.with_patience",
            lambda runtime, work, patience=None: work(),
        )
        result = bench.perform(charge, ticket=ticket)
    assert (result.state, type(result.result)) == ("IGNORED", OutcomeLost)

    assert bench.store.workers.free_claimed(ticket, "me")
    bench.recovery().repair_activities()
    assert bench.has_failed_with(ActivityInterrupted)
    assert bench.runs == ["charge"]


def test_a_claim_whose_answer_is_lost_is_this_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = declare_charge(bench)
    bench.orchestrate(charge.s())
    real, tries = bench.store.attempts.begin_once, []

    def lose_the_answer(*args: Any, **options: Any) -> Any:
        tries.append(real(*args, **options))
        if len(tries) == 1:
            raise StoreError("the answer is lost")
        return tries[-1]

    monkeypatch.setattr(bench.store.attempts, "begin_once", lose_the_answer)
    assert bench.perform(charge).state == "SUCCESS"
    assert tries[0] == tries[1]


def test_in_a_process_that_is_no_worker_it_is_looked_into_after_an_hour(bench: Bench) -> None:
    bench.runtime.worker_id = None
    seen: list[Any] = []
    charge = declare_charge(
        bench, lambda: seen.append((bench.row(), bench.store.now())) or interrupt_nobody(bench)
    )
    bench.orchestrate(charge.s())
    bench.perform(charge)
    ((row, now),) = seen
    assert row["holder"] is None
    assert 3_500_000_000 < row["check_at"] - now <= 3_600_000_000
    assert bench.finish() is None


# -- at most once: what a body asks for ------------------------------------------------------------


def test_celerys_own_retry_runs_it_again_as_often_as_it_asks(bench: Bench) -> None:
    def retry_once(self: Task) -> str:
        if len(bench.runs) == 1:
            raise self.retry()
        return "paid"

    charge = declare_charge(bench, retry_once)
    ticket = bench.orchestrate(charge.s())
    bench.perform(charge, ticket=ticket)
    assert bench.runs == ["charge", "charge"]
    assert bench.finish() == "paid"


def test_a_retry_whose_message_is_lost_is_sent_again_and_runs_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retry_once(self: Task) -> str:
        if len(bench.runs) == 1:
            raise self.retry()
        return "paid"

    charge = declare_charge(bench, retry_once)
    ticket = bench.orchestrate(charge.s())
    level = RunMark.new(0)
    mark = bench.store.attempts.begin_once(ticket, "me", 0, level)
    assert mark is not None
    bench.runs.append("charge")
    assert bench.store.attempts.postpone_once(ticket, mark, 0)
    assert not bench.store.attempts.postpone_once(ticket, mark, 0)
    recovery = bench.recovery()
    wait_until(
        lambda: recovery.repair_activities() and bench.row()["sends"] == 1, 10, "a second sending"
    )
    assert bench.perform(charge, ticket=ticket, headers={"durable": {"n": 1}}).state == "SUCCESS"
    assert bench.perform(charge, ticket=ticket, retries=1).state == "IGNORED"
    assert bench.finish() == "paid"
    assert bench.runs == ["charge", "charge"]


def test_one_that_replaced_itself_waits_for_the_other(bench: Bench) -> None:
    charge = declare_charge(bench)
    ticket = bench.orchestrate(charge.s())
    mark = bench.store.attempts.begin_once(ticket, "me", 0, RunMark.new(0))
    assert bench.store.attempts.delegate_once(ticket, mark)
    interrupt_nobody(bench)
    assert bench.row()["is_delegated"]
    other = declare_charge(bench, lambda: "other", name="other")
    assert bench.perform(other, ticket=ticket).state == "SUCCESS"
    assert bench.finish() == "other"


def test_a_policy_that_names_the_interruption_tries_again() -> None:
    error = ActivityInterrupted("gone", instance_id="i", task="t", attempt=1)
    for policy in (RetryPolicy(), RetryPolicy(retry_on=(Exception, OSError))):
        assert policy.delay(1, error, 0, lambda: 0.0) is None
        assert policy.delay(1, OSError(), 0, lambda: 0.0) is not None
    assert RetryPolicy(retry_on=(ActivityInterrupted,)).delay(1, error, 0, lambda: 0.0) is not None


def test_both_together_run_the_body_once(bench: Bench) -> None:
    def conflict(session: Session) -> str:
        raise StoreError("down")

    debit = declare_debit(bench, conflict, at_most_once=True)
    bench.orchestrate(debit.s(10))
    bench.perform(debit, 10)
    assert bench.has_failed_with(StoreError)
    assert (bench.balance(), bench.runs) == (100, [10])
