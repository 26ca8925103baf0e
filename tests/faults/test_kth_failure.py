"""The k-th call fails, for every k: the store is down for a moment, or the broker, or the result
backend.

The process lives on. Nothing may come of it but time: the run ends as it would have.
"""

from __future__ import annotations

from typing import Any

import pytest

from .matrix import Laboratory, sweep
from .probe import Mode
from .programs import PROGRAMS, Program

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


@programs
def test_one_call_fails(laboratory: Laboratory, program: Program, record_property: Any) -> None:
    report = sweep(laboratory, program, Mode.FAILS_BEFORE, quick=8, full=6, share=1 / len(PROGRAMS))
    assert report.cases >= 2
    record_property("cases", report.cases)
    assert not report.failures, report.text()


@pytest.mark.sparse(2)
@programs
def test_two_calls_in_a_row_fail(
    laboratory: Laboratory, program: Program, record_property: Any
) -> None:
    report = sweep(
        laboratory,
        program,
        Mode.FAILS_BEFORE,
        together=2,
        quick=20,
        full=20,
        share=1 / len(PROGRAMS),
    )
    assert report.cases > 0
    record_property("cases", report.cases)
    assert not report.failures, report.text()
