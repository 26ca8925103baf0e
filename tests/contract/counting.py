"""What is counted where a cost is told: statements, and seconds that pass when they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celery_durable.engine.recovery import Recovery
from celery_durable.store import Store

__all__ = ["Clock", "count_statements", "ticks"]


def count_statements(
    store: Store, monkeypatch: pytest.MonkeyPatch, note: Callable[[str], object]
) -> None:
    """Have each statement noted that goes to a store's database."""
    plain = store.database._leased

    @contextmanager
    def leased(*args: Any, **options: Any) -> Iterator[Any]:
        with plain(*args, **options) as found:
            yield _NotingCursor(found, note)

    monkeypatch.setattr(store.database, "_leased", leased)


class _NotingCursor:
    def __init__(self, cursor: Any, note: Callable[[str], object]) -> None:
        self._cursor, self._note = cursor, note

    def execute(self, sql: str, *args: Any) -> Any:
        self._note(sql)
        return self._cursor.execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        self._note(sql)
        return self._cursor.executemany(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def ticks(recovery: Recovery, clock: Clock, seconds: int) -> None:
    """Let so many seconds pass, in each of which recovery looks."""
    for _ in range(seconds):
        clock.seconds += recovery.settings.recovery_interval
        recovery.tick(list, lambda _: None)
