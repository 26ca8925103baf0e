"""With ``task_always_eager``, whenever it is turned on and whatever else is set, Celery's entries
give what a worker gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult

from celery_durable import (
    ActivityError,
    DurableError,
    OrchestrationRevoked,
    RetryPolicy,
    RuntimeStatus,
)


class Oops(Exception):
    pass


class Play:
    """An app with a task and an orchestrator of each temper, and the forms in which Celery runs
    them.
    """

    def __init__(self, app: Any) -> None:
        self.app, self.durable = app, app.durable
        self.seen: list[Any] = []
        task, orchestrator = app.task, app.durable.orchestrator

        @task(name="play.add", shared=False)
        def add(a: int, b: int) -> int:
            return a + b

        @task(name="play.total", shared=False)
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        @task(name="play.boom", shared=False)
        def boom(*_: Any) -> None:
            raise Oops("boom")

        @task(name="play.again", shared=False, bind=True, max_retries=3)
        def again(self: Any, until: int) -> str:
            if self.request.retries < until:
                raise self.retry(countdown=0)
            return f"after {self.request.retries}"

        @task(
            name="play.auto",
            shared=False,
            bind=True,
            autoretry_for=(OSError,),
            max_retries=3,
            default_retry_delay=0,
        )
        def auto(self: Any, until: int) -> str:
            if self.request.retries < until:
                raise OSError("busy")
            return f"after {self.request.retries}"

        @task(name="play.wears_out", shared=False, bind=True, max_retries=1)
        def wears_out(self: Any) -> None:
            raise self.retry(countdown=0, exc=Oops("worn out"))

        @task(name="play.instead", shared=False, bind=True)
        def instead(self: Any, a: int, b: int) -> Any:
            return self.replace(add.s(a, b))

        @task(name="play.note", shared=False)
        def note(*args: Any) -> None:
            self.seen.append([each if isinstance(each, (int, str)) else "other" for each in args])

        @orchestrator(name="play.one", shared=False)
        async def one(ctx: Any, n: int) -> int:
            return await ctx.call(add.s(n, 1))

        @orchestrator(name="play.gather", shared=False)
        async def gather(ctx: Any, numbers: list[int]) -> int:
            return sum(await ctx.all([ctx.call(add.s(n, 0)) for n in numbers]))

        @orchestrator(name="play.fails", shared=False)
        async def fails(ctx: Any, *_: Any) -> None:
            await ctx.call(boom.s())

        @orchestrator(name="play.calls", shared=False)
        async def calls(ctx: Any, signature: Any, **options: Any) -> Any:
            return await ctx.call(signature, **options)

        @orchestrator(name="play.catches", shared=False)
        async def catches(ctx: Any, signature: Any) -> str:
            try:
                await ctx.call(signature)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return "nothing"

        @orchestrator(name="play.waits", shared=False)
        async def waits(ctx: Any) -> Any:
            return await ctx.wait_event("go")

        @task(name="play.runs", shared=False)
        def runs(n: int) -> Any:
            return one.apply((n,)).result

        @task(name="play.asks", shared=False)
        def asks() -> str:
            try:
                return str(one.delay(1).get())
            except DurableError as error:
                return f"refused: {error}"

        for each in (
            add,
            total,
            boom,
            again,
            auto,
            wears_out,
            instead,
            note,
            one,
            gather,
            fails,
            calls,
            catches,
            waits,
            runs,
            asks,
        ):
            setattr(self, each.name.partition(".")[2], each)


#: Whatever Celery offers to run an orchestrator, and what comes out of it.
FORMS: dict[str, tuple[Callable[[Play], Any], Any]] = {
    "delay": (lambda p: p.one.delay(1), 2),
    "apply_async": (lambda p: p.one.apply_async((1,)), 2),
    "signature": (lambda p: p.one.s(1).apply_async(), 2),
    "start": (lambda p: p.durable.start(p.one.s(1)), 2),
    "first in a chain": (lambda p: (p.one.s(1) | p.add.s(5)).apply_async(), 7),
    "last in a chain": (lambda p: (p.add.s(1, 1) | p.one.s()).apply_async(), 3),
    "alone in a chain": (lambda p: (p.one.s(1) | p.one.s() | p.one.s()).apply_async(), 4),
    "group": (lambda p: group(p.one.s(1), p.add.s(1, 1), p.one.s(3)).apply_async(), [2, 2, 4]),
    "group of one": (lambda p: group(p.one.s(1)).apply_async(), [2]),
    "chord's header": (lambda p: chord([p.one.s(1), p.add.s(1, 1)], p.total.s()).apply_async(), 4),
    "chord's body": (lambda p: chord([p.add.s(1, 1), p.one.s(1)], p.gather.s()).apply_async(), 4),
    "chain into a chord": (
        lambda p: chain(p.one.s(1), group(p.add.s(1), p.one.s()), p.total.s()).apply_async(),
        6,
    ),
    "canvas": (lambda p: p.durable.canvas(chain(p.add.s(1, 1), p.one.s())).apply_async(), 3),
    "retry": (lambda p: p.calls.delay(p.again.s(2)), "after 2"),
    "autoretry_for": (lambda p: p.calls.delay(p.auto.s(3)), "after 3"),
    "retry, worn out": (lambda p: p.catches.delay(p.wears_out.s()), "Oops: worn out"),
    "a failure that is caught": (lambda p: p.catches.delay(p.boom.s()), "Oops: boom"),
    "a failed sub-orchestration": (lambda p: p.catches.delay(p.fails.s()), "Oops: boom"),
    "a wrong call": (lambda p: p.catches.delay(p.total.s()), "TypeError"),
    "replace": (lambda p: p.calls.delay(p.instead.s(1, 2)), 3),
    "a policy": (lambda p: p.catches.delay(p.calls.s(p.boom.s())), "Oops: boom"),
}


def results_of(play: Play) -> dict[str, Any]:
    started = {form: start(play) for form, (start, _) in FORMS.items()}
    results = {form: run.get(timeout=300) for form, run in started.items()}
    return {**results, "a wrong call": results["a wrong call"].partition(":")[0]}


EXPECTED = {form: expected for form, (_, expected) in FORMS.items()}


@pytest.fixture(scope="module")
def on_a_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    from celery import Celery

    from celery_durable import Durable

    app = Celery("played", broker="memory://", backend="cache+memory://", set_as_current=False)
    path = tmp_path_factory.mktemp("eager") / "store.db"
    app.conf.update(
        durable_backend_url=f"sqlite:///{path}",
        task_default_queue="played",
        result_chord_retry_interval=0.1,
    )
    play = Play(Durable(app).app)
    with start_worker(
        app, pool="threads", concurrency=2, perform_ping_check=False, shutdown_timeout=300
    ):
        yield play
    app.durable.runtime.store.database.dispose()
    app.close()


def test_on_a_worker(on_a_worker: Play) -> None:
    assert results_of(on_a_worker) == EXPECTED


@pytest.mark.parametrize("propagates", [False, True], ids=["keeps", "propagates"])
@pytest.mark.parametrize("is_late", [False, True], ids=["eager", "turned on later"])
def test_eagerly(
    new_app: Any, caplog: pytest.LogCaptureFixture, is_late: bool, propagates: bool
) -> None:
    play = Play(new_app(task_eager_propagates=propagates, task_always_eager=not is_late))
    if is_late:
        for _ in range(2):
            play.durable.runtime.runner.run(play.durable.start(play.one.s(1)).id)
        play.app.conf.task_always_eager = True
    with caplog.at_level(logging.WARNING):
        assert results_of(play) == EXPECTED
    assert "could not be sent" not in caplog.text


@pytest.mark.parametrize("is_eager", [True, False])
def test_apply_runs_it_here_whether_eager_or_not(new_app: Any, is_eager: bool) -> None:
    play = Play(new_app(task_always_eager=is_eager))
    assert play.one.apply((1,)).get() == 2
    assert play.one.s(1).apply(task_id="mine").id == "mine"
    assert play.durable.get("mine").output == 2
    assert play.calls.apply((play.again.s(2),)).get() == "after 2"
    assert play.calls.apply((play.one.s(4),)).get() == 5
    assert play.one.apply((1,), link=play.note.s("linked")).state == "SUCCESS"
    # else its callback is sent, as Celery does
    assert play.seen == ([[2, "linked"]] if is_eager else [])
    failed = play.fails.apply()
    assert (failed.state, type(failed.result)) == ("FAILURE", Oops)
    with pytest.raises(Oops, match="boom"):
        failed.get()
    with pytest.raises(Oops, match="boom"):
        play.fails.apply(throw=True)
    revoked = play.one.apply((1,), expires=-1)
    assert revoked.state == "REVOKED"
    with pytest.raises(OrchestrationRevoked):
        revoked.get()


def test_a_failure_is_raised_where_eager_tasks_propagate(new_app: Any) -> None:
    play = Play(new_app(task_always_eager=True, task_eager_propagates=True))
    for run in (
        play.fails.delay,
        play.fails.apply,
        (play.fails.s() | play.add.s(1)).apply_async,
        group(play.fails.s()).delay,
    ):
        with pytest.raises(Oops, match="boom"):
            run()
    assert play.durable.start(play.fails.s()).refresh().runtime_status is RuntimeStatus.FAILED


def test_callbacks_are_called(new_app: Any) -> None:
    play = Play(new_app(task_always_eager=True))
    play.one.apply_async((1,), link=play.note.s("ended"))
    play.fails.apply_async((), link_error=play.note.s("failed"))
    play.one.apply_async((2,), link=play.one.s())
    assert play.seen[0] == [2, "ended"]
    assert play.seen[1][-1] == "failed"
    assert [run.output for run in play.durable.find(name="play.one").items] == [4, 3, 2]


def test_what_has_to_wait_says_so_instead_of_hanging(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(new_app(task_always_eager=True))
    for run in (
        play.waits.apply,
        (play.waits.s() | play.add.s(1)).apply_async,
        group(play.one.s(1), play.waits.s()).apply_async,
    ):
        with pytest.raises(
            DurableError, match=r"cannot be run at once, it waits for .*'go'.*durable\.start"
        ):
            run()
    waiting = play.waits.delay()
    monkeypatch.setattr("celery_durable.handles.waiting._EAGER_PATIENCE", 0)
    with pytest.raises(DurableError, match="task_always_eager.*'go'"):
        waiting.get()
    waiting.raise_event("go", 7)
    assert waiting.get() == 7


def test_within_an_eager_activity(new_app: Any) -> None:
    play = Play(new_app(task_always_eager=True))
    assert play.calls.delay(play.runs.s(1)).get() == 2
    assert play.calls.delay(play.asks.s()).get().startswith("refused: ")


@pytest.mark.parametrize("form", ["map", "starmap", "chunks"])
def test_several_in_one_message_are_refused(new_app: Any, form: str) -> None:
    play = Play(new_app())
    with pytest.raises(TypeError, match=r"play\.one is an orchestrator.*group\(one\.s"):
        getattr(play.one, form)([1, 2], *([2] if form == "chunks" else []))


def test_a_policy_of_retries_works_eagerly(new_app: Any) -> None:
    play = Play(new_app(task_always_eager=True, task_eager_propagates=True))

    @play.durable.orchestrator(name="play.tries", shared=False)
    async def tries(ctx: Any) -> Any:
        return await ctx.call(play.boom.s(), retry=RetryPolicy(first_interval=0.01, max_attempts=3))

    run = play.durable.start(tries.s())
    assert isinstance(run.refresh().failure, Oops) and not isinstance(run.failure, ActivityError)
    assert sum(event.kind == "ActivityFailed" for event in run.history()) == 3
    assert isinstance(run, AsyncResult)
