"""Pages of ``durable.find`` and ``durable.entities``: on and back by cursors, from any place, in
every database.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from celery_durable.store.schema import instances

ROWS = 23


@pytest.fixture
def durable(new_app: Callable[..., Any], store_url: str) -> Any:
    """A store with finished orchestrations, three of each moment; every fourth has a parent."""
    durable = new_app(durable_backend_url=store_url).durable
    durable.migrate()
    rows = [
        {
            "id": name_of(number),
            "execution": f"e{number}",
            "name": "order",
            "status": "COMPLETED",
            "sequence": 1,
            "crashes": 0,
            "created_at": number // 3,
            "updated_at": 0,
            "parent_id": "parent" if number % 4 == 0 else None,
        }
        for number in range(ROWS)
    ]
    durable.runtime.store.now()
    with durable.runtime.store.database.using() as engine, engine.begin() as connection:
        connection.execute(instances.insert(), rows)
    return durable


def name_of(number: int) -> str:
    return f"order-{number:03}"


def ids(page: Any) -> list[str]:
    return [run.id for run in page.items]


EXPECTED = [name_of(number) for number in reversed(range(ROWS))]


def test_the_way_back_is_the_way_on(durable: Any) -> None:
    for limit in (1, 2, 3, 7, 22, 23, 24):
        page = durable.find(limit=limit)
        assert page.previous_cursor is None
        way = [ids(page)]
        while page.next_cursor is not None:
            page = durable.find(limit=limit, cursor=page.next_cursor)
            way.append(ids(page))
        assert [id_ for each in way for id_ in each] == EXPECTED
        back = [ids(page)]
        while page.previous_cursor is not None:
            page = durable.find(limit=limit, cursor=page.previous_cursor)
            assert page.next_cursor is not None
            back.append(ids(page))
        assert back == way[::-1]


def test_a_page_back_keeps_the_filters(durable: Any) -> None:
    first = durable.find(limit=2, roots=True)
    second = durable.find(limit=2, roots=True, cursor=first.next_cursor)
    assert ids(durable.find(limit=2, roots=True, cursor=second.previous_cursor)) == ids(first)


def test_roots_and_children(durable: Any) -> None:
    roots, children = durable.find(roots=True), durable.find(roots=False)
    assert ids(children) == [id_ for id_ in EXPECTED if int(id_[-3:]) % 4 == 0]
    assert sorted(ids(roots) + ids(children)) == sorted(EXPECTED)
    assert durable.count(roots=True) == len(roots.items)
    assert ids(durable.find(roots=None)) == EXPECTED


def test_prefixes_of_ids(durable: Any) -> None:
    for prefix, expected in {
        "order-01": [name_of(number) for number in range(19, 9, -1)],
        "order-": EXPECTED,
        "order-022": [name_of(22)],
        "ORDER": [],
        "order.": [],
        "p": [],
        "\U0010ffff": [],
        "\ud7ff": [],
        "order-\ud7ff": [],
        "\ud800": [],
    }.items():
        assert ids(durable.find(id_prefix=prefix)) == expected, ascii(prefix)


def test_prefixes_at_the_ends_of_the_alphabet(durable: Any) -> None:
    same = {
        "name": "odd",
        "status": "COMPLETED",
        "sequence": 1,
        "crashes": 0,
        "created_at": 99,
        "updated_at": 0,
    }
    odd = ("\ud7ffa", "\ue000b", "\U0010ffffc", "z\U0010ffffd")
    rows = [{"id": id_, "execution": f"x{number}", **same} for number, id_ in enumerate(odd)]
    with durable.runtime.store.database.using() as engine, engine.begin() as connection:
        connection.execute(instances.insert(), rows)
    assert ids(durable.find(id_prefix="\ud7ff")) == ["\ud7ffa"]
    assert ids(durable.find(id_prefix="\U0010ffff")) == ["\U0010ffffc"]
    assert ids(durable.find(id_prefix="z\U0010ffff")) == ["z\U0010ffffd"]


def test_a_forged_direction_is_no_cursor(durable: Any) -> None:
    for place in (
        [1, "a", "forth"],
        [1, "a", "back", "back"],
        [1, "a", None],
        [1],
        [1, 2, "back"],
        [-1, "a", "back"],
        {},
        "back",
    ):
        with pytest.raises(ValueError, match="cursor"):
            durable.find(cursor=base64.urlsafe_b64encode(json.dumps(place).encode()).decode())


def test_beyond_the_newest_there_is_nothing(durable: Any) -> None:
    page = durable.find(
        cursor=base64.urlsafe_b64encode(json.dumps([99, "z", "back"]).encode()).decode()
    )
    assert (page.items, page.next_cursor, page.previous_cursor) == ([], None, None)


def test_entities_have_pages_back_too(durable: Any) -> None:
    for number in range(3):
        durable.entity("Counter", str(number)).signal.add(1)
    first = durable.entities(limit=2)
    second = durable.entities(limit=2, cursor=first.next_cursor)
    assert [len(first.items), len(second.items)] == [2, 1]
    assert durable.entities(limit=2, cursor=second.previous_cursor).items == first.items
    assert (first.previous_cursor, second.next_cursor) == (None, None)
