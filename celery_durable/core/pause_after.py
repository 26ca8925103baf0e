"""When a task is paused by itself: as a task declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._errors import ConfigurationError
from .flags import is_whole
from .retry import Interval, in_microseconds

__all__ = ["PauseAfter", "read_pause_after"]

_MOST = 1_000


@dataclass(frozen=True)
class PauseAfter:
    """So many failed attempts of a task within some time, over all workers, pause it: no further
    attempt begins until ``durable.unpause(task=...)``.

    Every attempt that fails as an activity counts, also one that is tried again: with what its body
    raises, by a time limit, or with its worker. Celery's own retries are within one attempt.

    Args:
        failures: how many, 1 to 1000.
        per: within how many seconds, or a ``timedelta``.
        for_: after how many seconds, or which ``timedelta``, it is unpaused by itself; None leaves
            that to you.

    Raises:
        ConfigurationError: ``failures`` is no such number, or ``per`` or ``for_`` no interval.

    Example:
        >>> @app.task(durable_pause_after=PauseAfter(failures=20, per=60, for_=300))
        ... def call_the_bank(account: str) -> str:
        ...     return f"called for {account}"
    """

    failures: int
    per: Interval
    for_: Interval | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.failures) or not 1 <= self.failures <= _MOST:
            raise ConfigurationError(
                f"PauseAfter: failures is a number from 1 to {_MOST}, not {self.failures!r}"
            )
        for name, given in (("per", self.per), ("for_", self.for_)):
            if name == "for_" and given is None:
                continue
            try:
                is_positive = in_microseconds(given) > 0  # type: ignore[arg-type]
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"PauseAfter: {name}: {error}") from error
            if not is_positive:
                raise ConfigurationError(f"PauseAfter: {name} is more than 0, not {given!r}")

    @property
    def window(self) -> int:
        """Within how many microseconds failures count."""
        return in_microseconds(self.per)

    @property
    def length(self) -> int | None:
        """How many microseconds the pause lasts; None until it is lifted."""
        return None if self.for_ is None else in_microseconds(self.for_)


def read_pause_after(given: Any, what: str) -> PauseAfter | None:
    """Return what ``durable_pause_after=`` gives to a task.

    Raises:
        ConfigurationError: it is none.
    """
    if given is not None and not isinstance(given, PauseAfter):
        raise ConfigurationError(
            f"{what}: durable_pause_after takes PauseAfter(failures=20, per=60), not {given!r}"
        )
    return given
