"""What a process imports: those that only declare or start tasks are many, and wait for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STANDARD = sys.stdlib_module_names
DECLARES = """
from celery import Celery
from celery_durable import Durable

app = Celery("shop", broker="memory://")
app.conf.durable_backend_url = "sqlite:///{store}"
durable = Durable(app)

@app.task
def charge(order): ...

@app.task
@durable.transactional
def book(session, order): ...

@durable.orchestrator
async def fulfil(ctx, order):
    await ctx.call(charge.s(order))

@durable.entity
class Basket: ...
"""
STARTS = """
durable.start(fulfil.s("42"))
"""


def imported(code: str, store: Path) -> set[str]:
    """Run code in a process of its own, and return the packages that are there at the end."""
    return {name for name in modules(code, store) if name.count(".") < 2}


def modules(code: str, store: Path = Path("none")) -> set[str]:
    """Do the same, and return all modules."""
    last = "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{store}", str(store)) + last],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.fixture
def store(sqlite_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "store.db"))


def test_the_front_door_brings_only_itself() -> None:
    added = modules("import celery; from celery_durable import Durable") - modules("import celery")
    ours = {name for name in added if name.partition(".")[0] == "celery_durable"}
    foreign = {name for name in added - ours if name.partition(".")[0] not in STANDARD}
    assert foreign == set()
    assert "celery_durable.app.durable" in ours
    assert {name for name in ours if ".engine" in name or ".worker" in name} == set()
    assert len(ours) <= 30
    assert len(added) <= 180


def test_who_only_declares_imports_no_database(store: Path) -> None:
    found = imported(DECLARES, store)
    assert {"celery", "celery_durable.app"} <= found
    assert found & {"sqlalchemy", "alembic", "sqlite3", "rich", "celery_durable.http"} == set()


def test_who_only_declares_imports_no_engine(store: Path) -> None:
    ours = {name for name in modules(DECLARES, store) if name.startswith("celery_durable.")}
    assert "celery_durable.worker.orchestrator" in ours
    for name in ("engine.turn", "engine.commit", "worker.attempt", "worker.receive", "store.store"):
        assert f"celery_durable.{name}" not in ours
    assert len(ours) <= 156


def test_a_worker_has_what_its_children_run_before_they_are_forked(store: Path) -> None:
    before = "\ndurable.runtime; import celery_durable.worker.bootstep"
    found = modules(DECLARES + before, store)
    assert {"celery_durable.worker.attempt", "celery_durable.worker.receive"} <= found
    assert "celery_durable.engine.turn" in found
    assert "sqlalchemy.orm" not in found


def test_who_starts_imports_no_migrations(store: Path) -> None:
    found = imported(DECLARES + STARTS, store)
    assert "sqlalchemy" in found
    assert found & {"alembic", "mako", "rich", "django.db"} == set()


@pytest.mark.parametrize(
    ("url", "others"),
    [
        (
            "postgresql+psycopg://localhost/shop",
            {"sqlite3", "pymysql", "sqlalchemy.dialects.mysql"},
        ),
        ("mysql+pymysql://localhost/shop", {"sqlite3", "psycopg"}),
        ("sqlite:///{store}", {"psycopg", "pymysql", "sqlalchemy.dialects.mysql"}),
    ],
)
def test_a_worker_has_no_other_database_in_memory(url: str, others: set[str], store: Path) -> None:
    found = modules(
        DECLARES.replace("sqlite:///{store}", url)
        + "\ndurable.runtime; import celery_durable.worker.bootstep"
        + "\nassert durable.runtime.store.database.dialect",
        store,
    )
    assert "celery_durable.store.filters" in found
    assert found & others == set()
