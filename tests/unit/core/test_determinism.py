"""What importing the core does to a process: nothing that is seen outside of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PATCHED = """
patched = [
    "set" in vars(asyncio.tasks),
    "durable" in vars(asyncio.futures._chain_future),
    "__hash__" in vars(asyncio.tasks._GatheringFuture),
]
"""
FRAMEWORKS = """
import asyncio, sys
import {module}
frameworks = {{"celery", "kombu", "billiard", "sqlalchemy", "alembic"}}
loaded = frameworks.intersection(name.partition(".")[0] for name in sys.modules)
assert not loaded, loaded
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("module", ["machine", "rewind", "limits", "options"])
def test_importing_the_core_loads_no_framework_and_leaves_asyncio_untouched(module):
    program = FRAMEWORKS.format(module=f"celery_durable.core.{module}")
    run(program + PATCHED + "assert not any(patched), patched")


def test_asyncio_is_amended_by_a_call_and_not_before():
    run(
        FRAMEWORKS.format(module="celery_durable.core.determinism")
        + "celery_durable.core.determinism.install()"
        + PATCHED
        + "assert all(patched), patched"
    )


def test_a_machine_says_what_to_call_before_it_is_made():
    run(
        """
import celery_durable.core.machine as machine
try:
    machine.Machine(machine.ExecutionInfo("i", "e", "n"), print, None)
except Exception as error:
    assert type(error).__name__ == "ConfigurationError", error
    assert "celery_durable.core.determinism.install()" in str(error)
else:
    raise AssertionError("it was made")
"""
    )
