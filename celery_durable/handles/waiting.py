"""Waiting for what an orchestration comes to, by reading the store again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import isnan
from typing import TYPE_CHECKING

from ..core.flags import is_number

if TYPE_CHECKING:
    from ..core.status import RuntimeStatus

__all__ = ["check_seconds", "drivers", "pauses", "wait_for_end", "wait_until"]

#: Of a test that plays the worker: lets what is due happen, and as much time pass as a wait may
#: take (seconds; None is any), until a condition holds.
drivers: list[Callable[[float | None, Callable[[], bool]], None]] = []

_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.05, 1.2, 1.0  # seconds
#: With ``task_always_eager``, a wait without a timeout gives up after so many seconds.
_EAGER_PATIENCE = 10.0


def wait_for_end(
    instance_id: str,
    timeout: float | None,
    read: Callable[[], tuple[RuntimeStatus | None, bool]],
    *,
    is_eager: bool,
    is_draining: Callable[[], bool],
    waits_for: Callable[[], str],
) -> None:
    """Return when it has ended, or is not there.

    Args:
        instance_id: of the orchestration, for messages.
        timeout: seconds; None waits for ever.
        read: gives the status, and whether it is the last one.
        is_eager: whether nothing but this thread runs what is sent (``task_always_eager``).
        is_draining: tells whether this thread is within a task that it runs at once: the
            orchestration cannot move before that has ended.
        waits_for: says what it waits for.

    Raises:
        WaitTimeout: it has not ended in time.
        DurableError: it cannot move while this thread waits.
    """
    from ..errors import DurableError, WaitTimeout  # one of Celery's, too

    statuses: list[RuntimeStatus | None] = [None]

    def is_over() -> bool:
        statuses[0], is_last = read()
        return is_last

    wait_until(
        is_over,
        timeout,
        is_eager=is_eager,
        is_draining=is_draining,
        stuck=lambda: DurableError(
            f"orchestration {instance_id!r} is waited for where it cannot go on meanwhile"
            " (task_always_eager):"
            f" {'it has not begun' if statuses[0] is None else waits_for()}",
            instance_id=instance_id,
        ),
        late=lambda: WaitTimeout(
            f"orchestration {instance_id!r} is {statuses[0] or 'not started'} after {timeout}"
            " seconds",
            instance_id=instance_id,
            status=statuses[0],
            timeout=timeout,
        ),
    )


def wait_until(
    is_over: Callable[[], bool],
    timeout: float | None,
    *,
    is_eager: bool,
    is_draining: Callable[[], bool],
    stuck: Callable[[], Exception],
    late: Callable[[], Exception],
) -> None:
    """Return when a look at the store says so.

    Args:
        is_over: looks.
        timeout: seconds; None waits for ever.
        is_eager: see ``wait_for_end``.
        is_draining: see ``wait_for_end``.
        stuck: makes the error of a wait for what cannot come while this thread waits.
        late: makes the error of a wait that ran out.
    """
    check_seconds(timeout)
    left, patience = timeout, _EAGER_PATIENCE
    if drivers:  # no time passes after that
        drivers[-1](timeout, is_over)
        left, patience = None if timeout is None else 0.0, 0.0
    began = time.monotonic()
    end = None if left is None else began + left
    for pause in pauses():
        if is_over():
            return
        if is_draining() or (is_eager and end is None and time.monotonic() - began > patience):
            raise stuck()
        left = pause if end is None else end - time.monotonic()
        if left <= 0:
            raise late()
        time.sleep(min(pause, left))


def check_seconds(timeout: float | None) -> None:
    """Refuse what is no number of seconds to wait; None is for ever, and so is infinity.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN.
    """
    if timeout is None:
        return
    if not is_number(timeout):
        raise TypeError(f"timeout must be seconds, not {timeout!r}")
    if isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")


def pauses() -> Iterator[float]:
    """Give how many seconds lie between two looks: few at first."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
