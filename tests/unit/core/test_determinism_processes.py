"""An orchestrator decides alike in every process: no hash seed and no memory address shows in its
history.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import PROGRAMS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def histories():
    """The histories of all programs, as three processes with different hash seeds recorded them."""
    running = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("programs.py")), str(number)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, seed in enumerate(["0", "1", "4242"])
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    return [json.loads(output) for output in outputs]


@pytest.mark.parametrize("name", PROGRAMS)
def test_recorded_histories_are_byte_identical_in_every_process(histories, name):
    first, *others = (history[name] for history in histories)
    assert all(len(rows) > 1 for rows in first)
    assert all(other == first for other in others)
