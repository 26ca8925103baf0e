"""What is said of code that can never continue, or that was used from outside its turns."""

from __future__ import annotations

from .._errors import DurableError, ForbiddenOperation
from .loop import ReplayLoop
from .ports import ExecutionInfo
from .source_location import awaiting_line

__all__ = ["expect_no_stall", "expect_no_trespass", "places_of", "stall_of"]


def places_of(info: ExecutionInfo, loop: ReplayLoop) -> str:
    """Return where the code waits, for people.

    Where it begins, if that is all that is known.
    """
    lines = dict.fromkeys(awaiting_line(task.get_coro()) for task in loop.tasks)
    return (
        " and at ".join([line for line in lines if line is not None][:3])
        or f"a line of {info.name}"
    )


def stall_of(info: ExecutionInfo, loop: ReplayLoop) -> str:
    """Say that the code can never continue, where it waits, and what may be the cause."""
    return (
        f"orchestration {info.instance_id!r} ({info.name}) can never continue: it"
        f" waits at {places_of(info, loop)}, and no call, timer, event or answer is under way that"
        " could end that. Is it a lock that is taken twice, an asyncio.Event, a Queue or a"
        " future that is never set, a thread, or a future of another loop? What comes from"
        " outside comes by ctx.call() or ctx.wait_event()"
    )


def expect_no_stall(info: ExecutionInfo, problem: str | None) -> None:
    """Refuse to conclude a turn after which the code can never continue.

    Raises:
        DurableError: that is its problem, in words.
    """
    if problem is not None:
        raise DurableError(f"{problem}. Fix the code, then resume it", instance_id=info.instance_id)


def expect_no_trespass(info: ExecutionInfo, loop: ReplayLoop) -> None:
    """Refuse to continue with code that something outside its turns took part in, or tried to.

    Raises:
        ForbiddenOperation: it did.
    """
    if (what := loop.trespass) is not None:
        raise ForbiddenOperation(
            f"another thread, or a finalizer that the garbage collector ran, used {what} of"
            f" orchestration {info.instance_id!r} ({info.name}), which waits at"
            f" {places_of(info, loop)}: that cannot be replayed. Put the work of threads in an"
            " activity (a Celery task) and await ctx.call(...), then resume it",
            operation=what,
            instance_id=info.instance_id,
        )
