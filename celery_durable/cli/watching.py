"""``watch``: what happens to one orchestration, as it happens.

A live view on a terminal, lines elsewhere.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from ..core.status import RuntimeStatus
from ..handles.fields import record_of
from ..handles.orchestration import Orchestration
from ..inspection.views import age, plain, timeline_view
from ..versions import demand
from .entry import FAILED, command, leave
from .output import colours, report, show_line, styled, visible
from .parameters import instance_id

__all__ = ["watch"]

_MOST_EVENTS = 10
_BAR = 20
_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "blue",
    "PENDING": "cyan",
    "SUSPENDED": "yellow",
    "FAILED": "bold red",
}


class Progress(NamedTuple):
    """How much is done, as a custom status of ``{"done": 3, "of": 10}`` says."""

    done: float
    total: float

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total))

    def __str__(self) -> str:
        return f"{self.done:g} of {self.total:g}"


def progress_of(status: Any) -> Progress | None:
    """Return the progress that a custom status tells, if it does."""
    match status:
        case {"done": int() | float() as done, "of": int() | float() as total} if total > 0:
            return Progress(done, total)
    return None


@dataclass
class Poll:
    """What is seen at one moment.

    ``new`` are the events since the poll before, ``last`` the last ones of all.
    """

    run: Orchestration
    status: RuntimeStatus
    new: list[dict[str, Any]]
    last: list[dict[str, Any]]


@dataclass
class Watcher:
    """Reads an orchestration again and again until it has ended.

    History is read when it has grown.
    """

    run: Orchestration
    interval: float
    _seen: int = 0
    _execution: str | None = None
    _sequence: int = -1
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def polls(self) -> Iterator[Poll]:
        """Yield one poll after the other, the last one at the end."""
        while True:
            poll = self._poll()
            yield poll
            if poll.status.is_terminal:
                return
            time.sleep(self.interval)

    def _poll(self) -> Poll:
        record = record_of(self.run.refresh())
        if (record.execution, record.sequence) != (self._execution, self._sequence):
            rows = _named(timeline_view(self.run, self.run.history()))
            if record.execution != self._execution or len(rows) < self._seen:
                self._seen = 0
            self._execution, self._sequence, self._rows = record.execution, record.sequence, rows
        new, self._seen = self._rows[self._seen :], len(self._rows)
        return Poll(self.run, record.status, new, self._rows[-_MOST_EVENTS:])


def _named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give outcomes the name of what they are the outcome of."""
    names: dict[int, str] = {}
    for row in rows:
        if row["name"]:
            names[row["command"]] = row["name"]
        elif row["command"]:
            row["name"] = names.get(row["command"])
    return rows


@click.command()
@instance_id
@click.option(
    "--interval", type=click.FloatRange(0.05), default=0.5, help="Seconds between two looks."
)
@click.option("--lines", is_flag=True, help="Lines, also on a terminal.")
@command
def watch(durable: Any, instance_id: str, interval: float, lines: bool) -> None:
    """Show what happens to one orchestration until it is over.

    Exit code 5 if it does not complete.
    """
    watcher = Watcher(durable.get(instance_id), interval)
    is_live = sys.stdout.isatty() and not lines and _has_rich()
    (_watch_live if is_live else _watch_lines)(watcher)
    if watcher.run.runtime_status is not RuntimeStatus.COMPLETED:
        leave(FAILED)


def _has_rich() -> bool:
    try:
        import rich.live  # noqa: F401

        demand("rich")
    except ImportError:
        report("for a live view: pip install 'celery-durable[cli]'")
        return False
    return True


def _watch_lines(watcher: Watcher) -> None:
    shown = None
    for poll in watcher.polls():
        for row in poll.new:
            show_line("  ".join(_event_parts(row)))
        if (now := _in_words(poll.run)) != shown:
            shown = now
            show_line(now)


def _event_parts(row: dict[str, Any]) -> list[str]:
    return [
        visible(part) for part in (row["at"], row["kind"], row["name"], row.get("error")) if part
    ]


def _in_words(run: Orchestration) -> str:
    """Return the status in words, with a bar if the custom status says how much is done."""
    custom = run.custom_status
    text = f"{visible(run.id)} is {styled(run.runtime_status)}"
    if (progress := progress_of(custom)) is not None:
        full = round(_BAR * progress.share)
        return f"{text}  [{'#' * full}{'.' * (_BAR - full)}] {progress}"
    return text if custom is None else f"{text}  {_as_json(custom)}"


def _as_json(value: Any) -> str:
    return visible(json.dumps(plain(value), ensure_ascii=False))


# -- on a terminal ---------------------------------------------------------------------------------


def _watch_live(watcher: Watcher) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=not colours(), highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:
        for poll in watcher.polls():
            live.update(_picture(poll), refresh=True)


def _picture(poll: Poll) -> Any:
    """Return what rich draws: status, progress, what it waits for, and the last events."""
    from rich.console import Group
    from rich.text import Text

    run = poll.run
    head = Text.assemble(
        (visible(run.id), "bold"),
        f"  {visible(run.name)}  ",
        (str(poll.status), _STYLES.get(poll.status, "dim")),
        f"  {age(run.created_at)}",
    )
    parts: list[Any] = [head, *_custom_part(run.custom_status)]
    if run.reason:
        parts.append(Text(visible(run.reason), "yellow"))
    if not poll.status.is_terminal:
        parts += [
            Text(f"waits for {visible(what)}", "cyan")
            for what in run.explain().waits_for[:_MOST_EVENTS]
        ]
    return Group(*parts, _events_part(poll))


def _custom_part(custom: Any) -> list[Any]:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if custom is None:
        return []
    if (progress := progress_of(custom)) is None:
        return [Text(_as_json(custom))]
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=1.0, completed=progress.share, width=40), str(progress))
    return [line]


def _events_part(poll: Poll) -> Any:
    from rich.table import Table
    from rich.text import Text

    heads = ("at", "event", "of", "error")
    lines = [
        (row["at"][11:23], row["kind"], row["name"] or "", row.get("error") or "")
        for row in poll.last
    ]
    events = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for number, head in enumerate(heads):
        widest = max([len(head), *(len(visible(line[number])) for line in lines)])
        events.add_column(
            head, overflow="ellipsis", no_wrap=True, min_width=None if head == "error" else widest
        )
    for line in lines:
        style = "red" if line[1].endswith("Failed") else ""
        events.add_row(*(Text(visible(cell), style) for cell in line))
    return events
