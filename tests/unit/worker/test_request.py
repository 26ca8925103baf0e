"""How the main process of a worker holds messages: what it acknowledges, when, and how often."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Task
from celery.exceptions import Ignore, Reject, Retry, Terminated, WorkerLostError
from celery.utils.imports import symbol_by_name
from celery.worker import state as worker_state
from celery.worker.control import Panel
from celery.worker.request import Request, create_request_cls

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import StoreError
from celery_durable.worker.headers import ticket_in
from celery_durable.worker.request import (
    DurableRequestMixin,
    durable_request,
    hold_messages,
    hold_messages_of,
    received,
    watch_revoke,
)

TICKET = ActivityAttemptId("e" * 20, 1, 1)
HEADERS: dict[str, Any] = {
    "ordinary": None,
    "activity": {"n": 0},
    "turn": {"t": "turn", "due": 7},
    "finish": {"t": "finish", "x": "e" * 20},
    "later release": {"t": "parade"},
}


class OwnRequest(Request):  # type: ignore[misc]
    """The request class of an application."""


class Scene:
    """An application, and a pool that runs nothing."""

    def __init__(self, new_app: Any) -> None:
        self.app = new_app(result_backend="cache+memory://", durable_start_inline=False)
        self.early = self.app.task(early, name="early")
        self.late = self.app.task(early, name="late", acks_late=True)

        async def flow(ctx: Any) -> None:
            await ctx.call(self.early.s())

        self.flow = self.app.durable.orchestrator(flow, name="flow", shared=False)
        self.app.finalize()
        self.runtime = self.app.durable.runtime
        self.pool = SimpleNamespace(apply_async=lambda *_, **__: None, terminate_job=list)
        self.log: list[str] = []
        #: What is done as a message is acknowledged.
        self.at_answer: Callable[[], object] = list

    def request(
        self, task: Any, id_: str, header: Any = None, base: Any = None, **headers: Any
    ) -> Any:
        """Receive a message as a worker does; ``base`` is a request class in place of the task's.

        What it answers the broker is in the log.
        """
        whole = {"id": id_, "task": task.name, "lang": "py", "retries": 0, **headers}
        if header is not None:
            whole["durable"] = header
        message = SimpleNamespace(
            headers=whole,
            properties={},
            payload=[[], {}, {}],
            body=b"[[],{},{}]",
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
            delivery_tag=1,
            channel="channel",
        )

        def answers(word: str) -> Callable[..., None]:
            def answer(*_: Any) -> None:
                self.log.append(word)
                self.at_answer()

            return answer

        cls = create_request_cls(
            symbol_by_name(base or task.Request), task, self.pool, "h", None, app=self.app
        )
        return cls(
            message,
            app=self.app,
            task=task,
            hostname="h",
            on_ack=answers("ack"),
            on_reject=lambda *args: answers(f"reject {args[-1]}")(),
        )

    def call(self) -> ActivityAttemptId:
        """Start an orchestration that waits for an activity; return whose attempt is due."""
        run = self.app.durable.start(self.flow.s(), instance_id="i")
        self.runtime.runner.run(run.id)
        found = self.runtime.store.turns.load("i", None).instance.execution
        return ActivityAttemptId(found, 1, 1)

    def is_recorded(self, ticket: ActivityAttemptId) -> bool:
        found: bool = self.runtime.store.outcomes.was_recorded(ticket, "i")
        return found


def early() -> None: ...


@pytest.fixture
def scene(new_app: Any) -> Iterator[Scene]:
    yield Scene(new_app)
    worker_state.revoked.clear()


def raised(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:
        return ExceptionInfo()


# -- which messages are ours -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("id_", [TICKET.task_id, "order-7"])
@pytest.mark.parametrize("nesting", [0, 1])
def test_a_message_is_known_by_its_header_and_an_attempt_by_its_id_too(
    scene: Scene, kind: str, id_: str, nesting: int
) -> None:
    request = scene.request(scene.early, id_, HEADERS[kind], replaced_task_nesting=nesting)
    is_attempt = kind == "activity" or (kind == "ordinary" and nesting)
    assert request.durable_ticket == (TICKET if is_attempt and id_ != "order-7" else None)
    assert request.durable_ticket == ticket_in(id_, request.durable_header, nesting)
    assert (request in received) == (
        request.durable_ticket is not None or kind in ("turn", "finish")
    )


def test_a_message_says_what_it_is_of_and_from_when_on_it_counts(scene: Scene) -> None:
    def said(id_: str, kind: str) -> Any:
        return tuple(scene.request(scene.early, id_, HEADERS[kind]).durable_message())

    assert said("i", "turn") == ("i", None, 7)
    assert said("i", "finish") == ("i", ActivityAttemptId("e" * 20, 0, 0), 0)
    assert said(TICKET.task_id, "activity") == (TICKET.task_id, TICKET, 0)
    assert said("i", "ordinary") == ("i", None, 0)


def test_a_message_has_come_over_its_own_channel_and_over_any_where_there_is_none(
    scene: Scene,
) -> None:
    request = scene.request(scene.early, "i", HEADERS["turn"])
    assert request.durable_came_over(None) and request.durable_came_over("channel")
    assert not request.durable_came_over("another")


def test_a_request_is_known_only_as_long_as_it_is_in_use(scene: Scene) -> None:
    request = scene.request(scene.early, "some turn", HEADERS["turn"])
    assert "some turn" in {each.id for each in received}
    del request
    gc.collect()
    assert "some turn" not in {each.id for each in received}


# -- when they are acknowledged --------------------------------------------------------------------

STEPS: dict[str, Callable[[Any], object]] = {
    "accepted": lambda request: request.on_accepted(1, time.monotonic()),
    "soft limit": lambda request: request.on_timeout(True, 1),
    "hard limit": lambda request: request.on_timeout(False, 1),
    "success": lambda request: request.on_success((0, None, 0.1)),
    "failure": lambda request: request.on_success((1, raised(ValueError()), 0.1)),
    "lost": lambda request: request.on_failure(raised(WorkerLostError("gone"))),
    "retry": lambda request: request.on_success((1, raised(Retry(exc=ValueError())), 0.1)),
    "retried": lambda request: request.on_retry(raised(Retry(exc=ValueError()))),
    "ignored": lambda request: request.on_success((1, raised(Ignore()), 0.1)),
    "put back": lambda request: request.on_success((1, raised(Reject(requeue=True)), 0.1)),
}
#: After these the body still runs, or may not have begun.
OPEN = {"accepted", "soft limit"}
SEQUENCES = [each for length in (1, 2, 3) for each in itertools.permutations(STEPS, length)]


def take(request: Any, steps: tuple[str, ...]) -> None:
    for step in steps:
        STEPS[step](request)


def test_an_activity_is_answered_once_and_not_before_its_end(scene: Scene) -> None:
    for steps in SEQUENCES:
        request = scene.request(scene.early, TICKET.task_id, HEADERS["activity"])
        take(request, steps)
        found, scene.log = scene.log, []
        if set(steps) <= OPEN:
            assert found == [], steps
            request.acknowledge_held()
            request.acknowledge_held()
            assert scene.log == ["ack"], steps
            scene.log = []
        else:
            first = next(step for step in steps if step not in OPEN)
            assert found == ["reject True" if first == "put back" else "ack"], steps


def test_an_activity_is_answered_once_where_the_store_knew_it_before_its_end(scene: Scene) -> None:
    for steps in SEQUENCES:
        request = scene.request(scene.early, TICKET.task_id, HEADERS["activity"])
        request.on_accepted(1, time.monotonic())
        request.acknowledge_held()
        take(request, steps)
        assert scene.log == ["ack"], steps
        scene.log = []


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("late", "activity"),
        ("late", "turn"),
        *(("early", each) for each in HEADERS if each != "activity"),
    ],
)
def test_all_else_is_answered_as_celery_does(scene: Scene, task: str, kind: str) -> None:
    """So is an activity whose task says itself when it is acknowledged."""
    number = itertools.count(1)
    for steps in SEQUENCES:
        found = []
        for base in (None, Request):
            id_ = ActivityAttemptId("e" * 20, next(number), 1).task_id
            header = HEADERS[kind] if base is None else None
            request = scene.request(getattr(scene, task), id_, header, base)
            take(request, steps)
            if base is None:
                before = len(scene.log)
                request.acknowledge_held()
                assert len(scene.log) == before, steps
            found.append(scene.log)
            scene.log = []
        assert found[0] == found[1], steps


@pytest.mark.parametrize("step", ["hard limit", "lost"])
def test_an_end_that_only_the_main_process_sees_is_recorded_before_it_is_acknowledged(
    scene: Scene, step: str
) -> None:
    ticket = scene.call()
    request = scene.request(scene.early, ticket.task_id, HEADERS["activity"])
    seen: list[bool] = []
    scene.at_answer = lambda: seen.append(scene.is_recorded(ticket))
    take(request, ("accepted", step))
    assert (scene.log, seen) == (["ack"], [True])


@pytest.mark.parametrize("step", ["hard limit", "lost"])
def test_an_end_that_cannot_be_recorded_is_not_acknowledged(
    scene: Scene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StoreError("down")

    request = scene.request(scene.early, TICKET.task_id, HEADERS["activity"])
    monkeypatch.setattr(scene.app.backend, "mark_as_failure", down)
    with pytest.raises(StoreError):
        take(request, ("accepted", step))
    assert scene.log == []
    request.acknowledge()
    assert scene.log == ["ack"]


def test_what_the_pool_has_taken_badly_asks_for_no_acknowledgement(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = scene.request(scene.early, TICKET.task_id, HEADERS["activity"])
    with monkeypatch.context() as patched:
        patched.setattr(request, "_terminate_on_ack", 5)  # no pair: Celery fails after it asked
        with pytest.raises(TypeError):
            request.on_accepted(1, time.monotonic())
    request.on_timeout(True, 1)
    assert scene.log == []


@pytest.mark.parametrize("step", ["lost", "failure"])
def test_a_cold_shutdown_leaves_activities_to_the_broker(
    scene: Scene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = scene.call()
    request = scene.request(scene.early, ticket.task_id, HEADERS["activity"])
    monkeypatch.setattr(worker_state, "should_terminate", 1)
    take(request, ("accepted", step))
    assert (scene.log, scene.is_recorded(ticket)) == ([], False)


def test_a_cold_shutdown_leaves_all_else_to_celery(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_state, "should_terminate", 1)
    take(scene.request(scene.late, "order-7"), ("accepted", "lost"))
    assert scene.log == ["ack"]


@pytest.mark.parametrize(
    ("is_canceled", "error", "answers"),
    [
        (False, Terminated("15"), ["ack"]),
        (True, Terminated("15"), []),
        (True, Ignore(), ["ack"]),  # Celery acknowledges that by itself
    ],
)
def test_what_was_canceled_with_its_connection_is_not_acknowledged(
    scene: Scene, is_canceled: bool, error: Exception, answers: list[str]
) -> None:
    request = scene.request(scene.early, TICKET.task_id, HEADERS["activity"])
    request.on_accepted(1, time.monotonic())
    if is_canceled:
        request.cancel(SimpleNamespace(terminate_job=lambda *_: None))
    request.on_failure(raised(error))
    assert scene.log == answers


# -- revoked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["turn", "finish"])
def test_a_revoked_turn_is_taken_and_its_orchestration_asked_to_cancel(
    scene: Scene, kind: str
) -> None:
    scene.call()
    request = scene.request(scene.flow, "i", HEADERS[kind])
    worker_state.revoked.add("i")
    assert not request.revoked() and "i" not in worker_state.revoked
    scene.runtime.runner.run("i")
    record = scene.runtime.client.fetch("i")
    assert (record.status, record.reason) == (RuntimeStatus.CANCELED, "revoked")
    assert scene.log == []


def test_a_turn_that_is_not_revoked_cancels_nothing(scene: Scene) -> None:
    scene.call()
    worker_state.revoked.add("another")
    assert not scene.request(scene.flow, "i", HEADERS["turn"]).revoked()
    scene.runtime.runner.run("i")
    assert scene.runtime.client.fetch("i").status is RuntimeStatus.RUNNING
    assert "another" in worker_state.revoked


def test_a_revoked_turn_of_what_cannot_be_canceled_is_taken(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    worker_state.revoked.add("nobody")
    assert not scene.request(scene.flow, "nobody", HEADERS["turn"]).revoked()
    assert "'nobody' was revoked, but could not be asked to cancel" in caplog.text


@pytest.mark.parametrize("kind", ["ordinary", "activity"])
def test_what_is_no_turn_is_revoked_as_ever(scene: Scene, kind: str) -> None:
    request = scene.request(scene.early, TICKET.task_id, HEADERS[kind])
    assert not request.revoked()
    worker_state.revoked.add(TICKET.task_id)
    assert request.revoked() and TICKET.task_id in worker_state.revoked
    assert scene.log == ["ack"]


class Revoking:
    """The remote-control command, above Celery's, which notes what it is given."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[Any] = []
        self.state = SimpleNamespace(app=scene.app)

        def original(state: Any, task_id: Any, terminate: bool = False) -> dict[str, str]:
            """Revoke."""
            self.given.append((task_id, terminate))
            return {"ok": "revoked"}

        monkeypatch.setitem(Panel.data, "revoke", original)
        watch_revoke(scene.app)
        self.command = Panel.data["revoke"]

    def __call__(self, ids: Any, *args: Any, **options: Any) -> Any:
        return self.command(self.state, ids, *args, **options)["ok"]


