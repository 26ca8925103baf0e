"""Contracts of orchestrators and tasks, as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from ..core.text import encodable
from .entry import command
from .output import report

__all__ = ["schema"]


@click.command()
@click.argument("name", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write into this file; or, if it is a folder, one file for each.",
)
@command
def schema(durable: Any, name: str | None, output: Path | None) -> None:
    """Print what orchestrators and tasks, or NAME, take, give and wait for as JSON Schema."""
    found = durable.schema(name)
    if output is None:
        click.echo(_text(found))
    else:
        _write(found, output)


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
