"""Words that were retired: what readers see names the actor, and uses the field's terms. Names in
code have one word for one thing, too.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RETIRED = re.compile(
    r"\b(mend(ed|s)?|anew|comes? to be|for good|stands? in|goes on|of before|whoever|nobody"
    r"|somebody|misfits?|unruly)\b",
    re.IGNORECASE,
)
#: Names that code had for things that have another name now.
OLD_NAMES = frozenset(
    "Execution wish wishes dress Flow Flows Look Lanes Stretch farewell unheard revive"
    " announcer seam dice Ticket Facts Carried Seen Life rests misfit misfits misfit_of misfit_in"
    " Census take_census BorrowedConnection borrowed_engine borrowed_store let_in new_mark ReviveChild"
    " retrace HeldError InboxLook told tell tells say said says _told _tell _said _says life lives"
    " follows_lives".split()
)
_TEST = re.compile(r"def (test_\w+)")
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


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.suffix == ".py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_old_name(path: Path) -> None:
    words = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    found = [
        f"{word.start[0]}: {word.string}"
        for word in words
        if word.type == tokenize.NAME and word.string in OLD_NAMES
    ]
    assert not found, "\n".join(found)


def test_no_retired_word_in_the_names_of_tests() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in (path.stem, *_TEST.findall(path.read_text()))
        if RETIRED.search(name.replace("_", " "))
    ]
    assert not found, "\n".join(found)
