"""A stop of the debugger as lines for people; they are made of what ``inspection.debugging``
returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from .output import visible

__all__ = ["event_text", "frame_line", "head_lines", "source_lines", "stop_lines", "variable_lines"]

_INDENT = "    "


def stop_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Return all of a stop: where it is, what it waits for, and every frame with its variables."""
    yield from head_lines(shown)
    if shown["state"]:
        yield "ctx.state"
        yield from variable_lines(shown["state"], _INDENT)
    for task in shown["tasks"]:
        yield ""
        yield visible(f"task {task['name']}")
        for frame in task["frames"]:
            yield f"  {frame_line(frame)}"
            yield from source_lines(frame, around=2, indent=_INDENT)
            yield from variable_lines(frame["locals"], _INDENT)


def head_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Return where a stop is, whether the code follows, and what it waits for or how it ended."""
    version = "" if shown["version"] is None else f" v{shown['version']}"
    event = "before the first event" if shown["event"] is None else event_text(shown["event"])
    where = f"event {shown['position']} of {shown['length']}"
    yield visible(f"{shown['id']} ({shown['name']}{version}), {where}: {event}")
    if shown["problem"] is not None:
        yield visible(f"  the code does not follow the history: {shown['problem']}")
        yield "  the frames are those before that event"
    if shown["ended_as"] is not None:
        end = shown["raised"] or shown["result"]
        yield visible(f"  it ends here: {shown['ended_as']}{f': {end}' if end else ''}")
    for what in shown["waits_for"]:
        yield visible(f"  waits for {what}")


def event_text(event: Mapping[str, Any]) -> str:
    """Return an event in a few words."""
    number = "" if event["command"] is None else f"call {event['command']}"
    attempt = "" if event["attempt"] is None else f"attempt {event['attempt']}"
    about = ", ".join(filter(None, (number, attempt)))
    name = "" if event["name"] is None else f" {event['name']}"
    return f"{event['kind']}{name}{f' ({about})' if about else ''} at {event['at']}"


def frame_line(frame: Mapping[str, Any]) -> str:
    """Return where a frame is."""
    return visible(f"{_near(frame['file'])}:{frame['line']} in {frame['function']}")


def source_lines(frame: Mapping[str, Any], *, around: int, indent: str = "") -> Iterator[str]:
    """Return the lines of the code around the one that a frame is at, which is marked."""
    for number, text in frame["source"]:
        if abs(number - frame["line"]) <= around:
            mark = "->" if number == frame["line"] else "  "
            code = text.expandtabs(4)
            space = " " * (len(code) - len(code.lstrip()))
            yield f"{indent}{mark} {number:>4}  {space}{visible(code)}".rstrip()


def variable_lines(values: Mapping[str, str], indent: str = "") -> Iterator[str]:
    """Return variables, a line each."""
    for name, text in values.items():
        yield f"{indent}{visible(name)} = {visible(text)}"


def _near(file: str) -> str:
    near = os.path.relpath(file) if os.path.isabs(file) else file
    return file if near.startswith("..") else near
