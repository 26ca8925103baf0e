"""Limits, debounce and retention with real workers, one of which is killed."""

from __future__ import annotations

from tests.conftest import wait_until


def most_at_once(runs):
    """Return how many of these ran at one moment at the most, by the store's clock."""
    changes = sorted(
        [(run.completed_at, -1) for run in runs] + [(run.started_at, 1) for run in runs]
    )
    most = count = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most


def test_two_workers_keep_to_limits_though_one_is_killed(redis_url, postgres_url, new_stage):
    stage = new_stage(redis_url, postgres_url, redis_url)
    testapp, durable = stage.testapp, stage.durable
    first, _ = stage.worker(concurrency=2), stage.worker(concurrency=2)
    ids = [
        durable.start(testapp.limited.s("ab"[n % 2], n), instance_id=f"run-{n}").id
        for n in range(10)
    ]
    for number in (10, 11):  # as a process sends it that does not have the extension
        stage.app.send_task(testapp.limited.name, ("c", number), task_id=f"run-{number}")
        ids.append(f"run-{number}")
    family = stage.start(testapp.limited_family.s(5))
    notes = [testapp.debounced.delay("d", text) for text in ("one", "two", "three")]
    forgotten = stage.start(testapp.forgotten.s())

    stage.wait_for_run("add", 3, 1)
    first.kill()

    assert stage.finish(family) == [1, 2, 3, 4, 5]
    wait_until(
        lambda: durable.count(name=testapp.limited.name, status="COMPLETED") == 17, 120, stage.state
    )
    runs = [durable.get(id_) for id_ in [*ids, *(f"child-{n}" for n in range(5))]]
    assert most_at_once(runs) <= 3
    for tenant in ("a", "b", "c", "family"):
        own = [run for run in runs if run.input["args"][0] == tenant]
        assert own
        assert most_at_once(own) <= 2, tenant
    assert {run.id for run in notes} == {notes[0].id}
    assert stage.finish(notes[0]) == "three"
    wait_until(
        lambda: not durable.find(id_prefix=forgotten.id).items, 90, "the end of its retention"
    )
