"""Who may do what, and when: only an orchestrator's own code may ask for something, only in its
turn; and while it runs, the store is out of its thread's reach.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from .._errors import DurableError
from .names import parts_of_id

__all__ = ["in_turn", "refuse_inside_orchestrator", "running_orchestrator"]

F = TypeVar("F", bound=Callable[..., Any])

#: A method of the context is named as the user writes it, whichever class defines it.
_CONTEXT = re.compile(r"^\w*Context\.")
_running = threading.local()


def in_turn(method: F) -> F:
    """Let a method through only while its execution takes an event, in the thread that does so.

    From code that is being dropped nothing is taken any more: it is given a future that never ends,
    at which it is thrown out.

    Raises:
        ForbiddenOperation: (by the method) it was called by another thread, by a finalizer, or too
            late.
    """
    what = _CONTEXT.sub("ctx.", method.__qualname__) + "()"

    @wraps(method)
    def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
        loop = self._host.loop
        return method(self, *args, **kwargs) if loop.is_open() else loop.refuse(what)

    return cast(F, asked)


@contextmanager
def running_orchestrator(instance_id: str) -> Iterator[None]:
    """Mark this thread as running the code of an orchestrator."""
    outer = getattr(_running, "instance_id", None)
    _running.instance_id = instance_id
    try:
        yield
    finally:
        _running.instance_id = outer


def refuse_inside_orchestrator(what: str) -> None:
    """Raise if this thread runs an orchestrator: the store is out of its reach.

    Raises:
        DurableError: called from within an orchestrator, a function under ``ctx.run``, or an
            operation of an entity.
    """
    if (instance_id := getattr(_running, "instance_id", None)) is None:
        return
    if parts_of_id(instance_id) is not None:
        raise DurableError(
            f"{what} was called inside an operation of entity {instance_id!r}: it would be done"
            " again whenever the operation is. Return what is wanted, and let the orchestrator or"
            " the program that called the operation do it",
            instance_id=instance_id,
        )
    raise DurableError(
        f"{what} was called inside orchestrator {instance_id!r}: that would not replay. Call a"
        " sub-orchestration or an activity by ctx.call(...), or use ctx.signal_event(...)",
        instance_id=instance_id,
    )
