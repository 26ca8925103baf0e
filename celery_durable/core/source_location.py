"""Where in the user's code something was asked for, or is waited for: said to people, never used to
decide.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["asking_line", "awaiting_frames", "awaiting_line"]

_OURS = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)
_FRAMES, _INNER = ("cr_frame", "gi_frame", "ag_frame"), ("cr_await", "gi_yieldfrom", "ag_await")
#: What Python puts between a coroutine and what it awaits, and shows no attribute of: the steps of
#: an async generator, and coroutines that an ``__await__`` returns.
_OPAQUE = frozenset(
    {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"}
)


def asking_line() -> str | None:
    """Return the innermost line of the user's code on the stack, as ``file:line in function``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if (line := _line(frame)) is not None:
            return line
        frame = frame.f_back
    return None


def awaiting_line(coroutine: Any) -> str | None:
    """Return the innermost line of the user's code that a suspended coroutine waits in."""
    found: str | None = None
    for frame in awaiting_frames(coroutine):
        found = _line(frame) or found
    return found


def awaiting_frames(coroutine: Any) -> Iterator[FrameType]:
    """Give the frames of a suspended coroutine and of all that it awaits, the outermost first; ours
    and those of libraries too.
    """
    while coroutine is not None:
        frame = next(
            (frame for name in _FRAMES if (frame := getattr(coroutine, name, None)) is not None),
            None,
        )
        if frame is not None:
            yield frame
            if _line(frame) is None and (driven := frame.f_locals.get("generator")) is not None:
                # the driver of an orchestrator that is a generator, or what closes an async one
                coroutine = driven
                continue
        coroutine = _awaited_by(coroutine)


def _awaited_by(awaitable: Any) -> Any:
    for name in _INNER:
        if (inner := getattr(awaitable, name, None)) is not None:
            return inner
    if type(awaitable).__name__ in _OPAQUE:
        return next(iter(gc.get_referents(awaitable)), None)
    return None


def _line(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    if name.startswith((_OURS, _ASYNCIO, "<")):
        return None
    return f"{name}:{frame.f_lineno} in {frame.f_code.co_qualname}"
