"""The tables of docs/reference/verbs.md, made from the table of verbs.

``python -m celery_durable.engine.verbs.reference docs/reference/verbs.md`` writes them into the
page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...core.status import RuntimeStatus
from ..verb import Argument, Surface, Verb
from . import VERBS

__all__ = ["effect_table", "meaning_table", "page_with_tables", "signature"]


def signature(verb: Verb) -> str:
    """Return how the method of a verb is called."""
    parts = [_parameter(each) for each in verb.arguments_in(Surface.CODE)]
    parts += ["reason="] if verb.keeps_reason else []
    parts += ["dry_run=False"] if verb.forecast is not None else []
    return f"{verb.name}({', '.join(parts)})"


def _parameter(argument: Argument) -> str:
    return argument.name if argument.is_required else f"{argument.name}={argument.default!r}"


def meaning_table() -> str:
    """Return the table of what the verbs do."""
    return _table(
        ("verb", "meaning"),
        (
            (f"`{signature(verb)}`", verb.words.reference or verb.words.meaning)
            for verb in VERBS.values()
        ),
    )


def effect_table() -> str:
    """Return the table of what becomes of each verb in each status."""
    return _table(
        ("verb", *map(str, RuntimeStatus)),
        (
            (f"`{verb.name}`", *(str(verb.effect_in(status)) for status in RuntimeStatus))
            for verb in VERBS.values()
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page_with_tables(page: str) -> str:
    """Return the page with its two tables as they should be."""
    return _replaced(_replaced(page, meaning_table()), effect_table())


def _replaced(page: str, table: str) -> str:
    head = re.escape(table.partition("\n")[0])
    return re.sub(rf"(?m)^{head}\n(\|.*\n)*", lambda _: f"{table}\n", page)


if __name__ == "__main__":
    path: Path = Path(sys.argv[1])
    path.write_text(page_with_tables(path.read_text()))
