"""The table of what lies in the payload store: a row for each payload, with the instance that it
belongs to.

The row is there before the payload, in the transaction that refers to it; or, where that is one
statement by itself, before it. So whatever becomes of that, ``sweeping`` finds what nothing refers
to. Only a payload whose transaction was rolled back has no row: ``durable payloads`` finds those.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .._errors import StoreError
from ..engine.cursor import Cursor
from ..payload_store import LargePayloads
from .statements import Statement

__all__ = ["keep"]

#: A payload is looked at again after so many microseconds; what refers to it is committed by then.
FIRST_CHECK = 3_600_000_000
INSERT_OBJECT = Statement(
    "INSERT INTO durable_objects (id, instance, size, created_at, check_at) VALUES (:key,"
    " :instance, :size, {now}, {now} + :after)"
)
OWNER = Statement(
    "SELECT instance FROM durable_outbox WHERE execution = :execution AND command = :command AND"
    " attempt = :attempt"
)
STORE_ID = Statement("SELECT value FROM durable_meta WHERE name = 'store_id'")
_TICKET = ("execution", "command", "attempt")


class _Runs(Protocol):
    def run_unsealed(
        self, cursor: Cursor, statement: Statement, parameters: Mapping[str, Any]
    ) -> Cursor: ...
    def apart(self, work: Callable[[], None]) -> None: ...


def keep(
    database: _Runs,
    large: LargePayloads,
    cursor: Cursor,
    parameters: Mapping[str, Any],
    number: str,
    data: bytes,
    size: int,
) -> str | None:
    """Put the payload of a row into the payload store, and return its key; None if it belongs to no
    instance.

    Args:
        database: what runs statements on the cursor.
        large: the payload store.
        cursor: of the transaction that writes the row.
        parameters: of the statement that does.
        number: what the names of the row's own parameters end with.
        data: the payload, as it is to be kept.
        size: of the payload itself.

    Raises:
        StoreError: the payload store has failed; nothing refers to anything there.
    """
    instance = _owner(database, cursor, parameters, number)
    if instance is None:
        return None
    (store,) = database.run_unsealed(cursor, STORE_ID, {}).fetchone()
    digest = hashlib.sha256(instance.encode("utf-8", "surrogatepass")).hexdigest()
    key = f"{store}/{digest[:2]}/{digest[:32]}/{uuid.uuid4().hex}"
    values = {"key": key, "instance": instance, "size": size, "after": FIRST_CHECK}
    database.run_unsealed(cursor, INSERT_OBJECT, values)
    try:
        database.apart(lambda: large.write(key, data))
    except Exception as error:
        raise StoreError(
            f"the payload store {large!r} did not take a payload of {len(data):,} bytes:"
            f" {type(error).__name__}: {error}"
        ) from error
    return key


def _owner(
    database: _Runs, cursor: Cursor, parameters: Mapping[str, Any], number: str
) -> str | None:
    for name in ("instance", "id"):
        owner = parameters.get(name + number, parameters.get(name))
        if isinstance(owner, str):
            return owner
    if not all(name in parameters for name in _TICKET):
        return None
    ticket = {name: parameters[name] for name in _TICKET}
    row = database.run_unsealed(cursor, OWNER, ticket).fetchone()
    return None if row is None else str(row[0])
