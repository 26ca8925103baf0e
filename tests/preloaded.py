"""Python processes that begin with everything imported: each is a fork of a server that has
imported it once.

To import Django, Celery and SQLAlchemy takes two seconds of a processor, to do what a test is about
a tenth of that. Such a process has an environment, a session and a process group of its own, and
ends as Python does: it may kill itself. Nothing that reads settings is imported before it is
forked.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MODULES = """
alembic celery.app.base celery.apps.worker celery.backends.redis celery.bin.celery celery.bin.worker celery.concurrency.prefork
celery.concurrency.solo celery.concurrency.thread celery_durable.app celery_durable.cli celery_durable.store
celery_durable.worker.bootstep celery_durable.broker.transport django.contrib.admin.sites django.core.management.commands.migrate
django.core.management.commands.test django.core.servers.basehttp django.core.wsgi django.db.backends.sqlite3.base
django.forms django.template.backends.django django.test django.views kombu.transport.memory kombu.transport.pyamqp
kombu.transport.redis flower.command flower.app psycopg pymysql
sqlalchemy.dialects.mysql sqlalchemy.dialects.postgresql
""".split()
STACKS = signal.SIGRTMIN  # a process writes to stderr where each of its threads stands
PATIENCE = 300  # seconds that only a process that hangs takes


class Process:
    """A process of the server's; it is asked and ended as a ``Popen`` is, with its whole group."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers.makefile("rb", buffering=0)
        self._socket = answers
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if there is one."""
        return self._look(0)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code when there is one."""
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def _look(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self._socket], [], [], timeout)[0]:
            # the server is gone, and it with the server
            self.returncode = int(self._answers.readline() or b"-9")
            self._answers.close()
            self._socket.close()
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM for it alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL for it and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


class Preloaded:
    """The server, as seen from the tests."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def start(
        self,
        arguments: list[str],
        env: Mapping[str, str],
        cwd: Path,
        output: IO[bytes],
        errors: IO[bytes],
    ) -> Process:
        """Start a process by the arguments of ``python``: ``-c``, ``-m``, or a file."""
        ours, theirs = socket.socketpair()
        with theirs:
            job = json.dumps({"arguments": arguments, "env": dict(env), "cwd": str(cwd)}).encode()
            socket.send_fds(
                self._channel, [job], [output.fileno(), errors.fileno(), theirs.fileno()]
            )
        return Process(ours)

    def run(
        self, arguments: list[str], env: Mapping[str, str], cwd: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a process to its end."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self.start(arguments, env, cwd, output, errors)
            try:
                code = process.wait()
            finally:
                process.kill()
            output.seek(0), errors.seek(0)
            return subprocess.CompletedProcess(
                arguments, code, output.read().decode(), errors.read().decode()
            )


@contextmanager
def server() -> Iterator[Preloaded]:
    """Start the server; it ends what is left of its processes when it is not wanted any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            yield Preloaded(ours)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            with ExitStack() as stack:
                stack.callback(process.wait)
                stack.callback(process.kill)
                process.wait(PATIENCE)


_shared: list[Preloaded] = []
_stack, _starting = ExitStack(), threading.Lock()


def shared() -> Preloaded:
    """Return the server that all tests of this process share, until ``close``."""
    with _starting:
        if not _shared:
            _shared.append(_stack.enter_context(server()))
        return _shared[0]


def close() -> None:
    """End the shared server, and what is left of its processes."""
    _shared.clear()
    _stack.close()


# -- the server ------------------------------------------------------------------------------------


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each job until nobody wants more; return the job in the process that is to do it."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by what tells their end
    while True:
        for ready in select.select([channel, *children], [], [])[0]:
            if ready is not channel:
                pid, answers = children.pop(ready)
                os.close(ready)
                with answers, suppress(OSError):
                    answers.send(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            job, files, _, _ = socket.recv_fds(channel, 1 << 20, 3)
            if not job:
                for pid, _ in children.values():
                    with suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                return None
            if (pid := os.fork()) == 0:
                os.setsid()
                os.write(files[2], b"%d\n" % os.getpid())
                for number, file in enumerate(files[:2], 1):
                    os.dup2(file, number)
                held = [channel, *(answers for _, answers in children.values())]
                os.closerange(3, max(*files, *children, *(each.fileno() for each in held)) + 1)
                for each in held:
                    each.detach()
                return json.loads(job)
            for file in files[:2]:
                os.close(file)
            children[os.pidfd_open(pid)] = pid, socket.socket(fileno=files[2])


def _do(job: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    faulthandler.register(STACKS, file=2)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    if os.environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    sys.path[:0] = [job["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kind, *rest = job["arguments"]
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    for _name in MODULES:
        with suppress(ModuleNotFoundError):
            importlib.import_module(_name)
    gc.freeze()
    _job = _serve(socket.socket(fileno=int(sys.argv[1])))
    if _job is not None:
        _do(_job)
