"""One orchestration with a bit of everything, on every pool."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_mixed_orchestration_ends_alike_on_every_pool(new_stage, redis_url, postgres_url, pool):
    stage = new_stage(redis_url, postgres_url, redis_url)
    stage.worker(pool=pool, concurrency=4)
    runs = [stage.start(stage.testapp.mixed.s(size)) for size in (0, 5, 20)]
    for run in runs:
        run.raise_event("go", 0)
    assert [stage.finish(run, 120) for run in runs] == [
        [0, 8, True, True, 0],
        [20, 8, True, True, 0],
        [380, 8, True, True, 0],
    ]
    assert stage.counts()["double"] == 5 + 20 + 3
    for run in runs:
        stage.assert_nothing_ran_after_its_completion(run.id)


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_a_killed_worker_of_any_pool_is_recovered(new_stage, redis_url, postgres_url, pool):
    stage = new_stage(redis_url, postgres_url)
    first = stage.worker(pool=pool)
    run = stage.start(stage.testapp.pipeline.s("middle"))
    stage.wait_for_run("hold", "middle")
    first.kill()
    stage.release("middle")
    stage.worker(pool=pool)
    assert stage.finish(run, 120) == 22
    assert stage.counts() == {"add": 2, "hold": 2, "double": 5}


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_the_time_out_of_the_store_works_where_celery_has_no_time_limits(new_stage, redis_url, postgres_url, pool):
    stage = new_stage(redis_url, postgres_url)
    stage.worker(pool=pool)
    run = stage.start(stage.testapp.attempt.s("testapp.watch_for_cancel", ("key",), call={"timeout": 1}))
    assert stage.finish(run, 120)["raised"] == "ActivityTimeout"
    stage.wait_for_run("saw cancel", "key", True)
