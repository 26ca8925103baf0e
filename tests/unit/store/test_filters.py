"""What the filters of a list choose, held against the same said in Python."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celery_durable.core.entity import ORCHESTRATORS
from celery_durable.core.plain_task import TASK
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.engine.version_choice import OPEN
from celery_durable.store.filters import condition, parts_by_status
from celery_durable.store.schema import instances
from celery_durable.store.values import tags_text

NOW = 10**15
NAMES = ["flow", "Flow", f"{ORCHESTRATORS}counter"]
VERSIONS = [None, "1", TASK, OPEN]
TAGS: list[dict[str, str]] = [{}, {"a": "1"}, {"a": "1", "b": "x\n"}, {"b": 'say "1"'}, {"A": "1"}]
PREFIXES = ["order-", "Order-", "order_", "ü\U0010ffff", "\U0001f600"]
BASE = {"sequence": 1, "crashes": 0, "updated_at": NOW, "execution": "e"}


def made() -> list[dict[str, Any]]:
    """Return rows of which each differs from the next in all that can be asked for."""
    every = itertools.cycle
    return [
        {
            **BASE,
            "id": f"{prefix}{number}",
            "execution": f"e{number}",
            "name": name,
            "version": version,
            "tags": tags_text(tags),
            "parent_id": parent,
            "created_at": NOW + number % 4,
            "status": str(status),
            "reason": reason,
            "is_lasting": is_lasting,
        }
        for number, prefix, name, version, tags, parent, status, reason, is_lasting in zip(
            range(210),
            every(PREFIXES),
            every(NAMES),
            every([*VERSIONS, None]),
            every(TAGS),
            every([None, "p", None, "q", None, None]),
            every(RuntimeStatus),
            every([None, None, "waits", None, None, None, None, None]),
            every([None, True, None, None, True, None, None, None, None]),
            strict=False,
        )
    ]


ROWS = made()


@pytest.fixture(scope="module")
def connection(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.Connection]:
    path = tmp_path_factory.mktemp("filters") / "store.db"
    shutil.copy(sqlite_template, path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.insert(instances), ROWS)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def found(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> set[str]:
    return set(connection.execute(sa.select(instances.c.id).where(*where)).scalars())


def is_meant(row: dict[str, Any], filters: Filters) -> bool:
    """Tell in Python what a filter means."""
    tags = row["tags"] or ""
    wanted = {
        "name": filters.name in (None, row["name"]),
        "version": filters.version in (None, row["version"]),
        "parent_id": filters.parent_id in (None, row["parent_id"]),
        "prefix": row["id"].startswith(filters.id_prefix or ""),
        "tags": all((tags_text({k: v}) or "") in tags for k, v in filters.tags),
        "roots": filters.roots in (None, row["parent_id"] is None),
        "entities": filters.entities in (None, row["name"].startswith(ORCHESTRATORS)),
        "tasks": filters.tasks in (None, row["version"] == TASK),
        "after": row["created_at"] >= (filters.created_after or 0),
        "before": row["created_at"] < (filters.created_before or 2 * NOW),
    }
    return all(wanted.values())


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


TIMES = st.integers(NOW - 1, NOW + 4)
PAIRS = [pair for tags in TAGS for pair in tags.items()]
FILTERS = st.builds(
    Filters,
    name=maybe(st.sampled_from([*NAMES, "other"])),
    version=maybe(st.sampled_from(["1", "2"])),
    parent_id=maybe(st.sampled_from(["p", "q", "P"])),
    id_prefix=maybe(st.sampled_from(["", "o", "order-1", *PREFIXES, "ü", "z"])),
    tags=st.lists(st.sampled_from([*PAIRS, ("a", "2"), ("%", "_")]), max_size=2).map(tuple),
    roots=maybe(st.booleans()),
    entities=maybe(st.booleans()),
    tasks=maybe(st.booleans()),
    created_after=maybe(TIMES),
    created_before=maybe(TIMES),
)


@settings(max_examples=200)
@example(Filters(id_prefix="ü\U0010ffff"))  # no text follows all that begin so
@given(FILTERS)
def test_filters_choose_what_they_mean_and_all_of_it(
    connection: sa.Connection, filters: Filters
) -> None:
    chosen = found(connection, condition(filters, "sqlite", NOW))
    assert chosen == {row["id"] for row in ROWS if is_meant(row, filters)}


@pytest.mark.parametrize(
    "filters",
    [
        Filters(name="a\0b"),
        Filters(version="\ud800"),
        Filters(id_prefix="\0"),
        Filters(parent_id="x\udfff"),
        Filters(version=OPEN),
        Filters(version=TASK),
    ],
)
def test_text_that_no_column_holds_and_what_is_no_version_finds_nothing(
    connection: sa.Connection, filters: Filters
) -> None:
    assert found(connection, condition(filters, "sqlite", NOW)) == set()


STATUSES = st.lists(st.sampled_from(list(RuntimeStatus)), max_size=4)


@given(STATUSES, TIMES)
def test_one_part_holds_of_each_row_that_is_listed_and_none_of_any_other(
    connection: sa.Connection, statuses: list[RuntimeStatus], listed_until: int
) -> None:
    parts = [found(connection, part) for part in parts_by_status(statuses, listed_until)]
    chosen = set().union(*parts)
    assert sum(map(len, parts)) == len(chosen)
    wanted = {row["id"]: row for row in ROWS if row["status"] in statuses}
    assert chosen <= set(wanted)
    for id_, row in wanted.items():
        # of live ones, those that were created by then are listed once they are marked as lasting
        is_live = row["status"] in ("PENDING", "RUNNING")
        is_old = is_live and row["created_at"] <= listed_until
        is_left = is_old and row["reason"] is None and not row["is_lasting"]
        assert (id_ in chosen) != is_left