@pytest.fixture
def revoke(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Revoking:
    return Revoking(scene, monkeypatch)


@pytest.mark.parametrize(
    ("ids", "others"),
    [
        ("i", None),
        (["i"], None),
        ("order-7", ["order-7"]),
        (["order-7", "i", TICKET.task_id], ["order-7", TICKET.task_id]),
        ([], []),
        (None, None),
    ],
)
def test_revoking_cancels_orchestrations_and_leaves_the_rest_to_celery(
    scene: Scene, revoke: Revoking, ids: Any, others: Any
) -> None:
    scene.call()
    is_ours = ids is not None and "i" in ids
    is_left = others is not None or not ids
    said = revoke(ids, terminate=True)
    assert revoke.given == ([(others, True)] if is_left else [])
    assert said == ("revoked" if is_left else "orchestrations asked to cancel: i")
    scene.runtime.runner.run("i")
    status = scene.runtime.client.fetch("i").status
    assert status is (RuntimeStatus.CANCELED if is_ours else RuntimeStatus.RUNNING)


def test_revoking_is_watched_once(scene: Scene, revoke: Revoking) -> None:
    watch_revoke(scene.app)
    assert Panel.data["revoke"] is revoke.command
    assert revoke.command.__doc__ == "Revoke."


def test_where_orchestrations_cannot_be_told_celery_revokes_all(
    scene: Scene,
    revoke: Revoking,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def down(ids: Any) -> None:
        raise StoreError("down")

    monkeypatch.setattr(scene.runtime.store.reads, "turn_addresses", down)
    assert revoke(["i"]) == "revoked"
    assert "cannot tell which of the revoked ids are orchestrations" in caplog.text
    caplog.clear()
    revoke.state.app = SimpleNamespace()
    assert revoke("j") == "revoked" and not caplog.text
    assert revoke.given == [(["i"], False), (["j"], False)]


# -- which classes they have -----------------------------------------------------------------------


def test_every_task_has_a_class_over_its_own_one_and_keeps_it(scene: Scene) -> None:
    owner = scene.app.task(early, name="owner", base=Task, Request=OwnRequest)
    hold_messages(scene.app)
    found = {name: symbol_by_name(task.Request) for name, task in scene.app.tasks.items()}
    assert all(issubclass(cls, DurableRequestMixin) for cls in found.values())
    assert issubclass(found["owner"], OwnRequest)
    assert found["early"].__mro__[1:3] == (DurableRequestMixin, Request)
    hold_messages(scene.app)
    assert {name: task.Request for name, task in scene.app.tasks.items()} == found
    assert owner.Request is found["owner"]


def test_one_class_has_one_durable_class(scene: Scene) -> None:
    assert durable_request(Request) is durable_request("celery.worker.request:Request")
    assert durable_request(OwnRequest) is not durable_request(Request)
    assert durable_request(durable_request(OwnRequest)) is durable_request(OwnRequest)


def test_turns_send_no_events_of_celery_and_other_tasks_as_they_say(scene: Scene) -> None:
    class Loud(Task):  # type: ignore[misc]
        name = "loud"
        send_events = True

    class Flow(Loud):
        name = "loud.flow"
        durable_versions = ()

    loud, orchestrator = Loud(), Flow()
    hold_messages_of(loud)
    hold_messages_of(orchestrator)
    hold_messages_of(orchestrator)
    assert loud.send_events
    assert (orchestrator.send_events, orchestrator.durable_send_events) == (False, True)


@pytest.mark.parametrize("is_once", [False, True])
def test_only_the_body_of_what_runs_at_most_once_asks_for_another_run(is_once: bool) -> None:
    class Pay(Task):  # type: ignore[misc]
        name = "pay"
        at_most_once = is_once
        reject_on_worker_lost = retry_on_worker_lost = True

    task = Pay()
    hold_messages_of(task)
    assert (task.reject_on_worker_lost, task.retry_on_worker_lost) == (not is_once, not is_once)
