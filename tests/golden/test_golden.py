"""What the programs write and send is what it was: ``python -m tests.golden`` keeps what is new."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_durable.payload_store import PayloadStore
from celery_durable.store.database import Database
from celery_durable.store.migrate import migrate
from tests.conftest import MARIADB, POSTGRES, own_database
from tests.contract.encoded_world import Scrambled
from tests.faults.clock import ServerTime
from tests.faults.programs import Program, app

from .journal import coarse
from .programs import PROGRAMS
from .stage import EagerVault, GoldenWorld, kept, text_of

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")
_SHOWN = 200


def difference(program: Program, found: str, wanted: str) -> str:
    """Return the difference of two journals for people; empty if there is none.

    Each part says after which step it is, and in which table.
    """
    before = wanted.splitlines()
    lines = list(
        difflib.unified_diff(
            before, found.splitlines(), kept(program).name, "now", n=8, lineterm=""
        )
    )
    shown = [_whereabouts(line, before) for line in lines[:_SHOWN]]
    more = [f"... and {len(lines) - _SHOWN} more lines"] if len(lines) > _SHOWN else []
    return "\n".join(shown + more)


def _whereabouts(line: str, before: list[str]) -> str:
    if not line.startswith("@@"):
        return line
    begin = int(line.split()[1].partition(",")[0].removeprefix("-"))
    step, table = "", ""
    for each in before[:begin]:
        if each.startswith('  "after": '):
            step, table = each.partition(": ")[2].rstrip(","), ""
        elif each.startswith(('   "durable_', '  "sent"', '  "results"')):
            table = each.split('"')[1]
    return f"{line} after {step}: {table}"


def run(world: GoldenWorld) -> Any:
    """Run a world to its end, and return what is in its journal."""
    try:
        world.run()
        assert not world.problems, world.problems
        return world.journal.steps
    finally:
        world.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_rows_and_messages_are_what_they_were(
    program: Program, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "golden.db")
    found = text_of(run(GoldenWorld(f"sqlite:///{tmp_path / 'golden.db'}", program)))
    wanted = kept(program).read_text("utf-8")
    if found != wanted:
        pytest.fail(difference(program, found, wanted), pytrace=False)


def without_messages(steps: Any) -> Any:
    """Return what a journal says of rows and results."""
    found = [{name: each for name, each in step.items() if name != "sent"} for step in steps]
    return [step for step in found if len(step) > 1]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_sealed_rows_are_the_same_when_they_are_opened(
    program: Program, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "golden.db")
    codec, large = Scrambled(), PayloadStore(str(tmp_path / "large"), above=150)
    kept_by = {"durable_codec": codec, "durable_payload_store": large}
    sealed = replace(program, settings={**program.settings, **kept_by})
    world = GoldenWorld(f"sqlite:///{tmp_path / 'golden.db'}", sealed)
    world.vault = EagerVault(codec, large)
    try:
        found = text_of(without_messages(run(world)))
    finally:
        app.conf.update(dict.fromkeys(kept_by))
    assert world.unsealed == []
    wanted = text_of(without_messages(json.loads(kept(program).read_text("utf-8"))))
    if found != wanted:
        pytest.fail(difference(program, found, wanted), pytrace=False)
    assert list(large.keys())


@pytest.fixture(scope="module", params=[POSTGRES, MARIADB], ids=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database on each server."""
    with own_database(request.param) as url:
        database = Database(url)
        migrate(database)
        database.dispose()
        yield url


@pytest.mark.full
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_rows_and_messages_are_the_same_on_a_server(server: str, program: Program) -> None:
    if program.name == "two-entities" and server.startswith("postgres"):
        pytest.skip("two locks are released by one commit: which entity hears first is not said")
    world = GoldenWorld(server, program, clock=ServerTime())
    world.empty()
    found = text_of(coarse(run(world)))
    wanted = text_of(coarse(json.loads(kept(program).read_text("utf-8"))))
    if found != wanted:
        pytest.fail(difference(program, found, wanted), pytrace=False)


def test_a_difference_is_shown_with_what_is_around_it() -> None:
    kept_text = kept(PROGRAMS[0]).read_text("utf-8")
    other = kept_text.replace('"ActivityScheduled"', '"ActivityPlanned"', 1)
    assert difference(PROGRAMS[0], kept_text, kept_text) == ""
    shown = difference(PROGRAMS[0], other, kept_text)
    assert '-        "ActivityScheduled",\n+        "ActivityPlanned",' in shown
    assert 'after "turn message i of faults.golden_chain": durable_history' in shown


def test_each_journal_belongs_to_a_program() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("*.json")}
    assert files == {program.name for program in PROGRAMS}
