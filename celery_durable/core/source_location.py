"""Where in the user's code something was asked for, or is waited for: said to people, never used to
decide.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["asking_line", "awaiting_line"]

_OURS = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)
_FRAMES, _INNER = ("cr_frame", "gi_frame", "ag_frame"), ("cr_await", "gi_yieldfrom", "ag_await")


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
    while coroutine is not None:
        frame = next(
            (frame for name in _FRAMES if (frame := getattr(coroutine, name, None)) is not None),
            None,
        )
        if frame is not None:
            found = _line(frame) or found
            if (generator := frame.f_locals.get("generator")) is not None and _line(frame) is None:
                # the driver of an orchestrator that is a generator, or what closes an async one
                coroutine = generator
                continue
        coroutine = next(
            (inner for name in _INNER if (inner := getattr(coroutine, name, None)) is not None),
            None,
        )
    return found


def _line(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    if name.startswith((_OURS, _ASYNCIO, "<")):
        return None
    return f"{name}:{frame.f_lineno} in {frame.f_code.co_qualname}"
