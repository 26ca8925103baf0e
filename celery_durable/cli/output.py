"""How the commands speak: tables for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ..errors import (
    ConfigurationError,
    DurableError,
    InstanceExists,
    InstanceNotFound,
    InvalidState,
    ScheduleNotFound,
    StoreError,
)
from ..views import SCHEMA

__all__ = ["FAILED", "TIMED_OUT", "command", "durable_of", "formatted", "moment", "show_one", "show_rows", "tell"]

FAILED, TIMED_OUT = 5, 6
_EXIT_CODES: Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], int]] = (
    ((InstanceNotFound, ScheduleNotFound), 3),
    ((InvalidState, InstanceExists), 4),
    (StoreError, 69),
    (ConfigurationError, 78),
    ((ValueError, TypeError), 2),
    (DurableError, 1),
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code


def durable_of(ctx: click.Context) -> Any:
    """Return the ``Durable`` of the app that ``celery -A`` names."""
    app = ctx.find_root().obj.app
    if not hasattr(app, "durable"):
        raise _Failure(f"{app!r} has no durable orchestrations: make a Durable(app), and name the app by -A", 78)
    app.loader.import_default_modules()
    return app.durable


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the ``Durable`` first, and turn errors into a message and an exit code."""

    @click.pass_context
    @functools.wraps(function)
    def run(ctx: click.Context, *args: Any, **options: Any) -> Any:
        try:
            return function(durable_of(ctx), *args, **options)
        except (DurableError, ValueError, TypeError) as error:
            code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
            raise _Failure(str(error), code) from error

    return run


def tell(message: str) -> None:
    """Say something to the person, beside the data."""
    click.echo(message, err=True)


def formatted(*, has_ids: bool = True) -> Callable[[Any], Any]:
    """Return the option ``--format``: a table on a terminal, JSON elsewhere."""
    choices = ["table", "json", "jsonl", *(["ids"] if has_ids else [])]
    return click.option(
        "--format", "form", type=click.Choice(choices), help="Default: table on a terminal, json elsewhere."
    )


def _chosen(form: str | None) -> str:
    return form or ("table" if sys.stdout.isatty() else "json")


def show_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], form: str | None, key: str = "id", **more: Any
) -> None:
    """Print rows: in a table the columns alone; in JSON everything, and ``more`` beside the items."""
    form = _chosen(form)
    if form == "table":
        _table([dict(row) for row in rows], columns)
    elif form == "json":
        click.echo(json.dumps({"schema": SCHEMA, "items": list(rows), **more}, indent=2, ensure_ascii=False))
    else:
        for row in rows:
            click.echo(row[key] if form == "ids" else json.dumps(row, ensure_ascii=False))


def show_one(shown: Mapping[str, Any], form: str | None) -> None:
    """Print one thing."""
    form = _chosen(form)
    if form == "ids":
        click.echo(shown["id"])
    elif form != "table":
        click.echo(json.dumps({"schema": SCHEMA, **shown}, indent=2 if form == "json" else None, ensure_ascii=False))
    else:
        width = max(map(len, shown))
        for name, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{name:<{width}}  {'-' if value in (None, {}, []) else text}")


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ") for column in columns]
    widths = [max(len(line[n]) for line in [heads, *cells]) for n in range(len(columns))]
    for line in [heads, *cells]:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def moment(_: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Read an ISO time (UTC where it has no zone), or how long ago: 90s, 15m, 2h, 3d, 1w."""
    if text is None:
        return None
    if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdigit():
        return datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither an ISO time nor an age such as 15m, 2h, 3d", param=option
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
