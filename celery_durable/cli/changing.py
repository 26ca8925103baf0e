"""Code that changes: export, replay, verify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ..archive import ArchiveFolder, read_archived
from ..core.entity import ORCHESTRATORS
from ..engine.archive import key_of
from ..engine.verify import export_history
from .entry import FAILED, command, leave
from .output import report, show_lines
from .parameters import ID, chosen_filters, filters

__all__ = ["export", "lint", "replay", "verify"]

_PAGE = 200
_ENDINGS = (".json", ".json.gz")


@click.command()
@click.argument("ids", type=ID, nargs=-1, metavar="[ID...]")
@filters
@click.option("--limit", type=click.IntRange(1), help="At most so many, newest first.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a gzip file for each into this folder, as durable_archive does.",
)
@command
def export(
    durable: Any, ids: tuple[str, ...], limit: int | None, folder: Path | None, **options: Any
) -> None:
    """Print the history of one orchestration as a JSON document for replay; or, with --to, write
    those of several ids, or of all that match filters.
    """
    chosen = chosen_filters(**options)
    if ids and chosen:
        raise ValueError("give ids or filters, not both")
    if folder is None:
        if len(ids) != 1 or limit is not None:
            raise ValueError("give one id; --to FOLDER writes several, or all that match filters")
        click.echo(durable.get(ids[0]).export_history())
        return
    if not ids and not chosen:
        raise ValueError("give ids, or at least one filter such as --status")
    _export_to(durable, folder, ids or _matching(durable, chosen, limit))


def _matching(durable: Any, chosen: dict[str, Any], limit: int | None) -> Iterator[str]:
    cursor, left = None, limit
    while left is None or left > 0:
        found = durable.find(limit=min(left or _PAGE, _PAGE), cursor=cursor, **chosen)
        yield from (run.id for run in found.items)
        cursor = found.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(found.items)


def _export_to(durable: Any, folder: Path, ids: Iterable[str]) -> None:
    write, runtime, written = ArchiveFolder(folder), durable.runtime, 0
    for id_ in ids:
        record = runtime.client.fetch(id_)
        document = export_history(record, runtime.store.reads.events(record.id))
        try:
            write(document, key_of(record))
        except OSError as error:
            raise ValueError(f"{folder} cannot be written: {error}") from error
        written += 1
    report(f"wrote {written} files into {folder}")


_FILES = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("files", type=_FILES, nargs=-1, required=True)
@click.option(
    "--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too."
)
@command
def replay(durable: Any, files: tuple[Path, ...], check_arguments: bool) -> None:
    """Replay exported histories on the code of this process; exit code 5 if one does not fit.

    A folder is read with all .json and .json.gz files below it.
    """
    histories = (read_archived(file) for file in _files_in(files))
    found = durable.verify(histories, check_arguments=check_arguments)
    show_lines(str(found))
    if not found.is_ok:
        leave(FAILED)


def _files_in(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.name.endswith(_ENDINGS))
        else:
            yield path


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def lint(durable: Any, names: tuple[str, ...]) -> None:
    """Read the code of orchestrators for what a replay may do otherwise: clocks, random numbers,
    I/O, threads, the order of sets; exit code 5 if there is any.
    """
    from ..inspection.lint import lint as read

    registry = durable.registry
    if unknown := [name for name in names if name not in registry]:
        raise ValueError(
            f"this process has no orchestrator {unknown[0]!r}; it has {', '.join(registry.names())}"
        )
    chosen = names or [name for name in registry.names() if is_of_an_application(name)]
    found = [
        each
        for name in chosen
        for version in registry.versions(name)
        for each in read(name, registry.get(name, version).function)
    ]
    for each in sorted(set(found)):
        show_lines(str(each))
    if found:
        leave(FAILED)
    show_lines(f"{len(chosen)} orchestrators do nothing that was found to differ in a replay")


@click.command()
@click.option("--name")
@click.option("--version")
@click.option(
    "--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too."
)
@command
def verify(durable: Any, name: str | None, version: str | None, check_arguments: bool) -> None:
    """Replay every orchestration that is not over on the code of this process: the gate of a
    deployment.
    """
    filters = {
        key: value for key, value in (("name", name), ("version", version)) if value is not None
    }
    found = durable.verify(live=True, check_arguments=check_arguments, **filters)
    show_lines(str(found))
    if not found.is_ok:
        leave(FAILED)


def is_of_an_application(name: str) -> bool:
    """Tell whether an orchestrator is not one of this package's own."""
    return not name.startswith((ORCHESTRATORS, "celery_durable."))
