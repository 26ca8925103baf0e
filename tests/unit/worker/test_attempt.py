"""One run of an activity's body: what Celery hears of it, and what the store has by then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import soft_timeout_sighandler
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry

from celery_durable import RetryPolicy, durable_context
from celery_durable.app import compose
from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.core.times import EPOCH
from celery_durable.engine.activity_limits import LIMITED
from celery_durable.engine.at_most_once import OutcomeRefused
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import (
    ActivityError,
    ActivityInterrupted,
    ConfigurationError,
    PayloadError,
    StoreError,
)
from celery_durable.store import open_store
from celery_durable.worker.attempt import Attempt
from celery_durable.worker.deferral import Deferred
from celery_durable.worker.headers import MessageHeader
from tests.storeparts import WrappedStore


class Gone(BaseException):
    """The body ends by what no rule of Celery knows."""


class Scene:
    """An orchestration that waits for one activity, whose message is dealt with by hand."""

    def __init__(self, new_app: Any, monkeypatch: pytest.MonkeyPatch, **conf: Any) -> None:
        monkeypatch.setattr(
            compose, "open_store", lambda settings: WrappedStore(open_store(settings), self.around)
        )
        #: What happens around each call to the store during an attempt: number, name, the call.
        self.disturb: Callable[[int, str, Callable[[], Any]], Any] | None = None
        self.calls: list[str] = []
        #: What the body does, and how often it has begun.
        self.body: Callable[[], Any] = lambda: 5
        self.runs = 0
        #: The contexts of the orchestrator's code that has begun, and how many have ended.
        self.begun: list[Any] = []
        self.ended = 0
        self.app = new_app(durable_store_patience=0, durable_start_inline=False, **conf)
        durable = self.app.durable

        def charge() -> Any:
            return self._charge()

        self.charge = self.app.task(charge, name="charge")
        self.once = self.app.task(charge, name="once", at_most_once=True)

        def pay(session: Any) -> Any:
            return self._charge()

        self.pay = self.app.task(durable.transactional(pay), name="pay")
        self.flow = durable.orchestrator(self._flow, name="flow", shared=False)
        self.app.finalize()
        self.runtime = durable.runtime
        self.runtime.publisher.queues = frozenset({"celery"})

    def _charge(self) -> Any:
        self.runs += 1
        return self.body()

    async def _flow(self, ctx: Any, name: str) -> Any:
        self.begun.append(ctx)
        try:
            return await ctx.call(self.app.tasks[name].s())
        finally:
            self.ended += 1

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if self.disturb is None:
            return method
        disturb = self.disturb

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return disturb(len(self.calls), name, lambda: method(*args, **kwargs))

        return call

    def start(self, task: Any) -> None:
        """Start an orchestration, and bring it to where it waits for this activity."""
        self.id, self.task = f"i{len(self.begun)}", task
        self.run = self.app.durable.start(self.flow.s(task.name), instance_id=self.id)
        self.runtime.runner.run(self.id)
        found = self.runtime.store.turns.load(self.id, None).instance.execution
        self.ticket = ActivityAttemptId(found, 1, 1)

    def perform(
        self,
        *,
        task: Any = None,
        header: MessageHeader | None = None,
        is_redelivered: bool = False,
        **request: Any,
    ) -> Any:
        """Deal with a message as Celery's tracer does; return what it is told."""
        task = task or self.task
        header = header or MessageHeader("activity", self.runtime.store.id[:12])
        headers = {"durable": header.to_wire(), **request.pop("headers", {})}
        self.context = Context(
            id=self.ticket.task_id,
            called_directly=False,
            hostname="h",
            headers=headers,
            delivery_info={"redelivered": is_redelivered},
            **{"retries": 0, **request},
        )
        self.calls.clear()
        task.request_stack.push(self.context)
        try:
            self.attempt = Attempt(self.runtime, task, self.ticket, header)
            return self.attempt.run(task.run, (), {})
        except BaseException as error:
            return error
        finally:
            task.request_stack.pop()

    @property
    def is_recorded(self) -> bool:
        return self.runtime.store.attempts.begin(self.ticket, None) is None

    @property
    def is_settled(self) -> bool:
        """Whether no run of it is wanted any more."""
        return self.is_recorded or self.runtime.store.outcomes.is_deferred(self.ticket)

    @property
    def is_marked(self) -> bool:
        return bool(getattr(self.context, "durable_is_recorded", False))

    def finish(self) -> Any:
        """Take the turns that are due; return the output, or None while there is none."""
        self.disturb = None
        self.runtime.runner.run(self.id)
        return self.run.refresh().output if self.status is RuntimeStatus.COMPLETED else None

    @property
    def status(self) -> RuntimeStatus:
        found: RuntimeStatus = self.runtime.client.fetch(self.id).status
        return found

    def events(self) -> list[EventKind]:
        return [event.kind for event in self.runtime.client.history(self.id)]

    def lost_machines(self) -> int:
        """Return of how many executions the code is in memory, and nothing knows it."""
        kept = [self.runtime.live.take_instance(f"i{n}") for n in range(len(self.begun))]
        for each in kept:
            self.runtime.live.put(each)
        return len(self.begun) - self.ended - sum(each is not None for each in kept)


