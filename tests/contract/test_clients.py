"""What clients see: pages, filters, and that any id and any payload comes back as it went in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.engine.start import StartRequest
from celery_durable.store import Store
from celery_durable.store.schema import instances

from .builders import (
    SECOND,
    activity,
    begin,
    commit,
    event,
    new_instance,
    next_turn,
    record,
    rows,
    succeeded,
)
from .world import World

STRANGE_IDS = [
    "a",
    "A ",
    " a",
    "b",
    "B",
    "order-1",
    "order_1",
    "order%1",
    "it's",
    '"quoted"',
    "back\\slash",
    "semi;colon--",
    "new\nline",
    "tab\t",
    "ünïcödé",
    "u\u0308",
    "日本語",
    "\U0001f600",
    "\u200b",
    "ß",
    "ss",
    "İ",
    "i",
    "\ufb01",
    "fi",
    "%",
    "_",
    "/",
    ":",
    "?",
    ":id",
    "%(id)s",
    "{now}",
    "\x01",
    "\x7f",
    "x" * 150,
    "\U0001f600" * 150,
    "-",
    "~2",
    "null",
    "0",
]


def ids_of(store: Store, limit: int = 500, **filters: object) -> list[str]:
    return [record_.id for record_ in store.reads.find(Filters(**filters), limit, None)[0]]


# -- ids and payloads ------------------------------------------------------------------------------


def test_ids_are_told_apart_byte_by_byte(store: Store) -> None:
    for id_ in STRANGE_IDS:
        assert store.starts.insert(new_instance(id_, input=json.dumps(id_))), id_
    for id_ in STRANGE_IDS:
        assert json.loads(store.reads.fetch(id_).input) == id_
        assert store.inbox.put([event(id_, dedup="e")]) == 1
        assert store.reads.status_of(id_) is RuntimeStatus.PENDING
    assert store.reads.count(Filters()) == len(STRANGE_IDS)
    assert sorted(ids_of(store)) == sorted(STRANGE_IDS)


@pytest.mark.parametrize(("one", "other"), [("a", "a "), ("a", "a  "), ("a ", "a\t")])
def test_trailing_blanks_make_another_id(store: Store, one: str, other: str) -> None:
    first, second = new_instance(one), new_instance(other)
    assert store.starts.insert(first)
    assert store.reads.fetch(other) is None
    assert store.starts.insert(second)
    assert store.reads.fetch(one).execution == first.execution
    assert store.reads.fetch(other).execution == second.execution
    assert store.inbox.put([event(other)]) == 1
    assert len(store.turns.load(one, None).inbox) == 1


def test_ids_that_differ_in_trailing_blanks_only_keep_their_messages_apart(store: Store) -> None:
    begin(store, "a")
    assert store.inbox.put([event("a", dedup="e"), event("a", dedup="e ")]) == 2


@pytest.mark.parametrize("size", [0, 70_000, 5_000_000])
def test_payloads_of_any_size_come_back(store: Store, size: int) -> None:
    payload = json.dumps("\x00\U0001f600'\\%ä" + "x" * size, ensure_ascii=False).replace(
        "\x00", "\\u0000"
    )
    execution = begin(store, activities=[activity(message=payload)])
    (row,) = rows(store, "outbox")
    assert bytes(row["message"]).decode() == payload
    record(store, succeeded(execution, payload=payload))
    assert store.turns.load("i", None).inbox[0].payload == payload
    commit(store, custom_status=payload)
    commit(store, output=payload, events=json.dumps([["ExecutionResumed", 1, 0, 0, "", payload]]))
    found = store.reads.fetch("i")
    assert (found.output, found.custom_status) == (payload, payload)
    assert json.loads(store.reads.events("i")[-1])[0][5] == payload


def test_an_event_may_have_a_name_of_ten_thousand_characters(store: Store) -> None:
    begin(store)
    names = ["n" * 10_000, "\U0001f600" * 10_000, "n" * 9_999 + "'"]
    assert store.inbox.put([event(name=name) for name in names]) == 3
    assert {row.name for row in store.turns.load("i", None).inbox} == set(names)


def test_nothing_is_cut_off_without_a_word(store: Store) -> None:
    begin(store)
    name, facts = "\U0001f600" * 20_000, {"id": "x" * 70_000}
    try:
        store.inbox.put([event(name=name, facts=facts)])
    except Exception:
        assert store.turns.load("i", None).inbox == []
    else:
        (row,) = store.turns.load("i", None).inbox
        assert (row.name, row.facts) == (name, facts)


def test_tags_of_any_length_come_back_or_are_refused(store: Store) -> None:
    tags = {f"tag {number}": "v" * 1000 for number in range(100)}
    try:
        store.starts.insert(new_instance(tags=tags))
    except Exception:
        assert store.reads.fetch("i") is None
    else:
        assert store.reads.fetch("i").tags == tags


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param("x" * 100_000, id="long"),
        pytest.param("nul \x00 inside", id="NUL"),
        pytest.param("half a \ud800 character", id="surrogate"),
        pytest.param("\U0001f600" * 30_000, id="long and wide"),
    ],
)
def test_any_reason_can_be_written(store: Store, reason: str) -> None:
    begin(store)
    commit(store, reason=reason)
    assert store.reads.fetch("i").reason[:3] == reason[:3]
    store.turns.note_waiting("i", reason + "again")


# -- finding ---------------------------------------------------------------------------------------


def test_an_unknown_instance_has_nothing_to_show(store: Store) -> None:
    assert store.reads.fetch("unknown") is None
    assert store.reads.status_of("unknown") is None
    assert store.reads.events("unknown") == []
    assert store.reads.open_children("unknown") == []
    assert store.reads.is_finished_for_celery("unknown")


def test_everything_a_client_may_ask_is_in_a_record(store: Store) -> None:
    before = store.now()
    new = new_instance(
        "i",
        name="n",
        version="3",
        queue="q",
        tags={"a": "1"},
        root_id="root",
        parent_id="p",
        canvas='{"x": 1}',
        input="[1]",
    )
    store.starts.insert(new)
    found = store.reads.fetch("i")
    assert (found.name, found.version, found.queue, found.tags, found.root_id) == (
        "n",
        "3",
        "q",
        {"a": "1"},
        "root",
    )
    assert (found.parent_id, found.canvas, found.input, found.sequence) == (
        "p",
        '{"x": 1}',
        "[1]",
        0,
    )
    assert before <= found.created_at <= store.now()
    assert (found.started_at, found.completed_at, found.output, found.reason) == (
        None,
        None,
        None,
        None,
    )
    (brief,) = store.reads.find(Filters(), 1, None)[0]
    assert (brief.input, brief.canvas) == (None, None)
    (full,) = store.reads.find(Filters(), 1, None, with_payloads=True)[0]
    assert full == found
    (address,) = store.reads.turn_addresses(["i"])
    assert (address.name, address.queue, address.canvas, address.root_id) == (
        "n",
        "q",
        '{"x": 1}',
        "root",
    )


def test_filters_select(store: Store) -> None:
    moments = {}
    for id_, values in {
        "a": {"name": "x", "version": "1"},
        "b": {"name": "x", "version": "2"},
        "c": {"name": "y"},
        "d": {"name": "y"},
    }.items():
        store.starts.insert(new_instance(id_, **values))
        moments[id_] = store.reads.fetch(id_).created_at
    commit(store, "b")
    commit(store, "c", status=RuntimeStatus.COMPLETED)
    assert ids_of(store) == ["d", "c", "b", "a"]
    assert ids_of(store, name="x") == ["b", "a"]
    assert ids_of(store, name="X") == []
    assert ids_of(store, name="x", version="1") == ["a"]
    assert ids_of(store, statuses=(RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED)) == ["c", "b"]
    assert ids_of(store, created_after=moments["c"]) == ["d", "c"]
    assert ids_of(store, created_before=moments["c"]) == ["b", "a"]
    assert store.reads.count(Filters(name="y")) == 2
    assert store.reads.count(Filters(name="z")) == 0


TAG_VALUES = [
    "1",
    "11",
    "%",
    "_",
    "x",
    "X",
    "'",
    '"',
    "\\",
    "\n",
    "a\nb",
    "ü",
    "Ü",
    "\U0001f600",
    "",
    " ",
    "/",
    "[",
    "null",
]


def test_tags_match_exactly(store: Store) -> None:
    for number, value in enumerate(TAG_VALUES):
        store.starts.insert(new_instance(f"{number}", tags={"t": value, "z": "same", "other": "1"}))
        assert store.reads.fetch(f"{number}").tags == {"t": value, "z": "same", "other": "1"}
    for number, value in enumerate(TAG_VALUES):
        assert ids_of(store, tags=(("t", value),)) == [f"{number}"], value
        assert ids_of(store, tags=(("t", value), ("z", "same"))) == [f"{number}"]
        assert ids_of(store, tags=(("t", value), ("z", "else"))) == []
        assert ids_of(store, tags=(("T", value),)) == []
    assert len(ids_of(store, tags=(("z", "same"),))) == len(TAG_VALUES)


def test_a_prefix_matches_exactly(store: Store) -> None:
    for id_ in (
        "order-1",
        "order-2",
        "ORDER-3",
        "order_4",
        "order%5",
        "xorder-6",
        "ördér-7",
        "or\\der",
    ):
        store.starts.insert(new_instance(id_))
    assert ids_of(store, id_prefix="order-") == ["order-2", "order-1"]
    assert ids_of(store, id_prefix="order_") == ["order_4"]
    assert ids_of(store, id_prefix="order%") == ["order%5"]
    assert ids_of(store, id_prefix="ORDER") == ["ORDER-3"]
    assert ids_of(store, id_prefix="ör") == ["ördér-7"]
    assert ids_of(store, id_prefix="or\\") == ["or\\der"]


def test_pages_stay_in_place_while_instances_are_started(store: Store) -> None:
    for number in range(25):
        store.starts.insert(new_instance(f"old {number:02}"))
    found, cursor = [], None
    for number in range(100):
        page, cursor = store.reads.find(Filters(id_prefix="old"), 4, cursor)
        found += [record_.id for record_ in page]
        store.starts.insert(new_instance(f"old and new {number}"))
        if cursor is None:
            break
    assert found == [f"old {number:02}" for number in reversed(range(25))]


def test_pages_of_instances_made_at_the_same_moment_miss_none(store: Store) -> None:
    for id_ in STRANGE_IDS:
        store.starts.insert(new_instance(id_))
    with store.database.engine.begin() as connection:
        connection.execute(sa.update(instances).values(created_at=5))
    found, cursor = [], None
    while True:
        page, cursor = store.reads.find(Filters(), 3, cursor)
        found += [record_.id for record_ in page]
        if cursor is None:
            break
    assert len(found) == len(STRANGE_IDS)
    assert set(found) == set(STRANGE_IDS)


def test_a_page_that_is_exactly_full_has_no_next(store: Store) -> None:
    for number in range(4):
        store.starts.insert(new_instance(f"{number}"))
    page, cursor = store.reads.find(Filters(), 2, None)
    page, cursor = store.reads.find(Filters(), 2, cursor)
    assert len(page) == 2
    assert cursor is None


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


BAD_CURSORS = [
    "",
    "x",
    "ü",
    "\ud800",
    "====",
    encoded("1"),
    encoded("[1]"),
    encoded('["x", "y"]'),
    encoded("[1, 2, 3]"),
    encoded("{}"),
    encoded("\xff"),
    encoded('[1e999, "a"]'),
    encoded(f'[{10**30}, "a"]'),
]


@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=range(len(BAD_CURSORS)))
def test_a_cursor_that_find_did_not_give_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.reads.find(Filters(), 10, cursor)


# -- history ---------------------------------------------------------------------------------------


def test_history_is_of_the_current_execution_in_order(store: Store) -> None:
    begin(store)
    for number in range(12):
        commit(store, events=f'[["TimerFired", {number}]]')
    assert [json.loads(text)[0][1] for text in store.reads.events("i")][1:] == list(range(12))
    turn = next_turn(store, next_execution="new", next_input="[]")
    assert store.turns.commit(turn) is not None
    assert store.reads.events("i") == []
    assert [row["kind"] for row in rows(store, "inbox")] == []
    assert EventKind.EXECUTION_STARTED not in store.reads.events("i")


def test_a_start_far_ahead_is_looked_at_in_time_to_send_its_message(store: Store) -> None:
    world = World(store, timer_horizon=30)
    for id_, ahead in (("near", 20 * SECOND), ("far", 3600 * SECOND)):
        world.client.start(
            StartRequest("any", (), {}, instance_id=id_, start_at=store.now() + ahead)
        )
    looks = {
        row["instance"]: row["check_at"] - abs(row["visible_at"]) for row in rows(store, "inbox")
    }
    assert looks == {"near": 4 * SECOND, "far": -30 * SECOND}
    assert [address.id for address, *_ in world.publisher.turns] == ["near"]


def test_an_event_before_a_delayed_start_is_kept_and_does_not_begin_it(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def waits(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    world.start("waits", start_at=store.now() + 1_500_000)
    world.raise_event("i", "go", 7)
    world.pump()
    assert world.status() is RuntimeStatus.PENDING
    world.pump_to_end()
    assert world.output() == 7


def test_a_delayed_start_that_is_canceled_leaves_nothing(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def waits(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    world.start("waits", start_at=store.now() + 3_600_000_000)
    world.client.cancel("i", "enough")
    world.pump()
    assert world.status() is RuntimeStatus.CANCELED
    assert rows(store, "inbox") == []
