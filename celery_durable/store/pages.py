"""Pages of a list: where one begins, and the text that says so."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..engine.listing import InstanceRecord
from .schema import instances

__all__ = ["Place", "beyond", "cursor_of", "first_of", "read_cursor"]


class Place(NamedTuple):
    """A row that a page begins after, or before if it ``goes_back``."""

    created_at: int
    id: str
    goes_back: bool


def beyond(place: Place) -> sa.ColumnElement[bool]:
    """Tell what lies beyond a place.

    The bound on the time alone is what lets an index begin there.
    """
    c = instances.c
    if place.goes_back:
        is_beyond = sa.or_(c.created_at > place.created_at, c.id > place.id)
        return sa.and_(c.created_at >= place.created_at, is_beyond)
    is_beyond = sa.or_(c.created_at < place.created_at, c.id < place.id)
    return sa.and_(c.created_at <= place.created_at, is_beyond)


def first_of(
    parts: Sequence[sa.Select[Any]], limit: int, *, goes_back: bool = False
) -> sa.Select[Any]:
    """Return the statement for the first rows of several together, each of which has an index."""

    def ordered(statement: sa.Select[Any], c: Any) -> sa.Select[Any]:
        order = (c.created_at, c.id) if goes_back else (c.created_at.desc(), c.id.desc())
        return statement.order_by(*order).limit(limit)

    first = [ordered(part, instances.c) for part in parts]
    if len(first) == 1:
        return first[0]
    together = sa.union_all(*(sa.select(part.subquery()) for part in first)).subquery()
    return ordered(sa.select(together), together.c)


def cursor_of(record: InstanceRecord, *direction: str) -> str:
    """Return the text for the page that begins after a record, or before it ("back")."""
    return base64.urlsafe_b64encode(
        json.dumps([record.created_at, record.id, *direction]).encode()
    ).decode()


def read_cursor(cursor: str) -> Place:
    """Return where a page begins.

    Raises:
        TypeError: it is no text.
        ValueError: the text was not made by ``cursor_of``.
    """
    if not isinstance(cursor, str):
        raise TypeError(f"cursor must be a text that find() gave, not {cursor!r}")
    try:
        created_at, id_, *direction = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not (
            isinstance(created_at, int)
            and 0 <= created_at < 2**63
            and isinstance(id_, str)
            and "\x00" not in id_
        ):
            raise ValueError("not a moment and an id")
        if direction not in ([], ["back"]):
            raise ValueError("no direction")
        id_.encode()
        return Place(created_at, id_, bool(direction))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"{cursor!r} is not a cursor that find() gave") from error
