"""The plug-in, as pytest of an application loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


OVERRIDE = """
import pytest
import own

@pytest.fixture
def durable_app():
    return own.durable
"""


def test_an_application_uses_the_fixture(tmp_path: Path) -> None:
    """In one folder it is of the current app, in the other of the app that the folder names.

    pytest finds the plug-in by its entry point; others that are installed here stay away.
    """
    (tmp_path / "own.py").write_text(APPLICATION)
    for folder, override in (("current", ""), ("named", OVERRIDE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "conftest.py").write_text(override)
        (tmp_path / folder / f"test_{folder}.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "celery_durable", str(tmp_path)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
        capture_output=True,
        text=True,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_who_does_not_use_it_imports_nothing_for_it() -> None:
    code = (
        "import sys, celery_durable.testing.plugin\n"
        "print(*{'celery', 'sqlalchemy', 'celery_durable.app'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
