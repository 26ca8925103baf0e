"""A start, an event or a signal inside ``atomic()``: there with its rows, or gone with them.

Found if the nudge is lost.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import wait_until
from tests.preloaded import PATIENCE

from .conftest import Project, on_mariadb_too

NUDGES = """
nudged = []
durable.runtime.publisher.publish_turn = lambda address, **_: nudged.append(address.id) or True
def ids(): return sorted(run.id for run in durable.find().items)
"""


@on_mariadb_too
def test_what_starts_inside_a_block_commits_or_rolls_back_with_it(project: Project) -> None:
    project.run(
        NUDGES
        + """
with transaction.atomic():
    Order.objects.create(name="a")
    run = durable.start(fulfil.s("a"), instance_id="a")
    assert run.id == "a" and not nudged
    assert ids() == [], "nobody else sees it before the commit"
assert nudged == ["a"] and ids() == ["a"] and durable.get("a").input["args"] == ["a"]
assert Order.objects.count() == 1

try:
    with transaction.atomic():
        Order.objects.create(name="b")
        fulfil.apply_async(("b",), task_id="b")
        durable.start(fulfil.s("c"), instance_id="c")
        raise KeyError
except KeyError:
    pass
assert ids() == ["a"] and nudged == ["a"] and Order.objects.count() == 1

with transaction.atomic():
    run = fulfil.delay("d")
    assert len(run.id) == 36 and nudged == ["a"]
assert nudged == ["a", run.id] and ids() == sorted(["a", run.id])

durable.start(fulfil.s("e"), instance_id="e")
assert nudged[-1] == "e", "outside a block as ever"

@durable.app.task(name="orders.invoice", durable=True)
def invoice(n): ...

for id_ in ("kept", "gone"):
    with transaction.atomic():
        invoice.apply_async((1,), task_id=id_)
        assert id_ not in ids()
        transaction.set_rollback(id_ == "gone")
assert [run.id for run in durable.find(tasks=True).items] == ["kept"]
"""
    )


@pytest.mark.sparse(3)
@on_mariadb_too
def test_a_savepoint_that_is_undone_takes_its_starts_along_and_sends_nothing(
    project: Project,
) -> None:
    project.run(
        NUDGES
        + """
with transaction.atomic():
    durable.start(fulfil.s("outer"), instance_id="outer")
    try:
        with transaction.atomic():
            durable.start(fulfil.s("inner"), instance_id="inner")
            with transaction.atomic():
                durable.start(fulfil.s("deep"), instance_id="deep")
            raise KeyError
    except KeyError:
        pass
    with transaction.atomic():
        durable.start(fulfil.s("kept"), instance_id="kept")
    assert nudged == []
assert ids() == ["kept", "outer"] and nudged == ["outer", "kept"]
"""
    )


@on_mariadb_too
def test_events_and_signals_join_too(project: Project) -> None:
    project.run(
        NUDGES
        + """
def inbox(): return sorted(row.kind + (row.name or "") for row in InboxMessage.objects.filter(kind="EventRaised"))
from celery_durable.contrib.django.models import InboxMessage
durable.start(approval.s("a"), instance_id="a")
run = durable.get("a")
for fails in (True, False):
    nudged.clear()
    try:
        with transaction.atomic():
            Order.objects.create(name="a")
            run.raise_event("approved", {"by": "eve"}, event_id="e1")
            durable.entity(Counter, "n").signal.add(2)
            assert not nudged
            if fails: raise KeyError
    except KeyError:
        pass
    assert len(inbox()) == (0 if fails else 2), inbox()
    assert nudged == ([] if fails else ["a", "@Counter@n"]), nudged
with transaction.atomic():
    run.raise_event("approved", event_id="e1")
assert len(inbox()) == 2, "an event id deduplicates"

with transaction.atomic():
    for unknown in ("nobody",):
        try: durable.raise_event(unknown, "approved")
        except InstanceNotFound as error: assert error.instance_id == unknown
        else: raise AssertionError
    durable.start(approval.s("b"), instance_id="b")
    durable.raise_event("b", "approved", 1)
