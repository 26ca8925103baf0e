"""Internal. The SQL store: what is true. No Celery here.

Imported when it is first used: SQLAlchemy takes longer than all the rest of this package, and a
process that only declares tasks needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .opening import open_store, sql_store
    from .store import Store

__all__ = ["Store", "open_store", "sql_store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import opening

    value = globals()[name] = getattr(opening, name)
    return value
