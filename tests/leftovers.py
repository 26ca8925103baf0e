"""What a test run makes outside its own process is gone when the run is over, however it ends.

Every process that a run starts inherits ``DURABLE_TEST_RUN``. Whatever else it makes (a database, a
virtual host, keys, a folder) stands in a ledger from before it is made until after it is gone. A
reaper, a small process that outlives the run, waits for the run's end, be it by SIGKILL; then it
kills what is marked and clears away what the ledger still names.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "DURABLE_TEST_RUN"


def begin() -> bool:
    """Mark this process and all that it starts, and start a reaper.

    False in a process of a run that has begun: it joins that.
    """
    if MARK in os.environ:
        return False
    os.environ[MARK] = ledger = tempfile.mkdtemp(prefix="durable-test-run-")
    paths = os.pathsep.join(filter(None, sys.path))
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-S", __file__, ledger, str(os.getpid())],
        {**os.environ, "PYTHONPATH": paths},
        file_actions=nothing,
        setsid=True,
    )
    return True


class noted:  # a context manager, named as what it does
    """Let the ledger name something while it is there: a ``group`` of processes, a ``database``, a
    ``folder``, ..

    Processes need that only if they write over the environment that they were started with, as some
    servers do.
    """

    def __init__(self, kind: str, **facts: str) -> None:
        self._entry = Path(os.environ[MARK], f"{uuid.uuid4().hex}.json")
        self._text = json.dumps({"kind": kind, **facts})

    def __enter__(self) -> None:
        self._entry.write_text(self._text)

    def __exit__(self, *_: Any) -> None:
        self._entry.unlink(missing_ok=True)


def processes(ledger: str) -> list[int]:
    """Return the processes that a run has started and that are still there, without the reaper."""
    mark, marked, parents = f"{MARK}={ledger}".encode(), set[int](), dict[int, int]()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = int(directory.name)
            parents[process] = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            is_marked = mark in (directory / "environ").read_bytes().split(b"\0")
            if is_marked and b"leftovers.py" not in (directory / "cmdline").read_bytes():
                marked.add(process)
    while more := {process for process, parent in parents.items() if parent in marked} - marked:
        # a server that takes another user's identity takes that one's environment, too
        marked |= more
    return sorted(marked)


def of_this_run() -> list[str]:
    """Return a line for each thing that is still there."""
    ledger = os.environ[MARK]
    lines = [entry.read_text() for entry in sorted(Path(ledger).glob("*.json"))]
    for process in processes(ledger):
        with suppress(OSError):
            words = (
                Path(f"/proc/{process}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            if words:  # the empty one of a zombie is waited for by whoever started it
                lines.append(f"process {process}: {words[:200]}")
    return lines


# -- the reaper ------------------------------------------------------------------------------------


def reap(ledger: str, run: int) -> None:
    """Wait for the end of a run, and clear away what it has left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        poll = select.poll()
        poll.register(os.pidfd_open(run), select.POLLIN)
        poll.poll()
    for _ in range(100):  # what is killed may just have started something
        left = processes(ledger)
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.1)
    for entry in sorted(Path(ledger).glob("*.json")):
        with suppress(Exception):
            facts = json.loads(entry.read_text())
            _CLEARED[facts.pop("kind")](**facts)
    shutil.rmtree(ledger, ignore_errors=True)


def _drop_database(url: str, name: str) -> None:
    import sqlalchemy as sa

    force = " WITH (FORCE)" if sa.make_url(url).get_backend_name() == "postgresql" else ""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}{force}")


def _delete_vhost(name: str) -> None:
    subprocess.run(["rabbitmqctl", "delete_vhost", name], capture_output=True, timeout=120)


def delete_keys(url: str, prefix: str) -> None:
    """Delete all keys of Redis in which a name occurs."""
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{prefix}*", count=1000):
            client.delete(key)


def _kill_group(leader: str) -> None:
    os.killpg(int(leader), signal.SIGKILL)


def _remove_folder(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


_CLEARED: dict[str, Callable[..., Any]] = {
    "database": _drop_database,
    "vhost": _delete_vhost,
    "keys": delete_keys,
    "folder": _remove_folder,
    "group": _kill_group,
}


if __name__ == "__main__":
    reap(sys.argv[1], int(sys.argv[2]))