@pytest.fixture
def make(new_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make_one(task: str = "charge", **conf: Any) -> Scene:
        scene = Scene(new_app, monkeypatch, **conf)
        made.append(scene)
        scene.start(getattr(scene, task))
        return scene

    yield make_one
    for scene in made:
        scene.runtime.live.clear()


@pytest.fixture
def scene(make: Callable[..., Scene]) -> Scene:
    return make()


def raises(error: BaseException) -> Callable[[], Any]:
    def body() -> Any:
        raise error

    return body


def defers() -> str:
    return durable_context().defer()


# -- each end of a body ----------------------------------------------------------------------------

#: Name -> the body, what Celery is told, whether the attempt has its outcome then.
ENDS: dict[str, tuple[Callable[[], Any], type, bool]] = {
    "result": (lambda: 5, int, True),
    "failure": (raises(LookupError("no")), LookupError, True),
    "no JSON": (object, PayloadError, True),
    "an exit": (raises(SystemExit("no")), ActivityError, True),
    "a retry": (raises(Retry(when=0)), Retry, False),
    "put back": (raises(Reject("later", requeue=True)), Reject, False),
    "rejected": (raises(Reject("no")), Reject, True),
    "ignored": (raises(Ignore()), Ignore, True),
    "replaced": (raises(Ignore("Replaced by new task")), Ignore, False),
    "deferred": (defers, Deferred, False),
    "deferred in vain": (lambda: raises(LookupError(defers()))(), LookupError, True),
    "stopped": (raises(KeyboardInterrupt()), KeyboardInterrupt, False),
}
TASKS = ["charge", "once", "pay"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("end", ENDS)
def test_celery_hears_of_an_end_and_the_store_has_it(
    make: Callable[..., Scene], task: str, end: str
) -> None:
    scene = make(task)
    scene.body, told, has_outcome = ENDS[end]
    heard = scene.perform()
    assert type(heard) is told, heard
    is_interrupted = task == "once" and end in ("put back", "stopped")
    assert scene.is_recorded == (has_outcome or is_interrupted)
    assert scene.is_marked == has_outcome
    assert scene.lost_machines() == 0
    status = scene.finish() or scene.status
    assert status == (5 if end == "result" else "FAILED" if scene.is_recorded else "RUNNING")
    if is_interrupted:
        assert isinstance(scene.run.failure, ActivityInterrupted)


def fault_at(number: int, *, answers: bool) -> Callable[[int, str, Callable[[], Any]], Any]:
    """Let the store fail at its n-th call; with ``answers`` only what it answers is lost."""

    def disturb(place: int, name: str, call: Callable[[], Any]) -> Any:
        if place != number:
            return call()
        if answers:
            call()
        raise StoreError("down")

    return disturb


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answers", [False, True])
def test_whatever_call_to_the_store_fails_celery_hears_of_no_outcome_that_the_store_lacks(
    make: Callable[..., Scene], task: str, end: str, answers: bool
) -> None:
    scene, number, is_over = make(task), 0, False
    scene.body, told, has_outcome = ENDS[end]
    while not is_over:
        number += 1
        scene.start(scene.task)
        scene.runs, scene.disturb = 0, fault_at(number, answers=answers)
        heard = scene.perform()
        scene.disturb, is_over = None, len(scene.calls) < number
        where = f"{number}: {scene.calls[number - 1 :]}, told {heard!r}"
        assert scene.lost_machines() == 0, where
        assert scene.runs <= 1, where
        if isinstance(heard, StoreError):  # it may leave the body, as any exception
            assert scene.is_recorded, where
        if type(heard) is told and has_outcome and told not in (Ignore, Reject):
            assert scene.is_recorded, where
        if scene.is_marked:
            assert scene.is_recorded, where
        if isinstance(heard, Reject) and heard.requeue and end != "put back":
            # delivered again, it comes to the end that it has without the fault
            is_settled, runs = scene.is_settled, scene.runs
            assert type(scene.perform(is_redelivered=True)) is (Ignore if is_settled else told), (
                where
            )
            assert scene.runs == runs if is_settled else scene.runs == runs + 1, where
        if task == "once":
            scene.perform(is_redelivered=True)
            assert scene.runs <= (2 if end in ("a retry", "replaced") else 1), where
        assert scene.lost_machines() == 0, where
        status = scene.finish() or scene.status
        if end == "result" and task != "once":
            assert status == 5, where


def test_a_soft_limit_ends_the_body_alone(make: Callable[..., Scene]) -> None:
    """It may strike at every call to the store: before the body it ends that as it begins, and
    after the body it is forgotten.
    """
    scene, number, was = make(), 0, signal.signal(signal.SIGUSR1, soft_timeout_sighandler)
    try:
        while number <= len(scene.calls):
            number += 1
            scene.start(scene.task)
            scene.runs, scene.disturb = 0, striking(number)
            heard = scene.perform()
            scene.disturb = None
            is_before = number == 1
            assert type(heard) is (SoftTimeLimitExceeded if is_before else int), scene.calls
            assert scene.is_recorded and scene.lost_machines() == 0
            assert scene.runs == (0 if is_before else 1)
    finally:
        signal.signal(signal.SIGUSR1, was)


def striking(number: int) -> Callable[[int, str, Callable[[], Any]], Any]:
    def disturb(place: int, name: str, call: Callable[[], Any]) -> Any:
        if place == number:
            os.kill(os.getpid(), signal.SIGUSR1)
        return call()

    return disturb


# -- whether it may begin --------------------------------------------------------------------------


def begun(scene: Scene) -> list[str]:
    return [name for name in scene.calls if name.startswith("begin")]


def counting(place: int, name: str, call: Callable[[], Any]) -> Any:
    return call()


@pytest.mark.parametrize("request_of", [{}, {"retries": 1}, {"replaced_task_nesting": 1}])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_pause_holds_what_has_not_begun(
    scene: Scene, request_of: dict[str, Any], is_paused: bool
) -> None:
    if is_paused:
        scene.app.durable.pause(task="charge", reason="no bank")
        scene.runtime.runner.switches.refresh()
    heard = scene.perform(**request_of)
    is_held = is_paused and not request_of
    assert (type(heard), scene.runs) == ((Ignore, 0) if is_held else (int, 1))
    assert scene.lost_machines() == 0


def test_a_message_of_another_store_is_put_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    heard = scene.perform(header=MessageHeader("activity", "another"))
    assert isinstance(heard, Reject) and heard.requeue
    assert (scene.runs, scene.lost_machines()) == (0, 0)


def test_a_message_for_another_task_frees_what_it_claimed(scene: Scene) -> None:
    assert isinstance(scene.perform(task=scene.pay), Ignore)
    assert (scene.runs, scene.lost_machines()) == (0, 0)
    assert scene.perform() == 5


def test_what_is_not_wanted_any_more_does_not_run(scene: Scene) -> None:
    scene.runtime.client.cancel("i0", "no more")
    scene.runtime.runner.run("i0")
    assert isinstance(scene.perform(), Ignore)
    assert (scene.runs, scene.is_marked) == (0, False)


def test_a_store_of_a_later_release_puts_the_message_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturb(place: int, name: str, call: Callable[[], Any]) -> Any:
        raise ConfigurationError("the tables are of another release", needed="9")

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    scene.disturb = disturb
    heard = scene.perform()
    assert isinstance(heard, Reject) and heard.requeue
    assert (scene.runs, scene.lost_machines()) == (0, 0)


@pytest.mark.parametrize("task", ["charge", "once"])
@pytest.mark.parametrize("takes_turns", [True, False])
def test_an_overdue_turn_is_taken_before_the_body(
    make: Callable[..., Scene], task: str, takes_turns: bool
) -> None:
    """Not before one that runs at most once: its mark is set by then."""
    scene = make(task, durable_inline_turns=takes_turns)
    seen: list[bool] = []
    scene.body = lambda: seen.append(scene.runtime.store.turns.has_untaken("i0"))

    def disturb(place: int, name: str, call: Callable[[], Any]) -> Any:
        found = call()
        if name == "begin":
            found.wants_turn = True
        return found

    scene.runtime.worker_id = "w"
    scene.runtime.store.workers.heartbeat("w", "host")
    scene.runtime.client.raise_event("i0", "paid", None, None)
    scene.disturb = disturb
    assert scene.perform() is None
    is_taken = task == "charge" and takes_turns
    assert seen == [not is_taken]
    assert begun(scene) == ["begin", "begin"] if is_taken else begun(scene)[0] == "begin"
    assert scene.lost_machines() == 0


# -- how it is recorded ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "calls"),
    [
        ("charge", ["begin", "commit"]),
        ("once", ["begin", "begin_once", "record", "load", "commit"]),
        ("pay", ["begin", "transact_with_session", "load", "commit"]),
    ],
)
def test_an_outcome_that_may_be_had_again_shares_its_commit_with_the_turn(
    make: Callable[..., Scene], task: str, calls: list[str]
) -> None:
    """The others are recorded first: by themselves, or with the rows of the body."""
    scene = make(task)
    scene.disturb = counting
    assert scene.perform() == 5
    assert scene.calls == calls
    assert scene.status is RuntimeStatus.COMPLETED


def test_the_rows_of_a_body_whose_outcome_is_not_wanted_are_no_failure(
    make: Callable[..., Scene],
) -> None:
    scene = make("pay")

    def refused(place: int, name: str, call: Callable[[], Any]) -> Any:
        if name == "transact_with_session":
            raise OutcomeRefused
        return call()

    scene.disturb = refused
    assert type(scene.perform()) is Ignore
    assert not scene.is_recorded and not scene.is_marked and scene.lost_machines() == 0


# -- the turn that follows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "ran", "is_taken"),
    [
        ({}, 1e6, True),
        ({"timelimit": [10, None]}, 7, True),
        ({"timelimit": [10, None]}, 9, False),
        ({"timelimit": [None, 1]}, 9, True),
        ({"task": 10}, 9, False),
        ({"app": 10}, 9, False),
        ({"task": 10, "app": 100}, 9, False),
        ({"timelimit": [100, None], "task": 10, "app": 10}, 9, True),
    ],
)
def test_a_turn_follows_here_only_in_time_before_the_hard_limit(
    scene: Scene, limits: dict[str, Any], ran: float, is_taken: bool
) -> None:
    """Of three limits the nearest to the message counts."""

    def body() -> int:
        scene.attempt.began -= ran
        return 5

    scene.body = body
    scene.charge.time_limit = limits.pop("task", None)
    scene.app.conf.task_time_limit = limits.pop("app", None)
    assert scene.perform(**limits) == 5
    assert scene.status is (RuntimeStatus.COMPLETED if is_taken else RuntimeStatus.RUNNING)
    assert scene.finish() == 5


