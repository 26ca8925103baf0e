"""Words that were retired: what readers see names the actor, and uses the field's terms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RETIRED = re.compile(
    r"\b(mend(ed|s)?|anew|comes? to be|for good|stands? in|goes on|of before|whoever|nobody"
    r"|somebody|misfits?|unruly)\b",
    re.IGNORECASE,
)
FILES = [
    path
    for pattern in ("celery_durable/**/*.py", "docs/**/*.md", "*.md", "example_project/**/*.py")
    for path in ROOT.glob(pattern)
    if "changelog" not in str(path) and "migrations" not in path.parts
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_retired_word(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    found = [f"{number}: {line.strip()}" for number, line in lines if RETIRED.search(line)]
    assert not found, "\n".join(found)
