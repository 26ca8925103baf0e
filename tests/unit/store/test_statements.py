"""Shapes of rows, statements that are compiled once, and the steps of a commit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from celery_durable.core.permits import Permit
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.writes import NewActivity, NewInbox, TurnCommit
from celery_durable.store import commit_steps, postgres
from celery_durable.store.database import Database
from celery_durable.store.instances import INSTANCE
from celery_durable.store.runner import ManyValues
from celery_durable.store.statements import FRAGMENTS, Shape, Statement


class Pair(NamedTuple):
    name: str
    count: int


@dataclass(slots=True)
class Payload:
    id: str
    text: Any


def test_columns_are_the_fields_of_a_shape() -> None:
    assert Shape(Pair).columns == "name, count"
    assert Shape(Payload, "p").columns == "p.id, p.text"


def test_a_shape_reads_and_decodes_its_columns_and_gives_back_the_others() -> None:
    shape = Shape(Payload, decode={"text": bytes.decode})
    assert shape.read(("a", b"b")) == Payload("a", "b")
    assert shape.take(("a", b"b", 3, 4)) == (Payload("a", "b"), (3, 4))
    assert Shape(Pair).take(("a", 1)) == (Pair("a", 1), ())


def test_a_row_with_another_number_of_columns_is_refused() -> None:
    with pytest.raises(TypeError):
        Shape(Pair).read(("a", 1, 2))


def test_an_instance_is_read_by_name() -> None:
    row = {name: None for name in INSTANCE.names}
    row |= {"id": "i", "status": "RUNNING", "input": b"[]", "crashes": 0}
    instance, rest = INSTANCE.take([*row.values(), 17])
    assert (instance.id, instance.status, instance.input) == ("i", RuntimeStatus.RUNNING, "[]")
    assert list(rest) == [17]


def test_a_statement_is_compiled_once_for_a_kind_of_database(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = Statement("SELECT {now} WHERE 1 = :one")
    first, second = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    text, order = statement.compiled(first)
    assert (text, order) == ("SELECT durable_now() WHERE 1 = ?", ["one"])
    monkeypatch.setattr(sa, "text", None)
    assert statement.compiled(second) == (text, order)


def test_each_step_of_a_commit_is_in_the_order_once() -> None:
    written = [
        found
        for found in vars(commit_steps).values()
        if getattr(found, "__module__", "") == commit_steps.__name__
        and found is not commit_steps.carry_out
        and getattr(found, "__annotations__", {}) == {"work": "Work", "return": "None"}
    ]
    assert sorted(step.run.__name__ for step in commit_steps.STEPS) == sorted(
        step.__name__ for step in written
    )


#: What tells who commits, and whether it may.
GUARDS = {
    "instance_id", "execution", "sequence", "statuses", "outcome", "requires_empty_inbox",
}  # fmt: skip
DERIVED = {"has_limited"}


def test_each_field_of_a_commit_belongs_to_a_step() -> None:
    known = [{*step.asked_by, *step.uses} for step in commit_steps.STEPS]
    fields = {field.name for field in dataclasses.fields(TurnCommit)}
    assert set().union(*known) - DERIVED == fields - GUARDS


def test_a_plain_commit_is_one_statement() -> None:
    commit = TurnCommit("i", "e", 0, (), events="[]", status=RuntimeStatus.RUNNING)
    assert postgres.does_all(commit)
    commit.activities, commit.taken = [NewActivity(1, 1, "activity", "a", "", None)], [1]
    assert postgres.does_all(commit)
    commit.own_inbox = [NewInbox("i", "TimerFired", "timer:1", visible_at=5)]
    assert postgres.does_all(commit)
    commit.activities[0].permits = (Permit("p", None, 1, None, "p", False),)
    assert not postgres.does_all(commit)


@pytest.mark.parametrize(
    "own",
    [
        [NewInbox("i", "Join", "join:1", wakes=False)],
        [NewInbox("i", "EventRaised", "event:1", aside=1)],
        [NewInbox("i", "EventRaised", "event:1", visible_at=5, aside=1)],
        [NewInbox("i", "TimerFired", f"timer:{number}", visible_at=5) for number in range(2)],
    ],
)
def test_one_statement_puts_a_timer_and_no_other_message(own: list[NewInbox]) -> None:
    assert not postgres.does_all(TurnCommit("i", "e", 0, (), events="[]", own_inbox=own))


@pytest.mark.parametrize(
    "field",
    sorted(
        {name for step in commit_steps.STEPS for name in step.asked_by}
        - DERIVED
        - {name for step in commit_steps.STEPS if step.run in commit_steps.ONE_STATEMENT
           for name in step.asked_by}
    ),
)  # fmt: skip
def test_whatever_asks_for_another_step_does_not_go_into_one_statement(field: str) -> None:
    empty = getattr(TurnCommit("i", "e", 0, ()), field)
    value = {list: [1], dict: {1: 1}, bool: True}.get(type(empty), "x")
    assert not postgres.does_all(TurnCommit("i", "e", 0, (), events="[]", **{field: value}))


@pytest.mark.parametrize(
    ("driver", "told", "order"),
    [
        ("sqlite", "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING", "ab"),
        (
            "postgresql+psycopg",
            "INSERT INTO t (a, b) VALUES (%(a_0)s, %(b_0)s), (%(a_1)s, %(b_1)s) ON CONFLICT DO"
            " NOTHING",
            "",
        ),
        (
            "postgresql+asyncpg",
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING",
            "ab",
        ),
        ("mysql+pymysql", "INSERT INTO t (a, b) VALUES (%s, %s), (%s, %s)", "ab"),
    ],
)
def test_an_insert_of_several_rows_is_made_of_that_of_one(
    driver: str, told: str, order: str
) -> None:
    url = sa.make_url(f"{driver}://")
    family = url.get_backend_name()
    speaks = SimpleNamespace(
        compiled_for=driver, fragments=FRAGMENTS[family], dialect=url.get_dialect()()
    )
    one = Statement("INSERT INTO t (a, b) VALUES (:a, :b) {if_new}")
    statement = ManyValues(one).about(2)
    text, places = statement.compiled(speaks)
    assert text.strip() == told and statement.may_be_there
    assert places == ([f"{name}_{n}" for n in range(2) for name in order] if order else None)
