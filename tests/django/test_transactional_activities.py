"""Activities whose rows, by Django's ORM, and whose outcome are one commit, also when their worker
is killed around it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from tests.preloaded import PATIENCE, Process

from .conftest import Project, on_mariadb_too


@pytest.mark.sparse(2)
@pytest.mark.parametrize("place", ["before commit", "after commit"])
def test_a_worker_that_is_killed_around_the_commit_leaves_rows_and_outcome_once(
    project: Project, start_worker: Callable[..., Process], place: str
) -> None:
    project.run("checkout.apply_async(('k', 5), task_id='a')")
    first = start_worker(DURABLE_DJANGO_DIES=place)
    assert first.wait() == -9
    store = project.store()
    with store.database.using() as engine, engine.connect() as connection:
        rows = list(connection.exec_driver_sql("SELECT key FROM orders_payment"))
    assert len(rows) == (place == "after commit")
    assert store.reads.status_of("a") == "RUNNING"
    start_worker()
    wait_until(lambda: store.reads.status_of("a") == "COMPLETED", PATIENCE, "the end")
    with store.database.using() as engine, engine.connect() as connection:
        assert [
            tuple(row)
            for row in connection.exec_driver_sql("SELECT key, amount FROM orders_payment")
        ] == [("k", 5)]


ATTEMPT = """
from celery_durable.contrib.django import effects
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.contrib.django.models import OutboxMessage
def begun(id_, key="k", amount=5):
    durable.start(checkout.s(key, amount), instance_id=id_)
    durable.runtime.runner.run(id_)
    row = OutboxMessage.objects.get(instance=id_)
    return ActivityAttemptId(row.execution, row.command, row.attempt)
def attempt(ticket):
    return pay.apply(durable.runtime.codec.decode(durable.runtime.codec.decode(
        bytes(OutboxMessage.objects.get(execution=ticket.execution).message_data).decode())[0])[0], task_id=ticket.task_id,
        headers={"durable": {"n": 0}})
def keys(): return sorted(Payment.objects.values_list("key", flat=True))
app.finalize()
durable.runtime.publisher.publish_turn = lambda *_, **__: True
durable.runtime.publisher.publish_activities = lambda rows: {}
"""


@on_mariadb_too
def test_an_outcome_that_is_not_wanted_any_more_takes_the_rows_along(project: Project) -> None:
    project.run(
        ATTEMPT
        + """
ticket = begun("a")
original = effects._Joint._record
def too_late(self, outcome):
    durable.terminate("a")
    return original(self, outcome)
if connection.vendor == "sqlite":   # one writer at a time: it is terminated before the body begins
    real = effects._Joint._connect
    effects._Joint._connect = lambda self: (durable.terminate("a"), real(self))[1]
else:
    effects._Joint._record = too_late
assert attempt(ticket).state != "SUCCESS"
assert keys() == [] and str(durable.get("a").runtime_status) == "TERMINATED"
"""
    )


@on_mariadb_too
def test_a_commit_that_is_refused_leaves_nothing_and_one_in_doubt_is_looked_into(
    project: Project,
) -> None:
    project.run(
        ATTEMPT
        + """
from django.db import OperationalError
from django.db import connections
wrapper = connections["default"]
real = type(wrapper)._commit
def lost(self, when):
    def commit(self):
        if commit.left:
            commit.left -= 1
            if when == "after": real(self)
            self.connection.close()
            raise OperationalError("the connection is lost")
        return real(self)
    commit.left = 1
    type(wrapper)._commit = commit
for number, when in enumerate(("before", "after")):
    ticket = begun(when, when)
    lost(wrapper, when)
    result = attempt(ticket)
    type(wrapper)._commit = real
    assert (result.state, result.result) == ("SUCCESS", 5), (when, result.state, result.result)
    assert keys().count(when) == 1
    durable.runtime.runner.run(when)
    assert durable.get(when).output == 5
"""
    )


@on_mariadb_too
def test_a_deferral_is_committed_with_the_rows_and_a_completion_with_those_of_a_view(
    project: Project,
) -> None:
    project.run(
        ATTEMPT
        + """
import threading
from django.db import transaction
from celery_durable import durable_context
tokens, told = [], []
@app.task(name="encode")
@durable.transactional(using="default")
def encode(key, way="defer"):
    tokens.append(durable_context().defer())
    Payment.objects.create(key=key, amount=1)
    if way == "joint":
        assert durable.complete(tokens[-1], way) and not durable.complete(tokens[-1], 2)
    elif connection.vendor != "sqlite":   # there the only writer is this transaction anyway
        call = threading.Thread(target=lambda: told.append((durable.complete(tokens[0], key), keys())))
        call.start(); call.join(0.5)
        assert not told, "the rows are not committed yet"
    return "dropped"
