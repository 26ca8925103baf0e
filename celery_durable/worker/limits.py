"""Celery's soft time limit, as a pool's child meets it: a signal, whose handler raises."""

from __future__ import annotations

import signal

from billiard.pool import soft_timeout_sighandler

from ..interrupts import defer

__all__ = ["defer_soft_limit"]

_SIGNAL = getattr(signal, "SIGUSR1", None)  # Windows has none, and no soft time limits


def defer_soft_limit() -> None:
    """Let the soft time limit of a pool's child wait for a body.

    Other processes handle the signal otherwise.
    """
    if _SIGNAL is not None:
        defer(_SIGNAL, soft_timeout_sighandler)
