"""What is counted where a cost is told: statements, and seconds that pass when they are told to."""

from __future__ import annotations

from typing import Any

from celery_durable.engine.recovery import Recovery

__all__ = ["Clock", "CountingCursor", "ticks"]


class CountingCursor:
    """Notes what is run on a cursor."""

    def __init__(self, cursor: Any, seen: list[str]) -> None:
        self._cursor, self._seen = cursor, seen

    def execute(self, sql: str, *args: Any) -> Any:
        self._seen.append(sql)
        return self._cursor.execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        self._seen.append(sql)
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
