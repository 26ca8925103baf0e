"""What a monitor sees on Celery's event stream: one task per orchestration, its activities as
children.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import wait_until


@pytest.fixture
def watch(stage: Any, watch_of: Callable[[Any], Any]) -> Any:
    return watch_of(stage.module.app)


def children_of(watch: Any, id_: str, count: int) -> set[str]:
    """Wait until a task has so many children."""
    wait_until(lambda: len(watch.task(id_).children) == count, what=f"{count} children of {id_}")
    return {child.uuid for child in watch.task(id_).children}


def test_one_task_with_arguments_result_and_children(stage: Any, watch: Any) -> None:
    began = time.time()
    run = stage.waiting(stage.module.order.apply_async((1,), {"secret": "s"}, task_id="order/1 ü"))
    task = watch.until(run.id, "STARTED")
    assert (task.name, task.args, task.kwargs) == ("flowerapp.order", "(1,)", "{'secret': 's'}")
    run.raise_event("go", "now")
    task = watch.until(run.id, "SUCCESS")
    assert task.result == "[2, 'now']" and 0 < task.runtime <= time.time() - began
    assert task.root_id == run.id and task.parent_id is None
    assert watch.types(run.id) == ["task-received", "task-started", "task-succeeded"]
    inner = watch.until(f"{run.id}-part", "SUCCESS")
    assert (inner.name, inner.args, inner.parent_id, inner.root_id) == (
        "flowerapp.part",
        "(1,)",
        run.id,
        run.id,
    )
    direct = children_of(watch, run.id, 4)  # the pool's processes tell theirs by themselves
    assert inner.uuid in direct
    activities = [each for each in watch.state.tasks.values() if each.name == "flowerapp.add"]
    assert sum(each.parent_id == run.id for each in activities) == 3
    assert {each.root_id for each in activities if each.parent_id in (run.id, inner.uuid)} == {
        run.id
    }


def test_one_that_ends_in_its_first_turn(stage: Any, watch: Any) -> None:
    run = stage.durable.start(stage.module.quick.s(7))
    assert watch.until(run.id, "SUCCESS").result == "7"
    assert watch.types(run.id) == ["task-received", "task-started", "task-succeeded"]


def test_a_failure_has_its_exception_and_no_parent(stage: Any, watch: Any) -> None:
    run = stage.module.failing.delay()
    task = watch.until(run.id, "FAILURE")
    assert task.exception == "ValueError('refused')" and task.parent_id is None
    # the event of the last activity itself comes from another process
    wait_until(
        lambda: [child.state for child in task.children] == ["FAILURE"] * 2,
        what=lambda: f"both attempts to have failed, of {watch.events}",
    )


def test_a_rewind_is_a_retry(stage: Any, watch: Any) -> None:
    run = stage.module.failing.delay()
    watch.until(run.id, "FAILURE")
    run.rewind("once more")
    wait_until(lambda: watch.types(run.id).count("task-failed") == 2, what="the second failure")
    assert watch.types(run.id)[3:5] == ["task-retried", "task-started"]


def test_arguments_are_shown_as_the_caller_asks(stage: Any, watch: Any) -> None:
    run = stage.module.order.apply_async(
        (1,), {"secret": "hunter2"}, argsrepr="(...)", kwargsrepr="{'secret': '***'}"
    )
    stage.waiting(run).raise_event("go")
    task = watch.until(run.id, "SUCCESS")
    assert (task.args, task.kwargs) == ("(...)", "{'secret': '***'}")
    assert "hunter2" not in str([event for event in watch.events if event.get("uuid") == run.id])
    again = run.restart(new_id=f"{run.id}-again")
    task = watch.until(again.id, "STARTED")
    assert (task.args, task.kwargs) == ("(...)", "{'secret': '***'}")
    again.terminate(reason="done")


def test_a_message_from_a_process_without_the_extension(stage: Any, watch: Any) -> None:
    """It has no row before a worker gets it; and hides what its sender hides."""
    from celery import Celery

    with Celery("other", broker=stage.module.app.conf.broker_url, set_as_current=False) as other:
        other.conf.update(
            task_default_queue=stage.environment["FLOWERAPP_QUEUE"],
            broker_transport_options=stage.module.app.conf.broker_transport_options,
        )
        sent = other.send_task("flowerapp.quick", (5,), argsrepr="(*****,)", ignore_result=True)
    task = watch.until(sent.id, "SUCCESS")
    assert (task.args, task.result) == ("(*****,)", "5")


@pytest.mark.parametrize("verb, status", [("cancel", "CANCELED"), ("terminate", "TERMINATED")])
def test_revoked_with_the_reason(stage: Any, watch: Any, verb: str, status: str) -> None:
    run = stage.waiting(stage.module.order.delay(1))
    getattr(run, verb)(reason="out of stock")
    task = watch.until(run.id, "REVOKED")
    assert task.exception == f"{status}: out of stock"
    assert set(watch.state.workers) <= {stage.workers[0].name}, "a client is no worker"


def test_the_end_tells_all_to_a_monitor_that_came_late(
    stage: Any, watch: Any, watch_of: Callable[[Any], Any]
) -> None:
    run = stage.waiting(stage.module.order.delay(3))
    watch.until(run.id, "STARTED")
    watch = watch_of(stage.module.app)
    run.raise_event("go")
    task = watch.until(run.id, "SUCCESS")
    assert (task.name, task.args, watch.types(run.id)) == (
        "flowerapp.order",
        "(3,)",
        ["task-succeeded"],
    )


def test_sent_events_are_of_starts_only(new_stage: Any, watch_of: Callable[[Any], Any]) -> None:
    stage = new_stage(task_send_sent_event=True)
    watch = watch_of(stage.module.app)
    run = stage.module.order.apply_async((1,), countdown=0)
    other = stage.durable.start(stage.module.quick.s(1), instance_id="pending")
    assert (
        watch.until(run.id, "PENDING").args == "(1,)"
        and watch.until(other.id, "PENDING").name == "flowerapp.quick"
    )
    stage.worker("-E")
    stage.waiting(run).raise_event("go")
    watch.until(run.id, "SUCCESS")
    assert watch.types(run.id).count("task-sent") == 1
    assert watch.task(run.id).args == "(1,)"


def test_events_on_and_off_while_the_worker_runs(
    new_stage: Any, watch_of: Callable[[Any], Any]
) -> None:
    """As Flower does it; the pool's processes were forked before."""
    stage = new_stage()
    stage.worker()
    app, watch = stage.module.app, watch_of(stage.module.app)
    first = stage.durable.start(stage.module.quick.s(1))
    assert first.get(timeout=300) == 1
    app.control.enable_events()

    def is_told() -> bool:
        run = stage.durable.start(stage.module.quick.s(2))
        run.get(timeout=300)
        return bool(watch.types(run.id))

    wait_until(is_told, what="events to be on")
    assert watch.types(first.id) == []
    app.control.disable_events()
    wait_until(lambda: not is_told(), what="events to be off")


def test_over_rabbitmq(new_stage: Any, rabbitmq_url: str, watch_of: Callable[[Any], Any]) -> None:
    stage = new_stage(broker=rabbitmq_url)
    stage.worker("-E")
    watch = watch_of(stage.module.app)
    run = stage.waiting(stage.module.order.delay(1))
    watch.until(run.id, "STARTED")
    run.terminate(reason="enough")
    assert watch.until(run.id, "REVOKED").args == "(1,)"
    children_of(watch, run.id, 4)
