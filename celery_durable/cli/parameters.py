"""What the commands take: ids that the shell completes, JSON, and the filters that ``durable.find``
knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from ..core.status import RuntimeStatus
from .entry import durable_of

__all__ = [
    "ID",
    "JSON",
    "ORCHESTRATOR",
    "SCHEDULE",
    "chosen_filters",
    "filters",
    "instance_id",
    "moment",
    "page",
    "reason",
    "tags",
]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Name(click.ParamType):  # type: ignore[type-arg]
    """A name that the shell completes by what ``find`` returns: pairs of a name and a few words."""

    def __init__(self, name: str, find: Callable[[Any, str], Iterable[tuple[str, str]]]) -> None:
        self.name = name
        self._find = find

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with suppress(Exception):
            found = self._find(durable_of(ctx), incomplete)
            return [
                CompletionItem(name, help=words)
                for name, words in found
                if name.startswith(incomplete)
            ]
        return []


def _ids(durable: Any, incomplete: str) -> Iterable[tuple[str, str]]:
    page = durable.find(id_prefix=incomplete or None, limit=50)
    return [(run.id, f"{run.name} {run.runtime_status}") for run in page.items]


def _schedules(durable: Any, incomplete: str) -> Iterable[tuple[str, str]]:
    return [(schedule.name, schedule.orchestrator) for schedule in durable.schedules()]


def _orchestrators(durable: Any, incomplete: str) -> Iterable[tuple[str, str]]:
    return [(name, "") for name in sorted(durable.registry.names())]


class _Json(click.ParamType):  # type: ignore[type-arg]
    """A JSON value; ``@file`` reads it from a file, and ``-`` from standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            if value == "-":
                value = sys.stdin.read()
            elif value.startswith("@"):
                value = Path(value[1:]).read_text()
            return json.loads(value)
        except (OSError, ValueError, RecursionError) as error:
            return self.fail(f"{error}: JSON is needed, @file or -", param, ctx)


ID, JSON = _Name("id", _ids), _Json()
SCHEDULE, ORCHESTRATOR = _Name("schedule", _schedules), _Name("orchestrator", _orchestrators)
instance_id: Final = click.argument("instance_id", type=ID, metavar="ID")
reason: Final = click.option("--reason", help="Kept in history.")


def page(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a page."""
    function = click.option("--cursor", help="The next_cursor of the page before.")(function)
    return click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)(
        function
    )


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose orchestrations: the same for list, count and the verbs."""
    options: list[Callable[..., Any]] = [
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([str(s) for s in RuntimeStatus], case_sensitive=False),
            help="May be given more than once.",
        ),
        click.option("--name", type=ORCHESTRATOR, help="Of the orchestrator."),
        click.option("--version"),
        click.option(
            "--tag",
            "tags",
            multiple=True,
            metavar="NAME=VALUE",
            callback=tags,
            help="All given ones must match.",
        ),
        click.option("--id-prefix"),
        click.option(
            "--since",
            callback=moment,
            metavar="WHEN",
            help="Created since: an ISO time, or an age such as 2h.",
        ),
        click.option("--until", callback=moment, metavar="WHEN", help="Created before."),
        click.option("--parent", "parent_id", type=ID, help="Sub-orchestrations of this one."),
        click.option(
            "--tasks/--no-tasks", default=None, help="Plain tasks only, or none of these."
        ),
        click.option(
            "--stuck", is_flag=True, default=None, help="Those that should move and do not."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def tags(_: click.Context, option: click.Parameter, given: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs."""
    pairs = [text.partition("=") for text in given]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise click.BadParameter(f"{wrong!r} is no NAME=VALUE", param=option)
    return {name: value for name, _, value in pairs}


def chosen_filters(
    statuses: Iterable[str],
    tags: dict[str, str],
    since: datetime | None,
    until: datetime | None,
    **others: Any,
) -> dict[str, Any]:
    """Return the filters that were given, by the names of ``durable.find``."""
    found = {
        "status": [status.upper() for status in statuses] or None,
        "tags": tags or None,
        "created_after": since,
        "created_before": until,
        **others,
    }
    return {name: value for name, value in found.items() if value is not None}


def moment(_: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Read an ISO time (UTC where it has no zone), or how long ago: 90s, 15m, 2h, 3d, 1w."""
    if text is None:
        return None
    try:
        if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdecimal():
            return datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
        when = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is neither an ISO time nor an age such as 15m, 2h, 3d", param=option
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
