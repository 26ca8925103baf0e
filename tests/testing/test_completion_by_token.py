"""Activities whose outcome comes by a token: ``durable_context().defer()``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery, chain, chord, group

from celery_durable import (
    ActivityError,
    ActivityTimeout,
    Durable,
    DurableError,
    InvalidState,
    OrchestrationRevoked,
    PayloadError,
    RetryPolicy,
    RuntimeStatus,
    durable_context,
)
from celery_durable.core.history import EventKind
from celery_durable.testing import DurableEnv, fake_durable_context

app = Celery("studio", broker="memory://", set_as_current=False)
durable = Durable(app)
#: What the encoder outside was given: the tokens, by what each is for, in order.
jobs: dict[str, list[str]] = {}
contexts: list[Any] = []


class BadCodec(Exception):
    pass


@pytest.fixture
def durable_app() -> Durable:
    return durable


@pytest.fixture(autouse=True)
def _no_jobs() -> Iterator[None]:
    jobs.clear()
    contexts.clear()
    yield


def submit(name: str) -> str:
    token = durable_context().defer()
    jobs.setdefault(name, []).append(token)
    return token


@app.task
def encode(name: str) -> str:
    token = submit(name)
    assert durable_context().defer() == token
    contexts.append(durable_context())
    return "dropped"


@app.task
def plain(name: str) -> str:
    return f"plain {name}"


@app.task
def hasty(name: str) -> str:
    """The encoder is faster than the body."""
    assert durable.complete(submit(name), f"early {name}")
    assert not durable.complete(jobs[name][-1], "second")
    return "dropped"


@app.task
def failing(name: str) -> None:
    submit(name)
    raise BadCodec(name)


@app.task
def hasty_and_failing(name: str) -> None:
    durable.complete(submit(name), f"early {name}")
    raise BadCodec(name)


@app.task(at_most_once=True)
def once(name: str) -> None:
    submit(name)


@app.task(bind=True, max_retries=3)
def again(self: Any, name: str) -> None:
    submit(name)
    if self.request.retries < 1:
        raise self.retry(countdown=5)


@app.task
@durable.transactional
def booked(session: Any, name: str, way: str) -> str:
    session.execute(sa.text("CREATE TABLE IF NOT EXISTS jobs (name TEXT, token TEXT)"))
    token = submit(name)
    session.execute(
        sa.text("INSERT INTO jobs VALUES (:name, :token)"), {"name": name, "token": token}
    )
    if way == "complete":
        assert durable.complete(token, f"joint {name}")
        assert not durable.fail(token, "second")
    elif way == "fail":
        assert durable.fail(token, BadCodec(name))
    elif way == "raise":
        raise BadCodec(name)
    return "dropped"


@durable.orchestrator
async def film(ctx: Any, name: str, options: dict[str, Any] | None = None) -> Any:
    options = dict(options or {})
    task = app.tasks[f"{__name__}.{options.pop('task', 'encode')}"]
    if tries := options.pop("tries", None):
        options["retry"] = RetryPolicy(max_attempts=tries, first_interval=60)
    result = await ctx.call(task.s(name, *options.pop("args", ())), **options)
    return [result, await ctx.call(plain.s(name))]


@durable.orchestrator
async def reels(ctx: Any, names: list[str], at_once: int | None = None) -> Any:
    if at_once is None:
        return await asyncio.gather(*(ctx.call(encode.s(name)) for name in names))
    return await ctx.map(encode, names, concurrency=at_once)


@durable.orchestrator(max_activities=1)
async def narrow(ctx: Any) -> Any:
    return await asyncio.gather(ctx.call(encode.s("a")), ctx.call(plain.s("b")))


@durable.orchestrator
async def patient(ctx: Any, name: str) -> Any:
    try:
        async with asyncio.timeout(60):
            return await ctx.call(encode.s(name))
    except TimeoutError:
        return "given up"


def token_of(name: str) -> str:
    return jobs[name][-1]


def kinds_of(run: Any) -> list[str]:
    return [str(event.kind) for event in run.history()]


# -- complete --------------------------------------------------------------------------------------


def test_the_activity_is_over_when_its_token_is_used(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a"), instance_id="a")
    assert kinds_of(run)[-2:] == ["ActivityScheduled", "ActivityDeferred"]
    at = durable_env.now.strftime("%H:%M")
    said = f"activity 1 ({encode.name}) waits for its completion since {at}"
    assert run.explain().waits_for[0].startswith(said)
    assert f"\n  {said}" in str(run.explain()) and "nothing to do" in run.explain().advice
    assert durable.find(stuck=True).items == []
    durable_env.advance(days=30)
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    assert len(durable_env.calls(encode)) == 1, "it is not sent again"

    token = token_of("a")
    assert len(token) <= 200 and token.isascii()
    assert not set(token) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert durable.complete(token, {"size": 3})
    assert not durable.complete(token, {"size": 4}) and not durable.fail(token, "late")
    durable_env.run_until_idle()
    assert not durable.complete(token) and not durable.heartbeat(token)
    assert run.refresh().output == [{"size": 3}, "plain a"]
    completed = next(e for e in run.history() if e.kind is EventKind.ACTIVITY_COMPLETED)
    assert completed.at - run.history()[0].at > 29 * 86_400_000_000
    with pytest.raises(InvalidState, match="encode has returned"):
        contexts[0]._attempt.deferral = None
        contexts[0].defer()


@pytest.mark.parametrize("task", ["encode", "hasty", "hasty_and_failing", "again"])
def test_wherever_its_worker_dies_there_is_one_token_and_one_end(
    durable_env: DurableEnv, task: str
) -> None:
    def scenario(env: DurableEnv) -> Any:
        jobs.clear()
        run = env.start(film.s("a", {"task": task}), instance_id="a")
        env.advance(seconds=10)
        assert len(set(jobs["a"])) == 1
        durable.complete(token_of("a"), "by token")
        env.run_until_idle()
        assert not durable.complete(token_of("a"), "late")
        return run.refresh().runtime_status, run.output

    assert durable_env.crash_everywhere(scenario) > 10


def test_what_runs_at_most_once_is_deferred_or_interrupted(durable_env: DurableEnv) -> None:
    seen = []

    def scenario(env: DurableEnv) -> Any:
        jobs.clear()
        run = env.start(film.s("a", {"task": "once"}), instance_id="a")
        is_deferred = run.refresh().runtime_status is RuntimeStatus.RUNNING
        seen.append(is_deferred)
        assert len(jobs.get("a", ())) == 1 or not is_deferred
        if is_deferred:
            assert durable.complete(token_of("a"), 1)
            env.run_until_idle()
            return run.refresh().output
        assert "was interrupted" in str(run.failure), "its body does not begin again"
        return [1, "plain a"]

    assert durable_env.crash_everywhere(scenario) > 10
    assert {True, False} == set(seen)


def test_it_may_come_before_the_body_ends_and_is_the_first_outcome(durable_env: DurableEnv) -> None:
    for task in ("hasty", "hasty_and_failing"):
        assert durable_env.run(film.s(task, {"task": task}))[0] == f"early {task}"


def test_a_body_that_raises_has_failed_and_its_token_is_void(durable_env: DurableEnv) -> None:
    with pytest.raises(BadCodec):
        durable_env.run(film.s("a", {"task": "failing", "tries": 2}))
    first, second = jobs["a"]
    assert first != second
    assert not durable.complete(first) and not durable.complete(second)


# -- fail, and time-outs ---------------------------------------------------------------------------


def test_fail_is_a_failed_attempt_and_another_one_has_another_token(
    durable_env: DurableEnv,
) -> None:
    run = durable_env.start(film.s("a", {"tries": 3}))
    assert durable.fail(token_of("a"), "bad codec")
    durable_env.advance(60)
    assert durable.fail(token_of("a"), BadCodec("worse"))
    durable_env.advance(3600)
    assert len(set(jobs["a"])) == 3
    assert "encode, attempt 3) waits for its completion" in str(run.explain())
    assert not durable.complete(jobs["a"][0]) and not durable.complete(jobs["a"][1])
    assert durable.complete(token_of("a"), 3)
    durable_env.run_until_idle()
    assert run.refresh().output[0] == 3


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [("bad codec", ActivityError, "bad codec"), (BadCodec("x"), BadCodec, "x")],
)
def test_what_it_has_failed_with(
    durable_env: DurableEnv, error: Any, kind: type[Exception], text: str
) -> None:
    run = durable_env.start(film.s("a"))
    assert durable.fail(token_of("a"), error)
    durable_env.run_until_idle()
    with pytest.raises(kind) as caught:
        run.get(timeout=0)
    assert str(caught.value) == text
    with pytest.raises(TypeError, match="an exception or text"):
        durable.fail(token_of("a"), 3)  # type: ignore[arg-type]


def test_time_outs_hold_on(durable_env: DurableEnv) -> None:
    with pytest.raises(ActivityTimeout) as caught:
        durable_env.run(film.s("a", {"timeout": 3600, "start_timeout": 10}))
    assert caught.value.kind == "timeout"
    assert not durable.complete(token_of("a"))

    begin = durable_env.now
    run = durable_env.start(film.s("b", {"heartbeat_timeout": 60, "timeout": 300}))
    for _ in range(3):
        durable_env.advance(45)
        assert durable.heartbeat(token_of("b"), {"percent": 40})
    durable_env.advance(59)
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    durable_env.advance(2)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    with pytest.raises(ActivityTimeout) as caught:
        run.get(timeout=0)
    assert caught.value.kind == "heartbeat_timeout"
    assert durable_env.now - begin == timedelta(seconds=3 * 45 + 61)


def test_what_runs_at_most_once_is_interrupted_by_its_time_out(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a", {"task": "once", "timeout": 60, "tries": 2}))
    durable_env.advance(hours=1)
    assert "runs at most once" in str(run.refresh().failure)
    assert len(jobs["a"]) == 1


# -- what else may end it --------------------------------------------------------------------------


def test_no_token_outlives_its_attempt(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("t"), instance_id="t")
    run.terminate(reason="enough")
    assert not durable.complete(token_of("t"))

    run = durable_env.start(film.s("c"), instance_id="c")
    run.cancel("no")
    durable_env.run_until_idle()
    with pytest.raises(OrchestrationRevoked):
        run.get(timeout=0)
    assert not durable.complete(token_of("c"))
    run.purge()
    assert not durable.complete(token_of("c"))

    assert durable_env.run(patient.s("p")) == "given up"
    assert not durable.complete(token_of("p"))


def test_an_outcome_by_hand_voids_the_token(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a"), instance_id="a")
    run.override(1, "by hand")
    durable_env.run_until_idle()
    assert not durable.complete(token_of("a"), "late")
    assert run.refresh().output == ["by hand", "plain a"]


def test_a_suspended_one_keeps_the_outcome(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a"))
    run.suspend("lunch")
    assert durable.complete(token_of("a"), 1)
    durable_env.run_until_idle()
    run.resume()
    durable_env.run_until_idle()
    assert run.refresh().output[0] == 1


def test_a_rewind_asks_again_under_another_token(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a"), instance_id="a")
    assert durable.fail(token_of("a"), "bad codec")
    durable_env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    run.rewind()
    durable_env.run_until_idle()
    assert len(set(jobs["a"])) == 2
    assert not durable.complete(jobs["a"][0])
    assert durable.complete(token_of("a"), 2)
    durable_env.run_until_idle()
    assert run.refresh().output == [2, "plain a"]


def test_a_rewind_keeps_what_was_completed(durable_env: DurableEnv) -> None:
    with durable_env.replace(plain, raises=BadCodec("plain")):
        run = durable_env.start(film.s("a"), instance_id="a")
        durable.complete(token_of("a"), 1)
        durable_env.run_until_idle()
    run.rewind()
    durable_env.run_until_idle()
    assert run.refresh().output == [1, "plain a"] and len(jobs["a"]) == 1
    durable_env.check_determinism(hash_seeds=0)


# -- many at once ----------------------------------------------------------------------------------


def test_members_of_a_join_take_no_turns_of_their_own(durable_env: DurableEnv) -> None:
    names = [f"n{number}" for number in range(6)]
    run = durable_env.start(reels.s(names))
    before = len(durable.runtime.store.reads.events(run.id))
    for name in names:
        assert durable.complete(token_of(name), name.upper())
        durable_env.run_until_idle()
    assert run.refresh().output == [name.upper() for name in names]
    rows = len(durable.runtime.store.reads.events(run.id))
    assert rows - before == 1
    assert kinds_of(run).count("ActivityDeferred") == len(names)


def test_places_are_kept_until_the_completion(durable_env: DurableEnv) -> None:
    run = durable_env.start(reels.s(["a", "b", "c"], 1))
    for name, others in (("a", "bc"), ("b", "c"), ("c", "")):
        assert name in jobs and not any(other in jobs for other in others)
        durable_env.advance(hours=1)
        assert durable.complete(token_of(name), name)
        durable_env.run_until_idle()
    assert run.refresh().output == ["a", "b", "c"]

    run = durable_env.start(narrow.s())
    assert not durable_env.calls(plain)
    assert durable.fail(token_of("a"), "frees its place")
    durable_env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.FAILED


def test_members_of_a_canvas(durable_env: DurableEnv) -> None:
    canvas = chain(encode.s("a"), chord(group(encode.si("b"), plain.si("c")), plain.s()))
    result = durable.canvas(canvas).apply_async()
    durable_env.run_until_idle()
    assert durable.complete(token_of("a"), 1)
    durable_env.run_until_idle()
    assert durable.complete(token_of("b"), "B")
    durable_env.run_until_idle()
    assert durable.get(result.id).output == "plain ['B', 'plain c']"


# -- transactions ----------------------------------------------------------------------------------


def rows_of(env: DurableEnv) -> list[Any]:
    database: Any = durable.runtime.store.database
    with database.cursor() as cursor:
        try:
            cursor.execute("SELECT name FROM jobs")
        except Exception:
            return []
        return [name for (name,) in cursor.fetchall()]


def test_a_deferral_is_committed_with_the_rows_of_its_body(durable_env: DurableEnv) -> None:
    def scenario(env: DurableEnv) -> Any:
        jobs.clear()
        run = env.start(film.s("a", {"task": "booked", "args": ["defer"]}), instance_id="a")
        assert rows_of(env) == ["a"] and len(set(jobs["a"])) == 1
        assert durable.complete(token_of("a"), 1)
        env.run_until_idle()
        return run.refresh().output

    assert durable_env.crash_everywhere(scenario) > 10


@pytest.mark.parametrize("way", ["complete", "fail", "raise"])
def test_an_outcome_within_the_transaction_is_committed_with_it(
    durable_env: DurableEnv, way: str
) -> None:
    def scenario(env: DurableEnv) -> Any:
        run = env.start(film.s("a", {"task": "booked", "args": [way]}), instance_id="a")
        assert not durable.complete(token_of("a"))
        status = run.refresh().runtime_status
        failure = run.failure if status is RuntimeStatus.FAILED else None
        return status, run.output, type(failure).__name__, rows_of(env)

    assert durable_env.crash_everywhere(scenario) > 5
    status, output, failure, rows = scenario(durable_env)
    assert rows == ([] if way == "raise" else ["a"])
    if way == "complete":
        assert (status, output) == (RuntimeStatus.COMPLETED, ["joint a", "plain a"])
    else:
        assert (status, failure) == (RuntimeStatus.FAILED, "BadCodec")


def test_a_completion_joins_the_session_that_is_given(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a"))
    engine = durable.runtime.store.database.engine  # type: ignore[attr-defined]
    with sa.orm.Session(engine.execution_options(isolation_level="SERIALIZABLE")) as session:
        assert durable.complete(token_of("a"), 1, session=session)
        session.rollback()
        assert durable.fail(token_of("a"), "undone", session=session)
        session.rollback()
        assert durable.complete(token_of("a"), 2, session=session)
        assert not durable.complete(token_of("a"), 3, session=session)
        session.commit()
    durable_env.run_until_idle()
    assert run.refresh().output[0] == 2


# -- tokens ----------------------------------------------------------------------------------------


def test_tokens_that_are_not_of_here(durable_env: DurableEnv) -> None:
    with fake_durable_context() as context:
        encode("a")
        other = context.deferred[0]
        assert jobs["a"] == [other] and context.defer() == other and len(context.deferred) == 1
    assert not durable.complete(other) and not durable.fail(other, "x")
    assert not durable.heartbeat(other)
    run = durable_env.start(film.s("a"))
    token = token_of("a")
    damaged = [
        "", "x", token[:-1], token + "A", token[1:], token.swapcase(), token + "=", f" {token}",
        token[:20] + ("A" if token[20] != "A" else "B") + token[21:], "é" + token[1:], "A" * 500,
    ]  # fmt: skip
    for text in damaged:
        for use in (durable.complete, durable.heartbeat, lambda text: durable.fail(text, "x")):
            with pytest.raises(ValueError, match="no token of"):
                use(text)
    with pytest.raises(PayloadError):
        durable.complete(token, object())
    with pytest.raises(PayloadError):
        durable.heartbeat(token, object())
    assert durable.complete(token, 1)
    with pytest.raises(PayloadError):
        durable.complete(token, object())
    durable_env.run_until_idle()
    assert run.refresh().output[0] == 1


def test_who_waits_for_what_no_clock_brings_is_told(durable_env: DurableEnv) -> None:
    with pytest.raises(DurableError, match=r"activity 1 .*encode\) waits for its completion since"):
        durable_env.run(film.s("a"))


def test_on_an_event_loop(durable_env: DurableEnv) -> None:
    run = durable_env.start(film.s("a", {"tries": 2}))

    async def hook() -> list[bool]:
        return [
            await durable.aheartbeat(token_of("a")),
            await durable.afail(token_of("a"), "again"),
        ]

    assert asyncio.run(hook()) == [True, True]
    durable_env.advance(60)
    assert asyncio.run(durable.acomplete(token_of("a"), 1))
    durable_env.run_until_idle()
    assert run.refresh().output[0] == 1
