"""What people are shown of an orchestration that a debugger has stopped: plain data.

Values are shown by ``repr``, bounded in length and without memory addresses, so that the same stop
reads the same; without ``payloads`` they are hidden, and only their types are named.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from ..core.text import encodable
from ..engine.debugger import Debugger
from ..engine.frames import StoppedFrame
from .views import SCHEMA, event_view

__all__ = ["frames_view", "problem_text", "raised_text", "stop_view", "value_text", "values_view"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LONGEST = 400


class _Bounded(reprlib.Repr):
    """``repr`` that does not grow with what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 5, 200, _LONGEST, 60
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxdeque = self.maxarray = 20

    def repr1(self, x: Any, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception as error:  # of a class of the application's
            return f"<{type(x).__qualname__}: repr() raised {type(error).__name__}>"


_bounded = _Bounded()


def value_text(value: Any) -> str:
    """Return a value as text: its ``repr``, at most some hundred characters of it."""
    text = _ADDRESS.sub("", _bounded.repr(value))
    return encodable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def values_view(values: Mapping[str, Any], *, payloads: bool) -> dict[str, str]:
    """Return variables by name, as text; without ``payloads`` the type of each."""
    return {
        name: value_text(value) if payloads else f"({type(value).__qualname__})"
        for name, value in values.items()
    }


def frames_view(debugger: Debugger, *, payloads: bool = False) -> list[dict[str, Any]]:
    """Return the tasks of a stopped orchestration: name and frames, the outermost first; of each
    frame function, file, line, source (pairs of a number and a line) and locals.
    """
    return [
        {
            "name": task.name,
            "frames": [_frame_view(frame, payloads=payloads) for frame in task.frames],
        }
        for task in debugger.tasks
    ]


def _frame_view(frame: StoppedFrame, *, payloads: bool) -> dict[str, Any]:
    return {
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "source": [[number, text] for number, text in frame.source()],
        "locals": values_view(frame.locals, payloads=payloads),
    }


def raised_text(debugger: Debugger, *, payloads: bool) -> str | None:
    """Return the exception that the orchestrator has raised; without ``payloads`` its type."""
    error = debugger.error
    if error is None:
        return None
    return f"{type(error).__name__}: {_text_of(error)}" if payloads else type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return encodable(str(error)[:_LONGEST])
    except Exception as problem:
        return f"(str() raised {type(problem).__name__})"


def problem_text(debugger: Debugger, *, payloads: bool) -> str | None:
    """Say why the code cannot follow the history beyond the event at hand; None if it can.

    A disagreement names kinds, names and lines, which are no payloads; other texts may hold some.
    """
    problem = debugger.problem
    if problem is None:
        return None
    facts = problem.facts
    if "expected" in facts and "actual" in facts:
        return (
            f"event {debugger.position}: history has {facts['expected']}, the code now asks for"
            f" {facts['actual']}"
        )
    text = f": {_text_of(problem)}" if payloads else ""
    return f"event {debugger.position}: {type(problem).__name__}{text}"


def stop_view(codec: Any, debugger: Debugger, *, payloads: bool = False) -> dict[str, Any]:
    """Return all that is shown of a stop: id, name, version, position, length, event, problem,
    ended_as, raised, result, waits_for, state, and tasks as ``frames_view`` gives them.

    Args:
        codec: decodes payloads.
        debugger: has stopped.
        payloads: show values, too.
    """
    event = debugger.event
    has_result = debugger.ended_as == "ExecutionCompleted" and payloads
    return {
        "schema": SCHEMA,
        "id": debugger.id,
        "name": debugger.name,
        "version": debugger.version,
        "position": debugger.position,
        "length": len(debugger.history),
        "event": None if event is None else event_view(codec, debugger.position, event, payloads),
        "problem": problem_text(debugger, payloads=payloads),
        "ended_as": debugger.ended_as,
        "raised": raised_text(debugger, payloads=payloads),
        "result": value_text(debugger.result) if has_result else None,
        "waits_for": debugger.waits_for,
        "state": values_view(debugger.state, payloads=payloads),
        "tasks": frames_view(debugger, payloads=payloads),
    }
