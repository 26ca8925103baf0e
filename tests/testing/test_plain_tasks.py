"""Plain tasks, started durably: by ``durable.start``, by ``.delay()`` and by a schedule."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery, Task, group
from celery.exceptions import Ignore

from celery_durable import (
    ActivityTimeout,
    ConfigurationError,
    Durable,
    OrchestrationRevoked,
    OrchestrationTimeout,
    RetryPolicy,
    RuntimeStatus,
    durable_context,
)
from celery_durable.store.statements import Statement
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.worker.request import DurableRequestMixin, hold_messages

app = Celery("plain", set_as_current=False)
app.conf.durable_tasks = ("plain.listed.*", "celery.*")
durable = Durable(app)
HOUR = timedelta(hours=1)
ran: list[object] = []


def is_odd(error: BaseException) -> bool:
    return "odd" in str(error)


@app.task(name="plain.add")
def add(one, other):
    ran.append((one, other))
    return one + other


@app.task(name="plain.shaky", bind=True)
def shaky(self, failures, text="odd"):
    ran.append(self.request.id)
    if len(ran) <= failures:
        raise ValueError(text)
    return len(ran)


@app.task(name="plain.durable", durable=True, durable_retry=RetryPolicy(max_attempts=3))
def declared(failures=0):
    context = durable_context()
    ran.append((context.instance_id, context.attempt))
    if len(ran) <= failures:
        raise ValueError("once more")
    return "done"


@app.task(name="plain.listed.one")
def listed():
    return "listed"


@app.task(name="plain.listed.not", durable=False)
def unlisted():
    return "not"


@app.task(name="plain.raises", bind=True, durable=True)
def raises(self):
    ran.append(self.request.parent_id)
    raise self.replace(listed.s())


@app.task(name="plain.returns", bind=True, durable=True)
def returns(self):
    ran.append(self.request.parent_id)
    return self.replace(listed.s())


@app.task(name="plain.asynchronous", bind=True, durable=True)
async def asynchronous(self):
    ran.append(self.request.parent_id)
    raise self.replace(listed.s())


@app.task(name="plain.retrying", bind=True, durable=True, max_retries=3)
def retrying(self):
    ran.append(self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=60)
    return self.request.retries


@app.task(name="plain.silent", durable=True, durable_retry=RetryPolicy(max_attempts=3))
def silent():
    ran.append("silent")
    raise Ignore("nothing to do")


@app.task(name="plain.replaced", bind=True, durable=True)
def replaced(self):
    return self.replace(declared.s())


@durable.orchestrator(name="plain.parent")
async def parent(ctx):
    return await ctx.call(declared.s(1))


@pytest.fixture
def env():
    ran.clear()
    with durable_environment(durable) as env:
        yield env


def test_it_is_an_orchestration_of_one_activity(env):
    run = env.start(add.s(1, other=2), instance_id="sum", tags={"kind": "sum"})
    assert (run.refresh().output, run.name, run.version, run.tags) == (
        3,
        "plain.add",
        None,
        {"kind": "sum"},
    )
    assert run.get(timeout=1) == 3
    assert ran == [(1, 2)]
    assert env.start(add.s(5, 5), instance_id="sum").refresh().output == 3
    again = run.restart()
    env.run_until_idle()
    assert durable.get(again.id).output == 3 and len(ran) == 2


def test_tasks_and_orchestrations_are_told_apart(env):
    task, orchestration = env.start(add.s(1, 2)), env.start(parent.s())
    assert [run.id for run in durable.find(tasks=True).items] == [task.id]
    assert [run.id for run in durable.find(tasks=False).items] == [orchestration.id]
    assert durable.count(tasks=True) == 1
    assert "plain.add" not in {use.name for use in durable.versions()}


def test_a_policy_of_the_start_retries_from_the_store(env):
    policy = RetryPolicy(max_attempts=5, first_interval=60, retry_on=(ValueError,), retry_if=is_odd)
    run = env.start(shaky.s(2), retry=policy)
    env.advance(HOUR)
    assert run.refresh().output == 3 and len(set(ran)) == 3
    ran.clear()
    even = env.start(shaky.s(2, "even"), retry=policy)
    env.advance(HOUR)
    assert even.refresh().runtime_status is RuntimeStatus.FAILED and len(ran) == 1
    with pytest.raises(ValueError, match="even"):
        even.get(timeout=1)
    even.rewind()
    env.advance(HOUR)
    assert even.refresh().runtime_status is RuntimeStatus.FAILED and len(ran) == 2


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"retry": RetryPolicy(retry_if=lambda error: True)}, ConfigurationError),
        ({"retry": 3}, TypeError),
        ({"version": "1"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"attempt_timeout": -1}, ValueError),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_started(env, given, error):
    with pytest.raises(error):
        durable.start(add.s(1, 2), **given)
    with pytest.raises(TypeError):
        durable.start(add.s(1))
    with pytest.raises(TypeError, match="is an orchestrator"):
        durable.start(parent.s(), retry=RetryPolicy())
    with pytest.raises(TypeError, match="canvas"):
        durable.start(group(add.s(1, 2), add.s(3, 4)))
    assert durable.count() == 0


def test_delay_of_a_durable_task_is_a_durable_start(env):
    run = declared.delay(2)
    env.advance(HOUR)
    assert durable.get(run.id).output == "done"
    assert ran == [(run.id, 1), (run.id, 2), (run.id, 3)]
    ran.clear()
    chosen = declared.apply_async(task_id="chosen", countdown=3_600)
    env.run_until_idle()
    assert ran == [] and chosen.id == "chosen"
    env.advance(2 * HOUR)
    assert durable.get("chosen").output == "done"


def test_a_pattern_makes_tasks_durable_but_those_that_say_no(env):
    listed.delay()
    unlisted.delay()
    env.run_until_idle()
    assert [run.name for run in durable.find().items] == ["plain.listed.one"]


def test_a_direct_call_and_apply_run_the_body(env):
    assert listed() == "listed" and listed.apply().get() == "listed"
    assert durable.count() == 0


def test_its_own_retries_are_one_attempt_of_one_instance(env):
    run = retrying.delay()
    env.run_until_idle()
    assert ran == [0]
    env.advance(seconds=59)
    assert ran == [0]
    env.advance(seconds=1)
    assert ran == [0, 1]
    env.advance(HOUR)
    assert ran == [0, 1, 2] and durable.count() == 1
    assert durable.get(run.id).output == 2
    begun = [call.at for call in env.calls(retrying)]
    assert [later - begun[0] for later in begun] == [timedelta(minutes=n) for n in range(3)]


@pytest.mark.parametrize("name", ["raises", "returns", "asynchronous"])
def test_its_request_is_that_of_a_worker_and_it_may_be_replaced(env, name):
    run = app.tasks[f"plain.{name}"].delay()
    env.advance(HOUR)
    assert ran == [run.id] and durable.get(run.id).output == "listed"


def test_what_it_is_replaced_by_gives_its_outcome(env):
    run = replaced.delay()
    env.advance(HOUR)
    assert durable.count() == 1
    assert durable.get(run.id).output == "done"


def test_one_that_ignores_is_neither_a_success_nor_a_failure_nor_tried_again(env):
    run = silent.apply_async(link=add.si(1, 1), link_error=add.si(2, 2))
    env.advance(HOUR)
    seen = durable.get(run.id)
    assert (seen.runtime_status, ran) == (RuntimeStatus.CANCELED, ["silent"])
    assert (seen.reason, seen.output, seen.failure) == ("ignored: nothing to do", None, None)
    with pytest.raises(OrchestrationRevoked, match="nothing to do"):
        seen.get(timeout=1)


def test_within_an_orchestration_it_is_an_activity_without_its_defaults(env):
    run = env.start(parent.s())
    env.advance(HOUR)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert len(ran) == 1 and durable.count() == 1


def test_one_that_has_not_begun_by_its_expiry_is_canceled(env):
    late = declared.apply_async(expires=60, countdown=3_600)
    waiting = declared.apply_async(expires=60)
    durable.runtime.publisher.activities.clear()  # its message lies behind others
    env.advance(2 * HOUR)
    for run in (late, waiting):
        seen = durable.get(run.id)
        assert (seen.runtime_status, seen.reason, ran) == (RuntimeStatus.CANCELED, "expired", [])
        with pytest.raises(OrchestrationRevoked):
            seen.get(timeout=1)


def test_time_outs_of_an_attempt_and_of_all(env):
    run = env.start(shaky.s(99), retry=RetryPolicy(max_attempts=None), timeout=600)
    env.advance(HOUR)
    with pytest.raises(OrchestrationTimeout):
        run.refresh().get(timeout=1)
    lost = durable.start(add.s(1, 2), attempt_timeout=60)
    durable.runtime.publisher.activities.clear()
    env.advance(HOUR)
    with pytest.raises(ActivityTimeout):
        lost.refresh().get(timeout=1)


def test_a_schedule_starts_it(env):
    durable.schedule("sums", add.s(1, 1), interval=600)
    env.advance(HOUR)
    runs = durable.find(tasks=True).items
    assert len(runs) == 6 and {run.output for run in runs} == {2}
    assert all(run.id.startswith("sums@") for run in runs)


def test_celerys_own_tasks_are_tasks_too(env):
    cleanup = app.tasks["celery.backend_cleanup"]
    durable.schedule("cleanup", cleanup.s(), interval=600)
    run = env.start(cleanup.s())
    env.advance(minutes=10)
    assert [each.name for each in durable.find().items] == [cleanup.name] * 2
    assert run.refresh().runtime_status is RuntimeStatus.COMPLETED
    cleanup.delay()  # no pattern and no declaration makes it durable
    assert durable.count() == 2


def test_a_pause_of_orchestrators_does_not_hold_it_and_one_of_tasks_does(env):
    durable.pause(orchestrator="*")
    assert env.start(add.s(1, 2)).refresh().output == 3
    durable.pause(task=add)
    run = env.start(add.s(1, 2))
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    assert "is paused since" in str(run.explain())
    durable.unpause(task=add)
    env.run_until_idle()
    assert run.refresh().output == 3


def scenario(env: DurableEnv):
    ran.clear()
    run = env.start(shaky.s(1), retry=RetryPolicy(first_interval=60), instance_id="shaky")
    declared.apply_async(task_id="declared", countdown=600)
    env.advance(HOUR)
    return [durable.get(id_).runtime_status for id_ in ("shaky", "declared")], run.name


def test_nothing_is_lost_wherever_a_worker_dies(env):
    assert env.crash_everywhere(scenario) > 10


def test_it_is_durable_from_its_first_use_on_before_the_app_is_finalized():
    fresh = Celery("fresh", set_as_current=False)
    Durable(fresh)
    fresh.conf.durable_tasks = ["fresh.l*"]

    @fresh.task(name="fresh.durable", durable=True)
    def first(): ...

    @fresh.task(name="fresh.listed")
    def second(): ...

    @fresh.task(name="fresh.plain")
    def third(): ...

    for task, is_it in ((first, True), (second, True), (third, False)):
        assert (task.apply_async.__func__ is not Task.apply_async) is is_it
    assert not fresh.finalized


class Kept(Task):
    name = "plain.kept"
    durable = True
    durable_retention = 60

    def run(self, n=0):
        return n


class NotKept(Kept):
    name = "plain.notkept"
    durable = False


app.register_task(Kept())
app.register_task(NotKept())


def test_what_follows_a_plain_task_that_replaced_itself_is_a_start(env):
    declared.apply_async(replaced_task_nesting=1)  # Celery says it of all later steps of the chain
    env.run_until_idle()
    assert [run.name for run in durable.find().items] == ["plain.durable"]


def test_a_task_may_be_derived_from_another(env):
    hold_messages(app)
    for name in ("plain.kept", "plain.notkept"):
        assert issubclass(app.tasks[name].Request, DurableRequestMixin)


def test_no_is_no_also_for_a_class_whose_base_says_yes(env):
    app.tasks["plain.kept"].delay()
    app.tasks["plain.notkept"].delay()
    env.run_until_idle()
    assert [run.name for run in durable.find().items] == ["plain.kept"]


def test_it_is_kept_as_long_as_it_says_however_it_is_started(env):
    kept = app.tasks["plain.kept"]
    run = env.start(kept.s())
    again = durable.get(run.restart(new_id="again").id)
    durable.schedule("kept", kept.s(), interval=600)
    env.advance(timedelta(minutes=11))
    store = durable.runtime.store.database
    rows = store.read(
        lambda cursor: store.run(
            cursor, Statement("SELECT purge_at FROM durable_instances")
        ).fetchall()
    )
    assert again.id == "again" and all(purge_at is not None for (purge_at,) in rows)


def test_a_restart_of_one_that_has_expired_begins(env):
    run = declared.apply_async(expires=60, countdown=3_600)
    env.advance(2 * HOUR)
    assert durable.get(run.id).runtime_status is RuntimeStatus.CANCELED
    again = durable.get(run.id).restart()
    env.run_until_idle()
    assert durable.get(again.id).output == "done"


def test_without_what_its_policy_names_it_waits(env, monkeypatch):
    policy = RetryPolicy(retry_if=is_odd)
    run = durable.start(add.s(1, 2), retry=policy, start_at=env.now + HOUR)
    with monkeypatch.context() as patch:
        patch.delattr("tests.testing.test_plain_tasks.is_odd")
        env.advance(2 * HOUR)
        assert run.refresh().runtime_status is RuntimeStatus.PENDING
    env.advance(HOUR)
    assert run.refresh().output == 3
