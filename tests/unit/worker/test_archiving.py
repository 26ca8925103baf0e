"""The thread that archives: what is slow keeps it alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.errors import ConfigurationError, StoreError
from celery_durable.worker.archiving import ArchiveThread
from celery_durable.worker.bootstep import RecoveryStep
from tests.conftest import wait_until


class Archiver:
    """Plays the part of the engine."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.rounds = 0
        self.gate = threading.Event()

    def run(self) -> bool:
        self.rounds += 1
        answer = self.answers.pop(0) if self.answers else False
        if answer == "slow":
            self.gate.wait()
            return False
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)


def started(archiver: Any) -> tuple[ArchiveThread, threading.Event]:
    stop = threading.Event()
    thread = ArchiveThread(archiver, stop)
    thread.start()
    return thread, stop


def test_it_continues_while_there_is_more_and_rests_then() -> None:
    archiver = Archiver(True, True, False, OSError("x"), StoreError("away"), False)
    thread, stop = started(archiver)
    for rounds in (3, 4, 5, 6):  # what is raised ends a round, and not the thread
        thread.wake()
        wait_until(lambda rounds=rounds: archiver.rounds == rounds, 30)
    stop.set()
    thread.wake()


def test_a_slow_archive_keeps_no_one_who_wakes_it() -> None:
    archiver = Archiver("slow")
    thread, stop = started(archiver)
    thread.wake()
    wait_until(lambda: archiver.rounds == 1, 30)
    for _ in range(100):
        thread.wake()
    assert archiver.rounds == 1
    stop.set()
    archiver.gate.set()


def test_a_worker_does_not_begin_with_an_archive_that_is_none(new_app: Callable[..., Any]) -> None:
    app = new_app(durable_archive="no.such.function")
    worker: Any = SimpleNamespace(app=app, hostname="w", task_events=False)
    step = RecoveryStep.__new__(RecoveryStep)
    with pytest.raises(ConfigurationError, match="no.such.function"):
        step.create(worker)
