"""Before there is an orchestration: adopt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from .entry import application_command
from .output import colours, print_json, show_line, visible

if TYPE_CHECKING:
    from ..inspection.adoption.kinds import Item, Kind
    from ..inspection.adoption.report import Adoption

__all__ = ["adopt"]

_DOCS = "docs/"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@application_command
def adopt(app: Any, as_json: bool) -> None:
    """Read an application that does not use celery-durable yet, and list what to look at before it
    does: canvases, ids, guards, waits, settings, tests. Nothing is run, sent or changed.
    """
    from ..inspection.adoption.report import adoption_of

    found = adoption_of(app)
    if as_json:
        print_json(_data(found), indent=2)
    else:
        for line in _lines(found):
            show_line(line)


def _data(found: Adoption) -> dict[str, Any]:
    from ..inspection.adoption.kinds import KINDS
    from ..inspection.views import SCHEMA

    return {
        "schema": SCHEMA,
        "app": found.app,
        "tasks": found.tasks,
        "files": found.files,
        "items": [
            {
                "kind": each.kind,
                "importance": KINDS[each.kind].importance.name.lower(),
                "file": each.file,
                "line": each.line,
                "found": each.found,
                "why": KINDS[each.kind].why,
                "action": KINDS[each.kind].action,
                "page": KINDS[each.kind].page,
            }
            for each in found.items
        ],
        "summary": found.summary,
        "unread": found.unread,
    }


def _lines(found: Adoption) -> Iterator[str]:
    from ..inspection.adoption.kinds import KINDS

    tasks, files = _counted(found.tasks, "task"), _counted(found.files, "file")
    yield visible(f"{found.app}: {tasks}, {files} read")
    yield from (visible(f"not read: {each}") for each in found.unread)
    for name, items in groupby(found.items, key=lambda each: each.kind):
        yield ""
        yield from _section(KINDS[name], list(items))
    yield ""
    if not found.items:
        yield "Nothing to look at: your tasks can be called by orchestrations as they are."
        return
    yield _bold("summary")
    for name, number in found.summary.items():
        kind = KINDS[name]
        yield f"  {kind.importance.name:<6}  {number:>4}  {kind.title}"
    yield "nothing was run, sent or changed; how to begin: docs/howto/adopting.md"


def _section(kind: Kind, items: list[Item]) -> Iterator[str]:
    yield _bold(f"{kind.importance.name}  {kind.title}")
    yield from _paragraph("why", kind.why)
    yield from _paragraph("do", f"{kind.action} ({_DOCS}{kind.page})")
    for each in items:
        yield visible(f"{_near(each.file)}:{each.line}: {each.found}").join(("  ", ""))


def _paragraph(head: str, text: str) -> Iterator[str]:
    import textwrap

    indent = " " * 8
    yield from textwrap.wrap(
        text,
        98,
        initial_indent=f"  {head:<6}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _near(file: str) -> str:
    near = os.path.relpath(file) if os.path.isabs(file) else file
    return file if near.startswith("..") else near


def _bold(text: str) -> str:
    return click.style(text, bold=True) if colours() else text
