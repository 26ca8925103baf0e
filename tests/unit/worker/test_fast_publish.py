"""A message that goes past Celery's publishing is the one that Celery publishes, and goes past
nobody who listens there.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
from celery import Celery, Task, _state, signals
from celery.app.amqp import AMQP
from celery.app.defaults import NAMESPACES, flatten
from celery.app.routes import Router
from celery.backends.base import Backend
from kombu import Exchange, Queue, pools
from kombu.messaging import Producer
from kombu.transport.memory import Channel, Transport

from celery_durable.engine.records import ActivityAttemptId, ActivityRow, TurnAddress
from celery_durable.worker.fast_publish import FastPublisher

#: A value of each setting of Celery that is not its default, and that a message may show. Those of
#: the connection are the pool's.
SETTINGS: dict[str, Any] = {
    "broker_url": "memory://other",
    "broker_read_url": "memory://read",
    "broker_write_url": "memory://write",
    "broker_transport": "memory",
    "broker_transport_options": {"polling_interval": 0.5},
    "broker_connection_timeout": 3,
    "broker_connection_max_retries": 1,
    "broker_failover_strategy": "shuffle",
    "broker_heartbeat": 7,
    "broker_heartbeat_checkrate": 2,
    "broker_login_method": "PLAIN",
    "broker_native_delayed_delivery_queue_type": "classic",
    "broker_pool_limit": 1,
    "broker_pool_acquire_timeout": 5,
    "broker_host": "localhost",
    "broker_port": 1,
    "broker_user": "u",
    "broker_password": "p",
    "broker_vhost": "v",
    "broker_connection_retry_on_startup": True,
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "task_reject_on_worker_lost": True,
    "task_annotations": {"light.add": {"priority": 4, "compression": "bzip2"}},
    "task_compression": "zlib",
    "task_create_missing_queue_type": "quorum",
    "task_create_missing_queue_exchange_type": "topic",
    "task_default_delivery_mode": "transient",
    "task_default_queue": "other",
    "task_default_queue_type": "quorum",
    "task_default_exchange": "other",
    "task_default_exchange_type": "topic",
    "task_default_routing_key": "other.key",
    "task_default_rate_limit": "10/s",
    "task_default_priority": 6,
    "task_protocol": 1,
    "task_publish_retry_policy": {"max_retries": 1},
    "task_queue_max_priority": 9,
    "task_repr_maxlevels": 1,
    "task_queues": [
        Queue("celery", Exchange("e", type="topic"), routing_key="celery"),
        Queue("other"),
    ],
    "task_routes": {"light.*": {"queue": "elsewhere", "priority": 2}},
    "task_serializer": "pickle",
    "task_soft_time_limit": 20,
    "task_time_limit": 30,
    "timezone": "Asia/Kathmandu",
}
_OPTIONS = {
    key: option
    for key, option in flatten(NAMESPACES)
    if key.startswith(("task_", "broker_")) or key in ("timezone", "enable_utc")
}
ARGUMENTS = ([[[[1, {"deep": ["x"]}]]], "text" * 300], {"k": [{"more": 1}]})


class Sender:
    """Sends one and the same activity and turn through the publisher of an app, and tells what the
    broker got.
    """

    def __init__(self, app: Celery) -> None:
        @app.task(name="light.add", typing=False)
        def add(*args: Any, **kwargs: Any) -> None: ...

        @app.durable.orchestrator(name="light.flow")
        async def flow(ctx: Any) -> None: ...

        self.app, self.publisher = app, app.durable.runtime.publisher
        now = app.now()
        app.now = lambda: now

    def activity(self, **options: Any) -> list[dict[str, Any]]:
        signature = (*ARGUMENTS, options)
        row = ActivityRow(
            ActivityAttemptId("e" * 20, 1, 1),
            "i",
            "activity",
            "light.add",
            "",
            None,
            0,
            "root",
            signature,
        )
        failed = self.publisher.publish_activities([row])
        return [{"error": repr(error)} for error in failed.values()] or received()

    def turn(self, **options: Any) -> list[dict[str, Any]]:
        address = TurnAddress("i", "light.flow", None, None)
        assert self.publisher.publish_turn(address, **options)
        return received()

    def timer(self, delay: int = 1_500_000) -> list[dict[str, Any]]:
        return self.turn(delay=delay, due=5)

    def kinds(self) -> list[Callable[[], list[dict[str, Any]]]]:
        return [
            self.activity,
            self.turn,
            self.timer,
            lambda: self.timer(delay=1),
            lambda: self.activity(queue="other"),
            lambda: self.activity(time_limit=9),
            lambda: self.activity(headers={"mine": 1}, ignore_result=False),
            lambda: self.activity(priority=3),
        ]


def received() -> list[dict[str, Any]]:
    """Take what lies in the broker; only the tags of deliveries may differ."""
    found = [
        queue.get(block=False)
        for _, queue in sorted(Channel.queues.items())
        for _ in range(queue.qsize())
    ]
    for message in found:
        message["properties"].pop("delivery_tag")
        message["properties"]["delivery_info"].pop("delivery_tag", None)
    return found


@pytest.fixture(autouse=True)
def empty_broker() -> Iterator[None]:
    for turn in range(2):
        # all apps of one broker share their connections, and what these have declared
        pools.reset()
        Transport.global_state.clear()
        Channel.queues.clear()
        if turn == 0:
            yield


@pytest.fixture
def celerys_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Do something with the light way closed."""

    def do(call: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(FastPublisher, "send", lambda *_: False)
            return call()

    return do


@pytest.fixture
def lights(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each message so far went the light way."""
    seen: list[bool] = []
    send = FastPublisher.send
    monkeypatch.setattr(FastPublisher, "send", lambda *args: seen.append(send(*args)) or seen[-1])
    return seen


def test_ordinary_messages_go_the_light_way(new_app: Any, lights: list[bool]) -> None:
    sender = Sender(new_app())
    for send in sender.kinds():
        send(), send()
    assert lights == [True] * 14 + [False] * 2  # a priority of its own is none of the ordinary


def test_timers_that_the_broker_delays_itself_go_celerys_way(
    new_app: Any, lights: list[bool]
) -> None:
    sender = Sender(new_app(task_default_queue_type="quorum"))
    sender.timer(), sender.turn()
    assert lights == [False, True]


def test_every_setting_has_a_value_here() -> None:
    flipped = {
        key
        for key, option in _OPTIONS.items()
        if isinstance(option.default, bool) and key not in SETTINGS
    }
    known = SETTINGS.keys() | flipped
    assert _OPTIONS.keys() <= known, f"Celery has more settings: {sorted(_OPTIONS.keys() - known)}"


@pytest.mark.sparse(2)
@pytest.mark.parametrize("key", sorted(_OPTIONS))
def test_with_each_setting_messages_are_those_of_celery(
    new_app: Any, celerys_way: Any, key: str
) -> None:
    if key == "task_always_eager":
        return  # below
    value = SETTINGS[key] if key in SETTINGS else not _OPTIONS[key].default
    app = new_app(**{"accept_content": ["json", "pickle"], key: value})
    for number, send in enumerate(Sender(app).kinds()):
        expected = celerys_way(send)
        assert len(expected) == 1, number
        assert send() == expected, "the first"
        assert send() == expected, "a later one"


@pytest.mark.sparse(2)
@pytest.mark.parametrize("key", sorted(_OPTIONS.keys() - {"broker_url"}))
def test_a_setting_that_changes_later_counts_as_it_does_for_celery(
    new_app: Any, celerys_way: Any, key: str
) -> None:
    if key == "task_always_eager":
        return  # below
    sender = Sender(new_app(accept_content=["json", "pickle"]))
    sends = (sender.activity, sender.turn, sender.timer)
    for send in sends:
        send()
    sender.app.conf[key] = SETTINGS[key] if key in SETTINGS else not _OPTIONS[key].default
    for send in sends:
        expected = celerys_way(send)
        assert send() == expected


def test_eager_tasks_that_are_turned_on_later_are_not_sent(new_app: Any) -> None:
    app = new_app()
    ran: list[int] = []

    @app.task(name="light.note")
    def note(n: int) -> None:
        ran.append(n)

    @app.durable.orchestrator(name="light.two")
    async def two(ctx: Any, n: int) -> str:
        await ctx.call(note.s(n))
        return "over"

    durable = app.durable
    runs = [durable.start(two.s(n)) for n in (1, 2)]
    for run in runs:
        durable.runtime.runner.run(run.id)
    assert len(received()) >= 4 and not ran
    app.conf.task_always_eager = True
    assert durable.start(two.s(3)).refresh().output == "over"
    assert (ran, received()) == ([3], [])


# -- those who listen on Celery's way --------------------------------------------------------------

_OWNERS = (Celery, Task, AMQP, Router, Backend, Producer)


def _methods_on_the_way(app: Celery) -> set[str]:
    """Return which methods Celery calls for a message.

    But not what makes a result that nobody is given, or declares again.
    """
    app.tasks["light.add"].apply_async((), task_id="a", root_id="b", parent_id="c")
    seen: set[str] = set()
    owners = {owner.__name__ for owner in _OWNERS}

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname.partition(".")[0] in owners:
            seen.add(frame.f_code.co_qualname)

    sys.setprofile(look)
    try:
        app.tasks["light.add"].apply_async((), task_id="a", root_id="b", parent_id="c")
    finally:
        sys.setprofile(None)
    return {name for name in seen if name.count(".") == 1 and "._" not in name} - {
        "Task.AsyncResult",
        "Producer.maybe_declare",
    }


def test_a_wrapper_of_a_method_on_the_way_sees_every_message(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app()
    sender = Sender(app)
    names = _methods_on_the_way(app)
    assert {
        "Task.apply_async",
        "Celery.send_task",
        "Task.shadow_name",
        "Router.route",
        "Producer.publish",
    } <= names
    owners = {owner.__name__: owner for owner in _OWNERS}
    deaf = []
    for name in sorted(names):
        owner, method = owners[name.partition(".")[0]], name.partition(".")[2]
        function = owner.__dict__.get(method)
        if not callable(function):
            continue  # a property
        sends = [functools.partial(sender.activity, ignore_result=False), sender.turn, sender.timer]
        for send in sends if name != "Backend.on_task_call" else sends[:1]:
            send(), send()
            seen: list[str] = []

            @functools.wraps(function)
            def wrapper(
                *args: Any, _function: Any = function, _seen: list[str] = seen, **options: Any
            ) -> Any:
                _seen.append("called")
                return _function(*args, **options)

            with monkeypatch.context() as patch:
                patch.setattr(owner, method, wrapper)
                forget_protocols(app)
                send(), send()
            forget_protocols(app)
            if len(seen) < 2:
                deaf.append((name, send, seen))
    assert not deaf


def forget_protocols(app: Celery) -> None:
    app.amqp.task_protocols = {1: app.amqp.as_task_v1, 2: app.amqp.as_task_v2}
    app.amqp.__dict__.pop("create_task_message", None)


class Proxy:
    """Stands for a function as ``wrapt`` does: whatever it is asked, the function answers."""

    def __init__(self, function: Any, seen: list[str]) -> None:
        self.__dict__.update(function=function, seen=seen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.function == other)

    def __hash__(self) -> int:
        return hash(self.function)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return Proxy(self.function.__get__(instance, owner), self.seen)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.seen.append("called")
        return self.function(*args, **options)


def _by_signal(signal: Any) -> Callable[..., Any]:
    def install(app: Celery, patch: pytest.MonkeyPatch, seen: list[str]) -> Any:
        def receiver(**_: Any) -> None:
            seen.append("called")

        signal.connect(receiver, weak=False)
        return lambda: signal.disconnect(receiver)

    return install


def _by_proxy(owner: Any, name: str) -> Callable[..., Any]:
    def install(app: Celery, patch: pytest.MonkeyPatch, seen: list[str]) -> None:
        patch.setattr(owner, name, Proxy(owner.__dict__[name], seen))

    return install


def _on(owner: Callable[[Celery], Any], name: str) -> Callable[..., Any]:
    def install(app: Celery, patch: pytest.MonkeyPatch, seen: list[str]) -> None:
        of_app = owner(app)
        patch.setattr(of_app, name, Proxy(getattr(of_app, name), seen), raising=False)

    return install


def _by_router(app: Celery, patch: pytest.MonkeyPatch, seen: list[str]) -> None:
    app.amqp.router.routes.append(lambda *_, **__: seen.append("called"))


LISTENERS: dict[str, Callable[..., Any]] = {
    "before_task_publish": _by_signal(signals.before_task_publish),
    "after_task_publish": _by_signal(signals.after_task_publish),
    "task_sent": _by_signal(signals.task_sent),
    "a proxy of Task.apply_async": _by_proxy(Task, "apply_async"),
    "a proxy of Celery.send_task": _by_proxy(Celery, "send_task"),
    "the app's send_task": _on(lambda app: app, "send_task"),
    "the app's producer_or_acquire": _on(lambda app: app, "producer_or_acquire"),
    "the task's apply_async": _on(lambda app: app.tasks["light.add"], "apply_async"),
    "amqp.send_task_message": _on(lambda app: app.amqp, "send_task_message"),
    "amqp.create_task_message": _on(lambda app: app.amqp, "create_task_message"),
    "a router": _by_router,
}


@pytest.mark.parametrize("name", LISTENERS)
def test_each_listener_hears_every_message(
    new_app: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    app = new_app(task_routes={"other.*": "other"})
    sender, seen = Sender(app), list[str]()
    sender.activity(), sender.activity(), sender.turn(), sender.turn()
    undo = LISTENERS[name](app, monkeypatch, seen)
    try:
        sender.activity(), sender.activity()
        assert len(seen) >= 2
        seen.clear()
        sender.turn(), sender.turn()
        assert len(seen) >= 2 or name in (
            "the task's apply_async",
            "a router",
        )  # asked at the start, with the arguments
    finally:
        if undo is not None:
            undo()
    received()


class Tenants:
    """Gives a message a header, from whichever method it is mixed into."""

    def apply_async(self, *args: Any, headers: Any = None, **options: Any) -> Any:
        return super().apply_async(*args, headers={**(headers or {}), "tenant": "acme"}, **options)  # type: ignore[misc]

    def send_task(self, *args: Any, headers: Any = None, **options: Any) -> Any:
        return super().send_task(*args, headers={**(headers or {}), "tenant": "acme"}, **options)  # type: ignore[misc]


def test_a_header_of_the_applications_own_classes_is_in_every_message(
    tmp_path: Any, sqlite_template: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_durable import Durable

    class OwnTask(Tenants, Task):  # type: ignore[misc]
        abstract = True

    class OwnApp(Tenants, Celery):  # type: ignore[misc]
        pass

    for number, (cls, options) in enumerate([(OwnApp, {}), (Celery, {"task_cls": OwnTask})]):
        app = cls("own", broker="memory://", set_as_current=False, **options)
        app.conf.durable_backend_url = f"sqlite:///{tmp_path}/{number}.db"
        Durable(app)
        shared = set(_state._on_app_finalizers)
        sender = Sender(app)
        messages = [*sender.activity(), *sender.activity(), *sender.turn(), *sender.turn()]
        assert [message["headers"].get("tenant") for message in messages] == ["acme"] * 4
        _state._on_app_finalizers.intersection_update(shared)
        app.durable.runtime.store.database.dispose()
        app.close()


def test_the_functions_are_known_by_the_code_of_this_celery() -> None:
    assert celery.__version__.startswith("5.")
    assert Task.apply_async.__code__.co_qualname == "Task.apply_async"