assert len(inbox()) == 3, "one that starts in the same block hears it"
durable.terminate("a")
with transaction.atomic():
    Order.objects.create(name="goes on")
    try: run.raise_event("approved")
    except InvalidState: pass
    else: raise AssertionError
assert Order.objects.filter(name="goes on").exists(), "a refusal does not break the block"
"""
    )


@pytest.mark.sparse(3)
@on_mariadb_too
def test_what_begins_with_the_commit_is_not_asked_within_the_block(project: Project) -> None:
    project.run(
        NUDGES
        + """
def refusal(ask):
    try: ask()
    except Exception as error: return type(error).__name__
with transaction.atomic():
    run = durable.start(approval.s("a"), instance_id="a")
    by_id = approval.AsyncResult("a")
    assert refusal(lambda: run.ask("x", timeout=0)) == "ConfigurationError"
    assert refusal(lambda: by_id.ask("x", timeout=0)) == "ConfigurationError"
    assert refusal(lambda: approval.AsyncResult("b").ask("x", timeout=0)) == "InstanceNotFound"
assert refusal(lambda: run.ask("x", timeout=0)) == "TimeoutError"
with transaction.atomic():
    assert refusal(lambda: run.ask("x", timeout=0)) == "TimeoutError", "it has committed"
"""
    )


@on_mariadb_too
def test_ids_that_are_taken(project: Project) -> None:
    project.run(
        NUDGES
        + """
durable.start(fulfil.s("a"), instance_id="a")
nudged.clear()
with transaction.atomic():
    Order.objects.create(name="a")
    assert durable.start(fulfil.s("a"), instance_id="a").id == "a"
    for policy, expected in (("raise", InstanceExists), ("restart", ConfigurationError), ("replace", ConfigurationError)):
        try: durable.start(fulfil.s("a"), instance_id="a", if_exists=policy)
        except expected as error: assert policy == "raise" or "after the commit" in str(error)
        else: raise AssertionError(policy)
assert nudged == [] and Order.objects.count() == 1

try:
    with transaction.atomic(): raise KeyError
except KeyError: pass
with transaction.atomic():
    try:
        with transaction.atomic():
            connection.cursor().execute("SELECT * FROM no_such_table")
    except Exception: pass
    durable.start(fulfil.s("b"), instance_id="b")
assert nudged == ["b"]
"""
    )


@pytest.mark.sparse(2)
def test_statements_go_through_djangos_cursor(project: Project) -> None:
    project.run(
        NUDGES
        + """
from django.conf import settings
settings.DEBUG = True
seen = []
def watch(execute, sql, params, many, context):
    seen.append(sql)
    return execute(sql, params, many, context)
with connection.execute_wrapper(watch), transaction.atomic():
    fulfil.delay("100% sure")
assert any("durable_instances" in sql for sql in seen), seen
assert any("durable_inbox" in query["sql"] for query in connection.queries)
run, = durable.find(with_payloads=True).items
assert run.input["args"] == ["100% sure"]
"""
    )


@pytest.mark.sparse(2)
def test_transactions_without_autocommit_are_joined_and_found_by_recovery(project: Project) -> None:
    project.run(
        NUDGES
        + """
transaction.set_autocommit(False)
fulfil.apply_async(("a",), task_id="a")
transaction.rollback()
run = fulfil.apply_async(("b",), task_id="b")
transaction.commit()
transaction.set_autocommit(True)
assert ids() == ["b"] and nudged == []
run.nudge()
assert nudged == ["b"]
"""
    )


@pytest.mark.sparse(2)
def test_a_block_on_another_database_is_not_joined(project: Project, tmp_path: object) -> None:
    project.run(
        NUDGES
        + """
from django.db import connections
sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:x?mode=memory&cache=shared"}
connections.settings["other"] = {**connections.settings["default"], **sqlite}
try:
    with transaction.atomic(using="other"):
        durable.start(fulfil.s("a"), instance_id="a")
        assert nudged == ["a"]
        raise KeyError
except KeyError:
    pass
