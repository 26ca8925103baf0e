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
    r"|somebody|misfits?|unruly)\b"
    # a limit and a window have slots; what ``explain`` writes is kept ("waits for a place: 5 of 5")
    r"|\bwait(s|ed|ing)? for (its |their |the same |a )?places?\b(?!:)"
    r"|\bneed(s|ed)? (its |their |the same |these |a )?places?\b"
    r"|\bplaces? (of|in) (a |the |its |their )?(limit|window)s?\b"
    r"|\b(free|has|had) places?\b|\bplaces (that )?(are )?taken\b",
    re.IGNORECASE,
)
#: Names that code had for things that have another name now.
OLD_NAMES = frozenset(
    "Execution wish wishes dress Flow Flows Look Lanes Stretch farewell unheard revive"
    " announcer seam dice Ticket Facts Carried Seen Life rests misfit misfits misfit_of misfit_in"
    " Census take_census BorrowedConnection borrowed_engine borrowed_store let_in new_mark ReviveChild"
    " retrace HeldError InboxLook told tell tells say said says _told _tell _said _says life lives"
    " follows_lives free_place free_lost_places frees_place has_places place_in_words INSERT_PLACE"
    " FREE_PLACES LOST_PLACES DELETE_PLACE read_lane LANE LANES LANES_BEFORE".split()
)
#: Modules of limits: a place is a slot there, and a lane is a partition of those that wait.
OF_LIMITS = [
    ROOT / "celery_durable" / folder / f"{name}.py"
    for folder, names in {
        "core": ("limits", "permits"),
        "engine": ("activity_limits", "admission", "admission_policy", "writes"),
        "store": ("activity_limits", "admission", "choosing", "permit_count", "slots"),
    }.items()
    for name in names
]
OLD_NAME_OF_LIMITS = re.compile(r"(?:^|_)(?:place|lane)s?(?:_|$)", re.IGNORECASE)
_TEST = re.compile(r"def (test_\w+)")
FILES = [
    path
    for pattern in ("celery_durable/**/*.py", "docs/**/*.md", "*.md", "example_project/**/*.py")
    for path in ROOT.glob(pattern)
    if "changelog" not in str(path) and "migrations" not in path.parts
]


def names_in(path: Path) -> list[tuple[int, str]]:
    words = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return [(word.start[0], word.string) for word in words if word.type == tokenize.NAME]


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
    found = [f"{line}: {name}" for line, name in names_in(path) if name in OLD_NAMES]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", OF_LIMITS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_limit_has_slots_and_who_waits_is_in_a_partition(path: Path) -> None:
    found = [f"{line}: {name}" for line, name in names_in(path) if OLD_NAME_OF_LIMITS.search(name)]
    assert not found, "\n".join(found)


def test_no_retired_word_in_the_names_of_tests() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in (path.stem, *_TEST.findall(path.read_text()))
        if RETIRED.search(name.replace("_", " "))
    ]
    assert not found, "\n".join(found)
