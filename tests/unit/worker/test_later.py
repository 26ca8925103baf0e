"""Work that is done a moment later, once for all who ask meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from celery import signals

from celery_durable.worker.later import Later


class Work:
    """Counts how often it was done, and can be held up."""

    def __init__(self) -> None:
        self.done = threading.Semaphore(0)
        self.times = 0
        self.threads: set[str] = set()

    def __call__(self) -> None:
        self.times += 1
        self.threads.add(threading.current_thread().name)
        self.done.release()


def test_who_asks_together_has_it_done_once() -> None:
    work = Work()
    later = Later("durable-test", 0.2, work)
    for _ in range(100):
        later.wake()
    assert work.done.acquire(timeout=60)
    assert not work.done.acquire(timeout=0.5)
    assert work.threads == {"durable-test"}


def test_who_asks_afterwards_has_it_done_again() -> None:
    work = Work()
    later = Later("durable-test", 0, work)
    for _ in range(3):
        later.wake()
        assert work.done.acquire(timeout=60)
    assert work.threads == {"durable-test"}


def test_nothing_begins_before_it_is_needed() -> None:
    Later("durable-idle", 0, Work())
    assert "durable-idle" not in {thread.name for thread in threading.enumerate()}


def test_what_is_left_is_done_when_a_child_of_the_pool_ends() -> None:
    work = Work()
    later = Later("durable-test", 3600, work)
    later.wake()
    signals.worker_process_shutdown.send(sender=None)
    assert work.times == 1


def test_what_is_left_is_done_when_the_process_ends() -> None:
    program = (
        "from celery_durable.worker.later import Later\n"
        "Later('durable-test', 3600, lambda: print('done')).wake()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout == "done\n"


def test_a_forked_child_has_a_thread_of_its_own() -> None:
    work = Work()
    later = Later("durable-test", 0, work)
    later.wake()
    assert work.done.acquire(timeout=60)
    if (child := os.fork()) == 0:
        later.wake()
        os._exit(0 if work.done.acquire(timeout=60) else 1)
    assert os.waitpid(child, 0)[1] == 0
