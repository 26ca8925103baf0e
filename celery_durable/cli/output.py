"""How the commands speak: tables for people, JSON for programs.

What is shown on a terminal may come from anyone: characters that would steer the terminal are shown
by their numbers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from ..core.text import encodable
from ..inspection.views import SCHEMA, plain

__all__ = [
    "chosen_form",
    "colours",
    "formatted",
    "print_id",
    "print_json",
    "show_line",
    "show_lines",
    "show_one",
    "show_rows",
    "styled",
    "report",
    "visible",
]

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "COMPLETED": {"fg": "green"},
    "RUNNING": {"fg": "blue"},
    "PENDING": {"fg": "cyan"},
    "SUSPENDED": {"fg": "yellow"},
    "FAILED": {"fg": "red", "bold": True},
    "CANCELED": {"dim": True},
    "TERMINATED": {"dim": True},
    "ok": {"fg": "green"},
    "PROBLEM": {"fg": "red", "bold": True},
}
_WIDEST = 60
_NARROWEST = 12


def colours() -> bool:
    """Tell whether to colour: on a terminal, unless ``NO_COLOR`` or ``celery --no-color`` says
    otherwise.
    """
    ctx = click.get_current_context(silent=True)
    refuses = ctx is not None and getattr(ctx.find_root().obj, "no_color", False)
    return sys.stdout.isatty() and not refuses and not os.environ.get("NO_COLOR")


def styled(text: str, word: str | None = None) -> str:
    """Return text in the colours of a status, or of another known word."""
    style = _STYLES.get(text.strip() if word is None else word)
    return click.style(text, **style) if style is not None and colours() else text


def visible(text: str) -> str:
    """Return text on one line, without what would steer a terminal."""
    text = " ".join(text.split())
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
    )


def print_id(text: str) -> None:
    """Print an id: exactly where a program reads it, and as it can be shown on a terminal."""
    click.echo(visible(text) if sys.stdout.isatty() else text, color=True)


def show_line(text: str) -> None:
    """Print a line for people."""
    click.echo(text, color=colours())


def show_lines(text: str) -> None:
    """Print lines for people, with their indentation."""
    for line in text.splitlines():
        show_line(" " * (len(line) - len(line.lstrip(" "))) + visible(line))


def report(message: str) -> None:
    """Print a message for people on standard error, beside the data."""
    click.echo(visible(message), err=True)


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, which knows neither NaN nor infinities: they are texts there."""
    click.echo(encodable(json.dumps(plain(value), indent=indent, ensure_ascii=False)))


def formatted(*, has_ids: bool = True) -> Callable[[Any], Any]:
    """Return the option ``--format``: a table on a terminal, JSON elsewhere."""
    choices = ["table", "json", "jsonl", *(["ids"] if has_ids else [])]
    return click.option(
        "--format",
        "form",
        type=click.Choice(choices),
        help="Default: table on a terminal, json elsewhere.",
    )


def chosen_form(form: str | None) -> str:
    """Return the format that was asked for, or that of where the output goes."""
    return form or ("table" if sys.stdout.isatty() else "json")


def show_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    form: str | None,
    key: str = "id",
    **more: Any,
) -> None:
    """Print rows: in a table the columns alone.

    In JSON everything, and ``more`` beside the items.
    """
    form = chosen_form(form)
    if form == "table":
        _table([dict(row) for row in rows], columns)
    elif form == "json":
        print_json({"schema": SCHEMA, "items": list(rows), **more}, indent=2)
    else:
        for row in rows:
            print_id(row[key]) if form == "ids" else print_json(row)


def show_one(shown: Mapping[str, Any], form: str | None) -> None:
    """Print one thing."""
    form = chosen_form(form)
    if form == "ids":
        print_id(shown["id"])
    elif form != "table":
        print_json({"schema": SCHEMA, **shown}, indent=2 if form == "json" else None)
    else:
        width = max(map(len, shown))
        for name, value in shown.items():
            text = visible(
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
            show_line(f"{name:<{width}}  {'-' if value in (None, {}, []) else styled(text)}")


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ") for column in columns]
    widths = _widths([heads, *cells])
    for number, line in enumerate([heads, *cells]):
        parts = [_fitted(cell, width) for cell, width in zip(line, widths, strict=True)]
        if number:
            show_line("  ".join(styled(part) for part in parts).rstrip())
        else:
            show_line(
                click.style("  ".join(parts).rstrip(), bold=True)
                if colours()
                else "  ".join(parts).rstrip()
            )


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide the columns are: on a terminal, the last ones give way until a line fits."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if not sys.stdout.isatty():
        return widths
    excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
    for number in range(len(widths) - 1, -1, -1):
        given = min(max(0, excess), max(0, widths[number] - _NARROWEST))
        widths[number] -= given
        excess -= given
    return widths


def _fitted(cell: str, width: int) -> str:
    return f"{cell:<{width}}" if len(cell) <= width else f"{cell[: width - 1]}…"


def _cell(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    text = visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
