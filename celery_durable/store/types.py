"""Column types that mean the same in every database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

__all__ = ["BIG_KEY", "LONG_TEXT", "PAYLOAD", "ExactText"]


class ExactText(sa.String):
    """A string that compares byte by byte: case, accents and trailing blanks count."""


@compiles(ExactText, "postgresql")
def _postgresql(type_: ExactText, compiler: Any, **_: Any) -> str:
    return f'VARCHAR({type_.length}) COLLATE "C"'


@compiles(ExactText, "mysql", "mariadb")
def _mysql(type_: ExactText, compiler: Any, **_: Any) -> str:
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR({type_.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


class _LongBinary(sa.LargeBinary):
    """Bytes of any length, also where the plain type ends at 64 KiB."""


class _LongText(sa.Text):
    """Text of any length, which compares byte by byte."""


# by names, not by MySQL's own types: these would be loaded into the workers of other databases
@compiles(_LongBinary, "mysql", "mariadb")
def _mysql_binary(*_: Any, **__: Any) -> str:
    return "LONGBLOB"


@compiles(_LongText, "mysql", "mariadb")
def _mysql_text(*_: Any, **__: Any) -> str:
    return "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


PAYLOAD = _LongBinary()
LONG_TEXT = _LongText()
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
