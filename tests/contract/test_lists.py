"""The lists of operators: whatever is asked for is found, by few rows, and a turn pays nothing."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.entity import ORCHESTRATORS
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters, Tally
from celery_durable.store import Store, metrics_snapshot, overview, queries, upkeep
from celery_durable.store.database import Database
from celery_durable.store.migrate import _run as step
from celery_durable.store.migrate import migrate
from celery_durable.store.schema import instances, metadata
from celery_durable.store.values import tags_text
from tests.conftest import wait_until

from .builders import SECOND, new_instance
from .filling import fill
from .world import World, sig

MINUTE = 60 * SECOND
LIVE = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)


def insert(store: Store, rows: list[dict[str, Any]]) -> None:
    given = {"version": None, "reason": None, "tags": None, "sequence": 1, "crashes": 0}
    store.now()
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(instances.insert(), [given | {"updated_at": 0} | row for row in rows])


def row(number: int, created_at: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"i{number:04}",
        "execution": f"e{number}",
        "name": "order",
        "status": "RUNNING",
        "created_at": created_at,
        **values,
    }


def pages(store: Store, filters: Filters, limit: int) -> list[str]:
    """Read on to the last page, and back to the first; return the ids, in order."""
    found, cursor = list[str](), None
    while True:
        records, cursor, before = store.reads.find_page(filters, limit, cursor)
        page = [record.id for record in records]
        found += page
        if cursor is None:
            break
    back = page
    while before is not None:
        records, _, before = store.reads.find_page(filters, limit, before)
        back = [record.id for record in records] + back
    assert back == found
    return found


# -- what is found ---------------------------------------------------------------------------------


def test_what_is_listed_or_not_yet_is_found_all_the_same(store: Store) -> None:
    chance, now = random.Random(7), store.now()
    names, texts = ("order", "ship"), ("a", "*", "ä\n", "x" * 3000)
    rows = [
        row(
            number,
            now - chance.randrange(10) * 20 * SECOND,
            name=chance.choice(names),
            status=str(chance.choice(list(RuntimeStatus))),
            reason=chance.choice([None, None, "why"]),
            tags=tags_text({"k": chance.choice(texts), "l": "1"}),
        )
        for number in range(150)
    ]
    insert(store, rows)
    rows.sort(key=lambda each: (each["created_at"], each["id"]), reverse=True)
    questions = [
        (statuses, more)
        for length in (0, 1, 2, 7)
        for statuses in itertools.combinations(RuntimeStatus, length)
        for more in ({}, {"name": "ship"}, {"tags": (("k", chance.choice(texts)),)})
    ]

    def ask() -> None:
        for statuses, more in chance.sample(questions, 20):
            expected = [
                each["id"]
                for each in rows
                if (not statuses or each["status"] in statuses)
                and each["name"] == more.get("name", each["name"])
                and all(
                    tags_text(dict([pair]))[1:] in each["tags"] for pair in more.get("tags", ())
                )
            ]
            filters = Filters(statuses=statuses, **more)
            assert pages(store, filters, chance.choice([3, 40])) == expected, filters
            assert store.reads.count(filters) == len(expected), filters

    ask()
    while progress(store)[0] < now - MINUTE - SECOND:  # each step, and what is half done
        store.upkeep.list_lasting(17)
        ask()
    with store.database.using() as engine, engine.connect() as connection:
        listed = connection.execute(
            sa.select(instances.c.id).where(instances.c.is_lasting.is_(sa.true()))
        ).scalars()
        assert {each["id"] for each in rows if is_for_the_list(each, now)} == set(listed)
    populations = metrics_snapshot._populations(store, now)
    assert sum(each.count for each in populations) == len(
        [each for each in rows if each["status"] in (*LIVE, "SUSPENDED")]
    )


def test_numbers_by_status_and_names_are_told_of_what_is_listed_or_not_yet(store: Store) -> None:
    chance, now = random.Random(11), store.now()
    names = (f"{ORCHESTRATORS}Counter", "order", "ship")
    rows = [
        row(
            number,
            now - chance.randrange(10) * 20 * SECOND,
            name=chance.choice(names),
            status=str(chance.choice(list(RuntimeStatus))),
            reason=chance.choice([None, None, "why"]),
            custom_status=chance.choice([None, b'"paid"', b'"' + b"x" * 5000 + b'"']),
        )
        for number in range(60)
    ]
    assert (store.reads.names(9), store.reads.custom_statuses(["i0000"])) == ([], {})
    insert(store, rows)

    def ask() -> None:
        found = store.reads.tally()
        assert all(each.is_exact for each in found.values())
        for status in RuntimeStatus:
            expected = [
                each for each in rows if each["status"] == status and each["name"] != names[0]
            ]
            assert found[status].count == len(expected), status

    ask()
    while progress(store)[0] < now - MINUTE - SECOND:
        store.upkeep.list_lasting(17)
        ask()
    assert store.reads.names(9) == list(names)
    assert store.reads.names(2) == list(names[:2])
    assert store.reads.custom_statuses([each["id"] for each in rows]) == {
        each["id"]: '"paid"' for each in rows if each["custom_status"] == b'"paid"'
    }


def test_beyond_what_is_counted_there_may_be_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_MOST", 4)
    monkeypatch.setattr(overview, "_LAST", 6)
    now = store.now()
    statuses = ["COMPLETED", "FAILED", "RUNNING"] * 5
    rows = [
        row(number, now - number * SECOND, status=status) for number, status in enumerate(statuses)
    ]
    insert(store, rows)
    found = store.reads.tally()
    assert found[RuntimeStatus.FAILED] == Tally(4, False)
    assert found[RuntimeStatus.COMPLETED] == Tally(2, False)
    assert found[RuntimeStatus.RUNNING] == Tally(2, False)
    assert found[RuntimeStatus.SUSPENDED] == Tally(0, True)


def is_for_the_list(each: dict[str, Any], now: int) -> bool:
    is_old = each["created_at"] <= now - MINUTE
    return is_old and each["status"] in (*LIVE, "SUSPENDED", "FAILED")


def progress(store: Store) -> tuple[int, ...]:
    text, *_ = store.database.fetch_one(upkeep.LISTED)
    return tuple(map(int, text.split(":")))


def list_all(store: Store) -> None:
    """Do what recovery does in some minutes.

    It waits for transactions that are open on the same server, also of others.
    """
    aim = store.now() - 2 * MINUTE

    def is_reached() -> bool:
        store.upkeep.list_lasting(1000)
        return progress(store)[0] >= aim

    wait_until(is_reached, 120)


@pytest.mark.parametrize("ends", ["COMPLETED", "FAILED"])
def test_one_that_is_listed_is_so_under_its_status(store: Store, ends: str) -> None:
    insert(store, [row(1, store.now() - 3 * MINUTE, status="PENDING")])
    list_all(store)
    for status in ("PENDING", "RUNNING", "SUSPENDED", "RUNNING", ends):
        with store.database.using() as engine, engine.begin() as connection:
            connection.execute(instances.update().values(status=status))
        for asked in RuntimeStatus:
            assert store.reads.count(Filters((asked,))) == int(asked == status)


def test_what_a_long_transaction_starts_is_found_when_it_commits(store: Store) -> None:
    """Its instance is older then than those that are listed."""
    with store.database.using() as engine, engine.connect() as connection:
        if store.database.family == "sqlite":
            connection.connection.driver_connection.execute("BEGIN IMMEDIATE")
        cursor = connection.connection.cursor()
        assert store.starts.insert_within(cursor, new_instance())
        cursor.execute(f"UPDATE durable_instances SET created_at = {store.now() - 3 * MINUTE}")
        if store.database.family != "sqlite":  # that has one writer at a time
            for _ in range(4):
                store.upkeep.list_lasting(1000)
        connection.connection.commit()
    assert store.reads.count(Filters(LIVE)) == 1
    list_all(store)
    assert progress(store)[0] >= store.now() - 2 * MINUTE
    assert store.reads.count(Filters(LIVE)) == 1


def test_a_clock_that_is_set_back_hides_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = store.now()
    with store.database.cursor() as cursor:
        cursor.execute(
            "UPDATE durable_meta SET value ="
            f" '{now + 60 * MINUTE}:{now + 61 * MINUTE}:0' WHERE name = 'listed_until'"
        )
    insert(store, [row(1, now)])
    assert store.reads.count(Filters(LIVE)) == 1
    store.upkeep.list_lasting(10)
    assert progress(store)[0] <= store.now() - MINUTE


def test_numbers_of_another_server_hold_nothing_up(store: Store) -> None:
    """A dump keeps the number of a transaction that this server may not see for years."""
    past = store.now() - 5 * MINUTE
    insert(store, [row(1, past)])
    with store.database.cursor() as cursor:
        cursor.execute(
            f"UPDATE durable_meta SET value = '{past - 1}:{past + 1}:{2**60}'"
            " WHERE name = 'listed_until'"
        )
    list_all(store)
    assert progress(store)[0] >= store.now() - 2 * MINUTE
    assert store.reads.count(Filters(LIVE)) == 1


def test_damaged_progress_costs_time_and_nothing_else(store: Store) -> None:
    insert(store, [row(1, store.now() - 3 * MINUTE)])
    with store.database.cursor() as cursor:
        cursor.execute("UPDATE durable_meta SET value = 'x:1' WHERE name = 'listed_until'")
    assert store.reads.count(Filters(LIVE)) == 1
    list_all(store)
    assert progress(store)[0] >= store.now() - 2 * MINUTE
    assert store.reads.count(Filters(LIVE)) == 1


def test_recovery_lists_who_lives_for_long(store: Store) -> None:
    insert(store, [row(1, store.now() - 3 * MINUTE)])
    recovery = World(store).recovery()
    aim = store.now() - 2 * MINUTE

    def is_reached() -> bool:
        recovery._next_list = 0
        recovery.tick(list, lambda _: None)
        return progress(store)[0] >= aim

    wait_until(is_reached, 120)


def test_the_migration_lists_who_lives_and_can_be_taken_back(
    store_url: str, open_url: Callable[..., Store]
) -> None:
    database = Database(store_url)
    step(database, "upgrade", "0008")
    store = open_url(store_url)
    columns = [c.name for c in instances.c if c.name not in ("is_lasting", "listed_as")]
    old = sa.table("durable_instances", *map(sa.column, columns))
    rows = [
        row(number, 1000 * MINUTE + number, status=str(status), sequence=1, crashes=0, updated_at=0)
        for number, status in enumerate(RuntimeStatus)
    ]
    with database.engine.begin() as connection:
        connection.execute(old.insert(), rows)
    migrate(database)
    for status in RuntimeStatus:
        assert store.reads.count(Filters((status,))) == 1
    assert progress(store)[0] <= 1000 * MINUTE - MINUTE
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE durable_meta SET value = '9999999999999' WHERE name = 'listed_until'")
        )
    for status in RuntimeStatus:  # none is found by when it was created
        assert store.reads.count(Filters((status,))) == 1
    step(database, "downgrade", "0008")
    with database.engine.connect() as connection:
        assert len(connection.execute(sa.select(old)).all()) == len(rows)
        assert "listed_as" not in {
            column["name"] for column in sa.inspect(connection).get_columns("durable_instances")
        }
    migrate(database)
    database.dispose()


# -- what it costs ---------------------------------------------------------------------------------


def updates(store: Store) -> tuple[int, int]:
    """Return how often PostgreSQL has updated an instance, and how often in place."""
    with store.database.cursor() as cursor:
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relid = 'durable_instances'::regclass"
        )
        updated, in_place = cursor.fetchone()
        return int(updated), int(in_place)


def test_a_turn_changes_no_index_of_instances(postgres_store: Store) -> None:
    """From the start to the end of what ends well; an end that lists are asked for does."""
    store = postgres_store
    world = World(store)

    @world.task
    def charge(number: int) -> int:
        return number

    @world.orchestrator
    async def order(ctx: Any) -> int:
        first = await ctx.call(sig("charge", 1))
        if await ctx.wait_event("approved"):
            raise ValueError("no")
        return first + await ctx.call(sig("charge", 2))

    def run(id_: str, ends: RuntimeStatus) -> int:
        world.start("order", id_=id_, tags={"customer": id_})
        world.pump()
        world.raise_event(id_, "approved", ends is RuntimeStatus.FAILED)
        world.pump()
        record = store.reads.fetch(id_)
        assert record is not None and record.status is ends
        return record.sequence

    def updated_since(before: tuple[int, int], turns: int) -> tuple[int, int]:
        wait_until(lambda: updates(store)[0] - before[0] >= turns, 30, "the statistics")
        return updates(store)

    before = updates(store)
    turns = sum(run(f"o{number}", RuntimeStatus.COMPLETED) for number in range(10))
    assert turns >= 40
    after = updated_since(before, turns)
    assert after[0] - before[0] == after[1] - before[1]
    last = updated_since(after, run("f", RuntimeStatus.FAILED))
    assert last[0] - after[0] == last[1] - after[1] + 1


FINISHED, WAITING = 60_000, 6_000
QUESTIONS = {
    "failed": Filters((RuntimeStatus.FAILED,), entities=False),
    "suspended": Filters((RuntimeStatus.SUSPENDED,), entities=False),
    "canceled, none": Filters((RuntimeStatus.CANCELED,), entities=False),
    "running": Filters((RuntimeStatus.RUNNING,), entities=False),
    "live": Filters((*LIVE, RuntimeStatus.SUSPENDED), entities=False),
    "a name that most have": Filters(name="shop.order"),
    "a name that few have": Filters(name="shop.rare"),
    "a name that none has": Filters(name="none"),
    "a name and a status": Filters((RuntimeStatus.FAILED,), name="shop.rare"),
    "a tag that few have": Filters(tags=(("customer", "7"),), entities=False),
    "a tag that many have": Filters(tags=(("env", "prod"),), entities=False),
    "a tag that none has": Filters(tags=(("no", "one"),), entities=False),
    "stuck": Filters(stuck=True, entities=False),
    "the first page": Filters(entities=False),
    "children": Filters(parent_id="f7"),
}


@pytest.fixture(scope="module")
def filled(postgres_tables: str, open_url_of_module: Callable[..., Store]) -> Store:
    """A PostgreSQL store with many orchestrations that are over, and a few of each other kind."""
    store = open_url_of_module(postgres_tables)
    with store.database.cursor() as cursor:
        cursor.execute("SELECT 1")
    fill(store, FINISHED, WAITING)
    with store.database.cursor() as cursor:
        for sql in (
            "UPDATE durable_instances SET status = 'FAILED' WHERE id IN ('f7', 'f5000')",
            "UPDATE durable_instances SET status = 'SUSPENDED', reason = 'r' WHERE id = 'w9'",
            "UPDATE durable_instances SET reason = 'waits for a worker' WHERE id = 'w5'",
            "UPDATE durable_instances SET name = 'shop.rare' WHERE id IN ('f7', 'f8')",
            'UPDATE durable_instances SET tags = E\'\\n["customer", "\' || created_at % 10000 ||'
            ' E\'"]\\n["env", "prod"]\\n\' WHERE created_at % 3 = 0',
            "VACUUM ANALYZE durable_instances",
        ):
            cursor.execute(sql)
    return store


@pytest.fixture(scope="module")
def open_url_of_module() -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_(url: str) -> Store:
        opened.append(Store(Database(url)))
        return opened[-1]

    yield open_
    for store in opened:
        with store.database.cursor() as cursor:
            for name in metadata.tables:
                if name != "durable_meta":
                    cursor.execute(f"TRUNCATE {name}")
            cursor.execute("UPDATE durable_meta SET value = '0' WHERE name = 'listed_until'")
        store.dispose()


@pytest.fixture
def plans(filled: Store, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plan of each statement that is asked, as it was carried out."""
    seen: list[Any] = []
    fetch = queries.fetch

    def explained(database: Any, statement: Any) -> Any:
        with database.using() as engine, engine.connect() as connection:
            text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
            explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "
            ((plan,),) = connection.exec_driver_sql(
                explain + text.replace("%", "%%").replace("%%%%", "%%")
            )
            seen.append(plan)
        return fetch(database, statement)

    monkeypatch.setattr(queries, "fetch", explained)
    return seen


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for value in plan.values():
            yield from nodes(value)


