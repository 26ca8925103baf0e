"""Where the blocks of a page are, and what its scenery is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "blocks_of", "scenery_of"]

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if FENCE.search(path.read_text()) and "internals" not in path.parts
]


@dataclass
class Block:
    """One block; its source has as many empty lines before it as the page has lines."""

    page: Path
    number: int
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.page.name}, the block at line {self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of Python of a page, in their order."""
    text = page.read_text()
    found = []
    for number, match in enumerate(FENCE.finditer(text)):
        line = text[: match.start(1)].count("\n")
        found.append(Block(page, number, line, "\n" * line + match[1]))
    return found


def scenery_of(page: Path) -> str:
    """Return the name of the module with a page's scenery."""
    parts = page.relative_to(ROOT).with_suffix("").parts
    return "_".join(parts[1:] or parts).lower().replace("-", "_")
