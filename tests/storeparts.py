"""A store, around each of whose calls a test puts something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PARTS = frozenset(
    "turns starts attempts outcomes inbox reads recovery workers schedules admission limits cleanup archiving".split()
)


class WrappedStore:
    """The store, or a part of it; ``around(name, method)`` gives what is called instead."""

    def __init__(self, store: Any, around: Callable[[str, Callable[..., Any]], Any]) -> None:
        self._store, self._around = store, around

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in PARTS:
            return WrappedStore(found, self._around)
        if name.startswith("_") or name == "database" or not callable(found):
            return found
        return self._around(name, found)
