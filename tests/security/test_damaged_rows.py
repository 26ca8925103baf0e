"""A damaged row stops its own instance, with a reason, and nothing else.

Repaired and resumed, the instance goes on.

Each test damages one row of one instance in the database, lets turns and recovery meet it, and
looks at the damaged instance and at a neighbour.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from celery_durable.core.history import Event, EventKind, dump_events
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import ActivityError, DurableError, PayloadError
from celery_durable.store import Store
from celery_durable.worker.attempt import Attempt
from tests.contract.world import World, sig
from tests.witnesses import recovery_of

from .damage import damaged, due_now, set_value, values_of
from .garbage import FACTOR, events, hostile, raised_by

NOT_TEXT = b"\xff\xfe\x00"
_numbers = itertools.count()


def make_world(store: Store, **options: Any) -> World:
    world = World(store, cache_size=0, resend_after=0.2, **options)  # every turn reads history anew
    world.tasks["charge"] = lambda amount: amount + 1

    @world.orchestrator
    async def sale(ctx: Any, amount: int) -> list[Any]:
        """One activity, a failure that is kept, and two events that come in the wrong order."""
        paid = await ctx.call(sig("charge", amount))
        noted = await ctx.run(lambda: "noted")
        first = await ctx.wait_event("first")
        return [paid, noted, first, await ctx.wait_event("second")]

    return world


def begin(world: World, *ids: str) -> None:
    """Bring instances to where they wait for the first event."""
    for id_ in ids:
        world.start("sale", 1, id_=id_)
    world.pump()


def meet(world: World, *ids: str) -> None:
    """Let messages, recovery and messages again meet whatever there is."""
    world.pump()
    for _ in range(3):
        due_now(world.store)
        world.recovery().repair_wakes()
        world.pump()


def finish(world: World, *ids: str) -> None:
    for id_ in ids:
        world.raise_event(id_, "second", 2)
        world.pump()
        assert world.output(id_) == [2, "noted", 1, 2], id_


def is_suspended(world: World, reason: str = "", id_: str = "bad") -> None:
    record = world.client.fetch(id_)
    assert record.status is RuntimeStatus.SUSPENDED, (record.status, record.reason)
    assert reason in (record.reason or ""), record.reason


def suspend_and_mend(
    world: World,
    table: str,
    column: str,
    value: Any,
    reason: str,
    wake: Callable[[], None],
    **where: Any,
) -> None:
    """The whole course: damage, suspension, a neighbour that goes on, repair, resumption, the right
    end.
    """
    with damaged(world.store, table, column, "bad", value, **where):
        wake()
        world.raise_event("good", "first", 1)
        meet(world)
        is_suspended(world, reason)
        world.client.resume("bad", "too early")
        meet(world)
        is_suspended(world, reason)
        finish(world, "good")
    world.client.resume("bad", "mended")
    finish(world, "bad")
    assert world.runs["charge"] == 2


# -- history ----------------------------------------

BROKEN = [
    NOT_TEXT,
    b"null",
    b"{",
    b'[["ExecutionStarted"]]',
    b'[["NoSuchKind",1]]',
    b"[5]",
    b'[["TimerFired",1,2,3,4,5,6,7,8]]',
]


@pytest.mark.sparse(3)
@pytest.mark.parametrize("row", BROKEN, ids=lambda row: repr(row)[:14])
def test_a_resumption_that_comes_before_the_repair_does_no_harm(
    sqlite_store: Store, row: bytes
) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad")
    with damaged(sqlite_store, "history", "events", "bad", row, sequence=1):
        world.raise_event("bad", "first", 1)
        meet(world)
        error = raised_by(lambda: world.client.resume("bad", None))
        assert error is None or isinstance(error, DurableError), repr(error)


@pytest.mark.sparse(2)
@pytest.mark.parametrize("row", BROKEN, ids=lambda row: repr(row)[:14])
def test_damaged_history_suspends_its_own_instance(sqlite_store: Store, row: bytes) -> None:
    check_damaged_history(sqlite_store, row)


def test_damaged_history_suspends_on_every_database(store: Store) -> None:
    check_damaged_history(store, NOT_TEXT)


def test_an_emptied_history_row_is_damage(sqlite_store: Store) -> None:
    check_damaged_history(sqlite_store, b"")


def check_damaged_history(store: Store, row: bytes) -> None:
    world = make_world(store)
    begin(world, "bad", "good")
    with damaged(store, "history", "events", "bad", row, sequence=1):
        world.raise_event("bad", "first", 1)
        world.raise_event("good", "first", 1)
        meet(world)
        is_suspended(world, "PayloadError: history of 'bad' is damaged at row 1")
        finish(world, "good")
    world.client.resume("bad", "mended")
    finish(world, "bad")
    assert world.runs["charge"] == 2


def retyped(row: str, **changes: Any) -> str:
    """A history row whose first event has fields of other types."""
    first, *rest = [Event(*values) for values in json.loads(row)]
    return dump_events([first._replace(**changes), *rest])


ODD_TYPES = [
    {"at": "soon"},
    {"at": None},
    {"at": 10**30},
    {"command": "one"},
    {"command": 10**30},
    {"command": [1]},
    {"payload": 5},
    {"payload": "{"},
    {"facts": [1]},
    {"facts": "x"},
    {"name": 5},
    {"kind": "TimerFired"},
    {"kind": "JoinFormed"},
    {"kind": "RunRecorded"},
    {"kind": "ExecutionCompleted"},
]


@pytest.mark.sparse(2)
@pytest.mark.parametrize("changes", ODD_TYPES, ids=str)
def test_history_of_wrong_types_is_harmless_or_suspends(
    sqlite_store: Store, changes: dict[str, Any]
) -> None:
    """Whatever the reason says, nothing is lost, and the neighbour goes on."""
    world = make_world(sqlite_store)
    begin(world, "bad", "good")
    (row,) = values_of(sqlite_store, "history", "events", "bad", sequence=2)
    with damaged(
        sqlite_store, "history", "events", "bad", retyped(row.decode(), **changes), sequence=2
    ):
        for id_ in ("bad", "good"):
            world.raise_event(id_, "first", 1)
        meet(world)
        assert world.status("bad") in (RuntimeStatus.SUSPENDED, RuntimeStatus.RUNNING)
        if world.status("bad") is RuntimeStatus.SUSPENDED:
            assert world.client.fetch("bad").reason
        finish(world, "good")
    world.client.resume("bad", "mended")
    finish(world, "bad")


@pytest.mark.parametrize(
    "changes", [{"at": "soon"}, {"command": "one"}, {"kind": "JoinFormed"}, {"facts": "x"}], ids=str
)
def test_history_of_wrong_types_suspends_with_a_reason_for_people(
    sqlite_store: Store, changes: dict[str, Any]
) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad")
    (row,) = values_of(sqlite_store, "history", "events", "bad", sequence=2)
    set_value(
        sqlite_store, "history", "events", "bad", retyped(row.decode(), **changes), sequence=2
    )
    world.raise_event("bad", "first", 1)
    meet(world)
    is_suspended(world, "history of 'bad' is damaged at row 2")


@pytest.mark.sparse(2)
@pytest.mark.parametrize("row", BROKEN, ids=lambda row: repr(row)[:14])
def test_looking_at_damaged_history_is_a_payload_error(sqlite_store: Store, row: bytes) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad")
    set_value(sqlite_store, "history", "events", "bad", row, sequence=1)
    assert type(raised_by(lambda: world.client.history("bad"))) is PayloadError


def test_a_missing_history_row_suspends(sqlite_store: Store) -> None:
    store, world = sqlite_store, make_world(sqlite_store)
    begin(world, "bad")
    set_value(store, "history", "sequence", "bad", 99, sequence=2)
    world.raise_event("bad", "first", 1)
    meet(world)
    is_suspended(world, "")
    set_value(store, "history", "sequence", "bad", 2, sequence=99)
    world.client.resume("bad", None)
    finish(world, "bad")


# -- inputs and payloads in the inbox ----------------------------------------

DAMAGED_PAYLOADS = [
    NOT_TEXT,
    b"{",
    b"[" * 100_000,
    b"9" * 5_000,
    b"!application/x-python-serialize;binary;gASVAA==",
    b"!no/such;utf-8;AA==",
    b'{"__type__":"os.system","__value__":"x"}',
]


def test_a_damaged_event_suspends_on_every_database(store: Store) -> None:
    check_damaged_event(store, NOT_TEXT)


@pytest.mark.sparse(3)
@pytest.mark.parametrize("payload", DAMAGED_PAYLOADS, ids=lambda payload: repr(payload)[:14])
def test_a_damaged_event_suspends_its_own_instance(sqlite_store: Store, payload: bytes) -> None:
    check_damaged_event(sqlite_store, payload)


def check_damaged_event(store: Store, payload: bytes) -> None:
    world = make_world(store)
    begin(world, "bad", "good")
    world.client.suspend("bad", "so that the event waits")
    world.raise_event("bad", "first", 1)
    suspend_and_mend(
        world,
        "inbox",
        "payload",
        payload,
        "PayloadError: a stored payload",
        lambda: world.client.resume("bad", None),
        kind="EventRaised",
    )


@pytest.mark.sparse(3)
@pytest.mark.parametrize("payload", DAMAGED_PAYLOADS, ids=lambda payload: repr(payload)[:14])
def test_a_damaged_outcome_suspends_its_own_instance(sqlite_store: Store, payload: bytes) -> None:
    world, store = make_world(sqlite_store), sqlite_store
    world.start("sale", 1, id_="bad")
    world.start("sale", 1, id_="good")
    world.runner.run("bad")
    world.runner.run("good")
    bad = next(row for row in world.publisher.activities if row.instance == "bad")
    world.publisher.activities.remove(bad)
    world.publisher.turns.clear()
    store.outcomes.record(world.outcome_of(bad))
    with damaged(store, "inbox", "payload", "bad", payload, kind="ActivityCompleted"):
        meet(world)
        is_suspended(world, "PayloadError: a stored")
        world.raise_event("good", "first", 1)
        finish(world, "good")
    world.client.resume("bad", None)
    world.raise_event("bad", "first", 1)
    finish(world, "bad")
    assert world.runs["charge"] == 2


@pytest.mark.parametrize(
    "value", [b"{", b"[]", b'"x"', NOT_TEXT, b'{"no": "type"}', b"5"], ids=repr
)
def test_a_damaged_failure_suspends_its_own_instance(sqlite_store: Store, value: bytes) -> None:
    world = make_world(sqlite_store)
    world.tasks["charge"] = lambda amount: 1 // 0

    @world.orchestrator
    async def failing(ctx: Any) -> str:
        try:
            await ctx.call(sig("charge", 1))
        except ZeroDivisionError as error:
            return str(error)
        return "no error"

    world.start("failing", id_="bad")
    world.runner.run("bad")
    world.publisher.turns.clear()
    sqlite_store.outcomes.record(world.outcome_of(world.publisher.activities.popleft()))
    with damaged(sqlite_store, "inbox", "payload", "bad", value, kind="ActivityFailed"):
        meet(world)
        is_suspended(world, "PayloadError: a stored")
        world.client.resume("bad", None)
        meet(world)
        is_suspended(world, "PayloadError: a stored")
    world.client.resume("bad", None)
    meet(world)
    assert world.output("bad") == "integer division or modulo by zero"


@pytest.mark.sparse(3)
@pytest.mark.parametrize("payload", DAMAGED_PAYLOADS, ids=lambda payload: repr(payload)[:14])
def test_a_damaged_input_suspends_its_own_instance(sqlite_store: Store, payload: bytes) -> None:
    world, store = make_world(sqlite_store), sqlite_store
    begin(world, "good")
    world.start("sale", 1, id_="bad")
    with damaged(store, "instances", "input", "bad", payload):
        meet(world)
        is_suspended(world, "PayloadError: a stored payload")
    world.client.resume("bad", None)
    for id_ in ("bad", "good"):
        world.pump()
        world.raise_event(id_, "first", 1)
        finish(world, id_)


@pytest.mark.parametrize(
    "payload", [b"[[], 5]", b"[5, {}]", b'["x", []]', b"[[1], [[]]]"], ids=repr
)
def test_an_input_of_another_shape_suspends(sqlite_store: Store, payload: bytes) -> None:
    world = make_world(sqlite_store)
    world.start("sale", 1, id_="bad")
    set_value(sqlite_store, "instances", "input", "bad", payload)
    meet(world)
    is_suspended(world)


def test_a_damaged_event_that_waits_in_a_buffer_suspends(sqlite_store: Store) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad")
    world.client.suspend("bad", None)
    world.raise_event("bad", "second", 2)
    set_value(sqlite_store, "inbox", "payload", "bad", b"{", kind="EventRaised")
    world.client.resume("bad", None)
    world.raise_event("bad", "first", 1)
    meet(world)
    is_suspended(world, "PayloadError")


# -- facts and kinds of inbox rows ----------------------------------------


def damage_inbox(world: World, column: str, value: Any) -> None:
    begin(world, "bad", "good")
    world.raise_event("bad", "first", 1)
    set_value(world.store, "inbox", column, "bad", value, kind="EventRaised")


INBOX_DAMAGE = [
    pytest.param("facts", "{"),
    pytest.param("facts", "[1]"),
    pytest.param("facts", "[" * 10_000),
    pytest.param("kind", "NoSuchKind"),
    pytest.param("kind", ""),
    pytest.param("kind", "TimerCreated"),
    pytest.param("kind", "ActivityScheduled"),
]


@pytest.mark.sparse(3)
@pytest.mark.parametrize(("column", "value"), INBOX_DAMAGE, ids=lambda value: repr(value)[:16])
def test_a_damaged_inbox_row_suspends_its_own_instance(
    store: Store, column: str, value: str
) -> None:
    world = make_world(store)
    damage_inbox(world, column, value)
    world.raise_event("good", "first", 1)
    meet(world)
    is_suspended(world)
    finish(world, "good")


LATER = "resume the orchestration once only workers of that one are left"


def test_what_a_later_release_wrote_suspends_until_that_one_takes_over(sqlite_store: Store) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad", "good")
    later = b'[["InventedLater",1]]'
    with damaged(sqlite_store, "history", "events", "bad", later, sequence=1):
        world.raise_event("bad", "first", 1)
        meet(world)
        is_suspended(world, "no kind of event 'InventedLater'")
        is_suspended(world, LATER)
    world.client.resume("bad", "the old workers are gone")
    finish(world, "bad")


def test_a_message_of_a_later_release_says_so(sqlite_store: Store) -> None:
    world = make_world(sqlite_store)
    damage_inbox(world, "kind", "InventedLater")
    meet(world)
    is_suspended(world, LATER)


@pytest.mark.sparse(3)
@pytest.mark.parametrize(
    ("column", "value"),
    [pytest.param("facts", "{"), ("kind", "NoSuchKind"), ("payload", b"{")],
    ids=lambda value: repr(value)[:16],
)
@pytest.mark.parametrize("verb", ["suspend", "cancel", "terminate"])
def test_an_operator_is_not_stopped_by_a_damaged_inbox_row(
    sqlite_store: Store, column: str, value: Any, verb: str
) -> None:
    world = make_world(sqlite_store)
    damage_inbox(world, column, value)
    given = {"suspend": ("why",), "cancel": ("why",), "terminate": ("why", None)}[verb]
    error = raised_by(lambda: getattr(world.client, verb)("bad", *given))
    assert error is None, repr(error)
    assert raised_by(lambda: world.client.terminate("bad", None, None)) is None


def test_damaged_tags_of_one_instance_do_not_hide_the_others(sqlite_store: Store) -> None:
    world = make_world(sqlite_store)
    begin(world, "bad", "good")
    set_value(sqlite_store, "instances", "tags", "bad", "\n[\n")
    assert "good" in [record.id for record in sqlite_store.reads.find(Filters(), 10, None)[0]]


# -- any damage ----------------------------------------


@pytest.mark.parametrize("table", ["history", "inbox", "instances"])
def test_any_bytes_in_a_row_end_in_a_state_that_can_be_repaired(
    sqlite_store: Store, table: str
) -> None:
    """A fuzz of the whole way: no error leaves the turn, the instance is never lost, and the
    neighbour is not touched.
    """
    world = make_world(sqlite_store)
    world.start("sale", 1, id_="neighbour")
    world.pump()
    sample = dump_events([Event(EventKind.ACTIVITY_COMPLETED, 1, 1, 1, payload="2")])
    column = {"history": "events", "inbox": "payload", "instances": "input"}[table]
    values = events if table == "history" else None
    bytes_ = (
        hostile([sample, "[[1], {}]", '"x"'], values)
        if values is not None
        else hostile(["[[1], {}]", '"x"', sample])
    )

    @settings(max_examples=20 * FACTOR, suppress_health_check=list(HealthCheck))
    @given(bytes_)
    def check(data: bytes) -> None:
        id_ = f"fuzzed{next(_numbers)}"
        world.start("sale", 1, id_=id_)
        if table != "instances":
            world.pump()
            world.raise_event(id_, "first", 1)
        where = {"history": {"sequence": 2}, "inbox": {"kind": "EventRaised"}, "instances": {}}[
            table
        ]
        (before,) = values_of(world.store, table, column, id_, **where)
        set_value(world.store, table, column, id_, data, **where)
        world.pump()
        record = world.client.fetch(id_)
        if record.status is not RuntimeStatus.SUSPENDED:
            return  # the bytes had a meaning
        assert record.reason and len(record.reason) > 10
        set_value(world.store, table, column, id_, before, **where)
        world.client.resume(id_, None)
        world.pump()
        if table == "instances":
            world.raise_event(id_, "first", 1)
        finish(world, id_)

    check()
    world.raise_event("neighbour", "first", 1)
    finish(world, "neighbour")


# -- the outbox, and what Celery is told ----------------------------------------


def started(new_app: Any, **conf: Any) -> tuple[Any, Any]:
    """An application with a started orchestration that waits for an activity.

    Nobody consumes its messages.
    """
    app = new_app(**conf)
    durable = app.durable

    @app.task(name="hostile.charge")
    def charge(amount: int) -> int:
        return amount + 1

    @durable.orchestrator(name="hostile.sale")
    async def sale(ctx: Any, amount: int) -> int:
        return await ctx.call(charge.s(amount))

    return app, sale


def ticks(app: Any, count: int = 6) -> None:
    recovery = recovery_of(app.durable.runtime, "w")
    for _ in range(count):
        due_now(app.durable.runtime.store)
        recovery.repair_wakes()
        recovery.repair_activities()


def sent(app: Any, queue: str = "celery") -> list[str]:
    """Take all messages off the broker; return their task ids."""
    ids = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        for name in (queue, f"{queue}.turns"):
            while (message := channel.basic_get(name, no_ack=True)) is not None:
                ids.append(message.headers["id"])
    return ids


MESSAGES = [
    b"{",
    NOT_TEXT,
    b"null",
    b"[]",
    b'["[[], {}]", 5]',
    b'["{", {}]',
    b'["[[],{}]", {"no_such_option": 1}]',
    b"[" * 10_000,
]


@pytest.mark.sparse(2)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: repr(message)[:20])
def test_a_damaged_message_in_the_outbox_does_not_stop_the_others(
    new_app: Any, message: bytes
) -> None:
    app, sale = started(new_app)
    store = app.durable.runtime.store
    for id_ in ("bad", "good"):
        sale.apply_async((1,), task_id=id_)
        app.durable.runtime.runner.run(id_)
    set_value(store, "outbox", "message", "bad", message)
    sent(app)
    ticks(app, 1)
    (execution,) = values_of(store, "instances", "execution", "good")
    assert f"d-{execution}-1-1" in sent(app)


@pytest.mark.parametrize("message", MESSAGES[:6], ids=lambda message: repr(message)[:20])
def test_an_activity_whose_message_is_damaged_fails_or_suspends(
    new_app: Any, message: bytes
) -> None:
    app, sale = started(new_app)
    durable, store = app.durable, app.durable.runtime.store
    sale.apply_async((1,), task_id="bad")
    durable.runtime.runner.run("bad")
    set_value(store, "outbox", "message", "bad", message)
    ticks(app)
    durable.runtime.runner.run("bad")
    assert durable.get("bad").runtime_status in (RuntimeStatus.FAILED, RuntimeStatus.SUSPENDED)


CANVASES = [
    b"{",
    b"[]",
    b"5",
    NOT_TEXT,
    b'{"options": 5}',
    b'{"finish": 5}',
    b'{"reply": "x", "options": {"queue": []}}',
]


@pytest.mark.parametrize("canvas", CANVASES[:4], ids=lambda canvas: repr(canvas)[:20])
def test_publishing_a_turn_never_raises(new_app: Any, canvas: bytes) -> None:
    app, sale = started(new_app)
    sale.apply_async((1,), task_id="bad")
    set_value(app.durable.runtime.store, "instances", "canvas", "bad", canvas)
    runtime = app.durable.runtime
    (address,) = runtime.store.reads.turn_addresses(["bad"])
    error = raised_by(lambda: runtime.publisher.publish_turn(address))
    assert error is None, repr(error)


@pytest.mark.sparse(2)
@pytest.mark.parametrize("canvas", CANVASES, ids=lambda canvas: repr(canvas)[:20])
def test_damaged_canvas_options_do_not_stop_others(new_app: Any, canvas: bytes) -> None:
    """Recovery may stumble over one of them in a round, but comes to each instance in the next
    ones.
    """
    app, sale = started(new_app)
    store = app.durable.runtime.store
    for id_ in ("bad", "good"):
        sale.apply_async((1,), task_id=id_)
    set_value(store, "instances", "canvas", "bad", canvas)
    sent(app)
    due_now(store)
    recovery = recovery_of(app.durable.runtime, "w")
    for _ in range(3):
        raised_by(recovery.repair_wakes)
    assert "good" in sent(app)


def test_a_damaged_last_message_does_not_stop_the_others(new_app: Any) -> None:
    app, sale = started(new_app)
    runtime = app.durable.runtime
    for id_ in ("a-bad", "b-good", "c-good"):
        sale.apply_async((1,), task_id=id_, link=app.signature("hostile.charge"))
        app.durable.get(id_).terminate()
    set_value(runtime.store, "instances", "canvas", "a-bad", b"{")
    for number, id_ in enumerate(("a-bad", "b-good", "c-good")):
        set_value(runtime.store, "outbox", "check_at", id_, number + 1)
    sent(app)
    raised_by(recovery_of(app.durable.runtime, "w").repair_activities)
    assert set(sent(app)) == {"b-good", "c-good"}


def test_damaged_details_of_a_heartbeat_fail_the_attempt(new_app: Any) -> None:
    app, sale = started(new_app)
    runtime = app.durable.runtime
    sale.apply_async((1,), task_id="bad")
    runtime.runner.run("bad")
    set_value(runtime.store, "outbox", "details", "bad", b"{")
    ((execution,),) = [values_of(runtime.store, "instances", "execution", "bad")]
    ticket = ActivityAttemptId(execution, 1, 1)
    task = app.tasks["hostile.charge"]
    task.push_request(id=ticket.task_id, called_directly=False, headers={})
    try:
        error = raised_by(lambda: Attempt(runtime, task, ticket, None).run(task.run, (1,), {}))
    finally:
        task.pop_request()
    assert type(error) is PayloadError
    runtime.runner.run("bad")
    assert type(app.durable.get("bad").failure) in (PayloadError, ActivityError)
