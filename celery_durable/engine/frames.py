"""The frames in which the application's code waits, or has raised: what a debugger shows."""

from __future__ import annotations

import linecache
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..core.source_location import awaiting_frames

__all__ = ["StoppedFrame", "StoppedTask", "raised_frames", "waiting_frames"]

_OURS = f"{Path(__file__).parents[1]}/"
_STANDARD = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple({f"{sysconfig.get_path(name)}/" for name in ("purelib", "platlib")})


@dataclass(frozen=True, eq=False)
class StoppedFrame:
    """A function of the application that waits, or has raised."""

    #: The name of the asyncio task that it runs in; the orchestrator's own is "main".
    task: str
    #: Its qualified name.
    function: str
    #: The file of its code, as Python knows it.
    file: str
    #: The line at which it waits or has raised, from 1.
    line: int
    #: Its local variables at this stop, by name: the values themselves, in a copy of the mapping.
    locals: Mapping[str, Any] = field(repr=False)
    #: The frame itself, for debuggers; of no use once the replay has moved.
    frame: FrameType = field(repr=False)

    def source(self, around: int = 4) -> list[tuple[int, str]]:
        """Return the lines of its code around the one that it is at, with their numbers.

        Empty where the text is not there.

        Args:
            around: how many lines before it, and after it.

        Example:
            >>> for number, text in frame.source(2):
            ...     print(number, text)
        """
        lines = linecache.getlines(self.file, self.frame.f_globals)
        first = max(1, self.line - around)
        return [
            (number, text.rstrip("\n"))
            for number, text in enumerate(lines[first - 1 : self.line + around], first)
        ]


@dataclass(frozen=True, eq=False)
class StoppedTask:
    """One asyncio task of an orchestrator: its own, or a branch that it has begun."""

    #: "main" is the orchestrator's own; others have the name that the code or asyncio gave them.
    name: str
    #: Of the application's code, the outermost first; empty if all of it is a library's.
    frames: list[StoppedFrame]


def waiting_frames(task: str, coroutine: Any) -> list[StoppedFrame]:
    """Return the frames in which a suspended coroutine waits."""
    return _stopped(task, ((frame, frame.f_lineno) for frame in awaiting_frames(coroutine)))


def raised_frames(task: str, error: BaseException) -> list[StoppedFrame]:
    """Return the frames through which an exception has passed."""
    return _stopped(task, _of_traceback(error.__traceback__))


def _of_traceback(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _stopped(task: str, frames: Iterable[tuple[FrameType, int]]) -> list[StoppedFrame]:
    return [
        StoppedFrame(
            task,
            frame.f_code.co_qualname,
            frame.f_code.co_filename,
            line,
            dict(frame.f_locals),
            frame,
        )
        for frame, line in frames
        if _is_of_the_application(frame.f_code.co_filename)
    ]


def _is_of_the_application(file: str) -> bool:
    """Tell whether code is neither this package's nor the standard library's."""
    if file.startswith(_OURS) or file.startswith("<frozen "):
        return False
    return file.startswith(_INSTALLED) or not file.startswith(_STANDARD)
