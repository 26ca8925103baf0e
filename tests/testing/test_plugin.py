"""The plug-in, as pytest of an application loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
from celery import Celery
from celery_durable import Durable

app = Celery("own", broker="memory://")
durable = Durable(app)

@app.task
def double(n):
    return 2 * n

@durable.orchestrator
async def doubled(ctx, n):
    await ctx.sleep(86400)
    return await ctx.call(double.s(n))
"""
TESTS = """
from own import double, doubled

def test_one(durable_env):
    assert durable_env.run(doubled.s(2)) == 4

def test_two(durable_env):
    durable_env.replace(double, returns="other")
    assert durable_env.run(doubled.s(2)) == "other"
"""


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(False, id="the current app"),
        pytest.param(True, id="a fixture of its own", marks=pytest.mark.full),
    ],
)
def test_an_application_uses_the_fixture(tmp_path: Path, names: bool) -> None:
    (tmp_path / "own.py").write_text(APPLICATION)
    override = (
        "import pytest\nimport own\n@pytest.fixture\ndef durable_app():\n    return own.durable\n"
    )
    (tmp_path / "conftest.py").write_text(override if names else "")
    (tmp_path / "test_own.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_who_does_not_use_it_imports_nothing_for_it() -> None:
    code = (
        "import sys, celery_durable.testing.plugin\n"
        "print(*{'celery', 'sqlalchemy', 'celery_durable.app'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
