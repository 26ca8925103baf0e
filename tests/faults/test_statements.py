"""One level below: a process dies between any two SQL statements, also inside a transaction, or a
statement fails.

On SQLite. The database may also ask for the whole transaction once more; and a COMMIT, or a
statement that is a transaction by itself, may take place and be reported as failed.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiers import some

from .matrix import Laboratory, Report, try_plan, undisturbed
from .probe import Call, Mode
from .programs import PROGRAMS, Program, by_name

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
SQL = frozenset({"sql"})
SHARE = 1 / len(PROGRAMS)
FEW = ["gather with failures", "children", "continue as new"]


def changes(calls: list[Call], number: int) -> bool:
    return not calls[number].name.startswith(("SELECT", "PRAGMA", "BEGIN"))


def commits(calls: list[Call]) -> list[int]:
    """Return the statements with which something becomes true for others."""
    found, is_inside = [], False
    for number, call in enumerate(calls):
        is_inside = (is_inside or call.name.startswith("BEGIN")) and call.name != "COMMIT"
        if changes(calls, number) and not is_inside:
            found.append(number)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_statement_may_be_the_last(
    laboratory: Laboratory, program: Program, record_property: Any
) -> None:
    calls, expected = undisturbed(laboratory, program, places=SQL)
    last, report = [number for number in range(len(calls)) if changes(calls, number)], Report()
    is_thorough = program in map(by_name.get, FEW)
    steps = {"quick": 4, "full": 3} if is_thorough else {"quick": 24, "full": 24}
    for number in some(last, **steps, key=program.name, share=SHARE):
        try_plan(laboratory, program, {number: Mode.DIES_BEFORE}, expected, report, places=SQL)
    assert report.cases > 0
    record_property("cases", report.cases)
    assert not report.failures, report.text()


@pytest.mark.sparse(2)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_statement_may_fail(
    laboratory: Laboratory, program: Program, record_property: Any
) -> None:
    calls, expected = undisturbed(laboratory, program, places=SQL)
    report = Report()
    for mode in (Mode.FAILS_BEFORE, Mode.IS_REFUSED):
        for number in some(
            range(len(calls)), quick=80, full=80, key=f"{program.name} {mode.name}", share=SHARE / 3
        ):
            try_plan(laboratory, program, {number: mode}, expected, report, places=SQL)
    for number in some(commits(calls), quick=12, full=12, key=program.name, share=SHARE / 3):
        try_plan(laboratory, program, {number: Mode.FAILS_AFTER}, expected, report, places=SQL)
    assert report.cases > 1
    record_property("cases", report.cases)
    assert not report.failures, report.text()
