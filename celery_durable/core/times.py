"""Moments as the core counts them: microseconds since the epoch, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["EPOCH", "as_microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_microseconds(when: datetime) -> int:
    """Return an aware ``datetime`` as microseconds since the epoch.

    Raises:
        ValueError: it is naive.
        TypeError: it is no ``datetime``.
    """
    if not isinstance(when, datetime):
        raise TypeError(f"an aware datetime is needed, not {type(when).__name__}")
    if when.tzinfo is None or when.utcoffset() is None:
        raise ValueError(
            f"{when!r} is naive: give it a time zone, for example datetime.now(timezone.utc)"
        )
    return (when - EPOCH) // timedelta(microseconds=1)
