"""Calls of a store's parts and of the publisher are typed: one that is misspelt, or given another
type, is refused by mypy.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = '''"""Calls as the engine makes them; each marked line has one mistake."""

from __future__ import annotations

from celery_durable.engine.ports import Publisher
from celery_durable.engine.records import ActivityTicket, Outcome
from celery_durable.engine.store_ports import Store


def use(store: Store, publisher: Publisher, ticket: ActivityTicket) -> None:
    """Call what is there."""
    store.turns.load("i", None)
    store.turns.lode("i", None)  # a name that no part has
    store.outcomes.record(Outcome(ticket, "null", has_failed=False))
    store.outcomes.record(ticket)  # another type
    store.reads.status_of("i")
    store.reads.status_of()  # an argument is missing
    store.recovery.read_backlog(1)
    store.workers.look(1)  # a method of another part
    publisher.{publish}([])
    publisher.{publish}s([])  # a name that no publisher has
'''


def test_five_wrong_calls_of_store_and_publisher_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    ports = (ROOT / "celery_durable/engine/ports.py").read_text()
    publish = re.search(r"class Publisher\(.*?def (\w*activities)\(", ports, re.DOTALL)
    assert publish is not None
    planted = tmp_path / "planted.py"
    planted.write_text(CALLS.replace("{publish}", publish[1]))
    wrong = [
        number
        for number, line in enumerate(planted.read_text().splitlines(), 1)
        if line.startswith("    ") and "  # a" in line
    ]
    assert len(wrong) == 5
    given = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *given, str(planted)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [int(line) for line in re.findall(r"planted\.py:(\d+): error", found.stdout)]
    assert lines == wrong, found.stdout + found.stderr
