"""Contracts of orchestrators and tasks, as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from ..core.text import encodable
from .entry import command, leave
from .output import report, show_lines

__all__ = ["schema"]

_BROKEN = 1


@click.command()
@click.argument("name", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write into this file; or, if it is a folder, one file for each.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    help="Compare with the contracts in this file, or folder, of an older release; exit code 1 if"
    " a client or a live instance may break.",
)
@command
def schema(durable: Any, name: str | None, output: Path | None, against: Path | None) -> None:
    """Print what orchestrators and tasks, or NAME, take, give and wait for as JSON Schema."""
    found = durable.schema(name)
    if output is not None:
        _write(found, output)
    elif against is None:
        click.echo(_text(found))
    if against is not None and _compare(_read(against), found, name):
        leave(_BROKEN)


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], name: str | None) -> int:
    """Print how contracts differ; return how many differences may break something."""
    from ..inspection.contract_changes import changes_between

    changes = changes_between(old, new, name)
    for change in changes:
        show_lines(str(change))
    breaks = sum(change.is_break for change in changes)
    show_lines(
        f"breaks: {breaks}, notes: {len(changes) - breaks}" if changes else "nothing differs"
    )
    return breaks


def _read(path: Path) -> dict[str, Any]:
    """Return the contracts in a file, or of all files in a folder."""
    paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
    documents: list[Any] = []
    for file in paths:
        try:
            documents.append(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from error
    if len(documents) == 1 and not path.is_dir():
        return dict(documents[0]) if isinstance(documents[0], dict) else {}
    found: dict[str, Any] = {"format": _format_of(documents), "orchestrators": {}, "tasks": {}}
    for each in documents:
        if isinstance(each, dict) and each.get("kind") in ("orchestrator", "task"):
            found[f"{each['kind']}s"][each["name"]] = each
    return found


def _format_of(documents: list[Any]) -> int:
    return max((each.get("format", 1) for each in documents if isinstance(each, dict)), default=1)


def _text(document: Mapping[str, Any]) -> str:
    return encodable(json.dumps(document, indent=2, ensure_ascii=False))


def _write(document: Mapping[str, Any], output: Path) -> None:
    """Write a document, or the contracts in it into a folder."""
    try:
        if not output.is_dir():
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(_text(document) + "\n", encoding="utf-8")
            report(f"wrote {output}")
            return
        contracts = _contracts_in(document)
        for contract in contracts:
            path = output / f"{quote(contract['name'], safe='')}.json"
            path.write_text(_text(contract) + "\n", encoding="utf-8")
        report(f"wrote {len(contracts)} files into {output}")
    except OSError as error:
        raise ValueError(f"{output} cannot be written: {error}") from error


def _contracts_in(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "name" in document:
        return [dict(document)]
    return [
        {"format": document["format"], **contract}
        for kind in ("orchestrators", "tasks")
        for contract in document[kind].values()
    ]