@pytest.mark.parametrize("way", ["settings", "queue", "copy", "redelivered"])
def test_a_turn_is_left_to_its_message_where_it_may_not_be_taken(
    make: Callable[..., Scene], way: str
) -> None:
    scene = make(durable_inline_turns=way != "settings")
    if way == "queue":
        scene.runtime.publisher.queues = frozenset({"another"})
    header = MessageHeader("activity", None, tries=int(way == "copy"))
    assert scene.perform(header=header, is_redelivered=way == "redelivered") == 5
    assert scene.is_recorded and scene.status is RuntimeStatus.RUNNING
    assert (scene.attempt.is_copy, scene.finish()) == (way in ("copy", "redelivered"), 5)


# -- what the body knows ---------------------------------------------------------------------------


@pytest.mark.parametrize(("headers", "key"), [({}, "1"), ({"durable_redo": 2}, "1-2")])
def test_a_body_knows_whose_attempt_it_is(scene: Scene, headers: dict[str, Any], key: str) -> None:
    seen: list[Any] = []
    scene.body = lambda: seen.append(durable_context())
    scene.perform(headers=headers)
    [context] = seen
    assert (context.instance_id, context.attempt) == ("i0", 1)
    assert context.idempotency_key == f"{scene.ticket.execution}-{key}"
    assert (context.deadline, context.details) == (None, None)
    assert durable_context() is None


