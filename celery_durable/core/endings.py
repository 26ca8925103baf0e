"""Who ended a piece of code: it itself, which is an outcome like any other, or another one, which
says nothing of it.
"""

from __future__ import annotations

import asyncio
import threading

__all__ = ["Withdrawn", "is_own"]

_FOREIGN = ("celery_durable.", "celery.", "gevent.", "greenlet", "eventlet.")
_PROCESS_ENDS = ("_shutdown_cleanup", "billiard.common")  # a signal to a child of the pool


class Withdrawn(Exception):
    """An execution has not begun in time, or wants no result: it ends as canceled, for this
    reason.
    """


def is_own(error: BaseException, *, is_worker: bool = False) -> bool:
    """Tell whether code raised an exception by itself.

    Ours, those of greenlets that are killed or time out, of a worker that shuts down, of a signal
    to a process of its pool, and Ctrl-C come from outside. In a worker Ctrl-C is not a
    ``KeyboardInterrupt``, and threads never get one.
    """
    if isinstance(error, (Exception, asyncio.CancelledError)):
        return True
    if any(cls.__module__.startswith(_FOREIGN) for cls in type(error).__mro__):
        return False
    if isinstance(error, KeyboardInterrupt):
        return is_worker or threading.current_thread() is not threading.main_thread()
    return not (isinstance(error, SystemExit) and _raised_by(error) == _PROCESS_ENDS)


def _raised_by(error: BaseException) -> tuple[str, str]:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "", ""
    frame = trace.tb_frame
    return frame.f_code.co_name, str(frame.f_globals.get("__name__"))
