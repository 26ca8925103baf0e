"""The oldest version of each library that this package works with, and a clear word where one is
older.

``pyproject.toml`` says the same to installers; this is for environments that were put together in
another way, by a lock file or a downgrade.
"""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["OLDEST", "demand"]

#: By name on the package index.
OLDEST = {
    "celery": "5.5",
    "kombu": "5.5.2",
    "sqlalchemy": "2.0",
    "alembic": "1.13",
    "pydantic": "2.7",
    "psycopg": "3.1.8",
    "pymysql": "1.1",
    "django": "5.2",
    "flower": "2.0.1",
    "rich": "13",
    "itsdangerous": "2.2",
    "opentelemetry-api": "1.27",
    "prometheus-client": "0.20",
    "cryptography": "42",
    "fsspec": "2024.2",
}


def demand(*names: str) -> None:
    """Look whether libraries are new enough.

    One that is not installed is left to the import that misses it.

    Raises:
        ImportError: one is too old. The message names it, the version found and the version wanted.
    """
    for name in names:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if _release(found) < _release(OLDEST[name]):
            raise ImportError(
                f"celery-durable needs {name} {OLDEST[name]} or later, but {found} is installed: "
                f"pip install '{name}>={OLDEST[name]}'",
                name=name,
            )


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what marks it as a preview or a build."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
