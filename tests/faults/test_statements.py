"""One level below: a process dies between any two SQL statements, also inside a transaction, or a statement fails.

On SQLite. The database may also ask for the whole transaction once more; and a COMMIT, or a statement that is a
transaction by itself, may take place and be reported as failed.
"""

from __future__ import annotations

import pytest

from .matrix import Laboratory, Report, try_plan, undisturbed
from .probe import Call, Mode
from .programs import PROGRAMS, Program, by_name

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
SQL = frozenset({"sql"})
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
def test_every_statement_may_be_the_last(laboratory: Laboratory, program: Program, is_full: bool) -> None:
    calls, expected = undisturbed(laboratory, program, places=SQL)
    last, report = [number for number in range(len(calls)) if changes(calls, number)], Report()
    if not is_full and program not in map(by_name.get, FEW):
        last = last[::8]
    for number in range(len(calls)) if is_full else last:
        try_plan(laboratory, program, {number: Mode.DIES_BEFORE}, expected, report, places=SQL)
    assert report.cases > 1
    assert not report.failures, report.text()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_statement_may_fail(laboratory: Laboratory, program: Program, is_full: bool) -> None:
    calls, expected = undisturbed(laboratory, program, places=SQL)
    report, step = Report(), 1 if is_full else 24
    for number in range(0, len(calls), step):
        try_plan(laboratory, program, {number: Mode.FAILS_BEFORE}, expected, report, places=SQL)
        try_plan(laboratory, program, {number: Mode.IS_REFUSED}, expected, report, places=SQL)
    for number in commits(calls)[:: 1 if is_full else 6]:
        try_plan(laboratory, program, {number: Mode.FAILS_AFTER}, expected, report, places=SQL)
    assert report.cases > 1
    assert not report.failures, report.text()
