"""Names, ids, tags and reasons of any text are kept and delivered exactly, or refused with a clear
``ValueError``.

On every database, with quotes, SQL, right-to-left marks, NUL, halves of characters and 10,000
characters. No text reaches the database as SQL, neither as a value nor as a filter or a cursor of
``find``.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.store import Store
from celery_durable.store.schema import metadata
from celery_durable.store.values import readable
from tests.contract.builders import new_instance
from tests.contract.world import World
from tests.tiers import is_long

from .damage import values_of
from .garbage import (
    FACTOR,
    INJECTIONS,
    ODD_TEXTS,
    any_text,
    as_cursor,
    has_surrogate,
    hostile,
    raised_by,
    whole_text,
)

_numbers = itertools.count()
fuzz = settings(
    max_examples=(15 if is_long() else 6) * FACTOR,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def odd(**names: str) -> Any:
    """Give each odd text as an example of its own; below the long tier, every third."""

    def decorate(test: Any) -> Any:
        for text in reversed(ODD_TEXTS if is_long() else ODD_TEXTS[::3]):
            test = example(**dict.fromkeys(names, text))(test)
        return test

    return decorate


def fresh() -> str:
    return f"n{next(_numbers)}"


def is_clear_refusal(error: BaseException | None) -> bool:
    """A ``ValueError`` of ours, with a text for people; not the one of a codec or of a driver."""
    return (
        isinstance(error, ValueError)
        and not isinstance(error, UnicodeError)
        and len(str(error)) > 20
    )


def listening(store: Store) -> World:
    world = World(store)

    @world.orchestrator
    async def listen(ctx: Any, *names: str) -> list[Any]:
        return [await ctx.wait_event(name) for name in names]

    return world


# -- instance ids ----------------------------------------


@fuzz
@given(id_=any_text)
@odd(id_="")
@example(id_="")
@example(id_="x" * 150)
@example(id_="x" * 151)
def test_an_instance_id_is_kept_exactly_or_refused(shared_store: Store, id_: str) -> None:
    world = listening(shared_store)
    refusal = raised_by(lambda: world.start("listen", id_=id_))
    if refusal is not None:
        assert is_clear_refusal(refusal), repr(refusal)
        assert (
            not id_ or len(id_) > 150 or "\x00" in id_ or has_surrogate(id_) or id_.startswith("@")
        )
        for look in (
            world.client.fetch,
            world.client.purge,
            lambda id_: world.raise_event(id_, "e"),
        ):
            assert is_clear_refusal(error := raised_by(lambda: look(id_))), (look, error)
        return
    assert world.client.fetch(id_).id == id_
    assert [
        row.id
        for row in shared_store.reads.find(Filters(id_prefix=id_), 1000, None)[0]
        if row.id == id_
    ] == [id_]
    assert shared_store.reads.status_of(id_) is RuntimeStatus.PENDING


@pytest.mark.parametrize("id_", ["", "a\x00b", "\ud800", "x" * 151], ids=lambda id_: ascii(id_)[:9])
def test_the_history_of_an_impossible_id_is_refused(sqlite_store: Store, id_: str) -> None:
    assert is_clear_refusal(raised_by(lambda: listening(sqlite_store).client.history(id_)))


# -- events ----------------------------------------


def deliver_event(store: Store, name: str, event_id: str | None, data: Any) -> None:
    """An event with this name, id and data is delivered once and exactly, or refused.

    Others arrive.
    """
    world, id_ = listening(store), fresh()
    world.start("listen", name, "last", id_=id_)
    refusals = [raised_by(lambda: world.raise_event(id_, name, data, event_id)) for _ in range(2)]
    if refusals[0] is not None:
        assert all(is_clear_refusal(refusal) for refusal in refusals), refusals
        assert "\x00" in name or has_surrogate(name + (event_id or ""))
        world.client.terminate(id_, None, None)
        return
    if event_id is not None:
        assert len(values_of(store, "inbox", "id", id_, kind="EventRaised")) == 1, "twice"
    world.raise_event(id_, "last", "end")
    world.pump()
    assert world.output(id_) == [data, "end"]
    raised = world.events(id_, EventKind.EVENT_RAISED)
    assert raised[0].name == name
    if event_id is not None:
        assert (len(raised), (raised[0].facts or {})["id"]) == (2, event_id)


@fuzz
@given(name=whole_text, event_id=st.none() | whole_text, data=any_text)
def test_an_event_is_delivered_exactly_or_refused(
    shared_store: Store, name: str, event_id: str | None, data: str
) -> None:
    deliver_event(shared_store, name, event_id, data)


@pytest.mark.sparse(3)
@pytest.mark.parametrize(
    "text",
    [text for text in ODD_TEXTS if not has_surrogate(text)],
    ids=lambda text: ascii(text)[:20],
)
def test_an_odd_event_is_delivered_exactly_or_refused(shared_store: Store, text: str) -> None:
    deliver_event(shared_store, text, text, text)


@pytest.mark.parametrize("text", ["\ud800", "x\udc80y", "\ud83d\ude00"], ids=ascii)
@pytest.mark.parametrize("where", ["name", "id"])
def test_half_a_character_in_an_event_is_refused(
    shared_store: Store, where: str, text: str
) -> None:
    name, event_id = (text, "i") if where == "name" else ("n", text)
    deliver_event(shared_store, name, event_id, None)


@pytest.mark.parametrize("event_id", [5, b"bytes", ["list"]], ids=repr)
def test_an_event_id_that_is_no_string_is_refused(sqlite_store: Store, event_id: Any) -> None:
    world = listening(sqlite_store)
    world.start("listen", "e")
    error = raised_by(lambda: world.raise_event("i", "e", None, event_id))
    assert isinstance(error, TypeError) and "id" in str(error), repr(error)


# -- reasons ----------------------------------------


@fuzz
@given(reason=any_text)
@example(reason="a\x00b")
@example(reason="\ud800")
@example(reason="x" * 10_001)
@example(reason=INJECTIONS[0])
def test_a_reason_is_kept_exactly_in_history_and_legibly_in_the_status(
    shared_store: Store, reason: str
) -> None:
    world, id_ = listening(shared_store), fresh()
    world.start("listen", "never", id_=id_)
    world.pump()
    world.client.suspend(id_, reason)
    shown = world.client.fetch(id_).reason
    assert shown == readable(reason) if reason else shown
    world.client.resume(id_, reason)
    world.client.cancel(id_, reason)
    world.pump()
    record = world.client.fetch(id_)
    assert (record.status, record.reason) == (RuntimeStatus.CANCELED, readable(reason))
    for kind in (
        EventKind.EXECUTION_SUSPENDED,
        EventKind.EXECUTION_RESUMED,
        EventKind.CANCEL_REQUESTED,
    ):
        (event,) = world.events(id_, kind)
        assert (event.facts or {}).get("reason", "") == (
            reason or (event.facts or {}).get("reason", "")
        )


@pytest.mark.sparse(3)
@pytest.mark.parametrize("reason", ODD_TEXTS, ids=lambda text: ascii(text)[:20])
def test_a_termination_keeps_its_reason(sqlite_store: Store, reason: str) -> None:
    world = listening(sqlite_store)
    world.start("listen", "never")
    world.client.terminate("i", reason, {"output": reason})
    record = world.client.fetch("i")
    assert (record.status, record.reason) == (RuntimeStatus.TERMINATED, readable(reason))
    assert world.codec.decode(record.output or "") == {"output": reason}
    (event,) = world.events("i", EventKind.EXECUTION_TERMINATED)
    assert event.facts == {"reason": reason}


# -- tags ----------------------------------------


@fuzz
@given(tag=any_text, value=any_text)
@odd(tag="", value="")
def test_tags_are_kept_exactly_and_found_exactly(shared_store: Store, tag: str, value: str) -> None:
    world, id_ = listening(shared_store), fresh()
    tags = {tag: value, "own": id_}
    if has_surrogate(tag) or has_surrogate(value):
        assert is_clear_refusal(raised_by(lambda: world.start("listen", id_=id_, tags=tags)))
        return
    world.start("listen", id_=id_, tags=tags)
    assert world.client.fetch(id_).tags == tags
    own = ("own", id_)
    assert shared_store.reads.count(Filters(tags=((tag, value), own))) == 1
    for other in ((tag, value + "x"), (tag + "x", value), (value, tag)):
        assert shared_store.reads.count(Filters(tags=(other, own))) == (
            tags.get(other[0]) == other[1]
        )


def test_two_halves_of_a_character_in_a_tag_are_refused(sqlite_store: Store) -> None:
    world = listening(sqlite_store)
    assert is_clear_refusal(raised_by(lambda: world.start("listen", tags={"t": "\ud83d\ude00"})))


# -- find ----------------------------------------


@pytest.fixture(scope="module")
def known(shared_store: Store) -> Store:
    """A store with instances whose columns hold odd text."""
    for number, text in enumerate(
        text for text in ODD_TEXTS if "\x00" not in text and not has_surrogate(text)
    ):
        parts = {
            "name": text[:150],
            "version": text[:50],
            "parent_id": text[:150],
            "tags": {"t": text},
        }
        assert shared_store.starts.insert(new_instance(f"known{number}", **parts))
    return shared_store


def whole_table(store: Store) -> list[Any]:
    found, cursor = store.reads.find(Filters(), 1000, None)
    while cursor is not None:
        page, cursor = store.reads.find(Filters(), 1000, cursor)
        found += page
    return found


def counts(store: Store) -> dict[str, int]:
    with store.database.engine.connect() as connection:
        return {
            table.name: (
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            )
            for table in metadata.sorted_tables
        }


@fuzz
@given(text=whole_text.filter(lambda text: "\x00" not in text))
def test_a_filter_selects_what_equals_it_and_nothing_else(known: Store, text: str) -> None:
    check_filters(known, text)


@pytest.mark.sparse(3)
@pytest.mark.parametrize("text", INJECTIONS)
def test_a_filter_is_never_sql(known: Store, text: str) -> None:
    before = counts(known)
    check_filters(known, text)
    assert counts(known) == before


def check_filters(store: Store, text: str) -> None:
    rows = whole_table(store)
    for name, of in {
        "name": lambda row: row.name == text,
        "version": lambda row: row.version == text,
        "parent_id": lambda row: row.parent_id == text,
        "id_prefix": lambda row: row.id.startswith(text),
    }.items():
        expected = sorted(row.id for row in rows if of(row))
        assert store.reads.count(Filters(**{name: text})) == len(expected), name
        assert (
            sorted(row.id for row in store.reads.find(Filters(**{name: text}), 1000, None)[0])
            == expected[:1000]
        ), name
    assert store.reads.count(Filters(tags=(("t", text),))) == sum(
        row.tags.get("t") == text for row in rows
    )


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x\udc80y"], ids=ascii)
@pytest.mark.parametrize("name", ["name", "version", "parent_id", "id_prefix"])
def test_a_filter_that_no_column_can_hold_finds_nothing(known: Store, name: str, text: str) -> None:
    filters = Filters(**{name: text})
    assert (known.reads.count(filters), known.reads.find(filters, 9, None)) == (0, ([], None))
    assert known.reads.count(Filters()) > 0


@pytest.mark.parametrize(
    "status", ["'; DROP TABLE durable_instances; --", "", "running", "\ud800", "\x00"], ids=ascii
)
def test_a_status_that_is_none_is_refused(new_app: Any, status: str) -> None:
    durable = new_app().durable
    error = raised_by(lambda: durable.find(status=status))
    assert is_clear_refusal(error), repr(error)


@fuzz
@given(
    cursor=any_text
    | hostile(['[1700000000000000,"known1"]'], deep=False).map(
        lambda data: as_cursor(data.decode("latin-1"))
    )
)
def test_a_cursor_of_any_text_gives_a_page_or_is_refused(known: Store, cursor: str) -> None:
    before = known.reads.count(Filters())
    error = raised_by(lambda: known.reads.find(Filters(), 5, cursor))
    assert error is None or (isinstance(error, ValueError) and "not a cursor" in str(error)), repr(
        error
    )
    assert known.reads.count(Filters()) == before


def test_a_cursor_that_is_nested_too_deeply_is_refused(sqlite_store: Store) -> None:
    error = raised_by(lambda: sqlite_store.reads.find(Filters(), 5, as_cursor("[" * 100_000)))
    assert isinstance(error, ValueError) and "not a cursor" in str(error), repr(error)