def test_a_body_finds_what_the_last_heartbeat_has_left_and_its_deadline(scene: Scene) -> None:
    def disturb(place: int, name: str, call: Callable[[], Any]) -> Any:
        found = call()
        if name == "begin":
            found.deadline_at = 1_500_000
        return found

    seen: list[Any] = []

    def body() -> None:
        seen.append(durable_context())
        durable_context().heartbeat([7])
        raise KeyboardInterrupt

    scene.body, scene.disturb = body, disturb
    for _ in range(2):
        scene.perform()
    assert [each.details for each in seen] == [None, [7]]
    assert {each.deadline for each in seen} == {EPOCH + timedelta(seconds=1.5)}


class Language:
    """A value that travels."""

    key = "language"
    value = ""

    def capture(self) -> str:
        return "de"

    @contextmanager
    def restore(self, value: str) -> Iterator[None]:
        self.value = value
        yield
        self.value = ""


def test_a_body_runs_with_the_values_of_the_start(make: Callable[..., Scene]) -> None:
    scene = make()
    language = Language()
    scene.app.durable.propagate(language)
    scene.start(scene.charge)
    scene.body = lambda: [language.value, dict(durable_context().context)]
    assert scene.perform() == ["de", {"language": "de"}]
    assert language.value == ""


# -- what else follows -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_limited", [False, True])
def test_an_end_lets_others_in_where_the_attempt_had_slots(
    scene: Scene, end: str, is_limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted: list[bool] = []
    monkeypatch.setattr(
        type(scene.runtime.runner.dispatcher),
        "admit",
        lambda _, *, is_likely: admitted.append(is_likely),
    )
    scene.body, told, has_outcome = ENDS[end]
    scene.perform(headers={LIMITED: True} if is_limited else {})
    is_end = has_outcome and end not in ("rejected", "ignored")
    assert admitted == ([False] if is_limited and is_end else [])


def test_others_that_could_not_be_let_in_are_left_to_recovery(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(scene.runtime.runner.dispatcher), "admit", None)
    assert scene.perform(headers={LIMITED: True}) == 5
    assert "is left to recovery" in caplog.text


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("end", ["result", "failure"])
def test_a_failure_counts_for_its_breaker_unless_it_came_too_late(
    scene: Scene, is_late: bool, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    monkeypatch.setattr(
        type(scene.runtime.runner.breakers),
        "note_failure",
        lambda _, name, error: noted.append(f"{name} {error}"),
    )

    def body() -> Any:
        if is_late:
            scene.runtime.client.cancel("i0", "no more")
            scene.runtime.runner.run("i0")
        return ENDS[end][0]()

    scene.body = body
    assert type(scene.perform()) is ENDS[end][1]
    assert noted == (["charge no"] if end == "failure" and not is_late else [])
    assert scene.lost_machines() == 0


@pytest.mark.parametrize(("most", "is_called"), [(1, True), (3, False)])
def test_errbacks_are_called_with_the_last_failure_alone(
    scene: Scene, most: int, is_called: bool
) -> None:
    scene.body = raises(LookupError("no"))
    terms = RetryPolicy(max_attempts=most, first_interval=9).terms(1, 0, lambda: 0.5)
    scene.perform(errbacks=["tell"], headers={"durable_retry": terms})
    assert bool(scene.context.errbacks) is is_called


def test_no_message_of_an_attempt_inherits_that_an_earlier_run_has_recorded(scene: Scene) -> None:
    """It would be taken for the record of its own outcome."""
    marks: list[bool] = []
    ends: list[Callable[[], Any]] = [
        lambda: 5,
        lambda: scene.charge.retry(countdown=0),
        lambda: scene.charge.replace(scene.charge.s()),
        raises(LookupError("no")),
    ]

    def body() -> Any:
        marks.append(scene.is_marked)
        return ends[len(marks) - 1]()

    scene.body = body
    assert scene.perform() == 5 and scene.is_marked
    scene.start(scene.charge)
    sent: dict[str, Any] = {}
    for told in (Retry, Ignore, LookupError):
        drained(scene.app)
        assert type(scene.perform(**sent)) is told
        if told is not LookupError:
            sent = {k: v for k, v in drained(scene.app)[-1].headers.items() if k not in OURS}
            assert "durable_is_recorded" not in sent
    assert marks == [False] * 4
    assert scene.is_recorded and scene.is_marked


#: Headers that the scene gives each message itself.
OURS = {"id", "task", "durable", "hostname", "delivery_info"}


def drained(app: Any) -> list[Any]:
    """Take all messages out of the queue."""
    with app.connection_for_read() as connection:
        get = connection.default_channel.basic_get
        return list(iter(lambda: get("celery", no_ack=True), None))
