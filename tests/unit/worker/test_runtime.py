"""The engine of a process, and when it is made anew."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from celery_durable.forks import renew_in_children
from celery_durable.store.database import Database


def lose(runtime: Any) -> None:
    """Let the name of the runtime's store come to mean another database."""
    database = runtime.store.database
    database.address = replace(database.address, is_current=lambda: False)


def test_a_store_whose_name_comes_to_mean_another_database_is_followed(
    new_app: Callable[..., Any],
) -> None:
    durable = new_app().durable
    first = durable.runtime
    assert durable.runtime is first
    lose(first)
    assert durable.runtime is not first


def test_a_worker_keeps_to_the_store_that_it_has_begun_with(new_app: Callable[..., Any]) -> None:
    durable = new_app().durable
    first = durable.runtime
    first.worker_id = "w"
    lose(first)
    assert durable.runtime is first, "its heartbeats and its leases are there"


def in_a_child(check: Callable[[], bool]) -> bool:
    """Tell what ``check`` says in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_runtime_that_is_dropped_is_kept_by_nothing(new_app: Callable[..., Any]) -> None:
    durable = new_app().durable
    runtime = durable.runtime
    gone = [weakref.ref(each) for each in (runtime.store, runtime.store.database, runtime.live)]
    lose(runtime)
    assert durable.runtime is not runtime
    del runtime
    gc.collect()
    assert [each() for each in gone] == [None, None, None]


def test_a_child_has_what_it_needs_again() -> None:
    class Locked:
        def __init__(self) -> None:
            self.renew()
            renew_in_children(self, Locked.renew)

        def renew(self) -> None:
            self.lock = threading.Lock()

    kept, dropped = Locked(), Locked()
    kept.lock.acquire()
    del dropped
    assert in_a_child(lambda: kept.lock.acquire(timeout=0))
    assert kept.lock.locked(), "the parent keeps its own"


def test_databases_can_be_used_and_made_after_a_fork_on_both_sides(tmp_path: Path) -> None:
    known = Database(f"sqlite:///{tmp_path / 'one.db'}")

    def usable() -> bool:
        with known.using(), Database(f"sqlite:///{tmp_path / 'two.db'}").using():
            return True

    assert in_a_child(usable)
    assert usable()
