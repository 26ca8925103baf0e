"""Sentry, initialised before the application, as its manual has it: what it wraps of Celery is on
the way of every message.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker under Sentry tells; Sentry wraps Celery for good, so it is a process of its
    own.
    """
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("sentryapp.py")),
            f"sqlite:///{tmp_path_factory.mktemp('sentry') / 'store.db'}",
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_hears_of_a_failure_once(told: dict[str, Any]) -> None:
    plain, durable = told["events"]
    assert [event["type"] for event in told["events"]] == ["ValueError", "ValueError"]
    assert (plain["mechanism"], durable["mechanism"]) == ("celery", "celery")
    assert durable["job"] == {**plain["job"], "task_name": "sentry.durable"}


def test_each_activity_is_in_the_trace_of_its_starter(told: dict[str, Any]) -> None:
    assert told["output"] == list(range(6))
    assert told["traces"] == [told["trace"]] * 6
