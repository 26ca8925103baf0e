"""``link_error`` of an activity that is tried again: it is called with the failure that is the last
one, not with each.

The retry policy is the orchestration's. What it makes of a failure travels with the message, so
that the process that fails it knows.
"""

from __future__ import annotations

import time
from typing import Any

from celery.exceptions import TimeLimitExceeded, WorkerLostError

from ..core.retry import is_followed
from ..errors import ActivityInterrupted
from .headers import header_in

__all__ = ["spare_errbacks"]


def spare_errbacks(task: Any, request: Any, error: BaseException) -> None:
    """Let Celery call no ``link_error`` if this failure of an activity is followed by another
    attempt.
    """
    if not getattr(request, "errbacks", None):
        return
    terms = header_in(request, "durable_retry")
    if getattr(task, "at_most_once", False) and isinstance(
        error, (WorkerLostError, TimeLimitExceeded)
    ):
        error = ActivityInterrupted(str(error))
    if isinstance(terms, dict) and is_followed(terms, error, time.time_ns() // 1000):
        request.errbacks = None
