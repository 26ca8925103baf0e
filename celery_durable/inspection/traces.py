"""Tracebacks as people read them: their own frames open, those of libraries folded.

A traceback was written where an activity ran, so nothing is looked up here: paths alone tell whose
a frame is.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["TracePart", "parts_of_trace"]

_FRAME = re.compile(r'^(?P<indent>[ |+-]*)File "(?P<path>[^"\n]+)", line \d+')
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\](?P<top>[^/\\]+)")
_STANDARD = re.compile(
    r"^<frozen |[/\\]lib(?:64)?[/\\]python\d[\d.]*[/\\]|[/\\]Python\d+[/\\]Lib[/\\]"
)


@dataclass(frozen=True)
class TracePart:
    """Lines of a traceback that belong together.

    Example:
        >>> [(part.frames, part.is_library) for part in parts_of_trace(text)]
        [(0, False), (3, True), (2, False)]
    """

    #: The lines.
    text: str
    #: Whether all frames of it are of libraries: it is shown folded.
    is_library: bool = False
    #: How many frames it has.
    frames: int = 0


def parts_of_trace(trace: str, own: Collection[str] = ()) -> list[TracePart]:
    """Take a traceback apart, in its order.

    Args:
        trace: as Python writes it.
        own: top-level packages that are the user's, also where they are installed.
    """
    found: list[tuple[list[str], bool, int]] = []

    def add(line: str, is_library: bool, frames: int) -> None:
        if found and found[-1][1] is is_library:
            lines, _, before = found[-1]
            lines.append(line)
            found[-1] = (lines, is_library, before + frames)
        else:
            found.append(([line], is_library, frames))

    depth, is_library = -1, False
    for line in trace.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            depth, is_library = len(frame["indent"]), _is_library(frame["path"], own)
            add(line, is_library, 1)
        elif depth >= 0 and line.startswith((" ", "|")) and _indent(line) > depth:
            add(line, is_library, 0)  # its source, and what marks the place in it
        else:
            depth, is_library = -1, False
            add(line, False, 0)
    return [TracePart("\n".join(lines), folded, frames) for lines, folded, frames in found]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" |+-"))


def _is_library(path: str, own: Collection[str]) -> bool:
    if (installed := _INSTALLED.search(path)) is not None:
        return installed["top"].removesuffix(".py") not in own
    return _STANDARD.search(path) is not None or _ours().search(path) is not None


@cache
def _ours() -> re.Pattern[str]:
    """Return what finds modules of this package where it is not installed, and no project that is
    in a folder of its name.
    """
    names = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parents[1])]))
    parts = "|".join(re.escape(name) for name in names)
    return re.compile(rf"[/\\]celery_durable[/\\](?:{parts})(?:\.py$|[/\\])")
