"""The engine of a process, and when it is made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any


def lose(runtime: Any) -> None:
    """Let the name of the runtime's store come to mean another database."""
    database = runtime.store.database
    database.address = replace(database.address, is_current=lambda: False)


def test_a_store_whose_name_comes_to_mean_another_database_is_followed(new_app: Callable[..., Any]) -> None:
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
