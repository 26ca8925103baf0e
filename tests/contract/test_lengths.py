"""What a column holds is held by each database, and one character more is refused where it is
chosen: nothing is cut.

The same for statements that are too large for the server, and for servers that take no writes any
more.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from celery import Celery

from celery_durable import Durable
from celery_durable.core.history import EventKind
from celery_durable.core.names import request_key
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.activity_limits import LIMIT_GATE
from celery_durable.engine.audit import INSTANCE
from celery_durable.engine.draft import new_execution_id
from celery_durable.engine.records import InboxKind
from celery_durable.engine.switches import GATED, SwitchKind
from celery_durable.engine.verb import Surface
from celery_durable.engine.verbs import VERBS
from celery_durable.errors import ConfigurationError, StoreError
from celery_durable.store import Store
from celery_durable.store.schema import metadata
from celery_durable.store.types import ExactText

from .builders import event

WIDE = "\U0001f600"
ENDED_OR_STOPPED = (RuntimeStatus.FAILED, RuntimeStatus.SUSPENDED)


@pytest.fixture
def app(store: Store) -> Iterator[Any]:
    """An application over the store, whose messages nobody gets."""
    app = Celery("lengths", broker="memory://", set_as_current=False)
    durable = Durable(app)

    @durable.orchestrator(name="plain", shared=False)
    async def plain(ctx: Any) -> Any:
        return await ctx.wait_event("e")

    @durable.orchestrator(name="calls", shared=False)
    async def calls(ctx: Any, signature: Any) -> Any:
        return await ctx.call(app.signature(signature))

    with durable.running_on(store) as runtime:
        runtime.publisher.publish_turn = lambda *_, **__: True
        runtime.publisher.publish_activities = lambda rows: {}
        yield app
    app.close()


# -- who chooses a text ----------------------------------------------------------------------------


def called(app: Any, signature: Any) -> None:
    """Let an orchestrator call something."""
    run = app.durable.start(app.tasks["calls"].s(dict(signature)))
    app.durable.runtime.runner.run(run.id)
    if run.refresh().runtime_status in ENDED_OR_STOPPED:
        raise ValueError(run.reason)


def declared(app: Any, **options: Any) -> None:
    async def function(ctx: Any) -> None: ...

    app.durable.start(app.durable.orchestrator(function, **{"name": "n", **options}).s())


DOORS: dict[str, Callable[[Any, str], Any]] = {
    "instances.id": lambda app, text: app.durable.start(app.tasks["plain"].s(), instance_id=text),
    "instances.id of a child": lambda app, text: called(
        app, app.tasks["plain"].s().set(task_id=text)
    ),
    "instances.name": lambda app, text: declared(app, name=text),
    "instances.version": lambda app, text: declared(app, version=text),
    "instances.root_id": lambda app, text: app.durable.start(
        app.tasks["plain"].s().set(root_id=text)
    ),
    "instances.queue": lambda app, text: app.durable.start(app.tasks["plain"].s().set(queue=text)),
    "outbox.name": lambda app, text: called(app, app.signature(text)),
    "outbox.queue": lambda app, text: called(app, app.signature("t").set(queue=text)),
    "schedules.name": lambda app, text: app.durable.schedule(
        text, app.tasks["plain"].s(), interval=60
    ),
    "switches.name": lambda app, text: app.durable.pause(task=text),
    "schedules.queue": lambda app, text: app.durable.schedule(
        "s", app.tasks["plain"].s().set(queue=text), interval=60
    ),
}
#: The longest of what the engine itself puts into a column.
OURS = {
    "meta.name": "store_id",
    "meta.value": "0" * 32,
    "instances.status": max(RuntimeStatus, key=len),
    "instances.listed_as": max(RuntimeStatus, key=len),
    "inbox.kind": max([*EventKind, InboxKind.JOIN, InboxKind.TERMINATE, InboxKind.REWIND], key=len),
    "inbox.dedup": f"override:{new_execution_id()}:{2**31}:{'0' * 32}",
    "outbox.kind": "activity",
    "outbox.holder": "0" * 32,
    "workers.id": "0" * 32,
    "workers.hostname": "x" * 200,
    "schedules.timezone": max(zoneinfo.available_timezones(), key=len),
    "schedules.overlap": "buffer",
    "outbox.gate": max(GATED, LIMIT_GATE, key=len),
    "activity_waiting.lane": "0" * 40,
    "activity_places.scope": "x" * 190,
    "switches.kind": max(SwitchKind, key=len),
    "held.kind": max(SwitchKind, key=len),
    "waiting.lane": "0" * 40,
    "waiting.debounce": "0" * 40,
    "places.scope": "x" * 190,
    "answers.request": request_key("x"),
    "audit.id": "0" * 32,
    "objects.id": f"{'0' * 32}/00/{'0' * 32}/{'0' * 32}",
    "audit.kind": INSTANCE,
    "audit.target": "x" * 200,  # is cut to that
    "audit.verb": max(VERBS, key=len),
    "audit.actor": "x" * 200,  # is cut to that
    "audit.door": max(Surface, key=len),
    "audit.effect": "refused",
}
OURS |= {
    f"{table}.{column}": new_execution_id()
    for table, column in [
        ("history", "execution"),
        ("inbox", "execution"),
        ("outbox", "execution"),
        ("waiting", "execution"),
        ("held", "execution"),
        ("activity_waiting", "execution"),
        ("activity_places", "execution"),
        ("archiving", "execution"),
        ("instances", "execution"),
        ("instances", "parent_execution"),
    ]
}
#: Columns that take what another one has.
COPIES = {
    "instances.id": [
        "instances.parent_id",
        "history.instance",
        "inbox.instance",
        "outbox.instance",
        "schedules.last_id",
        "waiting.instance",
        "places.instance",
        "held.instance",
        "answers.instance",
        "audit.made",
        "archiving.instance",
        "objects.instance",
    ],
    "switches.name": ["held.name"],
    "outbox.name": ["activity_waiting.task"],
    "outbox.queue": ["activity_waiting.queue"],
    "instances.name": ["schedules.orchestrator", "waiting.name", "places.name", "limits.name"],
}
COLUMNS = {
    f"{table.name.removeprefix('durable_')}.{column.name}": column.type.length
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, ExactText)
}


def test_of_every_column_it_is_known_who_chooses_what_is_in_it() -> None:
    chosen = {door.partition(" ")[0] for door in DOORS}
    copies = [each for found in COPIES.values() for each in found]
    assert sorted([*chosen, *OURS, *copies]) == sorted(COLUMNS)
    assert {column: text for column, text in OURS.items() if len(text) > COLUMNS[column]} == {}
    assert [
        each
        for column, found in COPIES.items()
        for each in found
        if COLUMNS[each] != COLUMNS[column]
    ] == []


def stored(store: Store, column: str) -> list[Any]:
    table, _, name = column.partition(" ")[0].partition(".")
    with store.database.engine.connect() as connection:
        return list(connection.scalars(sa.select(metadata.tables[f"durable_{table}"].c[name])))


@pytest.mark.sparse(2)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("character", ["x", WIDE], ids=["narrow", "wide"])
def test_the_longest_text_is_kept_whole_and_a_longer_one_refused(
    store: Store, app: Any, door: str, character: str
) -> None:
    longest = character * COLUMNS[door.partition(" ")[0]]
    with pytest.raises((ValueError, ConfigurationError), match="characters"):
        DOORS[door](app, longest + character)
    assert not [each for each in stored(store, door) if each and character * 9 in each]
    DOORS[door](app, longest)
    assert longest in stored(store, door)


def test_the_name_of_a_machine_is_for_people_and_may_be_cut(store: Store) -> None:
    store.workers.heartbeat("w", WIDE * 201)
    assert store.workers.living_workers(60_000_000) == [WIDE * 200]


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_a_server_cuts_nothing_by_itself(request: pytest.FixtureRequest, server: str) -> None:
    """What no door has refused, whatever mode the server is in."""
    store = request.getfixturevalue(f"{server}_store")
    with pytest.raises(StoreError, match="(?i)too long") as caught:
        store.workers.heartbeat("w" * 33, "h")
    assert caught.value.is_permanent


# -- statements that are too large -----------------------------------------------------------------


def test_a_statement_that_is_too_large_is_refused_in_words_and_once(
    store: Store, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cuts the connection would be taken for one that is away."""
    # no other server has one
    limit: list[int | None] = [100_000 if store.database.family == "mysql" else None]
    said = property(lambda _: limit[0], lambda _, found: None)  # whatever a new connection is told
    monkeypatch.setattr(type(store.database), "largest_packet", said)
    durable, told = app.durable, "max_allowed_packet"

    @durable.orchestrator(name="large", shared=False)
    async def large(ctx: Any, size: int, before: str = "") -> Any:
        ctx.set_status("x" * size)
        return await ctx.wait_event("e")

    refusals: list[Callable[[], Any]] = [
        lambda: durable.start(large.s(1, "x" * 200_000), instance_id="one"),
        # twice as much for the server
        lambda: durable.start(large.s(1, "'\\" * 40_000), instance_id="one"),
    ]
    if store.database.family != "mysql":
        assert [refusal().runtime_status for refusal in refusals] == [RuntimeStatus.PENDING] * 2
        return
    for refusal in refusals:
        with pytest.raises(StoreError, match=told) as caught:
            refusal()
        assert caught.value.is_permanent
    run = durable.start(large.s(200_000), instance_id="two")
    durable.runtime.runner.run("two")
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    assert told in str(run.reason)
    limit[0] = 1_000_000
    run.resume()
    durable.runtime.runner.run("two")
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING


