"""No id that somebody may choose is taken for one of another kind, and no message for that of an
activity which it is not.

Whoever may choose an id, of an orchestration or of a plain task, could else give the outcome of
somebody's activity, or sit where an entity is to be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import TaskRevokedError, WorkerLostError

from celery_durable.azure import DurableOrchestrationClient
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.http import application
from tests.contract.builders import everything
from tests.http.client import Client


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    """An application with an orchestration ``victim`` that waits for its activity, and one that is
    over, ``done``.
    """
    app = new_app(result_backend="cache+memory://", durable_inline_turns=False)
    durable = app.durable

    @app.task(name="pay", shared=False)
    def pay(what: str) -> str:
        return f"paid {what}"

    @app.task(name="plain", shared=False)
    def plain() -> str:
        return "FORGED"

    @durable.orchestrator(name="sale", shared=False)
    async def sale(ctx: Any, what: str) -> Any:
        return await ctx.call(pay.s(what))

    @durable.orchestrator(name="other", shared=False)
    async def other(ctx: Any, given: Any = None) -> str:
        return "FORGED"

    @durable.orchestrator(name="parent", shared=False)
    async def parent(ctx: Any, child_id: str) -> Any:
        return await ctx.call(other.s().set(task_id=child_id))

    durable.start(sale.s("x"), instance_id="victim")
    durable.start(other.s(), instance_id="done")
    for id_ in ("victim", "done"):
        durable.runtime.runner.run(id_)
    return app


def ticket_in(app: Any) -> ActivityAttemptId:
    """Return the activity of the victim."""
    with app.durable.runtime.store.database.cursor() as cursor:
        cursor.execute(
            "SELECT execution, command, attempt FROM durable_outbox WHERE kind = 'activity'"
        )
        return ActivityAttemptId(*cursor.fetchone())


# -- ids that somebody chooses ---------------------------------------------------------------------


def by_message(app: Any, id_: str) -> Any:
    """Take the message of a process that has none of this package."""
    task = app.tasks["other"]
    task.push_request(id=id_, called_directly=False)
    try:
        return task()
    finally:
        task.pop_request()


def as_child(app: Any, id_: str) -> Any:
    run = app.durable.start(app.tasks["parent"].s(id_), instance_id="parent")
    app.durable.runtime.runner.run("parent")
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    raise run.failure


def by_http(app: Any, id_: str) -> Any:
    answer = Client(application(app.durable, authorize=lambda *_: True)).post(
        f"/orchestrators/other/{quote(id_)}"
    )
    raise ValueError(answer.text) if answer.status == 400 else AssertionError(answer)


def start(app: Any, id_: str, **options: Any) -> Any:
    return app.durable.start(app.tasks["other"].s(), instance_id=id_, **options)


DOORS: dict[str, Callable[[Any, str], Any]] = {
    **{
        f"start {way}": lambda app, id_, way=way: start(app, id_, if_exists=way)
        for way in ("return", "raise", "restart", "replace")
    },
    "task_id of a signature": lambda app, id_: app.durable.start(
        app.tasks["other"].s().set(task_id=id_)
    ),
    "apply_async": lambda app, id_: app.tasks["other"].apply_async((), task_id=id_),
    "message": by_message,
    "child": as_child,
    "restart": lambda app, id_: app.durable.get("done").restart(id_),
    "fork": lambda app, id_: app.durable.get("victim").fork(at=1, new_id=id_),
    "http": by_http,
    "azure": lambda app, id_: asyncio.run(
        DurableOrchestrationClient(app.durable).start_new("other", id_)
    ),
}


@pytest.mark.sparse(3)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["ticket", "entity", "entity without a key"])
def test_an_id_of_another_kind_is_refused_at_every_door(app: Any, door: str, kind: str) -> None:
    id_ = {"ticket": ticket_in(app).task_id, "entity": "@Counter@visits"}.get(kind, "@Counter@")
    with pytest.raises(ValueError, match="activity" if kind == "ticket" else "entities"):
        DOORS[door](app, id_)
    assert {row["id"] for row in everything(app.durable.runtime.store)["instances"]} <= {
        "victim",
        "done",
        "parent",
    }


@pytest.mark.parametrize("name", ["@Counter", "@Counter@visits", "@"])
def test_a_schedule_makes_no_ids_of_entities(app: Any, name: str) -> None:
    with pytest.raises(ValueError, match="entities"):
        app.durable.schedule(name, app.tasks["other"].s(), interval=60)


# -- messages --------------------------------------------------------------------------------------

OURS = {"n": 0}
MESSAGES: dict[str, tuple[dict[str, Any], bool]] = {
    "ours": ({"headers": {"durable": OURS}}, True),
    "ours, as the main process has it": ({"durable": OURS}, True),
    "replaced": ({"replaced_task_nesting": 1}, True),
    "ordinary": ({}, False),
    "with other headers": ({"headers": {"durable": "yes"}}, False),
    "a turn": ({"headers": {"durable": {"t": "turn"}}}, False),
    "the last one of an orchestration": (
        {"headers": {"durable": {"t": "finish", "x": "0" * 20}}},
        False,
    ),
}
ENDS: dict[str, Callable[[Any, str, Any], Any]] = {
    "done": lambda backend, id_, request: backend.mark_as_done(id_, "FORGED", request),
    "failed": lambda backend, id_, request: backend.mark_as_failure(
        id_, KeyError("FORGED"), request=request
    ),
    "lost": lambda backend, id_, request: backend.mark_as_failure(
        id_, WorkerLostError("gone"), request=request
    ),
    "revoked": lambda backend, id_, request: backend.mark_as_revoked(id_, "FORGED", request),
}


@pytest.mark.sparse(2)
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("end", ENDS)
def test_an_outcome_is_taken_from_a_message_that_says_it_is_ours(
    app: Any, message: str, end: str
) -> None:
    (given, is_ours), ticket = MESSAGES[message], ticket_in(app)
    request = Context({"id": ticket.task_id, "task": "pay", "called_directly": False, **given})
    ENDS[end](app.backend, ticket.task_id, request)
    assert app.durable.runtime.store.outcomes.was_recorded(ticket, "victim") is is_ours


@pytest.mark.sparse(2)
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("task", ["pay", "plain"])
def test_a_body_that_was_not_sent_by_us_gives_no_outcome(app: Any, message: str, task: str) -> None:
    (given, is_ours), ticket = MESSAGES[message], ticket_in(app)
    called = app.tasks[task]
    args = ("x",) if task == "pay" else ()
    request = {
        "id": ticket.task_id,
        "task": task,
        "args": args,
        "kwargs": {},
        "called_directly": False,
        "delivery_info": {},
        "is_eager": False,
        "retries": 0,
        "ignore_result": True,
        **given,
    }
    build_tracer(task, called, app=app)(ticket.task_id, args, {}, request)
    # a message for another task is of a store that was put back, unless the body replaced itself
    is_of_this_task = task == "pay" or bool(given.get("replaced_task_nesting"))
    assert app.durable.runtime.store.outcomes.was_recorded(ticket, "victim") is (
        is_ours and is_of_this_task
    )


@pytest.mark.parametrize("message", MESSAGES)
def test_a_worker_holds_and_frees_what_is_ours_only(app: Any, message: str) -> None:
    from celery.worker.request import Request as PlainRequest

    from celery_durable.worker.request import durable_request

    (given, is_ours), ticket = MESSAGES[message], ticket_in(app)
    given = {**given, **(given.get("headers") or {})}
    whole = {"id": ticket.task_id, "task": "pay", "lang": "py", **given}
    message_of_broker = SimpleNamespace(
        headers=whole,
        properties={},
        payload=[[], {}, {}],
        body=b"[[],{},{}]",
        content_type="application/json",
        delivery_info={},
        content_encoding="utf-8",
        decode=lambda: [[], {}, {}],
        delivery_tag=1,
    )
    request = durable_request(PlainRequest)(
        message_of_broker, app=app, headers=whole, task=app.tasks["pay"]
    )
    assert (request.durable_ticket == ticket) is is_ours


def test_an_operator_may_revoke_an_activity_by_its_id(app: Any) -> None:
    ticket = ticket_in(app)
    # as Celery's remote control does
    app.backend.mark_as_revoked(ticket.task_id, "revoked", store_result=True)
    app.durable.runtime.runner.run("victim")
    assert isinstance(app.durable.get("victim").failure, TaskRevokedError)


# -- names of tasks --------------------------------------------------------------------------------


def test_an_orchestrator_that_was_sent_as_an_activity_fails_the_call_in_words(
    new_app: Callable[..., Any],
) -> None:
    """The process that took the turn did not know it; the one that gets the message does."""
    app = new_app(durable_inline_turns=False)

    @app.durable.orchestrator(name="parent", shared=False)
    async def parent(ctx: Any) -> Any:
        return await ctx.call(app.signature("child"))

    run = app.durable.start(parent.s(), instance_id="i")
    app.durable.runtime.runner.run("i")
    ticket = ticket_in(app)

    @app.durable.orchestrator(name="child", shared=False)
    async def child(ctx: Any) -> str:
        return "child"

    request = {
        "id": ticket.task_id,
        "task": "child",
        "called_directly": False,
        "delivery_info": {},
        "durable": OURS,
    }
    build_tracer("child", child, app=app)(ticket.task_id, (), {}, request)
    app.durable.runtime.runner.run("i")
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert all(word in str(run.failure) for word in ("child", "import the module", "rewind()")), (
        run.failure
    )
    run.rewind()
    take_turn = app.durable.runtime.runner.run
    take_turn("i")
    take_turn(run.children()[0].id)
    take_turn("i")
    assert run.refresh().output == "child"
