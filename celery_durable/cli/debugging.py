"""Looking into code by a replay: debug."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .entry import FAILED, command, leave
from .output import print_json, show_line
from .parameters import ID

if TYPE_CHECKING:
    from ..engine.debugger import Debugger

__all__ = ["debug"]


@click.command()
@click.argument("target", type=ID, required=False, metavar="[ID]")
@click.option(
    "--at", type=int, help="Stop after this event, as history numbers them; the last if left out."
)
@click.option(
    "--history",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay an exported history. Instead of ID the name of an orchestrator may be given, if"
    " its code is to be another's.",
)
@click.option("--version", help="Replay on the code of this version.")
@click.option("--payloads", is_flag=True, help="Show values, not only their types.")
@click.option("--pdb", "opens_pdb", is_flag=True, help="Open pdb there; shows values.")
@click.option("--print", "prints", is_flag=True, help="Print frames and variables, and end.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON, for programs.")
@command
def debug(
    durable: Any,
    target: str | None,
    at: int | None,
    file: Path | None,
    version: str | None,
    payloads: bool,
    opens_pdb: bool,
    prints: bool,
    as_json: bool,
) -> None:
    """Replay one orchestration up to an event, and show where its code waits there: every frame
    with its variables. Then step forwards and back: next, back, goto N, until KIND; help lists
    all. Nothing is written, sent or run. With --print and --json exit code 5 if the code does not
    follow the history.
    """
    if sum((opens_pdb, prints, as_json)) > 1:
        raise ValueError("give one of --pdb, --print and --json")
    with _debugger(durable, target, file, version) as debugger:
        with redirect_stdout(sys.stderr):  # what the code prints is no part of the answer
            debugger.goto(len(debugger.history) if at is None else at)
        codec = durable.runtime.codec
        if as_json or prints:
            _print(codec, debugger, payloads, as_json)
            if debugger.problem is not None:
                leave(FAILED)
            return
        from .debug_shell import DebugShell

        shell = DebugShell(codec, debugger, payloads=payloads or opens_pdb)
        if opens_pdb:
            shell.onecmd("pdb")
        shell.cmdloop()


def _debugger(durable: Any, target: str | None, file: Path | None, version: str | None) -> Debugger:
    found: Debugger
    if file is not None:
        found = durable.debugger(history=file.read_text(), name=target, version=version)
    elif target is not None:
        found = durable.debugger(target, version=version)
    else:
        raise ValueError("give the ID of an orchestration, or --history FILE")
    return found


def _print(codec: Any, debugger: Debugger, payloads: bool, as_json: bool) -> None:
    from ..inspection.debugging import stop_view
    from .debug_text import stop_lines

    shown = stop_view(codec, debugger, payloads=payloads)
    if as_json:
        print_json(shown, indent=2)
        return
    for line in stop_lines(shown):
        show_line(line)