@durable.orchestrator(name="film")
async def film(ctx, *args):
    return await ctx.call(encode.s(*args))
durable._watch_tasks()
def deferred(id_, *args):
    durable.start(film.s(*args), instance_id=id_)
    durable.runtime.runner.run(id_)
    row = OutboxMessage.objects.get(instance=id_)
    ticket = ActivityAttemptId(row.execution, row.command, row.attempt)
    assert encode.apply(args, task_id=ticket.task_id, headers={"durable": {"n": 0}}).state == "IGNORED"
deferred("a", "k")
import time
while connection.vendor != "sqlite" and not told: time.sleep(0.05)
if told:
    assert told == [(True, ["k"])]
else:
    assert OutboxMessage.objects.get(instance="a").deferred_at is not None
    for is_undone in (True, False):
        try:
            with transaction.atomic():
                Payment.objects.create(key="view", amount=2)
                assert durable.heartbeat(tokens[0])
                assert durable.complete(tokens[0], "k")
                assert not durable.fail(tokens[0], "second")
                if is_undone: raise KeyError
        except KeyError: pass
        assert ("view" in keys()) is not is_undone
durable.runtime.runner.run("a")
assert durable.get("a").output == "k" and "k" in keys()
deferred("b", "joint", "joint")
durable.runtime.runner.run("b")
assert durable.get("b").output == "joint" and "joint" in keys()
assert not durable.complete(tokens[1])
"""
    )


@on_mariadb_too
def test_deadlocks_run_it_again_whole_and_errors_of_the_body_do_not(project: Project) -> None:
    project.run(
        ATTEMPT
        + """
from django.db import OperationalError
import sqlite3
times = []
class Deadlock(Exception):
    sqlstate = "40P01" if connection.vendor == "postgresql" else None
def deadlock(execute, sql, params, many, context):
    if "orders_payment" in sql and "INSERT" in sql:
        times.append(1)
        if len(times) < 3:
            inner = {"sqlite": sqlite3.OperationalError("database is locked"), "postgresql": Deadlock(),
                     "mysql": Deadlock(1213, "Deadlock found")}
            raise OperationalError("deadlock") from inner[connection.vendor]
    return execute(sql, params, many, context)
ticket = begun("a")
real = effects._Joint._note_errors
effects._Joint._note_errors = lambda self, execute, *rest: real(self, lambda *a: deadlock(execute, *a), *rest)
assert attempt(ticket).state == "SUCCESS" and len(times) == 3 and keys() == ["k"]
effects._Joint._note_errors = real

ticket = begun("b", "k")
result = attempt(ticket)
assert result.state == "FAILURE" and "IntegrityError" in repr(result.result), result.result
durable.runtime.runner.run("b")
assert str(durable.get("b").runtime_status) == "FAILED" and keys() == ["k"]
"""
    )


@pytest.mark.sparse(2)
def test_what_follows_the_commit_may_fail_and_starts_join(project: Project) -> None:
    project.run(
        ATTEMPT
        + """
ticket = begun("a")
import tests.django.project.orders.tasks as tasks
tasks.die_once = lambda place: place == "after commit" and 1 / 0 or durable.start(fulfil.s("x"), instance_id="joined")
assert attempt(ticket).state == "SUCCESS" and keys() == ["k"]
assert durable.get("joined").id == "joined"

ticket = begun("b", "unlucky", 13)
tasks.die_once = lambda place: durable.start(fulfil.s("x"), instance_id="gone")
assert attempt(ticket).state == "FAILURE" and keys() == ["k"]
assert not [run for run in durable.find().items if run.id == "gone"]
"""
    )


@pytest.mark.sparse(2)
def test_what_cannot_be_one_commit_is_refused(project: Project) -> None:
    project.run(
        ATTEMPT
        + """
ticket = begun("a")
with transaction.atomic():
    result = attempt(ticket)
assert result.state == "FAILURE" and "inside atomic() already" in str(result.result), result.result
assert keys() == []

@durable.transactional(using="nowhere")
def elsewhere(): raise AssertionError
try: elsewhere()
except ConfigurationError as error: assert "another database" in str(error)
else: raise AssertionError

@durable.transactional(using="default")
def alone(fails):
    Payment.objects.create(key="alone", amount=1)
    if fails: raise KeyError
try: alone(True)
except KeyError: pass
assert keys() == []
alone(False)
assert keys() == ["alone"]

for wrong in (lambda: durable.transactional(using="default", isolation_level="SERIALIZABLE")(lambda: None),):
    try: wrong()
    except ValueError: pass
    else: raise AssertionError
async def coroutine(): pass
try: durable.transactional(using="default")(coroutine)
except TypeError: pass
else: raise AssertionError
"""
    )
