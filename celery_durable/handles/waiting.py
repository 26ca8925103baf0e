"""Waiting for the end of an orchestration, by reading its status again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..core.status import RuntimeStatus
from ..errors import DurableError, WaitTimeout

__all__ = ["drivers", "wait_for_end"]

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
    left, patience = timeout, _EAGER_PATIENCE
    if drivers:  # no time passes after that
        drivers[-1](timeout, lambda: read()[1])
        left, patience = None if timeout is None else 0.0, 0.0
    began = time.monotonic()
    end = None if left is None else began + left
    pause = _FIRST_PAUSE
    while True:
        status, is_last = read()
        if is_last:
            return
        if is_draining() or (is_eager and end is None and time.monotonic() - began > patience):
            raise DurableError(
                f"orchestration {instance_id!r} is waited for where it cannot go on meanwhile"
                " (task_always_eager):"
                f" {'it has not begun' if status is None else waits_for()}",
                instance_id=instance_id,
            )
        if end is not None and time.monotonic() + pause > end:
            if (left := end - time.monotonic()) <= 0:
                raise WaitTimeout(
                    f"orchestration {instance_id!r} is {status or 'not started'} after {timeout}"
                    " seconds",
                    instance_id=instance_id,
                    status=status,
                    timeout=timeout,
                )
            pause = left
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
