"""One orchestration with a bit of everything, on every pool.

With gevent in the long tier; ``tests/chaos/test_matrix.py`` has gevent in the full one.
"""

from __future__ import annotations

import pytest

from .conftest import make_stage


@pytest.fixture(
    scope="module",
    params=["prefork", "threads", "solo", pytest.param("gevent", marks=pytest.mark.long)],
)
def stage(request, redis_url, module_postgres_url, tmp_path_factory):
    """A stage with one worker of each pool in turn."""
    made = make_stage(
        tmp_path_factory.mktemp("stage") / "s", redis_url, module_postgres_url, redis_url
    )
    made.worker(pool=request.param, concurrency=4)
    yield made
    made.close()


def test_a_mixed_orchestration_ends_alike_on_every_pool(stage):
    runs = [stage.start(stage.testapp.mixed.s(size)) for size in (0, 5, 20)]
    for run in runs:
        run.raise_event("go", 0)
    assert [stage.finish(run) for run in runs] == [
        [0, 8, True, True, 0],
        [20, 8, True, True, 0],
        [380, 8, True, True, 0],
    ]
    assert stage.counts()["double"] == 5 + 20 + 3
    for run in runs:
        stage.assert_nothing_ran_after_its_completion(run.id)


def test_the_time_out_of_the_store_works_also_where_celery_has_no_time_limits(stage):
    run = stage.start(
        stage.testapp.attempt.s("testapp.watch_for_cancel", ("key",), call={"timeout": 1})
    )
    assert stage.finish(run)["raised"] == "ActivityTimeout"
    stage.wait_for_run("saw cancel", "key", True)


def test_async_tasks_share_the_loop_of_their_process_and_are_cancelled_at_their_await(stage):
    waits = stage.testapp.waits_async
    found = [run.get(timeout=300) for run in [waits.delay("short", 0.1) for _ in range(8)]]
    assert all(is_own for is_own, _, _ in found)
    assert len({(pid, loop) for _, pid, loop in found}) == len({pid for _, pid, _ in found})
    run = stage.start(waits.s("long", 600))
    stage.wait_for_run("waits", "long")
    run.terminate()
    stage.wait_for_run("cancelled at its await", "long", timeout=60)
