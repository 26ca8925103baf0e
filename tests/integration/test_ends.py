"""The end of an orchestration is, for handlers, signals, callbacks and results, that of a task
which ended once.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Task, chain, chord, signals
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult
from celery.worker import state as worker_state

from celery_durable import RetryPolicy
from tests.conftest import wait_until

#: What was heard of each task: handlers, signals, callbacks, and lines of the log.
heard: dict[str, list[Any]] = defaultdict(list)
tries: dict[str, int] = defaultdict(int)


class Listening(Task):
    abstract = True

    def on_success(self, retval, task_id, args, kwargs):
        heard[task_id].append(("on_success", retval, tuple(args), kwargs))

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        heard[task_id].append(
            ("on_failure", repr(exc), tuple(args), kwargs, "ValueError: no" in einfo.traceback)
        )

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        heard[task_id].append(
            ("after_return", status, repr(retval), tuple(args), kwargs, einfo is not None)
        )


class Lines(logging.Handler):
    def emit(self, record):
        data = getattr(record, "data", {})
        if record.levelno >= logging.ERROR:
            heard[data.get("id", "")].append(
                (record.levelname, record.getMessage().partition("[")[2].partition("]")[2][:40])
            )


@pytest.fixture
def signals_heard() -> Iterator[None]:
    def succeeded(sender=None, result=None, **_):
        heard[sender.request.id].append(("task_success", result))

    def failed(sender=None, task_id=None, exception=None, args=None, kwargs=None, einfo=None, **_):
        heard[task_id].append(
            ("task_failure", repr(exception), tuple(args), kwargs, "no" in str(einfo))
        )

    def revoked(sender=None, request=None, expired=None, **_):
        heard[request.id].append(("task_revoked", expired))

    receivers = {
        signals.task_success: succeeded,
        signals.task_failure: failed,
        signals.task_revoked: revoked,
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver, weak=False)
    yield
    for signal, receiver in receivers.items():
        signal.disconnect(receiver)


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Iterator[Any]:
    app = new_app(
        result_backend="cache+memory://",
        result_extended=True,
        broker_transport_options={"polling_interval": 0.01},
    )
    heard.clear()

    @app.task(name="ends.plain", base=Listening)
    def plain(n: int, by: int = 2) -> int:
        if n < 0:
            raise ValueError("no")
        return n * by

    @app.durable.orchestrator(name="ends.durable", base=Listening)
    async def durable(ctx: Any, n: int, by: int = 2) -> int:
        if n == 0:
            await ctx.wait_event("never")
        if n < 0:
            raise ValueError("no")
        return n * by

    @app.task(name="ends.called")
    def called(id_: str) -> None:
        heard[id_].append("called")

    @app.task(name="ends.errback")
    def errback(id_: str) -> None:
        heard[id_].append("errback")

    @app.task(name="ends.marker")
    def marker() -> None:
        """Come after what was sent before."""

    @app.task(name="ends.flaky")
    def flaky(id_: str, failures: int, kind: str) -> str:
        tries[id_] += 1
        if tries[id_] <= failures:
            raise {"value": ValueError, "key": KeyError}[kind]("no")
        return "done"

    @app.durable.orchestrator(name="ends.trying")
    async def trying(ctx: Any, id_: str, failures: int, kind: str) -> str:
        policy = RetryPolicy(first_interval=0, max_attempts=3, give_up_on=KeyError)
        return await ctx.call(
            flaky.s(id_, failures, kind).set(link_error=errback.si(id_)), retry=policy
        )

    lines = Lines()
    for name in ("celery.app.trace", "celery_durable"):
        logging.getLogger(name).addHandler(lines)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        yield app
    for name in ("celery.app.trace", "celery_durable"):
        logging.getLogger(name).removeHandler(lines)


def alone(app: Any, signature: Any, id_: str) -> Any:
    return signature.apply_async(task_id=id_)


def ignored(app: Any, signature: Any, id_: str) -> Any:
    return signature.apply_async(task_id=id_, ignore_result=True)


def linked(app: Any, signature: Any, id_: str) -> Any:
    called, errback = app.tasks["ends.called"], app.tasks["ends.errback"]
    return signature.apply_async(task_id=id_, link=called.si(id_), link_error=errback.si(id_))


def in_a_chain(app: Any, signature: Any, id_: str) -> Any:
    errback = app.tasks["ends.errback"].si(id_)
    return chain(signature.set(task_id=id_), app.tasks["ends.called"].si(id_)).apply_async(
        link_error=errback
    )


def in_a_chord(app: Any, signature: Any, id_: str) -> Any:
    body = app.tasks["ends.called"].si(id_).on_error(app.tasks["ends.errback"].si(id_))
    return chord([signature.set(task_id=id_), app.tasks["ends.marker"].si()], body).apply_async()


PLACES = [alone, ignored, linked, in_a_chain, in_a_chord]


def settle(app: Any, id_: str) -> None:
    """Wait until all that was sent, and what that sends, has been dealt with: one worker takes it
    in order.
    """
    store = app.durable.runtime.store
    record = store.reads.fetch(id_)
    if record is not None:
        wait_until(lambda: store.reads.status_of(id_).is_terminal, what="the end")
        wait_until(
            lambda: store.reads.is_finished_for_celery(record.execution), what="the last message"
        )
    for _ in range(4):
        app.tasks["ends.marker"].apply_async().get(
            timeout=300, interval=0.02, disable_sync_subtasks=False
        )


def result_of(app: Any, id_: str) -> Any:
    """What the result backend knows, beside the time and the ids of messages that only one of the
    two has.
    """
    meta = dict(app.backend.get_task_meta(id_))
    kept = {key: meta.get(key) for key in ("status", "result", "name", "args", "kwargs", "queue")}
    kept["result"] = (
        repr(kept["result"]) if meta["status"] != "REVOKED" else type(kept["result"]).__name__
    )
    return {
        **kept,
        "worker": bool(meta.get("worker")),
        "group": bool(meta.get("group_id")),
        "traceback": "ValueError: no" in (meta.get("traceback") or ""),
    }


def test_it_ends_as_a_task_does(app: Any, signals_heard: None) -> None:
    for place, n in itertools.product(PLACES, (3, -1)):
        ids = {}
        for name in ("ends.plain", "ends.durable"):
            ids[name] = id_ = str(uuid.uuid4())
            place(app, app.tasks[name].s(n, by=5), id_)
            settle(app, id_)
        own, expected = (heard[ids[name]] for name in ("ends.durable", "ends.plain"))
        assert sorted(map(str, own)) == sorted(map(str, expected)), (place, n)
        assert len(own) >= 3
        same = result_of(app, ids["ends.durable"]), result_of(app, ids["ends.plain"])
        assert {**same[0], "name": None} == {**same[1], "name": None}, (place, n)


def test_one_that_is_stopped_ends_as_a_revoked_task_does(app: Any, signals_heard: None) -> None:
    for place, verb in itertools.product(PLACES, ("cancel", "terminate")):
        theirs, own = str(uuid.uuid4()), str(uuid.uuid4())
        worker_state.revoked.add(theirs)
        place(app, app.tasks["ends.plain"].s(3), theirs)
        settle(app, theirs)
        place(app, app.tasks["ends.durable"].s(0), own)
        wait_until(
            lambda: app.durable.runtime.store.reads.status_of(own) == "RUNNING",
            what="the beginning",
        )
        getattr(app.durable.get(own), verb)(reason="enough")
        settle(app, own)
        assert sorted(map(str, heard[own])) == sorted(map(str, heard[theirs])), (place, verb)
        assert ("task_revoked", False) in heard[own]
        assert AsyncResult(own, app=app).state == AsyncResult(theirs, app=app).state


def test_one_that_expires_ends_as_an_expired_task_does(app: Any, signals_heard: None) -> None:
    ids = {name: str(uuid.uuid4()) for name in ("ends.plain", "ends.durable")}
    for name, id_ in ids.items():
        app.tasks[name].apply_async((3,), task_id=id_, countdown=0.5, expires=0.1)
        wait_until(lambda id_=id_: heard[id_], what="the end")
        settle(app, id_)
    assert heard[ids["ends.durable"]] == heard[ids["ends.plain"]] == [("task_revoked", True)]
    assert {AsyncResult(id_, app=app).state for id_ in ids.values()} == {"REVOKED"}


def test_a_last_message_that_comes_twice_is_heard_once(app: Any, signals_heard: None) -> None:
    id_ = str(uuid.uuid4())
    linked(app, app.tasks["ends.durable"].s(3), id_)
    settle(app, id_)
    before = list(heard[id_])
    runtime = app.durable.runtime
    assert runtime.publisher.finish_owed(runtime.client.fetch(id_)) is None
    settle(app, id_)
    assert heard[id_] == before


@pytest.mark.parametrize("n", [3, -1])
def test_eagerly_handlers_hear_of_it_too(
    new_app: Callable[..., Any], signals_heard: None, n: int
) -> None:
    app = new_app(task_always_eager=True)
    heard.clear()

    @app.durable.orchestrator(name="ends.eager", base=Listening)
    async def eager(ctx: Any, n: int, by: int = 2) -> int:
        if n < 0:
            raise ValueError("no")
        return n * by

    run = eager.apply_async((n,), {"by": 5})
    kinds = [each[0] for each in heard[run.id]]
    if n > 0:
        assert heard[run.id] == [
            ("on_success", 15, (3,), {"by": 5}),
            ("task_success", 15),
            *heard[run.id][2:],
        ]
    assert (
        kinds.count("on_success" if n > 0 else "on_failure") == 1
        and kinds.count("after_return") == 1
    )


# -- an activity that is tried again ---------------------------------------------------------------


def test_link_error_of_an_activity_is_called_with_its_last_failure(app: Any) -> None:
    for failures, kind, attempts, calls in (
        (2, "value", 3, 0),
        (9, "value", 3, 1),
        (1, "key", 1, 1),
    ):
        id_ = str(uuid.uuid4())
        run = app.tasks["ends.trying"].apply_async((id_, failures, kind), task_id=id_)
        run.get(timeout=300, propagate=False)
        settle(app, id_)
        assert (tries[id_], heard[id_].count("errback")) == (attempts, calls), (failures, kind)


# -- where nobody listens --------------------------------------------------------------------------


def quiet(new_app: Callable[..., Any], **conf: Any) -> Any:
    app = new_app(**conf)

    @app.durable.orchestrator(name="ends.quiet", throws=(KeyError,))
    async def quiet(ctx: Any, n: int, by: int = 2) -> int:
        if n < 0:
            raise ValueError("no")
        if n == 0:
            raise KeyError("expected")
        return n * by

    return app


def run_alone(app: Any, *args: Any, **options: Any) -> Any:
    """Take its turns here, and return it with the messages that were sent for it."""
    sent: list[str] = []
    app.tasks["ends.quiet"].publish = lambda args, kwargs, headers, **_: sent.append(
        headers["durable"]["t"]
    )
    run = app.tasks["ends.quiet"].apply_async(args, **options)
    app.durable.runtime.runner.run(run.id)
    return run.refresh(), sent


def test_no_message_is_sent_for_no_one(new_app: Callable[..., Any]) -> None:
    app = quiet(new_app, result_backend="cache+memory://")
    for n in (1, -1):
        assert "finish" not in run_alone(app, n)[1]


def test_its_result_has_what_a_task_has(new_app: Callable[..., Any]) -> None:
    app = quiet(new_app, result_backend="cache+memory://", result_extended=True)
    for n, state in ((1, "SUCCESS"), (-1, "FAILURE")):
        run, _ = run_alone(app, n, kwargs={"by": 3}, headers={"tenant": "t1"})
        meta = app.backend.get_task_meta(run.id)
        assert (meta["status"], list(meta["args"]), meta["kwargs"], meta["name"]) == (
            state,
            [n],
            {"by": 3},
            "ends.quiet",
        )
        assert (meta["queue"], meta["retries"]) == ("celery", 0)
        assert ("ValueError: no" in (meta["traceback"] or "")) == (n < 0)


@pytest.mark.parametrize("given", [{}, {"link": "ends.marker"}], ids=["unheard", "heard"])
def test_the_result_of_a_durable_task_has_its_own_name(
    new_app: Callable[..., Any], caplog: pytest.LogCaptureFixture, given: dict[str, str]
) -> None:
    app = new_app(
        result_backend="cache+memory://",
        result_extended=True,
        broker_transport_options={"polling_interval": 0.01},
    )

    @app.task(name="ends.marker")
    def marker(*_: Any) -> None: ...

    @app.task(name="ends.task", durable=True)
    def task(n: int) -> int:
        if n < 0:
            raise ValueError("no")
        return n

    log = logging.getLogger("celery_durable.orchestrator")
    links = {f"link{end}": marker.si() for end in ("", "_error") if given}
    log.addHandler(caplog.handler)  # the worker takes the root's away
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=60):
        runs = [task.apply_async((n,), **links) for n in (1, -1)]
        results = [AsyncResult(run.id, app=app) for run in runs]
        for result in results:
            result.get(timeout=60, propagate=False)
    log.removeHandler(caplog.handler)
    assert [(each.state, each.name, list(each.args)) for each in results] == [
        ("SUCCESS", "ends.task", [1]),
        ("FAILURE", "ends.task", [-1]),
    ]
    told = [record.getMessage().partition("[")[0] for record in caplog.records]
    assert "Task celery_durable.task" not in told or given
    assert "Task ends.task" in told or given


@pytest.mark.parametrize("backend", [None, "cache+memory://"])
def test_a_failure_that_no_tracer_logs_is_logged_as_an_error(
    new_app: Callable[..., Any], caplog: pytest.LogCaptureFixture, backend: str | None
) -> None:
    app = quiet(new_app, result_backend=backend)
    run, _ = run_alone(app, -1)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        f"Task ends.quiet[{run.id}] raised unexpected: ValueError('no')"
    ]
    assert 'raise ValueError("no")' in caplog.text
    assert errors[0].exc_info[0] is ValueError
    caplog.clear()
    run_alone(app, 0)
    assert [
        record.levelname for record in caplog.records if record.levelno >= logging.ERROR
    ] == [], "it is expected"
