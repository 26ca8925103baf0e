"""Celery's options, retries and canvases of a durable task: they mean what they mean in Celery."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import AlwaysEagerIgnored
from celery.result import AsyncResult

from celery_durable import Durable, RetryPolicy, RuntimeStatus, durable_context
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("options", set_as_current=False)
app.conf.durable_tasks = ("options.listed.*",)
durable = Durable(app)
ran: list[Any] = []


@app.task(name="options.add", durable=True)
def add(one: int, other: int) -> int:
    ran.append((one, other))
    return one + other


@app.task(name="options.total", durable=True)
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="options.twice")
def twice(number: int) -> int:
    ran.append(number)
    return 2 * number


@app.task(name="options.listed.yes")
def listed() -> str:
    return "listed"


@app.task(name="options.listed.no", durable=False)
def unlisted() -> str:
    return "not"


@app.task(
    name="options.stubborn",
    bind=True,
    durable=True,
    autoretry_for=(KeyError,),
    max_retries=1,
    default_retry_delay=5,
    durable_retry=RetryPolicy(max_attempts=3, first_interval=10),
)
def stubborn(self: Any) -> None:
    context = durable_context()
    assert context is not None
    ran.append((context.attempt, self.request.retries))
    raise KeyError("never")


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    ran.clear()
    with durable_environment(durable) as env:
        yield env


OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 3, "headers": {"tenant": "acme"}},
    {"time_limit": 50, "soft_time_limit": 40},
    {"retry": False, "retry_policy": {"max_retries": 0}},
    {"ignore_result": True, "serializer": "pickle"},
]


def test_they_reach_the_attempt(new_app: Callable[..., Any]) -> None:
    own = new_app(
        result_backend="cache+memory://",
        accept_content=["json", "pickle"],
        broker_transport_options={"polling_interval": 0.01},
    )

    @own.task(name="options.about", bind=True, durable=True)
    def about(self: Any) -> list[Any]:
        request, context = self.request, durable_context()
        assert context is not None and request.id != context.instance_id
        ids = {context.instance_id, request.root_id, request.parent_id}
        priority = request.delivery_info["priority"]
        return [*ids, priority, request.get("tenant"), list(request.timelimit)]

    with start_worker(own, pool="solo", perform_ping_check=False, shutdown_timeout=60):
        runs = [about.apply_async(task_id=f"i{n}", **each) for n, each in enumerate(OPTIONS)]
        found = [own.durable.get(run.id).get(timeout=60) for run in runs]
    assert found == [
        ["i0", 0, None, [None, None]],
        ["i1", 3, "acme", [None, None]],
        ["i2", 0, None, [50, 40]],
        ["i3", 0, None, [None, None]],
        ["i4", 0, None, [None, None]],
    ]
    states = [AsyncResult(run.id, app=own).state for run in runs]
    assert states == ["SUCCESS"] * 4 + ["PENDING"]


def test_its_queue_is_that_of_the_attempt(env: DurableEnv) -> None:
    add.apply_async((1, 2), queue="other")
    env.run_until_idle()
    assert [call.queue for call in env.calls(add)] == ["other"]


def test_own_retries_are_counted_again_in_each_attempt(env: DurableEnv) -> None:
    run = stubborn.delay()
    env.advance(hours=1)
    assert ran == [(attempt, retry) for attempt in (1, 2, 3) for retry in (0, 1)]
    assert durable.get(run.id).runtime_status is RuntimeStatus.FAILED
    assert durable.count() == 1


def test_links_are_called_with_the_result_or_for_the_failure_that_is_the_last(
    env: DurableEnv,
) -> None:
    add.apply_async((1, 2), link=twice.s(), link_error=twice.si(0))
    env.run_until_idle()
    assert ran == [(1, 2), 3]
    ran.clear()
    stubborn.apply_async(link=twice.s(), link_error=twice.si(7))
    env.advance(hours=1)
    assert ran[-1] == 7 and ran.count(7) == 1 and len(ran) == 7


@pytest.mark.parametrize(
    ("canvas", "result", "starts"),
    [
        (lambda: chain(add.s(1, 2), twice.s(), add.s(4)), 10, 2),
        (lambda: group(add.s(1, 2), twice.s(3)), [3, 6], 1),
        (lambda: chord([add.s(1, 2), twice.s(3)], total.s()), 9, 2),
        (lambda: add.starmap([(1, 2), (3, 4)]), [3, 7], 1),
    ],
    ids=["chain", "group", "chord", "starmap"],
)
def test_in_a_plain_canvas_it_is_a_start_and_in_a_durable_one_an_activity(
    env: DurableEnv, canvas: Any, result: Any, starts: int
) -> None:
    assert canvas().apply_async().get(timeout=5) == result
    assert durable.count(tasks=True) == starts
    assert env.run(durable.canvas(canvas())._task.s(canvas())) == result
    assert durable.count(tasks=True) == starts


@pytest.mark.parametrize("name", ["add", "listed.yes", "listed.no", "twice"])
def test_send_task_goes_by_the_same_rules(env: DurableEnv, name: str) -> None:
    args = {"add": (1, 2), "twice": (1,)}.get(name, ())
    with contextlib.suppress(AlwaysEagerIgnored):  # what Celery says of a plain message
        app.send_task(f"options.{name}", args)
    assert durable.count(name=f"options.{name}") == (name in ("add", "listed.yes"))