assert ids() == ["a"]
"""
    )


def test_the_same_database_by_url_is_joined(project: Project) -> None:
    url = project.store().database.url.render_as_string(hide_password=False)
    project.run(
        NUDGES
        + """
try:
    with transaction.atomic():
        durable.start(fulfil.s("a"), instance_id="a")
        raise KeyError
except KeyError:
    pass
assert ids() == [] and nudged == []
with transaction.atomic():
    durable.start(fulfil.s("b"), instance_id="b")
assert ids() == ["b"] and nudged == ["b"]
""",
        DURABLE_DJANGO_STORE=url,
    )


@pytest.mark.sparse(2)
def test_a_crash_between_commit_and_publish_and_a_broker_that_is_down_lose_nothing(
    project: Project, start_worker: Callable[..., object]
) -> None:
    project.run(
        """
durable.runtime.publisher.publish_turn = die
with transaction.atomic():
    Order.objects.create(name="crash")
    durable.start(fulfil.s("crash"), instance_id="crash")
""",
        code=-9,
    )
    project.run(
        """
with transaction.atomic():
    Order.objects.create(name="down")
    durable.start(fulfil.s("down"), instance_id="down")
with transaction.atomic():
    Order.objects.create(name="event")
    durable.start(approval.s("event"), instance_id="event")
    durable.raise_event("event", "approved", "yes")
assert Order.objects.count() == 3
""",
        DURABLE_DJANGO_BROKER="amqp://127.0.0.1:1//",
    )
    start_worker()

    store = project.store()
    wait_until(
        lambda: (
            [store.reads.status_of(id_) for id_ in ("crash", "down", "event")] == ["COMPLETED"] * 3
        ),
        PATIENCE,
        "the end of what recovery found",
    )
    assert (
        project.run("print(sorted(Order.objects.values_list('name', 'status')))").strip()
        == "[('crash', 'charged'), ('down', 'charged'), ('event', 'approved')]"
    )


# one writer at a time is what SQLite is
@pytest.mark.parametrize("project", ["postgres", "mariadb"], indirect=True)
def test_an_open_block_holds_no_lock_that_a_turn_needs(project: Project) -> None:
    project.run(
        NUDGES
        + """
import threading
durable.start(approval.s("a"), instance_id="a")
durable.runtime.runner.run("a")
with transaction.atomic():
    durable.raise_event("a", "approved", "late", event_id="late")
    durable.start(fulfil.s("b"), instance_id="b")
    def turn():
        durable.raise_event("a", "approved", "now")
        durable.runtime.runner.run("a")
        done.append(durable.get("a").history())
    done = []
    thread = threading.Thread(target=turn)
    thread.start()
    thread.join(300)
    assert done and any(event.name == "approved" for event in done[0]), "the turn waits for the block"
"""
    )


@on_mariadb_too
def test_many_starts_join_a_block_whole(project: Project) -> None:
    project.run(
        NUDGES
        + """
from celery_durable.errors import InstanceExists
with transaction.atomic():
    Order.objects.create(name="a")
    runs = durable.start_many([fulfil.s("a"), fulfil.s("b")], instance_ids=["a", "b"])
    assert [run.id for run in runs] == ["a", "b"] and not nudged and ids() == []
assert sorted(nudged) == ["a", "b"] and ids() == ["a", "b"]

nudged.clear()
with transaction.atomic():
    Order.objects.create(name="b")
    try:
        durable.start_many([fulfil.s("c"), fulfil.s("a")], instance_ids=["c", "a"], if_exists="raise")
    except InstanceExists:
        pass
    else:
        raise AssertionError
    durable.start_many([fulfil.s("d"), fulfil.s("a")], instance_ids=["d", "a"])
assert nudged == ["d"] and ids() == ["a", "b", "d"] and Order.objects.count() == 2

try:
    with transaction.atomic():
        durable.start_many([fulfil.s("e")], instance_ids=["e"])
        raise KeyError
except KeyError:
    pass
assert nudged == ["d"] and ids() == ["a", "b", "d"]
"""
    )