def rows_read(plan: Any) -> int:
    """Return how many rows of the table of instances were read, those that did not match too."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(plan)
        if node.get("Relation Name") == "durable_instances"
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_page_reads_few_rows(filled: Store, plans: list[Any], question: str) -> None:
    found, _ = filled.reads.find(QUESTIONS[question], 50, None)
    assert bool(found) == ("none" not in question and question != "children")
    assert plans
    whole = [node for node in nodes(plans) if node["Node Type"] == "Seq Scan"]
    assert "durable_instances" not in {node["Relation Name"] for node in whole}, plans
    assert rows_read(plans) <= 500, json.dumps(plans, indent=1)


@pytest.mark.parametrize(
    "question",
    [
        "failed",
        "suspended",
        "canceled, none",
        "stuck",
        "a name that few have",
        "a tag that few have",
    ],
)
def test_a_number_reads_what_it_counts(filled: Store, plans: list[Any], question: str) -> None:
    number = filled.reads.count(QUESTIONS[question])
    assert rows_read(plans) <= 3 * number + 10, json.dumps(plans, indent=1)


def test_what_lives_is_counted_by_an_index_alone(filled: Store, plans: list[Any]) -> None:
    assert filled.reads.count(QUESTIONS["running"]) == WAITING - 1
    assert "Index Only Scan" in {node["Node Type"] for node in nodes(plans)}
    assert rows_read(plans) <= WAITING + 10


def test_numbers_by_status_read_few_rows(
    filled: Store, plans: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_MOST", 100)
    monkeypatch.setattr(overview, "_LAST", 100)
    found = filled.reads.tally()
    assert 2 <= found[RuntimeStatus.FAILED].count <= 5 and found[RuntimeStatus.FAILED].is_exact
    assert found[RuntimeStatus.SUSPENDED] == Tally(1, True)
    assert (found[RuntimeStatus.RUNNING].count, found[RuntimeStatus.RUNNING].is_exact) == (
        101,
        False,
    )
    assert rows_read(plans) <= 500, json.dumps(plans, indent=1)


def test_names_are_one_look_up_each(filled: Store, plans: list[Any]) -> None:
    found = filled.reads.names(100)
    assert "shop.rare" in found
    assert rows_read(plans) <= len(found) + 2, json.dumps(plans, indent=1)
