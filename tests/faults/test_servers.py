"""A part of the matrix on the servers: PostgreSQL has a path of its own through the store, MariaDB
other locks.

The clock is the server's: time passes by moving what the store holds into the past.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_durable.store.database import Database
from celery_durable.store.migrate import migrate
from tests.conftest import MARIADB, POSTGRES, own_database
from tests.tiers import is_long, some

from .matrix import Report, ServerLaboratory, points, try_plan, undisturbed
from .probe import Mode
from .programs import PROGRAMS, Program

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
MODES = [Mode.DIES_BEFORE, Mode.FAILS_AFTER, Mode.FREEZES, Mode.FAILS_BEFORE]
FEW = [
    "gather, first turn inline",
    "gather with failures",
    "window",
    "children",
    "suspend and resume",
]


@pytest.fixture(scope="module", params=[POSTGRES, MARIADB], ids=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerLaboratory]:
    """A laboratory on each server."""
    with own_database(request.param) as url:
        database = Database(url)
        migrate(database)
        database.dispose()
        yield ServerLaboratory(Path(), Path(), url=url)


@pytest.mark.parametrize(
    "program",
    [program for program in PROGRAMS if is_long() or program.name in FEW],
    ids=lambda program: program.name,
)
def test_calls_may_go_wrong_on_a_server(
    server: ServerLaboratory, program: Program, record_property: Any
) -> None:
    report = Report()
    calls, expected = undisturbed(server, program)
    for offset, mode in enumerate(MODES):
        chosen = points(calls, mode)[offset:]
        for number in some(
            chosen, quick=40, full=40, key=mode.name, share=1 / len(PROGRAMS) / len(MODES)
        ):
            try_plan(server, program, {number: mode}, expected, report)
    turns = [number for number, call in enumerate(calls) if call.name == "commit"]
    for number in some(turns, quick=1, full=1, key="turns", share=1 / len(PROGRAMS) / len(MODES)):
        try_plan(server, program, {number: Mode.IS_OVERTAKEN}, expected, report)
    assert report.cases >= 4
    record_property("cases", report.cases)
    assert not report.failures, report.text()
