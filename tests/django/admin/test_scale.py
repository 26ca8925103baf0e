"""The list over many rows: every page begins at an index, counts nothing and skips nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from .conftest import Site
from .test_list import shown

ROWS = 200_000
_FILL = """
INSERT INTO durable_instances (id, execution, name, version, status, sequence, crashes, tags, parent_id, created_at, started_at,
                               updated_at)
SELECT 'order-' || n, md5(n::text), 'shop.' || (ARRAY['fulfil_order', 'refund'])[1 + n % 2], '1',
       CASE WHEN n % 20000 = 7 THEN 'FAILED' WHEN n % 1000 = 3 THEN 'RUNNING' ELSE 'COMPLETED' END, 5, 0,
       E'\\n["customer", "' || n % 1000 || E'"]\\n', CASE WHEN n % 4 = 0 THEN 'order-' || (n - 1) END,
       1700000000000000 + n::bigint * 1000000, 1700000000000000, 1700000000000000 + n::bigint * 1000000
FROM generate_series(1, :rows) n
"""


@pytest.fixture
def store(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def asked(site: Site) -> Iterator[list[tuple[str, Any]]]:
    """The statements that read the filled store."""
    database = site.durable.runtime.store.database
    site.durable.find(limit=1)
    statements: list[tuple[str, Any]] = []

    def note(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        statements.append((statement, parameters))

    with database.using() as engine:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(_FILL), {"rows": ROWS})
            connection.execute(sa.text("VACUUM ANALYZE durable_instances"))
        sa.event.listen(engine, "before_cursor_execute", note)
        yield statements
        sa.event.remove(engine, "before_cursor_execute", note)


def cursor_at(number: int, *direction: str) -> str:
    place = [1_700_000_000_000_000 + number * 1_000_000, f"order-{number}", *direction]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def plan(site: Site, statement: str, parameters: Any) -> dict[str, Any]:
    with site.durable.runtime.store.database.using() as engine, engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON, ANALYZE) {statement}", parameters
        ).fetchall()
    found: dict[str, Any] = rows[0][0][0]
    return found


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for each in tree.get("Plans", ()):
        yield from nodes(each)


def _is_list(statement: str) -> bool:
    """Tell the rows of a page from the numbers above them."""
    return "ORDER BY durable_instances.created_at" in statement and "AS part" not in statement


PAGES = {
    "the first page": ({}, 100, 300),
    "the middle": ({"cursor": cursor_at(100_000)}, 100, 300),
    "the middle, going back": ({"cursor": cursor_at(100_000, "back")}, 100, 300),
    "the last page": ({"cursor": cursor_at(51)}, 50, 300),
    "a name": ({"name": "shop.refund"}, 100, 1_000),
    "roots": ({"roots": "on", "cursor": cursor_at(100_000)}, 100, 1_000),
    "one id": ({"q": "order-77777"}, 1, 300),
    "ids": ({"q": "order-1234"}, 100, 300),
    "no such id": ({"q": "zebra"}, 0, 300),
    "the last hour": ({"since": "1h"}, 0, 300),
}


def test_pages_of_many_rows_begin_at_an_index(site: Site, asked: list[tuple[str, Any]]) -> None:
    for what, (query, count, most_touched) in PAGES.items():
        asked.clear()
        page = site.get(site.address("instance_changelist"), **query)
        assert len(shown(page)) == count, what
        lists = [each for each in asked if _is_list(each[0])]
        assert len(lists) == 1, what
        assert not any(
            " OFFSET " in each or each.lower().startswith("select count") for each, _ in asked
        ), what
        explained = plan(site, *lists[0])
        found = list(nodes(explained["Plan"]))
        assert not any(node["Node Type"] == "Seq Scan" for node in found), (what, explained)
        touched = sum(
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            for node in found
            if "Index" in node["Node Type"]
        )
        assert touched <= most_touched, (what, touched, explained)


def test_rare_rows_are_found_in_one_pass(site: Site, asked: list[tuple[str, Any]]) -> None:
    for query, count in (
        ({"status": "FAILED"}, 10),
        ({"status": ["FAILED", "SUSPENDED"], "roots": "on"}, 10),
        ({"q": "tag:customer=7"}, 100),
        ({"q": "tag:customer=none"}, 0),
        ({"status": "FAILED", "name": "shop.refund"}, 10),
        ({"stuck": "on"}, 0),
    ):
        asked.clear()
        page = site.get(site.address("instance_changelist"), **query)
        assert len(shown(page)) == count, query
        lists = [each for each in asked if _is_list(each[0])]
        explained = plan(site, *lists[0])
        passes = [
            node
            for node in nodes(explained["Plan"])
            if node.get("Relation Name") == "durable_instances"
        ]
        statuses = query.get("status", "")
        parts = 1 if isinstance(statuses, str) else len(statuses)  # one of each status
        parts += "stuck" in query  # what may be stuck is found first
        assert len(passes) == parts, (query, explained)
        assert all(node["Node Type"] != "Seq Scan" for node in passes), (query, explained)
