"""What the columns of the store really hold, where ``durable_codec`` or ``durable_payload_store``
is set.

Every payload is bytes for a statement, and every bytes of a row is a payload: so all of them are
sealed where statements are run, and opened where rows come back, whichever statement it is. How a
value begins tells how it is kept: as text, encoded by the codec, or in the payload store, of which
the column has the key then. So values from before a setting was there are read as before. Reasons
and the like, which are text, are encoded as a token within it.

What lies in the payload store is fetched when it is decoded, not when its row is read. Each value
belongs to one row: one that comes into another row is written again, and ``sweeping`` deletes what
no row refers to any more.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from .._errors import ConfigurationError, StoreError
from ..encryption import Codec
from ..engine.cursor import Cursor
from ..payload_store import LargePayloads
from .values import ELSEWHERE, ENCODED, Elsewhere, lacks, reference

__all__ = ["TEXTS", "TOKEN", "Opening", "Vault"]

#: Parameters of statements that are text and may say what a payload says.
TEXTS = frozenset({"reason", "arguments", "error"})
_ELSEWHERE = re.compile(re.escape(ELSEWHERE) + rb"(?P<size>[0-9]{1,18}):(?P<key>[ -~]+)")
TOKEN = re.compile(r"!encoded:([A-Za-z0-9_=-]+)!")
_LOST = "(encoded by a durable_codec that this process does not have)"
#: How rows are numbered where one statement writes several.
_NUMBER = re.compile(r"_\d+$")

#: Keeps a value elsewhere, and returns its key; it is given the parameters of the statement, the
#: end of the names of the row in it, the value as it is kept, and its size.
Keep = Callable[[Mapping[str, Any], str, bytes, int], str | None]


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals what goes into the store, and opens what comes out of it."""

    codec: Codec | None
    large: LargePayloads | None

    # -- in ----------------------------------------------------------------------------------------

    def sealed(self, parameters: Mapping[str, Any], keep: Keep) -> dict[str, Any]:
        """Return the parameters of a statement as they are stored.

        Raises:
            StoreError: the codec, or the payload store, has failed.
        """
        found = dict(parameters)
        for name, value in parameters.items():
            if isinstance(value, bytes):
                found[name] = self._sealed(value, parameters, name, keep)
            elif isinstance(value, list):
                found[name] = [
                    self._sealed(each, parameters, name, keep) if isinstance(each, bytes) else each
                    for each in value
                ]
            elif isinstance(value, str) and self.codec is not None:
                found[name] = self.sealed_text(_NUMBER.sub("", name), value)
        return found

    def _sealed(self, data: bytes, parameters: Mapping[str, Any], name: str, keep: Keep) -> bytes:
        sealed = self.encoded(data)
        if self.large is None or len(sealed) <= self.large.above:
            return sealed
        number = _NUMBER.search(name)
        key = keep(parameters, number[0] if number else "", sealed, len(data))
        return sealed if key is None else reference(len(data), key)

    def encoded(self, data: bytes) -> bytes:
        """Return bytes as the codec makes them, with a mark; as they are without one.

        Raises:
            StoreError: the codec has failed.
        """
        if self.codec is None:
            return data
        try:
            return ENCODED + self.codec.encode(data)
        except Exception as error:
            raise StoreError(
                f"durable_codec could not encode a payload: {type(error).__name__}: {error}"
            ) from error

    def sealed_text(self, name: str, text: str) -> str:
        """Return a text as it is kept, which is of a column, or a parameter, of this name."""
        if name in TEXTS:
            return self.token(text.encode("utf-8", "surrogatepass"))
        if name == "facts" and '"reason": "' in text:
            facts = json.loads(text)
            return json.dumps(
                {**facts, "reason": self.token(facts["reason"].encode("utf-8", "surrogatepass"))}
            )
        return text

    def token(self, text: bytes) -> str:
        """Return what is kept in the place of a text."""
        return f"!encoded:{base64.urlsafe_b64encode(self.encoded(text)).decode()}!"

    # -- out ---------------------------------------------------------------------------------------

    def opened(self, value: Any) -> Any:
        """Return a value of a row as it was before it was sealed; what is elsewhere is fetched when
        it is decoded.

        Raises:
            ConfigurationError: the codec cannot decode it.
        """
        if isinstance(value, (bytes, memoryview, bytearray)):
            return self._opened(bytes(value))
        if isinstance(value, str) and "!encoded:" in value:
            return self._opened_text(value)
        if isinstance(value, list):  # PostgreSQL's arrays, and its JSON
            return [self.opened(each) for each in value]
        return value

    def _opened(self, data: bytes) -> bytes:
        if data.startswith(ENCODED) and self.codec is not None:
            return self.decoded(data)
        if self.large is not None and (place := _ELSEWHERE.fullmatch(data)) is not None:
            key = place["key"].decode()
            return Elsewhere(data, int(place["size"]), lambda: self.fetched(key))
        return data

    def decoded(self, data: bytes) -> bytes:
        """Return bytes as they were before ``encoded``.

        Raises:
            ConfigurationError: the codec cannot decode them, or there is none: another process may
                have it, or the key.
        """
        if not data.startswith(ENCODED):
            return data
        if self.codec is None:
            raise lacks("durable_codec")
        try:
            return self.codec.decode(data.removeprefix(ENCODED))
        except Exception as error:
            raise ConfigurationError(
                "durable_codec cannot decode a payload in the store, so this process does nothing"
                f" with it: {type(error).__name__} {error}. Does it have all keys?",
                setting="durable_codec",
                needed="durable_codec",
            ) from error

    def fetched(self, key: str) -> bytes:
        """Return a value from the payload store.

        Raises:
            StoreError: it cannot be had.
            ConfigurationError: it can, and is not decoded here.
        """
        if self.large is None:
            raise lacks("durable_payload_store")
        try:
            data = self.large.read(key)
        except Exception as error:
            raise StoreError(
                f"the payload store {self.large!r} did not give {key}: {type(error).__name__}:"
                f" {error}"
            ) from error
        return self.decoded(data)

    def _opened_text(self, text: str) -> str:
        whole = TOKEN.fullmatch(text)
        if whole is not None:
            return self._of_token(whole)
        # within JSON
        return TOKEN.sub(lambda found: json.dumps(self._of_token(found))[1:-1], text)

    def _of_token(self, found: re.Match[str]) -> str:
        try:
            data = self.decoded(base64.urlsafe_b64decode(found[1]))
        except ConfigurationError:  # it is for people, and nothing depends on it
            return _LOST
        return data.decode("utf-8", "surrogatepass")

    def opened_rows(self, rows: Sequence[sa.Row[Any]]) -> Sequence[sa.Row[Any]]:
        """Return rows of SQLAlchemy, opened."""
        if not rows:
            return rows
        names = SimpleResultMetaData(list(rows[0]._fields))
        opened: IteratorResult[Any] = IteratorResult(names, map(self._row, rows))
        return opened.fetchall()

    def _row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([self.opened(value) for value in row])

    def over(self, cursor: Cursor) -> Cursor:
        """Return a cursor whose rows are opened."""
        wrapped: Any = Opening(cursor, self._row)
        found: Cursor = wrapped
        return found


class Opening:
    """A cursor whose rows are opened when they are fetched."""

    def __init__(self, cursor: Any, opened: Callable[[Sequence[Any]], tuple[Any, ...]]) -> None:
        self._cursor = cursor
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        row = self._cursor.fetchone()
        return None if row is None else self._opened(row)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return [self._opened(row) for row in self._cursor.fetchall()]

    def __iter__(self) -> Iterator[Any]:
        return map(self._opened, self._cursor)
