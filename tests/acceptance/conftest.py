"""An application in a directory of its own, with a worker, as a user would run it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Application:
    """A directory with an application's modules, a worker, and other processes beside it."""

    def __init__(self, directory, variables=None):
        self.directory = directory
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}
        self._worker = None

    def start_worker(self, module="shop"):
        with open(self.directory / "worker.log", "ab") as log:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", module, "worker", "-c", "2", "-l", "INFO"],
                cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill_worker(self):
        worker, self._worker = self._worker, None
        if worker is not None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def python(self, *arguments, code=0):
        """Run Python beside the worker; return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout if code == 0 else done.stderr

    def log(self):
        log = self.directory / "worker.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""


@pytest.fixture
def application(tmp_path):
    """Make applications in the test's own directory; their workers do not outlive it."""
    made = []

    def make(**variables):
        made.append(Application(tmp_path, variables))
        return made[-1]

    yield make
    for each in made:
        each.kill_worker()
