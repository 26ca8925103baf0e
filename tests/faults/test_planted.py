"""The matrix can fail: each of these bugs, planted from outside, is brought to light by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .matrix import Laboratory, Report, points, try_plan, undisturbed
from .planted import BUGS, Bug
from .programs import by_name

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
_ROW = "{:57} {:26} {:13} {:7} {:17} {}"


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """What was found, printed when all is done."""
    lines = [
        _ROW.format(
            "planted bug", "program", "mode", "at case", "even undisturbed", "what the matrix says"
        )
    ]
    yield lines
    print("\n" + "\n".join(lines))


@pytest.mark.sparse(2)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(laboratory: Laboratory, bug: Bug, table: list[str]) -> None:
    program, options = by_name[bug.program], {"places": bug.places} if bug.places else {}
    calls, expected = undisturbed(laboratory, program, **options)
    report = Report()
    with bug.planted():
        alone = Report()
        try_plan(laboratory, program, {}, expected, alone, **options)
        for number in points(calls, bug.mode):
            try_plan(laboratory, program, {number: bug.mode}, expected, report, **options)
            if report.failures:
                break
    said = report.failures[0].split("\n")[1].strip() if report.failures else "NOTHING"
    table.append(
        _ROW.format(
            bug.name,
            bug.program,
            bug.mode.name,
            report.cases,
            "yes" if alone.failures else "no",
            said[:110],
        )
    )
    assert report.failures, f"{report.cases} cases passed in spite of the bug: {bug.name}"
