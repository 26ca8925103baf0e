"""Rows of ends that Celery has heard of: deleted soon, many at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.store_ports import Store
from celery_durable.errors import StoreError
from celery_durable.worker.reported_ends import ReportedEnds
from tests.conftest import wait_until


class Rows:
    """Notes what it is asked to delete."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []
        self.is_down = False

    def drop_finishes(self, ends: list[tuple[str, str]]) -> None:
        self.asked.append(ends)
        if self.is_down:
            raise StoreError("down")


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def ends(rows: Rows) -> ReportedEnds:
    store: Any = SimpleNamespace(recovery=rows)
    asked: Store = store
    return ReportedEnds(asked)


def test_those_that_come_together_are_deleted_together(ends: ReportedEnds, rows: Rows) -> None:
    given = [(f"i{number}", f"x{number}") for number in range(50)]
    for each in given:
        ends.add(*each)
    wait_until(lambda: sum(map(len, rows.asked)) == len(given))
    assert [each for asked in rows.asked for each in asked] == given
    assert len(rows.asked) < len(given)


def test_a_store_that_is_down_stops_nothing(ends: ReportedEnds, rows: Rows) -> None:
    rows.is_down = True
    ends.add("a", "x")
    ends.flush()
    rows.is_down = False
    ends.add("b", "y")
    ends.flush()
    assert ("b", "y") in [each for asked in rows.asked for each in asked]


def test_nothing_is_asked_for_nothing(ends: ReportedEnds, rows: Rows) -> None:
    ends.flush()
    assert rows.asked == []


@pytest.mark.parametrize(("in_worker", "fails"), [(True, False), (True, True), (False, False)])
def test_only_a_worker_puts_off_and_only_an_end_that_is_final(
    new_app: Any, monkeypatch: pytest.MonkeyPatch, in_worker: bool, fails: bool
) -> None:
    app = new_app(result_backend="cache+memory://", durable_start_inline=False)

    @app.durable.orchestrator(name="flow")
    async def flow(ctx: Any) -> int:
        return 1 // (not fails)

    runtime = app.durable.runtime
    finisher = runtime.publisher.finisher
    finisher.hostname = "worker" if in_worker else None
    put_off: list[tuple[str, str]] = []
    monkeypatch.setattr(finisher._reported, "add", lambda *end: put_off.append(end))
    run = app.durable.start(flow.s())
    runtime.runner.run(run.id)
    execution = runtime.client.fetch(run.id).execution
    is_put_off = in_worker and not fails
    assert put_off == ([(run.id, execution)] if is_put_off else [])
    assert (runtime.store.reads.owed_end(execution) is not None) is is_put_off
    finisher._reported._ends.extend(put_off)
    finisher._reported.flush()
    assert runtime.store.reads.owed_end(execution) is None
