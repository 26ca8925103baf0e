"""When a failed attempt is tried again. Data only: clock and random numbers are history's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .._errors import ActivityInterrupted
from .flags import is_number, is_whole
from .times import as_microseconds

__all__ = [
    "LONGEST",
    "Interval",
    "RetryPolicy",
    "asked_wait",
    "in_microseconds",
    "is_followed",
    "run_timeout",
]

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
    elif is_number(interval):
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


def run_timeout(interval: Interval | None) -> int | None:
    """Return the time that a whole run may take as microseconds.

    Raises:
        TypeError, ValueError: it is no interval, or not positive.
    """
    if interval is None:
        return None
    micros = in_microseconds(interval, "timeout")
    if micros <= 0:
        raise ValueError(f"timeout must be more than 0, not {interval!r}")
    return micros


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how soon and on which exceptions an activity is tried again.

    Intervals are seconds or ``timedelta``. ``max_attempts`` counts the first attempt too, and None
    sets no limit; ``total_timeout`` is measured from the first scheduling; ``jitter`` is the share
    (0 to 1) by which an interval may shrink or grow. ``ActivityInterrupted`` is tried again only if
    ``retry_on`` names it itself.

    ``retry_if`` is asked about what ``retry_on`` and ``give_up_on`` let through: a function of the
    exception, pure as the orchestrator is, since every replay asks it again. If it raises, the call
    fails with that exception.

    An exception with an attribute ``retry_after`` (seconds, ``timedelta`` or an aware ``datetime``)
    says itself when the next attempt begins; neither ``jitter`` nor ``max_interval`` changes that.

    Example:
        >>> RetryPolicy(max_attempts=5, backoff=3, jitter=0.2, give_up_on=(ValueError,))
        >>> RetryPolicy(max_attempts=None, total_timeout=3600, retry_if=lambda e: e.status >= 500)
    """

    first_interval: Interval = 1
    max_attempts: int | None = 3
    backoff: float = 2.0
    max_interval: Interval | None = None
    total_timeout: Interval | None = None
    jitter: float = 0.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    retry_if: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that could never work.

        Raises:
            ValueError, TypeError: a field is out of its range or of the wrong type.
        """
        in_microseconds(self.first_interval, "first_interval")
        for name in ("max_interval", "total_timeout"):
            if (value := getattr(self, name)) is not None:
                in_microseconds(value, name)
        most = self.max_attempts
        if most is not None and (not is_whole(most) or most < 1):
            raise ValueError(
                f"max_attempts must be a whole number of at least 1, or None, not {most!r}"
            )
        if self.retry_if is not None and not callable(self.retry_if):
            raise TypeError(f"retry_if must be a function of the exception, not {self.retry_if!r}")
        for name in ("backoff", "jitter"):
            value = getattr(self, name)
            if not is_number(value):
                raise TypeError(f"{name} must be a number, not {value!r}")
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
        self,
        attempt: int,
        error: BaseException,
        elapsed: int,
        rng: Callable[[], float],
        asked: int | None = None,
    ) -> int | None:
        """Return the wait before the attempt after ``attempt``, in microseconds; None gives up.

        Args:
            attempt: the number of the one that has failed, from 1.
            error: how it has failed.
            elapsed: microseconds since the first scheduling, by history's clock.
            rng: gives numbers in [0, 1).
            asked: the wait that the error asks for (see ``asked_wait``).

        Raises:
            Exception: what ``retry_if`` raises.
        """
        if not self._may_follow(attempt) or not self._is_for(error):
            return None
        wait = self._wait(attempt, rng) if asked is None else asked
        if self.total_timeout is not None and elapsed + wait > in_microseconds(self.total_timeout):
            return None
        return round(wait)

    def _may_follow(self, attempt: int) -> bool:
        return self.max_attempts is None or attempt < self.max_attempts

    def _is_for(self, error: BaseException) -> bool:
        """Tell whether an attempt that fails so is tried again."""
        if isinstance(error, self.give_up_on) or not isinstance(error, self.retry_on):
            return False
        if isinstance(error, ActivityInterrupted) and not any(
            issubclass(c, ActivityInterrupted) for c in self.retry_on
        ):
            return False
        return self.retry_if is None or bool(self.retry_if(error))

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
        if not self._may_follow(attempt):
            return None
        found: dict[str, Any] = {"on": _names(self.retry_on), "not": _names(self.give_up_on)}
        if self.retry_if is not None:
            found["if"] = path_of(self.retry_if)
        if self.total_timeout is not None:
            found["end"] = end = first_at + in_microseconds(self.total_timeout)
            found["until"] = round(end - self._wait(attempt, rng))
        return found


def is_followed(terms: Mapping[str, Any], error: BaseException, now: int) -> bool:
    """Tell whether an attempt that fails so, ``now``, is followed by another one.

    ``terms`` are of its policy. Where they name a function that is not known in this process, the
    answer is no.
    """
    wanted, unwanted, until = (terms.get(key) for key in ("on", "not", "until"))
    if (asked := asked_wait(error, now)) is not None and isinstance(terms.get("end"), int):
        until = terms["end"] - asked
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
    if kinds.isdisjoint(wanted) or not set(_names(type(error).__mro__)).isdisjoint(unwanted):
        return False
    return "if" not in terms or _agrees(terms["if"], error)


def _agrees(path: Any, error: BaseException) -> bool:
    condition = found_at(path) if isinstance(path, str) else None
    try:
        return condition is not None and bool(condition(error))
    except Exception:
        return False


def asked_wait(error: BaseException, now: int) -> int | None:
    """Return the wait that an exception asks for by its ``retry_after``, in microseconds.

    None: it has none, or one that is neither a moment nor an interval.

    ``now`` is microseconds since the epoch.
    """
    try:
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, datetime):
            return min(max(0, as_microseconds(asked) - now), LONGEST)
        return None if asked is None else in_microseconds(asked)
    except Exception:  # a property's own, too
        return None


def path_of(function: Callable[..., Any]) -> str | None:
    """Return by which name other processes find a function; None if they cannot."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    path = f"{module}:{name}"
    return path if found_at(path) is function else None


def found_at(path: str) -> Callable[..., Any] | None:
    """Return the function of that name, if its module is imported here."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


def _names(classes: Iterable[type]) -> list[str]:
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]
