"""When a failed attempt is tried again. Data only: clock and random numbers are history's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .._errors import ActivityInterrupted

__all__ = ["LONGEST", "Interval", "RetryPolicy", "in_microseconds", "is_followed"]

Interval = float | int | timedelta
#: The longest interval, in microseconds: what begins before the year 7000 ends within the calendar.
LONGEST = timedelta(days=1_000_000) // timedelta(microseconds=1)


def in_microseconds(interval: Interval, what: str = "interval") -> int:
    """Return an interval given in seconds or as ``timedelta`` as whole microseconds.

    Raises:
        TypeError: it is neither a number nor a ``timedelta``.
        ValueError: it is negative, not finite, or longer than 1,000,000 days.
    """
    if isinstance(interval, timedelta):
        micros = interval // timedelta(microseconds=1)
    elif isinstance(interval, (int, float)) and not isinstance(interval, bool):
        try:
            micros = round(interval * 1_000_000)
        except (OverflowError, ValueError):
            raise ValueError(f"{what} must be finite, not {interval!r}") from None
    else:
        raise TypeError(f"{what} must be seconds or a timedelta, not {type(interval).__name__}")
    if micros < 0:
        raise ValueError(f"{what} must not be negative, not {interval!r}")
    if micros > LONGEST:
        raise ValueError(f"{what} must be at most 1,000,000 days, not {interval!r}")
    return micros


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how soon and on which exceptions an activity is tried again.

    Intervals are seconds or ``timedelta``. ``max_attempts`` counts the first attempt too;
    ``total_timeout`` is measured from the first scheduling; ``jitter`` is the share (0 to 1) by
    which an interval may shrink or grow. ``ActivityInterrupted`` is tried again only if
    ``retry_on`` names it itself.

    Example:
        >>> RetryPolicy(max_attempts=5, backoff=3, jitter=0.2, give_up_on=(ValueError,))
    """

    first_interval: Interval = 1
    max_attempts: int = 3
    backoff: float = 2.0
    max_interval: Interval | None = None
    total_timeout: Interval | None = None
    jitter: float = 0.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a policy that could never work.

        Raises:
            ValueError, TypeError: a field is out of its range or of the wrong type.
        """
        in_microseconds(self.first_interval, "first_interval")
        for name in ("max_interval", "total_timeout"):
            if (value := getattr(self, name)) is not None:
                in_microseconds(value, name)
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ValueError(
                f"max_attempts must be a whole number of at least 1, not {self.max_attempts!r}"
            )
        if not 1 <= self.backoff < float("inf"):
            raise ValueError(f"backoff must be at least 1, not {self.backoff!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {self.jitter!r}")
        for name in ("retry_on", "give_up_on"):
            value = getattr(self, name)
            classes = (value,) if isinstance(value, type) else tuple(value)
            if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
                raise TypeError(f"{name} must hold exception classes, not {value!r}")
            object.__setattr__(self, name, classes)

    def delay(
        self, attempt: int, error: BaseException, elapsed: int, rng: Callable[[], float]
    ) -> int | None:
        """Return the wait before the attempt after ``attempt``, in microseconds; None gives up.

        ``elapsed`` is microseconds since the first scheduling, by history's clock; ``rng`` gives
        numbers in [0, 1).
        """
        if (
            attempt >= self.max_attempts
            or isinstance(error, self.give_up_on)
            or not isinstance(error, self.retry_on)
        ):
            return None
        if isinstance(error, ActivityInterrupted) and not any(
            issubclass(c, ActivityInterrupted) for c in self.retry_on
        ):
            return None
        wait = self._wait(attempt, rng)
        if self.total_timeout is not None and elapsed + wait > in_microseconds(self.total_timeout):
            return None
        return round(wait)

    def _wait(self, attempt: int, rng: Callable[[], float]) -> float:
        ceiling = None if self.max_interval is None else in_microseconds(self.max_interval)
        first = in_microseconds(self.first_interval)
        try:
            wait = first * self.backoff ** (attempt - 1) if first else 0.0
        except OverflowError:
            wait = float(LONGEST)
        wait = min(wait, LONGEST if ceiling is None else ceiling)
        if self.jitter:
            wait *= 1 + self.jitter * (2 * rng() - 1)
        return wait

    def terms(self, attempt: int, first_at: int, rng: Callable[[], float]) -> dict[str, Any] | None:
        """Return what tells elsewhere whether a failure of an attempt is followed by another one.

        None: by none.

        ``first_at`` is when the first one was scheduled, in microseconds; see ``is_followed``.
        """
        if attempt >= self.max_attempts:
            return None
        found: dict[str, Any] = {"on": _names(self.retry_on), "not": _names(self.give_up_on)}
        if self.total_timeout is not None:
            found["until"] = round(
                first_at + in_microseconds(self.total_timeout) - self._wait(attempt, rng)
            )
        return found


def is_followed(terms: Mapping[str, Any], error: BaseException, now: int) -> bool:
    """Tell whether an attempt that fails so, ``now``, is followed by another one.

    ``terms`` are of its policy.
    """
    wanted, unwanted, until = (terms.get(key) for key in ("on", "not", "until"))
    if (
        not isinstance(wanted, list)
        or not isinstance(unwanted, list)
        or (isinstance(until, int) and now > until)
    ):
        return False
    kinds = set(_names(type(error).__mro__))
    if isinstance(error, ActivityInterrupted):
        kinds = set(
            _names(cls for cls in type(error).__mro__ if issubclass(cls, ActivityInterrupted))
        )
    return not kinds.isdisjoint(wanted) and set(_names(type(error).__mro__)).isdisjoint(unwanted)


def _names(classes: Iterable[type]) -> list[str]:
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]
