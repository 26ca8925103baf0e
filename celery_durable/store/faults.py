"""What an error of a driver means: to be repeated, another server's, permanent, or ours."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .._errors import ConfigurationError, StoreError

__all__ = ["Undone", "code_of", "is_duplicate", "is_read_only", "may_repeat", "store_error"]

_RETRYABLE = {"40P01", "40001", "55P03", 1213, 1205}
_TOO_LARGE = {1153}  # a packet above MySQL's max_allowed_packet
_NO_TABLE = {"42P01", "42703", 1146, 1054}
_DUPLICATE = 1062
_READ_ONLY = {"25006", 1290, 1792, 1836}


class Undone(Exception):
    """Raised by what runs in a transaction, to undo it: the connection itself is well."""


def may_repeat(family: str, error: Exception) -> bool:
    """Tell whether the database asks for its transaction to be run again."""
    original = getattr(error, "orig", None) or error
    return code_of(error) in _RETRYABLE or (family == "sqlite" and _is_busy(original))


def is_duplicate(error: Exception) -> bool:
    """Tell whether MySQL refuses a row because its key is there."""
    return bool(code_of(error) == _DUPLICATE)


def store_error(name: str, family: str, driver: Any, error: Exception) -> Exception:
    """Return what is raised for an error of the driver or of SQLAlchemy.

    Args:
        name: of the database, without its password.
        family: "postgresql", "sqlite" or "mysql".
        driver: the driver's module.
        error: that it raised.
    """
    if code_of(error) in _NO_TABLE or (family == "sqlite" and "no such table" in str(error)):
        return ConfigurationError(
            f"the tables in {name} are missing or behind this release ({error}); run"
            " durable.migrate()",
            needed=None,
        )
    original = getattr(error, "orig", None) or error
    if isinstance(original, sa.exc.TimeoutError):
        return StoreError(
            f"all connections that this process may have to the store {name} are in use"
            f" ({original}): more of its threads want one at a time than"
            " durable_backend_options={'max_overflow': ...} allows, which is 30 if left out,"
            " beside 2"
        )
    if is_read_only(original):
        return StoreError(
            f"the store {name} takes no writes ({original}): it may be the primary no more. New"
            " connections are tried: let durable_backend_url lead to the primary"
        )
    refusals = (driver.DataError, driver.IntegrityError, driver.ProgrammingError)
    is_permanent = isinstance(original, refusals) or code_of(error) in _TOO_LARGE
    return StoreError(
        f"the store {name} failed: {type(original).__name__}: {original}", is_permanent=is_permanent
    )


def code_of(error: BaseException) -> Any:
    """Return PostgreSQL's SQLSTATE, or MySQL's number: its drivers may offer a SQLSTATE too, which
    says less.
    """
    original = getattr(error, "orig", None) or error
    first = original.args[0] if original.args else None
    return first if isinstance(first, int) else getattr(original, "sqlstate", first)


def is_read_only(error: BaseException) -> bool:
    """Tell whether a server that took writes takes none now."""
    code = code_of(error)
    if code == 1290:  # of several options that forbid something
        return "read-only" in str(error) or "read_only" in str(error)
    return code in _READ_ONLY or (_is_sqlites(error) and "readonly database" in str(error))


def _is_sqlites(error: BaseException) -> bool:
    # by its name: the driver is not loaded where another database is used
    return f"{type(error).__module__}.{type(error).__name__}" == "sqlite3.OperationalError"


def _is_busy(error: BaseException) -> bool:
    return _is_sqlites(error) and ("locked" in str(error) or "busy" in str(error))
