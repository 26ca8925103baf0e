"""What a user does: commands in a directory, a worker beside them, and a look at what they leave
behind.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.preloaded import shared

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def python():
    """What starts processes that have everything imported already."""
    return shared()


class Place:
    """A directory, and the processes of somebody who works there."""

    def __init__(self, python, directory):
        self._python, self._started = python, []
        self.directory = self.working_directory = directory
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        others = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SHOP_", "CELERY_", "DJANGO_", "PYTEST_"))
        }
        self.environment = {
            **others,
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(directory),
        }

    def python(self, *arguments, **variables):
        """Run Python to its end, by its arguments."""
        return self._python.run(
            arguments, {**self.environment, **variables}, self.working_directory
        )

    def printed(self, *arguments, **variables):
        """Run Python, which does not fail; return what it prints."""
        done = self.python(*arguments, **variables)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def write(self, **modules):
        for name, text in modules.items():
            (self.directory / f"{name}.py").write_text(text)

    def start_worker(self):
        """Start a worker as a user does; return it."""
        with open(self.directory / "worker.log", "ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "INFO"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(worker)
        return worker

    def log(self):
        log = self.directory / "worker.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def processes(self):
        """Return the processes that were started with this directory in their environment."""
        mark, found = f"TMPDIR={self.directory}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def clear(self):
        while found := self.processes():
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for each in self._started:
                each.poll()


def kill(worker):
    """SIGKILL for a worker and its pool."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


@pytest.fixture
def place(python, tmp_path):
    """The test's own directory, whose processes do not outlive it."""
    made = Place(python, tmp_path)
    yield made
    made.clear()
