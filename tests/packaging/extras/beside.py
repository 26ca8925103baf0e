"""What scripts start beside themselves, and how they wait for something."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

PYTHON = [sys.executable, "-s", "-E"]
PATIENCE = 120


@contextmanager
def running(log: str, *arguments: str) -> Iterator[Callable[[], str]]:
    """Let a command run beside this process, and kill it.

    The value reads what it has printed until now.
    """
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*PYTHON, *arguments], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        yield lambda: Path(log).read_text(errors="replace")
    finally:
        process.kill()  # its children are of this process's group, which the test ends
        process.wait()


def worker(app: str, *options: str) -> AbstractContextManager[Callable[[], str]]:
    """A worker of an application, with one process in its pool."""
    return running(
        "worker.log", "-m", "celery", "-A", app, "worker", "-c", "1", "--without-mingle", *options
    )


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE} s")
        time.sleep(0.05)
    return value
