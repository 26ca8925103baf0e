"""What the package tells type checkers of other people's projects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_public_types_are_known(tmp_path: Path) -> None:
    command = ["-m", "pyright", "--verifytypes", "celery_durable", "--ignoreexternal"]
    done = subprocess.run(
        [sys.executable, *command, "--pythonpath", sys.executable, "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout[done.stdout.index("{") :])["typeCompleteness"]
    worst = [each["name"] for each in found["symbols"] if not each["isTypeKnown"]]
    assert found["completenessScore"] >= 0.98, worst[:50]
