"""Writing everything again as ``durable_codec`` makes it today: after a key was changed, or when
there is a codec for the first time.

Row by row, each by itself and only if it still is what was read: nothing waits for it, and what was
changed meanwhile was written by a process that encodes it as it is wanted.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from .._errors import ConfigurationError
from .runner import Runner
from .schema import metadata, objects
from .values import ELSEWHERE, ENCODED
from .vault import TEXTS, TOKEN, Vault

__all__ = ["reencode"]

_BATCH = 200
#: Text in which tokens of the codec may lie.
_TEXTS = TEXTS | {"facts"}


def reencode(database: Runner) -> Iterator[int]:
    """Encode again what is not as the codec makes it; gives how many values each batch has changed.

    Raises:
        ConfigurationError: there is no codec.
        StoreError: the store cannot be reached, or a value cannot be decoded; what was done before
            stays done.
    """
    vault = database.vault
    if vault is None or vault.codec is None:
        raise ConfigurationError(
            "durable_codec is not set: there is nothing to encode with", setting="durable_codec"
        )
    with database.cursor():  # the first use of a process checks the schema
        pass
    for table in metadata.sorted_tables:
        columns = [
            column
            for column in table.columns
            if isinstance(column.type, sa.LargeBinary)
            or (column.name in _TEXTS and isinstance(column.type, sa.Text))
        ]
        if columns:
            yield from _table(database, vault, table, columns)
    if vault.large is not None:
        yield from _elsewhere(database, vault)


def _table(database: Runner, vault: Vault, table: Any, columns: Sequence[Any]) -> Iterator[int]:
    key = list(table.primary_key)
    for rows in _batches(database, sa.select(*key, *columns), key):
        changed = 0
        for row in rows:
            old = dict(zip([c.name for c in columns], row[len(key) :], strict=True))
            new = {name: _again(vault, name, value) for name, value in old.items()}
            differs = {name: value for name, value in new.items() if value is not None}
            if differs:
                is_same = [c == value for c, value in zip(key, row, strict=False)]
                is_same += [table.c[name] == old[name] for name in differs]
                _change(database, sa.update(table).where(*is_same).values(differs))
                changed += len(differs)
        yield changed


def _elsewhere(database: Runner, vault: Vault) -> Iterator[int]:
    assert vault.large is not None
    for rows in _batches(database, sa.select(objects.c.id), [objects.c.id]):
        changed = 0
        for (key,) in rows:
            try:
                old = vault.large.read(key)
            except FileNotFoundError:
                continue  # nothing refers to it any more
            if (new := _again(vault, "", old)) is not None:
                vault.large.write(key, new)
                changed += 1
        yield changed


def _batches(
    database: Runner, statement: sa.Select[Any], key: Sequence[Any]
) -> Iterator[Sequence[Any]]:
    last: Sequence[Any] | None = None
    while True:
        wanted = statement.order_by(*key).limit(_BATCH)
        if last is not None:
            wanted = wanted.where(_after(key, last))
        with database.using() as engine, engine.connect() as connection:
            rows = connection.execute(wanted).fetchall()
        if rows:
            yield rows
            last = rows[-1][: len(key)]
        if len(rows) < _BATCH:
            return


def _after(key: Sequence[Any], last: Sequence[Any]) -> Any:
    """Return the condition of the rows that come after a key."""
    found: Any = sa.false()
    for number, column in enumerate(key):
        is_same = [c == value for c, value in zip(key[:number], last, strict=False)]
        found = sa.or_(found, sa.and_(*is_same, column > last[number]))
    return found


def _change(database: Runner, statement: Any) -> None:
    with database.using() as engine, engine.connect() as connection:
        connection.execute(statement)


def _again(vault: Vault, name: str, value: Any) -> Any:
    """Return a value as it is to be stored; None if it is so already."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text_again(vault, name, value)
    data = bytes(value)
    if data.startswith(ELSEWHERE) or _is_current(vault, data):
        return None
    return vault.encoded(vault.decoded(data))


def _text_again(vault: Vault, name: str, text: str) -> str | None:
    if TOKEN.search(text) is None:
        found = vault.sealed_text(name, text)
        return None if found == text else found

    def again(token: re.Match[str]) -> str:
        data = base64.urlsafe_b64decode(token[1])
        if _is_current(vault, data):
            return token[0]
        return vault.token(vault.decoded(data))

    found = TOKEN.sub(again, text)
    return None if found == text else found


def _is_current(vault: Vault, data: bytes) -> bool:
    is_current = getattr(vault.codec, "is_current", None)
    rest = data.removeprefix(ENCODED)
    return rest != data and is_current is not None and bool(is_current(rest))
