"""The embedded broker under real Celery workers: every pool, remote control, events, SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable.broker.transport import register

ROOT = Path(__file__).parents[2]

APP = """
import os, time
from celery import Celery
from celery_durable.broker.transport import register

register()
app = Celery("shop", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)

def write(path, line):
    with open(path, "a") as file:
        file.write(f"{line}\\n")

@app.task(name="note", acks_late=True)
def note(path, line):
    write(path, line)

@app.task(name="receive")
def receive(path, sent):
    write(path, time.time() - sent)

@app.task(name="hold", bind=True, acks_late=True)
def hold(self, path, line, gate):
    write(path, f"{line} {self.request.delivery_info['redelivered']}")
    while not os.path.exists(gate):
        time.sleep(0.01)
    write(path, f"{line} done")
"""


def wait(condition: Callable[[], Any], limit: float = 30, what: object = "") -> Any:
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, (
            f"not within {limit} s: {what() if callable(what) else what}"
        )
        time.sleep(0.01)
    return value


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class Shop:
    """A project directory with workers, and a client that speaks to them."""

    def __init__(self, directory: Path, broker: str) -> None:
        self.directory = directory
        self.broker = broker
        self.workers: list[subprocess.Popen[bytes]] = []
        (directory / "shop.py").write_text(APP)
        self.app = Celery(
            "client", broker=f"durable:///{directory / 'broker.db'}", set_as_current=False
        )

    def log(self, number: int = -1) -> str:
        return (self.directory / f"worker{number % len(self.workers)}.log").read_text()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        number = len(self.workers)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BROKER": self.broker}
        with open(self.directory / f"worker{number}.log", "w") as log:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "shop",
                    "worker",
                    "-l",
                    "INFO",
                    f"-nw{number}@%h",
                    *arguments,
                ],
                **{"cwd": self.directory, "env": environment, "start_new_session": True},
                **{"stdout": log, "stderr": subprocess.STDOUT},
            )
        self.workers.append(worker)
        wait(lambda: " ready." in self.log() or worker.poll() is not None, what=self.log)
        assert worker.poll() is None, self.log()
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def close(self) -> None:
        for worker in self.workers:
            self.kill(worker)
        self.app.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    register()
    shop = Shop(tmp_path, "durable:///broker.db")
    yield shop
    shop.close()


def processor_seconds(worker: subprocess.Popen[bytes]) -> float:
    """Sum what the worker's main process has used, in all its threads."""
    threads = Path(f"/proc/{worker.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def test_prefork_worker(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = shop.start("-P", "prefork", "-c", "2", "-E")
    name = wait(lambda: shop.app.control.ping(timeout=0.5), what=shop.log)
    assert [list(reply.values()) for reply in name] == [[{"ok": "pong"}]]
    assert f"transport:   durable:///{tmp_path}/broker.db" in shop.log()

    # latency, of a worker that has been idle and of one that has not
    latency = {}
    for pause in (0.1, 0):
        received = tmp_path / f"received{pause}"
        for number in range(1, 21):
            due = time.monotonic() + pause
            wait(lambda due=due: time.monotonic() >= due)
            shop.app.send_task("receive", (str(received), time.time()))
            wait(
                lambda number=number, received=received: len(lines(received)) == number,
                what=shop.log,
            )
        latency[pause] = statistics.median(float(line) for line in lines(received))

    # throughput
    noted, count = tmp_path / "noted", 500
    started = time.monotonic()
    for number in range(count):
        shop.app.send_task("note", (str(noted), number))
    published = time.monotonic()
    wait(lambda: len(lines(noted)) == count, what=shop.log)
    done = time.monotonic()
    assert sorted(map(int, lines(noted))) == list(range(count))

    # events
    events: list[str] = []
    with shop.app.connection() as connection:
        receiver = shop.app.events.Receiver(
            connection, {"*": lambda event: events.append(event["type"])}
        )
        with contextlib.suppress(TimeoutError):
            for _ in receiver.consume(limit=100, timeout=10, wakeup=False):
                if "task-succeeded" in events:
                    break
                if "worker-heartbeat" in events:  # its queue is bound by now
                    shop.app.send_task("note", (str(noted), count))
    assert "task-succeeded" in events

    # revoke
    result = shop.app.send_task("note", (str(noted), "revoked"), countdown=3600)
    wait(lambda: result.id in str(shop.app.control.inspect(timeout=0.5).scheduled()), what=shop.log)
    shop.app.control.revoke(result.id)
    wait(lambda: result.id in str(shop.app.control.inspect(timeout=0.5).revoked()), what=shop.log)

    # idle
    wait(lambda: time.monotonic() > done + 1)
    before, since = processor_seconds(worker), time.monotonic()
    wait(lambda: time.monotonic() > since + 3)
    idle = (processor_seconds(worker) - before) / (time.monotonic() - since)

    with capsys.disabled():
        print(
            f"\n  embedded broker, prefork 2: latency {latency[0.1] * 1000:.1f} ms from idle,"
            f" {latency[0] * 1000:.1f} ms when busy (medians of 20); idle worker {idle:.2%} of a"
            f" core; {count / (published - started):.0f} messages/s published,"
            f" {count / (done - started):.0f} tasks/s done"
        )
    assert latency[0.1] < 0.2


@pytest.mark.long  # tests/chaos/test_matrix.py has it under each pool
@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_other_pools(pool: str, shop: Shop, tmp_path: Path) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    shop.start("-P", pool, "-c", "4")
    noted = tmp_path / "noted"
    for number in range(50):
        shop.app.send_task("note", (str(noted), number))
    wait(lambda: len(lines(noted)) >= 50, what=shop.log)
    assert sorted(map(int, lines(noted))) == list(range(50))
    assert shop.app.control.ping(
        timeout=5, destination=list(shop.app.control.inspect(timeout=1).ping())
    )


@pytest.mark.full
def test_pool_processes_may_be_replaced_at_every_task(shop: Shop, tmp_path: Path) -> None:
    shop.start("-P", "prefork", "-c", "2", "--max-tasks-per-child", "1")
    noted = tmp_path / "noted"
    for number in range(8):
        shop.app.send_task("note", (str(noted), number))
    wait(lambda: len(lines(noted)) >= 8, what=shop.log)
    assert sorted(map(int, lines(noted))) == list(range(8))


@pytest.mark.long  # tests/chaos/test_matrix.py kills one over this broker
def test_nothing_is_lost_when_a_worker_is_killed(shop: Shop, tmp_path: Path) -> None:
    held, gate, count = tmp_path / "held", tmp_path / "gate", 12
    first = shop.start("-P", "prefork", "-c", "2")
    for number in range(count):
        shop.app.send_task("hold", (str(held), number, str(gate)))
    wait(lambda: len(lines(held)) == 2, what=shop.log)
    shop.start("-P", "threads", "-c", "12", "--prefetch-multiplier", "1")
    # The first worker holds two tasks at work and six that wait; the second takes what is left.
    wait(lambda: len(lines(held)) == 2 + count - 8, what=shop.log)
    assert all(line.endswith("False") for line in lines(held))
    assert len(shop.app.control.ping(timeout=10, limit=2)) == 2  # busy as they are
    shop.kill(first)
    killed = time.monotonic()
    wait(lambda: len(lines(held)) == 2 + count, what=shop.log)
    assert time.monotonic() - killed < 10
    assert sum(line.endswith("True") for line in lines(held)) == 8
    gate.touch()
    wait(lambda: sum(line.endswith("done") for line in lines(held)) == count, what=shop.log)
    with shop.app.connection() as connection:
        file = connection.transport.file
        wait(lambda: file.rows("SELECT count(*) FROM message") == [(0,)])


def test_warm_shutdown_gives_back_what_waits(shop: Shop, tmp_path: Path) -> None:
    held, gate, count = tmp_path / "held", tmp_path / "gate", 6
    first = shop.start("-P", "threads", "-c", "1")
    for number in range(count):
        shop.app.send_task("hold", (str(held), number, str(gate)))
    wait(lambda: lines(held), what=shop.log)
    first.terminate()
    gate.touch()
    first.wait(30)
    shop.start("-P", "solo")
    wait(lambda: sum(line.endswith("done") for line in lines(held)) == count, what=shop.log)
    done = [line.split()[0] for line in lines(held) if line.endswith("done")]
    assert sorted(done) == [str(number) for number in range(count)]