def test_mariadb_tells_how_much_it_takes(mariadb_store: Store) -> None:
    store = mariadb_store
    store.now()
    assert store.database.largest_packet is not None
    with pytest.raises(StoreError, match="max_allowed_packet"):
        store.inbox.put([event(payload="x" * (store.database.largest_packet + 1))])
    assert store.database.engine.pool.checkedout() == 0


# -- servers that take no writes -------------------------------------------------------------------

READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


def test_a_connection_that_takes_no_writes_is_given_up(store: Store) -> None:
    """As those to a primary that is none any more: a new one may lead to the primary."""
    for number in range(3):
        with store.database.cursor() as cursor:
            cursor.execute(READ_ONLY[store.database.family])
        store.workers.heartbeat(f"w{number}", "h")
    assert len(store.workers.living_workers(60_000_000)) == 3


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (
            pymysql.err.OperationalError(1290, "The server is running with the --read-only option"),
            True,
        ),
        (
            pymysql.err.OperationalError(
                1290, "The server is running with the --skip-grant-tables option"
            ),
            False,
        ),
        (pymysql.err.OperationalError(1836, "Running in read-only mode"), True),
        (pymysql.err.OperationalError(1213, "Deadlock"), False),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_primary_that_became_read_only_is_told_of(
    mariadb_store: Store, error: Exception, is_so: bool
) -> None:
    told = mariadb_store.database.store_error(error)
    assert ("it may be the primary no more" in str(told)) is is_so
    assert isinstance(told, StoreError) and not told.is_permanent


def test_a_process_that_wants_more_connections_than_it_may_have_is_told(store: Store) -> None:
    database = store.database
    database.dispose()
    database._engine = sa.create_engine(
        database.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with database.cursor(), pytest.raises(StoreError, match="max_overflow"):
        store.now()
