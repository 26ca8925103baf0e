"""Canvases on real workers: what Celery's own does, what ``durable.canvas`` does, and what is left
after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group

from celery_durable import RuntimeStatus
from tests.conftest import wait_until

#: How long plain Celery is given to prove that it goes on after all; what finishes does so within
#: two seconds.
GENEROUS = 15

CANVASES: dict[str, Callable[[Any], Any]] = {
    "chain": lambda t: chain(t.add.s(1, 1), t.double.s(), t.add.s(3)),
    "immutable members": lambda t: chain(t.add.s(1, 1), t.add.si(2, 3), t.double.s()),
    "group": lambda t: group(t.add.s(1, 1), t.double.s(4)),
    "group in the middle": lambda t: chain(
        t.add.s(1, 1), group(t.add.s(1), t.add.s(2)), t.total.s(), t.double.s()
    ),
    "group at the end": lambda t: chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2))),
    "group of one": lambda t: chain(t.add.s(1, 1), group([t.double.s()]), t.add.s(1)),
    "empty groups": lambda t: chain(group(), t.add.s(1, 1), group(), t.double.s(), group()),
    "group of groups": lambda t: group(group(t.add.s(1, 1), t.add.s(1, 2)), t.add.s(1, 3)),
    "group of chains": lambda t: group(
        chain(t.add.s(1, 1), t.double.s()), chain(t.add.s(2, 2), t.double.s())
    ),
    "group after group": lambda t: chain(
        group(t.double.s(1), t.double.s(2)), group(t.total.s(), t.echo.s())
    ),
    "chord of everything": lambda t: chord(
        [
            chain(t.add.s(1, 1), t.double.s()),
            chord([t.double.s(1), t.double.s(2)], t.total.s()),
            t.add.s(1, 1),
        ],
        t.total.s(),
    ),
    "chord as body": lambda t: chord(
        [t.double.s(1), t.double.s(2)], chord([t.total.s(), t.echo.s()], t.echo.s())
    ),
    "chain as body": lambda t: chord(
        [t.double.s(1), t.double.s(2)], chain(t.total.s(), t.double.s())
    ),
    "group as body": lambda t: chord(
        [t.double.s(1), t.double.s(2)], group(t.total.s(), t.echo.s())
    ),
    "chord with an empty header": lambda t: chain(
        t.add.s(1, 1), chord([], t.total.s()), t.add.s(1)
    ),
    "chord after chord": lambda t: chain(
        group(t.double.s(1), t.double.s(2)), t.total.s(), group(t.add.s(1), t.add.s(2)), t.total.s()
    ),
    "map": lambda t: chain(t.double.map([1, 2, 3]), t.total.s()),
    "starmap as member": lambda t: chord(
        [t.add.starmap([(1, 2), (3, 4)]), t.double.s(1)], t.echo.s()
    ),
    "chunks": lambda t: t.add.chunks([(1, 2), (3, 4), (5, 6)], 2),
    "chunks as header": lambda t: chord(
        t.add.chunks([(1, 2), (3, 4), (5, 6)], 2).group(), t.echo.s()
    ),
}


@pytest.mark.parametrize("name", CANVASES)
def test_the_result_is_celerys(stage, name):
    theirs = CANVASES[name](stage.testapp).apply_async()
    ours = stage.durable.canvas(CANVASES[name](stage.testapp)).apply_async()
    assert stage.finish(ours) == theirs.get(timeout=300)


def test_arguments_of_the_whole_are_celerys(stage):
    for make in (
        lambda t: chain(t.add.s(), t.double.s()),
        lambda t: group(t.add.s(), chain(t.add.s(), t.double.s())),
        lambda t: chord([t.add.s(), chord([t.add.s()], t.total.s())], t.total.s()),
    ):
        theirs = make(stage.testapp).apply_async((4,), {"y": 5})
        ours = stage.durable.canvas(make(stage.testapp)).apply_async((4,), {"y": 5})
        assert stage.finish(ours) == theirs.get(timeout=300)


def test_a_canvas_is_suspended_and_resumed_between_two_steps(stage):
    run = stage.durable.canvas(
        chain(stage.testapp.hold.si("pause"), stage.testapp.double.si(101))
    ).apply_async()
    stage.wait_for_run("hold", "pause")
    run.suspend()
    stage.release("pause")
    time.sleep(1)  # that it would have gone on by now is all that can be seen
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    assert stage.runs("double", 101) == []
    run.resume()
    assert stage.finish(run) == 202


def test_a_chain_whose_worker_is_killed(new_stage, redis_url, postgres_url):
    """Celery 5.7: the rest of the chain was in the message that died with the worker."""
    stage = new_stage(redis_url, postgres_url, redis_url)
    tasks = stage.testapp
    first = stage.worker()
    theirs = chain(tasks.add.s(1, 1), tasks.hold.si("theirs"), tasks.double.si(50)).apply_async()
    ours = stage.durable.canvas(
        chain(tasks.add.s(1, 1), tasks.hold.si("ours"), tasks.double.si(60))
    ).apply_async()
    stage.wait_for_run("hold", "theirs")
    stage.wait_for_run("hold", "ours")
    first.kill()
    stage.release("theirs")
    stage.release("ours")
    stage.worker()
    assert stage.finish(ours) == 120
    stage.assert_nothing_ran_after_its_completion(ours.id)
    time.sleep(GENEROUS)
    assert theirs.state == "PENDING"
    assert stage.runs("double", 50) == []
    assert len(stage.runs("hold", "theirs")) == 1


@pytest.mark.long  # ours without a worker: tests/contract/test_canvas.py
def test_a_chord_that_fails_inside_the_header_of_another(stage):
    """Celery 5.7 on Redis: the outer chord waits for ever for the inner one, and calls
    nobody back.
    """
    tasks = stage.testapp

    def nested(message: str, errback: int) -> Any:
        inner = chord(
            [tasks.fail_with.s("OutOfStock", message), tasks.double.s(1)], tasks.total.s()
        )
        return chord([inner, tasks.double.s(2)], tasks.total.s().on_error(tasks.double.si(errback)))

    theirs = nested("theirs", 70).apply_async()
    ours = stage.durable.canvas(nested("ours", 80)).apply_async()
    with pytest.raises(tasks.OutOfStock, match="ours"):
        stage.finish(ours)
    assert ours.refresh().runtime_status is RuntimeStatus.FAILED
    stage.wait_for_run("double", 80)
    wait_until(
        lambda: len(stage.runs("double", 2)) >= 2,
        what="the member of the outer header, on both sides",
    )
    time.sleep(GENEROUS)
    assert theirs.state == "PENDING"
    assert stage.runs("double", 70) == []
    assert len(stage.runs("double", 80)) == 1
