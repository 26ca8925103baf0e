"""Whole programs in the shape of Azure's and durabletask's samples, with their imports and
decorators changed.

Each runs in this process, by an app that runs everything at once.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_durable import ConfigurationError, Durable, InvalidState
from celery_durable import azure as df
from celery_durable.azure import client, entities, task, worker


@dataclass
class Line:
    article: str
    count: int


class Grade(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Order:
    customer: str
    lines: list[Line] = field(default_factory=list)
    grade: Grade | None = None
    due: datetime | None = None


@dataclass
class Shipped:
    names: list[str]
    orders: list[Order]


@dataclass
class Approval:
    by: str


class Money:
    """A class that writes and reads itself, as Azure Functions wants it."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @staticmethod
    def to_json(money: Money) -> str:
        return str(money.cents)

    @staticmethod
    def from_json(text: str) -> Money:
        return Money(int(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __hash__(self) -> int:
        return hash(self.cents)


@pytest.fixture
def durable(new_app: Callable[..., Any]) -> Durable:
    """A front door that runs everything at once, in this process."""
    return new_app(task_always_eager=True).durable


@pytest.fixture
def w(durable: Durable) -> worker.TaskHubGrpcWorker:
    return worker.TaskHubGrpcWorker(durable)


@pytest.fixture
def c(durable: Durable) -> client.TaskHubGrpcClient:
    return client.TaskHubGrpcClient(durable)


@pytest.fixture
def app(durable: Durable) -> df.DFApp:
    return df.DFApp(durable, http_auth_level="anonymous")


def run(
    c: client.TaskHubGrpcClient, orchestrator: Any, given: Any = None
) -> client.OrchestrationState:
    id_ = c.schedule_new_orchestration(orchestrator, input=given)
    state = c.wait_for_orchestration_completion(id_, timeout=60)
    assert state is not None
    state.raise_if_failed()
    return state


# -- durabletask -----------------------------------------------------------------------------------


def test_a_sequence(
    w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("sequence")

    def hello(ctx: task.ActivityContext, name: str) -> str:
        return f"Hello {name}!"

    def sequence(
        ctx: task.OrchestrationContext, _: Any
    ) -> Generator[task.Task[Any], Any, list[str]]:
        safely = ctx.create_replay_safe_logger(logger)
        safely.info("begins %s", ctx.instance_id)
        first: str = yield ctx.call_activity(hello, input="Tokyo")
        second: str = yield ctx.call_activity(hello, input="London")
        safely.info("ends")
        return [first, second]

    with w:
        w.add_orchestrator(sequence)
        w.add_activity(hello)
    caplog.set_level(logging.INFO, "sequence")
    state = run(c, sequence)
    assert state.runtime_status is client.OrchestrationStatus.COMPLETED
    assert state.serialized_output == '["Hello Tokyo!", "Hello London!"]'
    assert [each.message for each in caplog.records if each.name == "sequence"] == [
        f"begins {state.instance_id}",
        "ends",
    ]


def test_fan_out_of_typed_orders_with_sub_orchestrations(
    w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient
) -> None:
    @w.add_activity
    def orders(ctx: task.ActivityContext, _: Any) -> list[Order]:
        return [
            Order("ada", [Line("tea", 2), Line("cup", 1)], Grade.HIGH),
            Order("bob", due=datetime(2030, 1, 2)),
        ]

    @w.add_activity
    def pack(ctx: task.ActivityContext, line: Line) -> int:
        assert isinstance(line, Line)
        return line.count

    @w.add_orchestrator
    def ship(ctx: task.OrchestrationContext, order: Order) -> Generator[task.Task[Any], Any, Order]:
        packed: list[task.Task[int]] = [ctx.call_activity(pack, input=line) for line in order.lines]
        counts: list[int] = yield task.when_all(packed)
        assert sum(counts) == sum(line.count for line in order.lines)
        return Order(order.customer.upper(), order.lines, order.grade, order.due)

    @w.add_orchestrator
    def everything(
        ctx: task.OrchestrationContext, _: Any
    ) -> Generator[task.Task[Any], Any, dict[str, Any]]:
        todo: list[Order] = yield ctx.call_activity(orders)
        children = [
            ctx.call_sub_orchestrator("ship", input=each, return_type=Order) for each in todo
        ]
        all_of_them = task.when_all(children)
        shipped: list[Order] = yield all_of_them
        assert all_of_them.get_tasks() == children and all_of_them.pending_tasks == 0
        assert children[0].get_result() is shipped[0]
        return {"names": [each.customer for each in shipped], "orders": shipped}

    state = run(c, everything)
    assert state.get_output()["names"] == ["ADA", "BOB"]
    first, second = state.get_output(Shipped).orders
    assert first == Order("ADA", [Line("tea", 2), Line("cup", 1)], Grade.HIGH)
    assert second.due == datetime(2030, 1, 2)


def test_human_interaction(
    durable: Durable, w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient
) -> None:
    def ask(_: task.ActivityContext, order: Order) -> None:
        assert order.customer == "ada"

    def purchase(
        ctx: task.OrchestrationContext, order: Order
    ) -> Generator[task.Task[Any], Any, str]:
        yield ctx.call_activity(ask, input=order)
        approval = ctx.wait_for_external_event("approved", data_type=Approval)
        timeout = ctx.create_timer(timedelta(hours=24))
        pending: list[task.Task[Any]] = [approval, timeout]
        winner = yield task.when_any(pending)
        assert isinstance(timeout, task.TimerTask) and isinstance(approval, task.CancellableTask)
        if winner == timeout:
            return "cancelled"
        timeout.cancel()
        return f"approved by {approval.get_result().by}"

    w.add_orchestrator(purchase)
    w.add_activity(ask)
    id_ = c.schedule_new_orchestration(
        purchase, input=Order("ada"), instance_id="order-1", tags={"of": "ada"}
    )
    started = c.wait_for_orchestration_start(id_, timeout=60, fetch_payloads=True)
    assert started is not None and started.get_input(Order) == Order("ada")
    with pytest.raises(TimeoutError, match="'order-1' is RUNNING after 0.01 seconds"):
        c.wait_for_orchestration_completion(id_, timeout=0.01)
    c.raise_orchestration_event(id_, "approved", data=Approval("Me"))
    state = c.wait_for_orchestration_completion(id_, timeout=60)
    assert state is not None and state.get_output(str) == "approved by Me"
    assert durable.get(id_).tags == {"of": "ada"}


def test_failures_tell_their_type(w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient) -> None:
    @w.add_activity
    def read(ctx: task.ActivityContext, path: str) -> None:
        raise FileNotFoundError(f"no {path}")

    @w.add_orchestrator
    def orchestrator(
        ctx: task.OrchestrationContext, _: Any
    ) -> Generator[task.Task[Any], Any, list[bool]]:
        called = ctx.call_activity(read, input="x")
        try:
            yield called
        except task.TaskFailedError as e:
            details = e.details
            assert called.is_failed and called.get_exception().details == details
            kinds = [
                OSError,
                "FileNotFoundError",
                "builtins.FileNotFoundError",
                ValueError,
                "OSError",
                "x.FileNotFoundError",
            ]
            return [details.is_caused_by(kind) for kind in kinds]
        return []

    @w.add_orchestrator
    def failing(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, None]:
        yield ctx.call_activity("read", input="y")

    assert run(c, orchestrator).get_output() == [True, True, True, False, False, False]
    with pytest.raises(client.OrchestrationFailedError, match="failed: no y") as caught:
        run(c, failing)
    assert caught.value.failure_details.error_type == "builtins.FileNotFoundError"
    with pytest.raises(TypeError, match="an exception class or its name"):
        caught.value.failure_details.is_caused_by(int)  # type: ignore[arg-type]


class Counter(entities.DurableEntity):
    def set(self, input: int) -> None:
        self.set_state(input)

    def add(self, input: int | None = None) -> int:
        value = self.get_state(int, 0) + (1 if input is None else input)
        self.set_state(value)
        return value

    def get(self) -> int:
        return self.get_state(int, 0)

    def tell(self, other: str) -> None:
        target = entities.EntityInstanceId("counter", other)
        if self.entity_context.entity_id != target:
            self.signal_entity(target, "set", self.get())

    def tell_and_fail(self, other: str) -> None:
        self.tell(other)
        raise ValueError("told too early")

    def start_another(self) -> str:
        return self.schedule_new_orchestration("hello")


def counter(ctx: entities.EntityContext, input: int | None = None) -> int | None:
    """The same as a function."""
    match ctx.operation:
        case "set":
            ctx.set_state(input)
        case "add":
            value = ctx.get_state(int, 0) + (1 if input is None else input)
            ctx.set_state(value)
            return value
        case "get":
            return ctx.get_state(int, 0)
        case "tell":
            target = entities.EntityInstanceId("Counter", str(input))
            if ctx.entity_id != target:
                ctx.signal_entity(target, "set", ctx.get_state(int, 0))
        case "tell_and_fail":
            ctx.signal_entity(
                entities.EntityInstanceId("Counter", str(input)), "set", ctx.get_state(int, 0)
            )
            raise ValueError("told too early")
        case "start_another":
            ctx.schedule_new_orchestration("hello")
        case "delete":
            ctx.set_state(None)
        case other:
            raise AttributeError(f"unknown operation {other}")
    return None


def v1_counter(context: df.DurableEntityContext) -> None:
    """The same for Azure Functions."""
    value = context.get_state(lambda: 0)
    match context.operation_name:
        case "add":
            given = context.get_input()
            value += 1 if given is None else given
        case "set":
            value = context.get_input()
        case "delete":
            context.destruct_on_exit()
            return
        case "get":
            assert (context.entity_name, context.entity_key) == ("Counter", "mine")
        case "fail":
            raise ValueError("no")
    context.set_state(value)
    context.set_result(value)


@pytest.mark.parametrize("code", [Counter, counter, v1_counter], ids=["class", "function", "v1"])
@pytest.mark.parametrize("door", ["worker", "app"])
def test_counters(durable: Durable, c: client.TaskHubGrpcClient, code: Any, door: str) -> None:
    if door == "worker":
        worker.TaskHubGrpcWorker(durable).add_entity(code, name="Counter")
    else:
        assert (
            df.DFApp(durable).entity_trigger(context_name="context", entity_name="Counter")(code)
            is code
        )

    @worker.TaskHubGrpcWorker(durable).add_orchestrator
    def count(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, list[int]]:
        id_ = task.EntityInstanceId("counter", "mine")
        ctx.signal_entity(id_, "set", 5)
        first = yield ctx.call_entity(id_, "add", 2)
        with (yield ctx.lock_entities([id_])) as lock:
            assert isinstance(lock, entities.EntityLock)
            second = yield ctx.call_entity(id_, "add")
            third: int = yield ctx.call_entity(id_, "get", return_type=int)
        return [first, second, third]

    assert run(c, count).get_output() == [7, 8, 8]
    seen = c.get_entity(df.EntityId("Counter", "mine"))
    assert seen is not None and (seen.get_state(int), str(seen.id), seen.get_locked_by()) == (
        8,
        "@Counter@mine",
        None,
    )
    assert [each.get_typed_state() for each in c.get_all_entities()] == [8]
    assert durable.entity("Counter", "mine").state() == {"azure_state": 8}
    c.signal_entity(entities.EntityInstanceId("COUNTER", "mine"), "delete")
    assert c.get_entity(entities.EntityInstanceId("Counter", "mine")) is None
    assert c.get_all_entities() == []
    assert (
        len(c.get_all_entities(client.EntityQuery(include_transient=True, include_state=False)))
        == 1
    )
    assert c.clean_entity_storage() == client.CleanEntityStorageResult(1, 0)


@pytest.mark.parametrize("code", [Counter, counter], ids=["class", "function"])
def test_entities_signal_entities(durable: Durable, c: client.TaskHubGrpcClient, code: Any) -> None:
    w = worker.TaskHubGrpcWorker(durable)
    w.add_entity(code, "Counter")
    mine, parent = (
        entities.EntityInstanceId("Counter", "mine"),
        entities.EntityInstanceId("Counter", "parent"),
    )

    @w.add_orchestrator
    def count(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, list[Any]]:
        yield ctx.call_entity(mine, "add", 3)
        yield ctx.call_entity(mine, "tell", "parent")
        told = yield ctx.call_entity(parent, "get")
        yield ctx.call_entity(mine, "add", 1)
        errors = []
        for operation in ("tell_and_fail", "start_another", "unknown", "_private", "state"):
            try:
                yield ctx.call_entity(
                    mine, operation, "parent" if operation == "tell_and_fail" else None
                )
            except (task.TaskFailedError, AttributeError) as error:
                errors.append(str(error))
        still = yield ctx.call_entity(parent, "get")
        return [told, still, errors]

    told, still, errors = run(c, count).get_output()
    assert (told, still) == (3, 3)
    assert errors[0] == "told too early"
    assert errors[1].startswith(
        "EntityContext.schedule_new_orchestration is not available: an entity starts no"
    )
    assert "unknown" in errors[2]
    assert errors[3] == "'_private' is private: an operation of an entity is a public method"
    assert (
        errors[4]
        == "no operation of an entity can be called 'state': a reference has that; rename it"
    )


def test_signals_for_later(durable: Durable, c: client.TaskHubGrpcClient) -> None:
    w = worker.TaskHubGrpcWorker(durable)
    w.add_entity(Counter)
    later = datetime(2100, 1, 1)

    @w.add_orchestrator
    def plan(ctx: task.OrchestrationContext, _: Any) -> None:
        ctx.signal_entity(task.EntityInstanceId("Counter", "a"), "add", 1, later)

    run(c, plan)
    c.signal_entity(
        task.EntityInstanceId("Counter", "a"), "add", 1, signal_time=later.replace(tzinfo=UTC)
    )
    assert c.get_entity(task.EntityInstanceId("Counter", "a")) is None
    c.signal_entity(
        task.EntityInstanceId("Counter", "a"), "add", 1, signal_time=datetime(2020, 1, 1)
    )
    seen = c.get_entity(task.EntityInstanceId("Counter", "a"))
    assert seen is not None and seen.state == 1


def test_an_entity_that_cannot_be_one_is_refused(durable: Durable) -> None:
    w = worker.TaskHubGrpcWorker(durable)

    class Wrong(entities.DurableEntity):
        def state(self) -> int:
            return 1

    class Plain:
        pass

    with pytest.raises(ConfigurationError, match="entity Wrong: no operation can be called state"):
        w.add_entity(Wrong)
    with pytest.raises(
        TypeError,
        match="Plain is no DurableEntity; a class without that base goes under @durable.entity",
    ):
        w.add_entity(Plain)
    with pytest.raises(TypeError, match="a function or a class of DurableEntity"):
        w.add_entity(5, "five")


# -- durabletask's client --------------------------------------------------------------------------


@pytest.fixture(params=["blocking", "async"])
def call(request: pytest.FixtureRequest, durable: Durable) -> Callable[..., Any]:
    """Call a method of either client."""
    blocking, awaited = client.TaskHubGrpcClient(durable), client.AsyncTaskHubGrpcClient(durable)

    async def awaiting(method: Any, args: Any, kwargs: Any) -> Any:
        async with awaited:
            return await method(*args, **kwargs)

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "blocking":
            with blocking:
                return getattr(blocking, name)(*args, **kwargs)
        return asyncio.run(awaiting(getattr(awaited, name), args, kwargs))

    return call


def test_every_verb_of_the_client(w: worker.TaskHubGrpcWorker, call: Callable[..., Any]) -> None:
    healthy: list[bool] = []

    @w.add_activity
    def work(ctx: task.ActivityContext, _: Any) -> str:
        if not healthy:
            raise OSError("not yet")
        return "worked"

    @w.add_orchestrator
    def waiting(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, str]:
        ctx.set_custom_status({"waits": True})
        yield ctx.wait_for_external_event("go")
        result: str = yield ctx.call_activity(work)
        return result

    status = client.OrchestrationStatus
    call("schedule_new_orchestration", waiting, instance_id="a", input=1)
    call("schedule_new_orchestration", "waiting", instance_id="b", start_at=datetime(2100, 1, 1))
    assert call("get_orchestration_state", "b").runtime_status is status.PENDING
    assert call("get_orchestration_state", "none") is None
    assert call("wait_for_orchestration_start", "none") is None
    call("suspend_orchestration", "a", reason="pause")
    assert (
        call("get_orchestration_state", "a", fetch_payloads=False).runtime_status
        is status.SUSPENDED
    )
    call("resume_orchestration", "a")
    assert call("wait_for_orchestration_start", "a", fetch_payloads=True).get_custom_status() == {
        "waits": True
    }
    call("raise_orchestration_event", "a", "go")
    state = call("wait_for_orchestration_completion", "a", timeout=0)
    assert (state.runtime_status, state.failure_details.message) == (status.FAILED, "not yet")
    healthy.append(True)
    call("rewind_orchestration", "a", reason="mended")
    assert call("wait_for_orchestration_completion", "a").get_output() == "worked"
    assert len(call("get_orchestration_history", "a")) > 3
    fresh = call("restart_orchestration", "a", restart_with_new_instance_id=True)
    assert fresh != "a" and call("restart_orchestration", "a") == "a"
    with pytest.raises(InvalidState):
        call("schedule_new_orchestration", waiting, instance_id="a")
    call("terminate_orchestration", "a", output={"why": 1})
    assert call("get_orchestration_state", "a").get_output() == {"why": 1}
    query = client.OrchestrationQuery(
        runtime_status=[status.TERMINATED], instance_id_prefix="a", fetch_inputs_and_outputs=True
    )
    assert [
        (each.instance_id, each.get_input()) for each in call("get_all_orchestration_states", query)
    ] == [("a", 1)]
    assert len(call("get_all_orchestration_states")) == 3
    assert (
        len(call("get_all_orchestration_states", client.OrchestrationQuery(max_instance_count=2)))
        == 2
    )
    future = client.OrchestrationQuery(created_time_from=datetime(2100, 1, 1))
    assert call("get_all_orchestration_states", future) == []
    assert call("list_instance_ids") == client.Page(["a"], None)
    assert call("list_instance_ids", [status.RUNNING]) == client.Page([], None)
    assert call("list_instance_ids", completed_time_from=datetime(2100, 1, 1)).items == []
    assert (
        call("purge_orchestrations_by", runtime_status=[status.RUNNING]).deleted_instance_count == 0
    )
    assert call("purge_orchestrations_by", timeout=timedelta(0)) == client.PurgeInstancesResult(
        0, False
    )
    assert call("purge_orchestration", "a") == client.PurgeInstancesResult(1, True)
    assert call("purge_orchestration", "a") == client.PurgeInstancesResult(0, True)
    call("terminate_orchestration", "b")
    assert call(
        "purge_orchestrations_by", timeout=timedelta(minutes=1)
    ) == client.PurgeInstancesResult(1, True)
    call("close")


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda w, c: c.schedule_new_orchestration("o", version="1.0.0"), "version="),
        (
            lambda w, c: c.schedule_new_orchestration("o", reuse_id_policy=object()),
            "reuse_id_policy=",
        ),
        (lambda w, c: c.get_orchestration_history("o", execution_id="x"), "execution_id="),
        (
            lambda w, c: client.TaskHubGrpcClient(w.durable, host_address="http://localhost:8080"),
            "host_address=",
        ),
        (
            lambda w, c: client.AsyncTaskHubGrpcClient(w.durable, default_version="2"),
            "default_version=",
        ),
        (
            lambda w, c: client.TaskHubGrpcClient(w.durable, data_converter=object()),
            "data_converter=",
        ),
        (lambda w, c: worker.TaskHubGrpcWorker(w.durable, secure_channel=True), "host_address="),
        (lambda w, c: w.start(), "start"),
        (lambda w, c: w.stop(), "stop"),
        (lambda w, c: w.use_versioning(None), "use_versioning"),
        (lambda w, c: w.use_work_item_filters(), "use_work_item_filters"),
        (lambda w, c: w.configure_scheduled_tasks(), "configure_scheduled_tasks"),
        (lambda w, c: df.DFApp(w.durable).route, "route"),
        (lambda w, c: df.Blueprint().timer_trigger, "timer_trigger"),
        (lambda w, c: df.Blueprint().queue_output, "queue_output"),
        (lambda w, c: df.DFApp(w.durable).configure_large_payloads, "configure_large_payloads"),
        (
            lambda w, c: df.DurableFunctionsClient(w.durable).create_check_status_response(1, 2),
            "create_check_status_response",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_words(
    w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient, act: Callable[..., Any], name: str
) -> None:
    with pytest.raises(
        df.NotSupported, match=f"^{name} is not available: .+ See the guide to porting from Azure$"
    ):
        act(w, c)


@pytest.mark.parametrize("option", ["version", "new_version"])
def test_versions_are_refused_by_contexts(
    w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient, option: str
) -> None:
    @w.add_orchestrator
    def orchestrator(
        ctx: task.OrchestrationContext, _: Any
    ) -> Generator[task.Task[Any], Any, None]:
        if option == "version":
            yield ctx.call_sub_orchestrator("orchestrator", version="2")
        ctx.continue_as_new(None, new_version="2")

    with pytest.raises(
        client.OrchestrationFailedError, match=f"{option}= is not available: versions are declared"
    ):
        run(c, orchestrator)


def test_without_a_durable_that_of_the_current_app_is_taken(durable: Durable) -> None:
    durable.app.set_current()
    assert worker.TaskHubGrpcWorker().durable is durable
    assert df.DFApp().durable is durable
    assert client.AsyncTaskHubGrpcClient().durable is durable


def test_a_connection_string_is_no_durable() -> None:
    with pytest.raises(TypeError, match="a Durable is needed, not a connection string"):
        df.DurableOrchestrationClient('{"taskHubName": "x"}')  # type: ignore[arg-type]


# -- Azure Functions -------------------------------------------------------------------------------


def test_the_second_release_takes_orchestrators_of_durabletask(
    app: df.DFApp, c: client.TaskHubGrpcClient
) -> None:
    @app.orchestration_trigger(context_name="context")
    def fan_out(
        ctx: task.OrchestrationContext, numbers: list[int]
    ) -> Generator[task.Task[Any], Any, int]:
        squares: list[task.Task[int]] = [
            ctx.call_activity("square", input=each, return_type=int) for each in numbers
        ]
        found: list[int] = yield task.when_all(squares)
        return sum(found)

    @app.activity_trigger(input_name="number")
    async def square(number: int) -> int:
        await asyncio.sleep(0)
        return number * number

    assert run(c, "fan_out", [1, 2, 3]).get_output() == 14
    assert square(4) == 16


def test_a_client_is_given_to_functions(app: df.DFApp) -> None:
    @app.orchestration_trigger(context_name="context")
    def hello(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
        name = yield context.wait_for_external_event("name")
        return f"{context.get_input()} {name}"

    @app.durable_client_input(client_name="client")
    async def start(greeting: str, client: df.DurableFunctionsClient) -> str:
        return await client.start_new("hello", client_input=greeting)

    @app.durable_client_input(client_name="client")
    def name_it(client: df.SyncDurableFunctionsClient, id_: str) -> str:
        client.raise_orchestration_event(id_, "name", data="World")
        with pytest.raises(df.NotSupported, match="celery_durable.http answers starts"):
            client.create_check_status_response(None, id_)
        return id_

    id_ = asyncio.run(start("Hello"))
    assert app.durable.get(name_it(id_=id_)).get(timeout=60) == "Hello World"
    assert list(inspect.signature(start).parameters) == ["greeting"]
    with pytest.raises(TypeError, match=r"hello\(\) has no parameter 'client'"):
        app.durable_client_input(client_name="client")(hello.run)


def test_an_activity_is_given_its_input_alone(app: df.DFApp, c: client.TaskHubGrpcClient) -> None:
    with pytest.raises(
        ConfigurationError, match="activity lost: nothing here fills its parameter context"
    ):

        @app.activity_trigger(input_name="city")
        def lost(context: Any, city: str) -> None: ...

    @app.activity_trigger(input_name="count")
    @app.durable_client_input(client_name="client")
    def counting(client: df.SyncDurableFunctionsClient, count: int, step: int = 1) -> int:
        return count + step + len(client.get_all_orchestration_states())

    @app.activity_trigger(input_name="count", bind=True)
    def bound(self: Any, count: int) -> str:
        return f"{self.name} {count}"

    @app.activity_trigger(input_name="order")
    def native(ctx: task.ActivityContext, given: Order) -> str:
        return f"{ctx.orchestration_id} {given.customer}"

    @app.orchestration_trigger(context_name="context")
    def orchestrator(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[Any]]:
        calls = [(counting, 1), (bound, 2), (native, Order("ada"))]
        return (
            yield context.task_all(
                [context.call_activity(activity, given) for activity, given in calls]
            )
        )

    id_ = c.schedule_new_orchestration("orchestrator", instance_id="o")
    assert app.durable.get(id_).get(timeout=60) == [3, "bound 2", "o ada"]


def test_a_blueprint(app: df.DFApp, c: client.TaskHubGrpcClient) -> None:
    bp = df.Blueprint()

    @bp.orchestration_trigger(context_name="context", input_type=Order)
    def ordering(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[Any]]:
        order = context.get_input()
        said = yield context.call_activity(say, order.customer)
        count = yield context.call_entity(df.EntityId("tally", "t"), "add", 2)
        return [said, count, context.version, vars(context.function_context)]

    @bp.activity_trigger(input_name="name", activity="SayHello")
    def say(name: str) -> str:
        return f"Hello {name}!"

    @bp.entity_trigger(context_name="context")
    def tally(context: df.DurableEntityContext) -> int:
        context.set_state(context.get_state(int, int) + context.get_input(int))
        return context.get_state()

    @bp.durable_client_input(client_name="client")
    async def start(client: df.DurableFunctionsClient) -> str:
        return await client.start_new("ordering", client_input=Order("ada"))

    with pytest.raises(RuntimeError, match=r"no app yet: call app.register_functions\(blueprint\)"):
        asyncio.run(start())
    app.register_functions(bp)
    assert app.durable.get(asyncio.run(start())).get(timeout=60) == ["Hello ada!", 2, None, {}]
    assert say("you") == "Hello you!"


def test_classes_that_write_and_read_themselves(app: df.DFApp) -> None:
    @app.orchestration_trigger(context_name="context")
    def paying(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Money]:
        asked: Money = context.get_input()
        context.set_custom_status(asked)
        first: Money = yield context.call_activity("double", asked)
        second = context.wait_for_external_event("more", expected_type=Money)
        tip: Money = yield second
        assert second.result is tip
        kept: Money = yield context.call_entity(df.EntityId("till", "t"), "put", first)
        return Money(kept.cents + tip.cents)

    @app.activity_trigger(input_name="money")
    def double(money: Money) -> Money:
        return Money(money.cents * 2)

    @app.entity_trigger(context_name="context")
    def till(context: df.DurableEntityContext) -> None:
        context.set_state(context.get_input())
        context.set_result(context.get_state())

    async def use() -> None:
        c = df.DurableFunctionsClient(app.durable)
        await c.start_new("paying", "p", Money(5))
        await c.raise_event("p", "more", Money(1))
        status = await c.get_status("p", show_input=True)
        assert (status.input_.cents, status.output.cents, status.custom_status.cents) == (5, 11, 5)
        assert (await c.read_entity_state(df.EntityId("till", "t"))).entity_state.cents == 10

    asyncio.run(use())


def typed(kind: Any) -> Callable[[Any], Any]:
    """Let the annotation ``kind`` of a function mean a type that it cannot see."""

    def take(function: Any) -> Any:
        function.__annotations__ = {
            name: kind if each == "kind" else each
            for name, each in function.__annotations__.items()
        }
        return function

    return take


TYPED: list[tuple[Any, Any]] = [
    (Order("ada", [Line("tea", 2)], Grade.LOW, datetime(2030, 1, 2, tzinfo=UTC)), Order),
    ([Line("tea", 2), Line("cup", 1)], list[Line]),
    ({"a": Line("tea", 2)}, dict[str, Line]),
    (Grade.HIGH, Grade),
    (Money(5), Money),
    ([Money(5), None], list[Money | None]),
]


@pytest.mark.parametrize(
    ("value", "kind"), TYPED, ids=lambda each: str(getattr(each, "__name__", each))[:20]
)
def test_a_value_keeps_its_type_through_every_door_of_durabletask(
    w: worker.TaskHubGrpcWorker, c: client.TaskHubGrpcClient, value: Any, kind: Any
) -> None:
    seen: dict[str, Any] = {}

    @w.add_activity
    @typed(kind)
    def activity(ctx: task.ActivityContext, given: kind) -> kind:
        seen["activity"] = given
        return given

    @w.add_entity
    @typed(kind)
    def box(ctx: entities.EntityContext, given: kind) -> kind:
        seen["operation"] = given
        ctx.set_state(given)
        return ctx.get_state(kind)

    @w.add_orchestrator
    @typed(kind)
    def child(ctx: task.OrchestrationContext, given: kind) -> kind:
        seen["child"] = given
        return given

    @w.add_orchestrator
    @typed(kind)
    def parent(ctx: task.OrchestrationContext, given: kind) -> Generator[task.Task[Any], Any, kind]:
        # the last thing that the first execution does; a replay comes by again
        if "entity" in seen:
            seen["input, again"] = given
            return given
        seen["input"] = given
        ctx.set_custom_status(given)
        seen["result of a function"] = yield ctx.call_activity(activity, input=given)
        seen["result"] = yield ctx.call_activity("activity", input=given, return_type=kind)
        seen["result of all"], _ = yield task.when_all(
            [ctx.call_activity(activity, input=given)] * 2
        )
        seen["result of a child"] = yield ctx.call_sub_orchestrator(
            child, input=given, return_type=kind
        )
        seen["result of a child's function"] = yield ctx.call_sub_orchestrator(child, input=given)
        seen["result of any"] = (
            yield task.when_any([ctx.call_activity(activity, input=given)])
        ).get_result()
        seen["event"] = yield ctx.wait_for_external_event("it", data_type=kind)
        ctx.send_event(ctx.instance_id, "sent", data=given)
        seen["event that was sent"] = yield ctx.wait_for_external_event("sent", data_type=kind)
        seen["entity"] = yield ctx.call_entity(
            task.EntityInstanceId("box", "b"), "put", given, return_type=kind
        )
        ctx.continue_as_new(given)

    id_ = c.schedule_new_orchestration(parent, input=value)
    started = c.get_orchestration_state(id_)
    assert started is not None
    seen["status of the client"], seen["input of the client"] = (
        started.get_custom_status(kind),
        started.get_input(kind),
    )
    c.raise_orchestration_event(id_, "it", data=value)
    ended = c.wait_for_orchestration_completion(id_)
    assert ended is not None and ended.failure_details is None
    seen["output of the client"] = ended.get_output(kind)
    entity = c.get_entity(task.EntityInstanceId("box", "b"))
    assert entity is not None
    seen["state of the client"] = entity.get_state(kind)
    assert {
        door: got for door, got in seen.items() if got != value or type(got) is not type(value)
    } == {}
    assert len(seen) == 18


@pytest.mark.parametrize(
    ("value", "kind"), TYPED, ids=lambda each: str(getattr(each, "__name__", each))[:20]
)
def test_a_value_keeps_its_type_through_every_door_of_azure(
    app: df.DFApp, value: Any, kind: Any
) -> None:
    seen: dict[str, Any] = {}

    @app.activity_trigger(input_name="given")
    @typed(kind)
    def activity(given: kind) -> kind:
        seen["activity"] = given
        return given

    @app.entity_trigger(context_name="context")
    def box(context: df.DurableEntityContext) -> None:
        seen["operation"] = context.get_input(kind)
        context.set_state(seen["operation"])
        context.set_result(context.get_state(expected_type=kind))

    @app.orchestration_trigger(context_name="context", input_type=kind)
    @typed(kind)
    def child(context: df.DurableOrchestrationContext) -> kind:
        seen["child"] = context.get_input()
        return context.get_input(kind)

    @app.orchestration_trigger(context_name="context")
    def parent(context: df.DurableOrchestrationContext) -> Generator[Any, Any, kind]:
        seen["input"] = given = context.get_input(kind)
        retry = df.RetryOptions(5, 2)
        seen["result of a function"] = yield context.call_activity(activity, given)
        seen["result"] = yield context.call_activity("activity", given, kind)
        seen["result, tried"] = yield context.call_activity_with_retry(
            "activity", retry, given, kind
        )
        seen["result of a child"] = yield context.call_sub_orchestrator(
            "child", given, expected_type=kind
        )
        seen["result of a child's function"] = yield context.call_sub_orchestrator(child, given)
        seen["result of a child, tried"] = yield context.call_sub_orchestrator_with_retry(
            "child", retry, given, expected_type=kind
        )
        event = context.wait_for_external_event("it", kind)
        seen["event"] = yield event
        seen["result of a task"] = event.result
        seen["entity"] = yield context.call_entity(df.EntityId("box", "b"), "put", given, kind)
        return given

    async def use() -> Any:
        c = df.DurableFunctionsClient(app.durable)
        id_ = await c.start_new("parent", client_input=value)
        await c.raise_event(id_, "it", value)
        return await c.wait_for_orchestration_completion(id_)

    ended = asyncio.run(use())
    assert ended.failure_details is None
    seen["output of the client"] = ended.get_output(kind)
    assert {
        door: got for door, got in seen.items() if got != value or type(got) is not type(value)
    } == {}
    assert len(seen) == 14


def test_the_older_names_of_the_client(app: df.DFApp) -> None:
    @app.orchestration_trigger(context_name="context")
    def waiting(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        return (yield context.wait_for_external_event("go"))

    async def use() -> None:
        c = df.DurableOrchestrationClient(app.durable)
        for id_ in ("a1", "a2", "b1"):
            await c.start_new("waiting", id_, id_)
        await c.raise_event("a1", "go", 1)
        assert {each.instance_id for each in await c.get_status_all()} == {"a1", "a2", "b1"}
        states = df.OrchestrationRuntimeStatus
        found = await c.get_status_by(runtime_status=[states.Running], instance_id_prefix="a")
        assert [(each.instance_id, each.input_) for each in found] == [("a2", "a2")]
        assert await c.get_status_by(created_time_to=datetime(2000, 1, 1)) == []
        assert await c.get_status_by(runtime_status=[states.ContinuedAsNew]) == []
        shown = found[0].to_json()
        assert (shown["name"], shown["instanceId"], shown["runtimeStatus"]) == (
            "waiting",
            "a2",
            "Running",
        )
        fresh = await c.restart("a1")
        assert fresh not in ("a1", "a2", "b1")
        assert (await c.get_status(await c.restart("a1", False))).runtime_status is states.Running
        await c.raise_event("b1", "go")
        with pytest.raises(InvalidState):
            await c.rewind("b1", "it has not failed")
        with pytest.raises(df.NotSupported, match="task_hub_name= is not available"):
            await c.raise_event("a2", "go", 1, "another hub")
        await c.terminate("a2", "enough")
        assert await c.purge_instance_history_by(
            runtime_status=[states.Completed]
        ) == df.PurgeHistoryResult(1)
        assert await c.purge_instance_history_by() == df.PurgeHistoryResult(1)

    asyncio.run(use())


def test_an_activity_whose_input_has_no_name_is_refused(app: df.DFApp) -> None:
    with pytest.raises(
        ConfigurationError,
        match="activity lonely: it has no parameter 'city', which input_name= names",
    ):

        @app.activity_trigger(input_name="city")
        def lonely() -> None: ...


def test_a_function_that_cannot_be_found_or_run_is_refused(
    w: worker.TaskHubGrpcWorker, app: df.DFApp
) -> None:
    for register in (
        w.add_orchestrator,
        w.add_activity,
        lambda fn: w.durable.app.task(name=task.get_name(fn))(fn),
    ):
        with pytest.raises(ValueError, match="a lambda has no name"):
            register(lambda ctx, _: None)

    async def modern(context: df.DurableOrchestrationContext) -> None: ...

    for declare in (
        app.orchestration_trigger(context_name="context"),
        df.orchestrator,
        df.durabletask_orchestrator,
    ):
        with pytest.raises(
            TypeError, match="modern is async: an orchestrator of Azure's is a generator"
        ):
            declare(modern)


def test_names_of_functions() -> None:
    def some(ctx: Any, _: Any) -> None: ...

    assert (task.get_name(some), task.get_entity_name(some), task.get_entity_name(Counter)) == (
        "some",
        "some",
        "Counter",
    )


def test_an_entity_of_the_old_way(durable: Durable, c: client.TaskHubGrpcClient) -> None:
    durable.entity(name="Counter")(df.Entity.create(v1_counter))
    c.signal_entity(df.EntityId("Counter", "k"), "add", 3)
    seen = c.get_entity(df.EntityId("Counter", "k"))
    assert seen is not None and seen.state == 3


def test_names_that_differ_by_case_alone(durable: Durable, c: client.TaskHubGrpcClient) -> None:
    w = worker.TaskHubGrpcWorker(durable)
    for name in ("Pair", "PAIR"):
        w.add_entity(Counter, name)
        c.signal_entity(df.EntityId(name, "k"), "add", len(c.get_all_entities()) + 1)
    assert {str(each.id): each.state for each in c.get_all_entities()} == {
        "@Pair@k": 1,
        "@PAIR@k": 2,
    }


# -- names of entities -----------------------------------------------------------------------------


def test_ids_of_entities() -> None:
    one, other = df.EntityId("Counter", "k@x"), entities.EntityInstanceId("counter", "k@x")
    assert (
        one == other and hash(one) == hash(other) and not one < other and str(one) == "@Counter@k@x"
    )
    assert entities.EntityInstanceId.parse("@Counter@k@x") == one != "@Counter@k@x"
    assert df.EntityId.get_entity_id(df.EntityId.get_scheduler_id(one)) == one
    assert df.EntityId.get_entity_id_url_path(one) == "entities/Counter/k@x"
    assert sorted([df.EntityId("b", "1"), df.EntityId("A", "2")])[0].name == "A"
    for wrong in ("", "Counter@k", "@Counter"):
        with pytest.raises(ValueError, match="an entity id is '@name@key'"):
            entities.EntityInstanceId.parse(wrong)
    for name, key in (("", "k"), ("a@b", "k"), ("a", "")):
        with pytest.raises(ValueError):
            df.EntityId(name, key)
