"""Programs whose every text is a secret, and what a store holds of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from celery_durable.store.schema import metadata

SECRET = "SECRET"
#: Columns that hold text or bytes which a secret may not get into, but by their names.
IN_CLEAR = {"id", "instance", "name", "tags"}


class Scrambled:
    """A codec that is no encryption: what it has encoded shows nothing, and is told by its key."""

    def __init__(self, key: int = 90) -> None:
        self.key = key
        self.encoded = self.decoded = 0

    def encode(self, data: bytes) -> bytes:
        self.encoded += 1
        return bytes([self.key]) + bytes(byte ^ self.key for byte in data)

    def decode(self, data: bytes) -> bytes:
        self.decoded += 1
        if data[:1] != bytes([self.key]):
            raise ValueError("another key")
        return bytes(byte ^ self.key for byte in data[1:])

    def is_current(self, data: bytes) -> bool:
        return data[:1] == bytes([self.key])


def all_values(store: Any) -> Iterator[tuple[str, Any]]:
    """Give every value of every table, as it is stored, with its column."""
    with store.database.engine.connect() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                for column, value in zip(table.columns, row, strict=True):
                    yield f"{table.name}.{column.name}", value


def in_clear(store: Any, secret: str = SECRET) -> set[str]:
    """Return the columns in which a secret is found."""
    found = set()
    for column, value in all_values(store):
        data = bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode()
        if secret.encode() in data:
            found.add(column)
    return found


def files_in(folder: Path) -> Sequence[Path]:
    """Return the files of a payload store."""
    return [path for path in folder.rglob("*") if path.is_file()]


def empty(folder: Path) -> None:
    """Lose a payload store."""
    shutil.rmtree(folder)
