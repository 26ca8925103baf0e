"""Which modules the outcome of an activity crosses, and in which order: a profile of one.

    python -m tests.benchmarks.walk        # how many
    python -m tests.benchmarks.walk all    # each step

One worker in this process, Redis and PostgreSQL; the median of ten outcomes that take the turn with
them, from the call of the task to the acknowledgement of its message. The embedded broker is not
counted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import median
from types import FrameType

from celery.contrib.testing.worker import start_worker

import celery_durable
from tests import leftovers

from .places import PLACES

STEPS = 12
_ROOT = str(Path(celery_durable.__file__).parent)

#: A call: of which thread, in which module, of what.
Call = tuple[int, str, str]


def main(*, shows_steps: bool) -> None:
    leftovers.begin()
    with PLACES["redis-postgresql"].open():
        from .app import app, durable, sequence

        durable.migrate()
        calls: list[Call] = []

        def note(frame: FrameType, event: str, _argument: object) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(_ROOT):
                module = code.co_filename[len(_ROOT) + 1 :].removesuffix(".py")
                calls.append((threading.get_ident(), module, code.co_qualname))

        threading.setprofile(note)
        with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
            durable.start(sequence.s(STEPS)).wait(timeout=60)
        threading.setprofile(None)
    outcomes = _outcomes(calls)
    for words, count in {
        "calls": len,
        "modules": lambda outcome: len({module for _, module, _ in outcome}),
        "moves between modules": lambda outcome: len(_runs(outcome, str)) - 1,
        "moves between folders": lambda outcome: len(_runs(outcome, _folder)) - 1,
    }.items():
        print(f"{median(map(count, outcomes)):5.0f} {words}")
    if shows_steps:
        for module, names in groupby(outcomes[0], lambda call: call[1]):
            print(f"{module:30} {' '.join(name for _, _, name in names)}")


def _outcomes(calls: list[Call]) -> list[list[Call]]:
    """Return the calls of each outcome but the first, which warms up, and the last, which ends."""
    threads = [thread for thread, module, _ in calls if module == "worker/attempt"]
    own = [call for call in calls if call[0] == threads[0] and not call[1].startswith("broker/")]
    begins = [
        number
        for number, (_, module, name) in enumerate(own)
        if module == "worker/activity" and name.endswith("__call__")
    ]
    return [own[begin:end] for begin, end in zip(begins[1:-1], begins[2:], strict=True)]


def _runs(outcome: list[Call], part: Callable[[str], str]) -> list[str]:
    return [name for name, _ in groupby(part(module) for _, module, _ in outcome)]


def _folder(module: str) -> str:
    return module.rpartition("/")[0]


if __name__ == "__main__":
    main(shows_steps=sys.argv[1:] == ["all"])
