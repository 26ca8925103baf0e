"""A soft time limit strikes while the engine works, at any line of it: nothing may come of that.

A pool's child is told of its limit by a signal, whose handler raises wherever the child happens to
be.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

import celery_durable
from celery_durable import interrupts
from celery_durable.worker.attempt import Attempt
from celery_durable.worker.orchestrator import OrchestratorTask
from tests.blows import Watch
from tests.tiers import some

from . import stage
from .matrix import Laboratory, undisturbed
from .probe import Probe
from .programs import Program, by_name
from .verdict import problems_of

PACKAGE = Path(celery_durable.__file__).parent
FILES = {
    str(path)
    for part in ("core", "engine", "store", "worker")
    for path in (PACKAGE / part).rglob("*.py")
}
NAMES = (
    "chain",
    "chain by messages",
    "gather with failures",
    "window",
    "children",
    "continue as new",
)

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")


def strike(_number: int, _frame: object) -> None:
    """Do what billiard's handler does."""
    raise SoftTimeLimitExceeded


def _has_ended(owner: object) -> bool:
    body = getattr(owner, "body", None)  # half made: none
    return isinstance(owner, Attempt) and bool(getattr(body, "ended", 0))


def blow() -> None:
    """Send the signal where a turn is taken or a body has ended.

    Before that it does what it is for.
    """
    frame: FrameType | None = sys._getframe()
    while frame := frame.f_back:
        owner = frame.f_locals.get("self")
        if isinstance(owner, OrchestratorTask) or _has_ended(owner):
            signal.raise_signal(signal.SIGUSR1)
            return


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Handle the signal as a child does."""
    before = signal.signal(signal.SIGUSR1, strike)
    interrupts.defer(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "program", [by_name[name] for name in NAMES], ids=lambda program: program.name
)
def test_a_limit_that_strikes_engine_code_changes_nothing(
    laboratory: Laboratory, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = undisturbed(laboratory, program)
    trace = stage.trace_task_ret

    def run(watch: Watch) -> list[str]:
        """Run the program, all that a pool's child does with a message under ``watch``."""

        def watched(*args: Any, **options: Any) -> Any:
            if watch.has_struck:
                return trace(*args, **options)
            with watch:
                return trace(*args, **options)

        monkeypatch.setattr(stage, "trace_task_ret", watched)
        world = laboratory.world(program, Probe())
        world.run()
        problems = problems_of(world, expected)
        laboratory.forget(world)
        return problems

    assert run(Watch(FILES)) == []  # the first run fills caches, and passes more
    whole = Watch(FILES)
    assert run(whole) == []
    assert whole.passed > 1_000
    tried = 0
    for place in some(
        range(1, whole.passed), quick=2999, full=999, key=program.name, share=1 / len(NAMES)
    ):
        watch = Watch(FILES, place, blow)
        assert run(watch) == [], f"place {place} of {whole.passed}"
        tried += watch.has_struck  # where threads take part, a run may pass a few places less
    assert tried
