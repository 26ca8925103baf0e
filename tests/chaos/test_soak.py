"""Hours of load, overload, and a broker that loses a long queue: ``tests.benchmarks.soak``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import budget


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_long_load_an_overload_and_a_broker_that_forgets(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.benchmarks.soak", str(budget()), str(out)]
    subprocess.run(command, check=True)
    found = json.loads(out.read_text())
    steady, overload, wiped = found["steady"], found["overload"], found["wiped"]
    # nothing was lost in these two, so nothing is sent twice
    assert steady["activity_messages"] <= 1.02
    assert overload["activity_messages"] <= 1.02
    assert steady["growth"]["rss"] <= 1.1
    assert steady["growth"]["p50"] <= 2
    # when the burst is over, all of it is done at nearly full speed, and what comes then is not late
    assert overload["drain"] >= 0.7
    assert overload["latency_after"] <= max(2 * steady["parts"][2]["p50"], 1)
    # all of it was done in the end, and nothing was sent again twice
    assert wiped["lost"] >= 5_000
    assert wiped["first_again_after"] <= 15
    assert wiped["most_sends"] <= 1
