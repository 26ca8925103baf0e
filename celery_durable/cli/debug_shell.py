"""The commands of an interactive ``durable debug``."""

from __future__ import annotations

import cmd
import pdb
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ..inspection.debugging import stop_view, values_view
from ..inspection.views import event_view
from .debug_text import event_text, frame_line, head_lines, source_lines, variable_lines
from .output import show_line, visible

if TYPE_CHECKING:
    from ..engine.debugger import Debugger
    from ..engine.frames import StoppedFrame

__all__ = ["DebugShell"]

_ALIASES = {
    "n": "next",
    "b": "back",
    "g": "goto",
    "l": "list",
    "w": "where",
    "u": "up",
    "d": "down",
    "q": "quit",
    "exit": "quit",
    "EOF": "quit",
}
#: Every command, and what it takes.
_USAGE = {
    "next": "[COUNT]",
    "back": "[COUNT]",
    "goto": "N",
    "until": "KIND",
    "where": "",
    "frames": "",
    "frame": "N",
    "up": "",
    "down": "",
    "list": "",
    "locals": "[NAME]",
    "state": "",
    "history": "[all]",
    "pdb": "",
    "help": "",
    "quit": "",
}
_NEAR = 8


class DebugShell(cmd.Cmd):
    """Steps through a history, and shows frames and variables; a line that is empty repeats the
    last command.
    """

    prompt = "(durable) "

    def __init__(self, codec: Any, debugger: Debugger, *, payloads: bool) -> None:
        super().__init__()
        self._codec, self._debugger, self._payloads = codec, debugger, payloads
        #: Which of all frames is looked at.
        self._chosen = 0
        self._choose_innermost()

    def preloop(self) -> None:
        """Say where it begins."""
        if not self._payloads:
            show_line("values are hidden: --payloads shows them")
        self._show_place()

    def onecmd(self, line: str) -> bool:
        """Carry out one line; what is wrong with it is said, and changes nothing."""
        word, space, rest = line.strip().partition(" ")
        try:
            return bool(super().onecmd(f"{_ALIASES.get(word, word)}{space}{rest}"))
        except ValueError as error:
            show_line(visible(str(error)))
            return False

    def do_help(self, arg: str) -> None:
        """List the commands."""
        for name, given in _USAGE.items():
            text = (getattr(self, f"do_{name}").__doc__ or "").partition("\n")[0]
            show_line(f"{f'{name} {given}':<16}  {text.replace('``', '')}")
        show_line("n, b, g, l, w, u, d and q are short; an empty line repeats the last command")

    def default(self, line: str) -> None:
        """Say that there is no such command."""
        show_line(
            visible(f"there is no command {line.split(maxsplit=1)[0]!r}: help lists those that are")
        )

    # -- moving ------------------------------------------------------------------------------------

    def do_next(self, line: str) -> None:
        """Go one event on, or COUNT of them."""
        moved = self._quietly(lambda: self._debugger.next(_number(line, 1)))
        if not moved and self._debugger.problem is None:
            show_line("this is the last event")
        self._stopped()

    def do_back(self, line: str) -> None:
        """Go one event back, or COUNT of them, by a replay from the beginning."""
        if not self._quietly(lambda: self._debugger.back(_number(line, 1))):
            show_line("this is the beginning")
        self._stopped()

    def do_goto(self, line: str) -> None:
        """Stop after event N; 0 is before the first."""
        number = _number(line, None)
        self._quietly(lambda: self._debugger.goto(number))
        self._stopped()

    def do_until(self, line: str) -> None:
        """Go on to the next event of a kind, such as ActivityFailed."""
        kinds = {str(event.kind).lower(): str(event.kind) for event in self._debugger.history}
        kind = kinds.get(line.strip().lower())
        if kind is None:
            raise ValueError(
                f"until takes the kind of an event in this history, not {line.strip()!r}: they are"
                f" {_list(kinds.values())}"
            )
        if not self._quietly(lambda: self._debugger.until(kind)):
            show_line(f"no {kind} follows")
        self._stopped()

    # -- looking -----------------------------------------------------------------------------------

    def do_where(self, line: str) -> None:
        """Say which event this is, what the code waits for, and in which frame."""
        self._show_place()

    def do_frames(self, line: str) -> None:
        """List the frames of the code, by tasks; the marked one is looked at."""
        task = None
        for number, frame in enumerate(self._frames):
            if frame.task != task:
                task = frame.task
                show_line(visible(f"task {task}"))
            mark = ">" if number == self._chosen else " "
            show_line(f"{mark} {number}  {frame_line(vars(frame))}")
        if task is None:
            show_line(self._no_frames())

    def do_frame(self, line: str) -> None:
        """Look at a frame, as ``frames`` numbers them."""
        self._choose(_number(line, None))

    def do_up(self, line: str) -> None:
        """Look at the frame before: the caller, or the end of the task before."""
        self._choose(self._chosen - 1)

    def do_down(self, line: str) -> None:
        """Look at the frame after this one."""
        self._choose(self._chosen + 1)

    def do_list(self, line: str) -> None:
        """Show the lines of the code around the frame that is looked at."""
        if (frame := self._frame()) is not None:
            source = [*frame.source(_NEAR)]
            for text in source_lines({"line": frame.line, "source": source}, around=_NEAR):
                show_line(text)

    def do_locals(self, line: str) -> None:
        """Show the variables of the frame that is looked at, or one of them."""
        if (frame := self._frame()) is None:
            return
        name = line.strip()
        if name and name not in frame.locals:
            raise ValueError(
                f"{frame.function} has no variable {name!r} here, but {_list(frame.locals)}"
            )
        chosen = {name: frame.locals[name]} if name else frame.locals
        self._show_values(chosen)

    def do_state(self, line: str) -> None:
        """Show what the code has put into ``ctx.state``."""
        self._show_values(self._debugger.state)
        if not self._debugger.state:
            show_line("ctx.state is empty")

    def do_history(self, line: str) -> None:
        """List the events around this one, or all of them."""
        position, events = self._debugger.position, self._debugger.history
        for number, event in enumerate(events, 1):
            if line.strip() == "all" or abs(number - position) <= _NEAR:
                mark = ">" if number == position else " "
                shown = event_view(self._codec, number, event, False)
                show_line(f"{mark} {number:>4}  {visible(event_text(shown))}")

    def do_pdb(self, line: str) -> None:
        """Open pdb on the frame that is looked at; its up and down move within the task.

        Values may be changed there: so leaving it replays up to here once more.
        """
        if not self._payloads:
            raise ValueError("pdb shows values, which are hidden: begin with --payloads or --pdb")
        if (frame := self._frame()) is None:
            return
        frames = [each for each in self._frames if each.task == frame.task]
        tracing = sys.gettrace()
        try:
            _FramePdb(frames, frames.index(frame)).interaction(frame.frame, None)
        finally:
            sys.settrace(tracing)
        self._quietly(self._debugger.renew)

    def do_quit(self, line: str) -> bool:
        """End."""
        return True

    # -- how ---------------------------------------------------------------------------------------

    @property
    def _frames(self) -> Sequence[StoppedFrame]:
        return self._debugger.frames

    def _quietly(self, move: Any) -> Any:
        with redirect_stdout(sys.stderr):  # what the code prints is no part of the answer
            return move()

    def _stopped(self) -> None:
        self._choose_innermost()
        self._show_place()

    def _choose_innermost(self) -> None:
        """Look at the innermost frame of the first task that has one."""
        frames = self._frames
        first = [number for number, frame in enumerate(frames) if frame.task == frames[0].task]
        self._chosen = first[-1] if first else 0

    def _choose(self, number: int) -> None:
        if not 0 <= number < len(self._frames):
            raise ValueError(
                f"there is no frame {number}: they are 0 to {len(self._frames) - 1}"
                if self._frames
                else self._no_frames()
            )
        self._chosen = number
        self._show_frame()

    def _frame(self) -> StoppedFrame | None:
        if not self._frames:
            show_line(self._no_frames())
            return None
        return self._frames[self._chosen]

    def _no_frames(self) -> str:
        if self._debugger.ended_as is not None:
            return "there are no frames: the code has ended"
        return "there are no frames: the code has not begun"

    def _show_place(self) -> None:
        for line in head_lines(stop_view(self._codec, self._debugger, payloads=self._payloads)):
            show_line(line)
        if self._frames:
            self._show_frame()

    def _show_frame(self) -> None:
        frame = self._frames[self._chosen]
        task = "" if frame.task == "main" else f" ({visible(frame.task)})"
        show_line(f"  {frame_line(vars(frame))}{task}")
        for text in source_lines({"line": frame.line, "source": frame.source(0)}, around=0):
            show_line(text)

    def _show_values(self, values: Any) -> None:
        for text in variable_lines(values_view(values, payloads=self._payloads)):
            show_line(text)


class _FramePdb(pdb.Pdb):
    """pdb on frames that wait: what it calls the stack is the frames of one task."""

    def __init__(self, frames: Sequence[StoppedFrame], chosen: int) -> None:
        super().__init__(nosigint=True)
        self.reset()
        self._stopped_frames, self._chosen_frame = frames, chosen
        self.prompt = "(durable pdb) "

    def get_stack(self, f: Any, t: Any) -> tuple[list[tuple[Any, int]], int]:
        """Return the frames, and which one is looked at."""
        return [(each.frame, each.line) for each in self._stopped_frames], self._chosen_frame


def _number(text: str, default: int | None) -> int:
    text = text.strip()
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise ValueError(f"a number is needed, not {text!r}")
    return int(text)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
