"""Column types that mean the same in every database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
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


PAYLOAD = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(
    mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
