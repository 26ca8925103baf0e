"""Orchestrators as people write them for Azure Durable Functions and durabletask, run unchanged but
for import and decorator.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, InstanceNotFound, InvalidState
from celery_durable import azure as df
from celery_durable import azure as task
from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.store import Store

from .conftest import RESEND_AFTER
from .world import World

TICK = timedelta(milliseconds=150)


@pytest.fixture(params=[100, 0], ids=["live", "from-nothing"])
def cache_size(request: pytest.FixtureRequest) -> int:
    """Executions are kept alive between turns, or every turn replays all of history."""
    return request.param


@pytest.fixture
def world(cache_size: int, store: Store) -> World:
    """A process over the store."""
    return World(store, cache_size=cache_size, resend_after=RESEND_AFTER / 1_000_000)


@pytest.fixture
def my_app(world: World) -> df.DFApp:
    """The decorators of Azure Functions, over the in-process world."""
    return df.DFApp(_as_durable(world))


@pytest.fixture
def worker(world: World) -> df.TaskHubWorker:
    """The registration of durabletask, over the in-process world."""
    return df.TaskHubWorker(_as_durable(world))


def _as_durable(world: World) -> Any:
    """Return what the decorators need of a ``Durable``."""

    def named(register: Any) -> Any:
        def take(function: Any, name: str) -> Any:
            function.__name__ = name
            return register(function)

        return take

    return SimpleNamespace(
        orchestrator=named(world.orchestrator),
        app=SimpleNamespace(task=lambda name: lambda function: named(world.task)(function, name)),
    )


def run(world: World, name: str, given: Any = None) -> Any:
    world.start(name, given)
    world.pump_to_end()
    return world.output()


def failure(world: World) -> BaseException:
    record = world.client.fetch("i")
    assert record.status is RuntimeStatus.FAILED, (record.status, record.reason)
    return world.codec.decode_failure(record.failure)[0]


# -- the sample patterns of Azure Functions --------------------------------------------------------


def test_function_chaining(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def my_orchestrator(context: df.DurableOrchestrationContext):
        result1 = yield context.call_activity("say_hello", "Tokyo")
        result2 = yield context.call_activity("say_hello", "Seattle")
        result3 = yield context.call_activity("say_hello", "London")
        return [result1, result2, result3]

    @my_app.activity_trigger(input_name="city")
    def say_hello(city: str) -> str:
        return f"Hello {city}!"

    assert run(world, "my_orchestrator") == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
    assert world.runs == {"say_hello": 3}


def test_fan_out_fan_in(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def E2_BackupSiteContent(context: df.DurableOrchestrationContext):
        root_directory: str = context.get_input()

        if not root_directory:
            raise Exception("A directory path is required as input")

        files = yield context.call_activity("E2_GetFileList", root_directory)
        tasks = []
        for file in files:
            tasks.append(context.call_activity("E2_CopyFileToBlob", file))

        results = yield context.task_all(tasks)
        total_bytes = sum(results)
        return total_bytes

    @my_app.activity_trigger(input_name="rootDirectory")
    def E2_GetFileList(rootDirectory):
        return [f"{rootDirectory}/{number}" for number in range(8)]

    @my_app.activity_trigger(input_name="filePath")
    def E2_CopyFileToBlob(filePath):
        return len(filePath)

    assert run(world, "E2_BackupSiteContent", "/srv") == 8 * len("/srv/0")
    assert world.runs == {"E2_GetFileList": 1, "E2_CopyFileToBlob": 8}
    assert len(world.events(kind=EventKind.JOIN_FORMED)) == 1


def phone_verification(my_app: df.DFApp, patience: timedelta) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def E4_SMSPhoneVerification(context: df.DurableOrchestrationContext):
        phone_number = context.get_input()

        if not phone_number:
            raise Exception("Please provide a phone number")

        challenge_code = yield context.call_activity("E4_SendSMSChallenge", phone_number)

        expiration = context.current_utc_datetime + patience
        timeout_task = context.create_timer(expiration)

        authorized = False
        for _ in range(3):
            challenge_response_task = context.wait_for_external_event("SmsChallengeResponse")
            winner = yield context.task_any([challenge_response_task, timeout_task])

            if winner == challenge_response_task:
                # We got back a response! Compare it to the challenge code
                if challenge_response_task.result == challenge_code:
                    authorized = True
                    break
            else:
                # Timeout expired
                break

        if not timeout_task.is_completed:
            # All pending timers must be complete or canceled before the function exits.
            timeout_task.cancel()

        return authorized

    @my_app.activity_trigger(input_name="phoneNumber")
    def E4_SendSMSChallenge(phoneNumber):
        return 1234


def test_human_interaction(world: World, my_app: df.DFApp) -> None:
    phone_verification(my_app, timedelta(seconds=180))
    world.start("E4_SMSPhoneVerification", "+1425")
    world.pump()
    for guess in (1, 1234):
        world.raise_event("i", "SmsChallengeResponse", guess)
        world.pump()
    world.pump_to_end()
    assert world.output() is True
    assert len(world.events(kind=EventKind.TIMER_CREATED)) == 1
    assert len(world.events(kind=EventKind.TIMER_CANCELED)) == 1
    assert world.events(kind=EventKind.TIMER_FIRED) == []


def test_human_interaction_ends_after_three_wrong_answers(world: World, my_app: df.DFApp) -> None:
    phone_verification(my_app, timedelta(seconds=180))
    world.start("E4_SMSPhoneVerification", "+1425")
    for guess in (1, 2, 3):
        world.raise_event("i", "SmsChallengeResponse", guess)
    world.pump_to_end()
    assert world.output() is False


def test_human_interaction_with_no_one_there(world: World, my_app: df.DFApp) -> None:
    phone_verification(my_app, TICK)
    assert run(world, "E4_SMSPhoneVerification", "+1425") is False
    assert len(world.events(kind=EventKind.TIMER_FIRED)) == 1
    assert world.events(kind=EventKind.TIMER_CANCELED) == []


def test_a_monitor(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def E3_Monitor(context: df.DurableOrchestrationContext):
        monitoring_request = context.get_input()
        repo_url: str = monitoring_request["repo"]
        phone: str = monitoring_request["phone"]

        # Expiration of the repo monitoring
        expiry_time = context.current_utc_datetime + timedelta(minutes=5)
        while context.current_utc_datetime < expiry_time:
            too_many_issues = yield context.call_activity("E3_TooManyOpenIssues", repo_url)

            # If we detect too many issues, we text the provided phone number
            if too_many_issues:
                yield context.call_activity("E3_SendAlert", phone)
                break
            else:
                context.set_custom_status(
                    "The repository does not have too many issues, for now ..."
                )

                # Schedule a new "wake up" signal
                next_check = context.current_utc_datetime + TICK
                yield context.create_timer(next_check)

        return "Monitor completed!"

    @my_app.activity_trigger(input_name="repoUrl")
    def E3_TooManyOpenIssues(repoUrl):
        return world.runs["E3_TooManyOpenIssues"] == 3

    @my_app.activity_trigger(input_name="phone")
    def E3_SendAlert(phone):
        assert phone == "+1425"

    assert run(world, "E3_Monitor", {"repo": "r", "phone": "+1425"}) == "Monitor completed!"
    assert world.runs == {"E3_TooManyOpenIssues": 3, "E3_SendAlert": 1}
    assert len(world.events(kind=EventKind.TIMER_FIRED)) == 2
    assert world.custom_status() == "The repository does not have too many issues, for now ..."


def test_sub_orchestrations(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def provision_devices(context: df.DurableOrchestrationContext):
        device_ids = yield context.call_activity("GetNewDeviceIds")

        # Run multiple device provisioning flows in parallel
        provisioning_tasks = []
        for id_, device_id in enumerate(device_ids):
            child_id = f"{context.instance_id}:{id_}"
            provisioning_tasks.append(
                context.call_sub_orchestrator("provision_device", device_id, child_id)
            )

        results = yield context.task_all(provisioning_tasks)
        return results

    @my_app.orchestration_trigger(context_name="context")
    def provision_device(context: df.DurableOrchestrationContext):
        device_id = context.get_input()
        key = yield context.call_activity("CreateKey", device_id)
        return [context.instance_id, context.parent_instance_id, key]

    @my_app.activity_trigger(input_name="nothing")
    def GetNewDeviceIds(nothing):
        assert nothing is None
        return ["a", "b"]

    @my_app.activity_trigger(input_name="device")
    def CreateKey(device):
        return f"key of {device}"

    assert run(world, "provision_devices") == [["i:0", "i", "key of a"], ["i:1", "i", "key of b"]]


def test_retries(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        first_retry_interval_in_milliseconds = 10
        max_number_of_attempts = 3

        retry_options = df.RetryOptions(
            first_retry_interval_in_milliseconds, max_number_of_attempts
        )

        result1 = yield context.call_activity_with_retry("flaky", retry_options, "a")
        result2 = yield context.call_sub_orchestrator_with_retry("flaky_child", retry_options, "b")
        try:
            yield context.call_activity_with_retry("hopeless", retry_options, "c")
        except Exception as e:
            return [result1, result2, str(e)]

    @my_app.orchestration_trigger(context_name="context")
    def flaky_child(context: df.DurableOrchestrationContext):
        result = yield context.call_activity("flaky", context.get_input())
        return result

    @my_app.activity_trigger(input_name="value")
    def flaky(value):
        if world.runs["flaky"] % 2:
            raise OSError("not now")
        return f"{value} at last"

    @my_app.activity_trigger(input_name="value")
    def hopeless(value):
        raise OSError(f"never {value}")

    assert run(world, "orchestrator_function") == ["a at last", "b at last", "never c"]
    assert world.runs == {"flaky": 4, "hopeless": 3}


def test_an_eternal_orchestration(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def periodic_cleanup(context: df.DurableOrchestrationContext):
        counter = context.get_input() or 0
        yield context.call_activity("DoCleanup", counter)

        if counter == 3:
            return counter

        # sleep between cleanups
        yield context.create_timer(context.current_utc_datetime + timedelta(milliseconds=10))

        context.continue_as_new(counter + 1)

    seen = []

    @my_app.activity_trigger(input_name="counter")
    def DoCleanup(counter):
        seen.append(counter)

    assert run(world, "periodic_cleanup") == 3
    assert seen == [0, 1, 2, 3]


def test_error_handling_with_compensation(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def transfer_funds(context: df.DurableOrchestrationContext):
        transfer_details = context.get_input()
        yield context.call_activity(
            "DebitAccount", {"account": transfer_details["source"], "amount": 5}
        )

        try:
            yield context.call_activity(
                "CreditAccount", {"account": transfer_details["destination"], "amount": 5}
            )
        except Exception:
            yield context.call_activity(
                "CreditAccount", {"account": transfer_details["source"], "amount": 5}
            )
            return "refunded"

        return "done"

    balance = {"a": 10}

    @my_app.activity_trigger(input_name="what")
    def DebitAccount(what):
        balance[what["account"]] -= what["amount"]

    @my_app.activity_trigger(input_name="what")
    def CreditAccount(what):
        balance[what["account"]] += what["amount"]

    assert run(world, "transfer_funds", {"source": "a", "destination": "unknown"}) == "refunded"
    assert balance == {"a": 10}


# -- how tasks behave in Azure Functions -----------------------------------------------------------


def test_a_timeout_of_an_activity_whose_result_is_taken_later(
    world: World, my_app: df.DFApp
) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def slow_quote(context: df.DurableOrchestrationContext):
        activity_task = context.call_sub_orchestrator("get_quote", "x")
        timeout_task = context.create_timer(context.current_utc_datetime + TICK)

        winner = yield context.task_any([activity_task, timeout_task])
        was_late = (
            winner is timeout_task
            and not activity_task.is_completed
            and activity_task.result is None
        )
        quote = yield activity_task
        again = yield activity_task
        return [was_late, quote, again, activity_task.is_completed, activity_task.result]

    @my_app.orchestration_trigger(context_name="context")
    def get_quote(context: df.DurableOrchestrationContext):
        quote = yield context.wait_for_external_event("quote")
        return quote

    world.start("slow_quote")
    world.pump_until(lambda: world.events(kind=EventKind.TIMER_FIRED))
    (child,) = world.client.children("i")
    world.raise_event(child.id, "quote", 7)
    world.pump_to_end()
    assert world.output() == [True, 7, 7, True, 7]


def test_a_task_that_failed_can_win(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def race(context: df.DurableOrchestrationContext):
        task = context.call_activity("broken", 1)
        never = context.wait_for_external_event("never")
        winner = yield context.task_any([never, task])
        shown = isinstance(winner.result, ZeroDivisionError)
        try:
            yield winner
        except ZeroDivisionError:
            return [winner == task, winner.is_completed, shown]

    @my_app.activity_trigger(input_name="number")
    def broken(number):
        return number / 0

    assert run(world, "race") == [True, True, True]


def test_the_first_failure_of_several_is_raised_at_once(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        tasks = [context.wait_for_external_event("never"), context.call_activity("broken", 1)]
        try:
            yield context.task_all(tasks)
        except Exception as e:
            return [str(e), tasks[0].is_completed]

    @my_app.activity_trigger(input_name="number")
    def broken(number):
        raise ValueError("no")

    assert run(world, "orchestrator_function") == ["no", False]


def test_combinations_of_combinations(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def both_or_timeout(context: df.DurableOrchestrationContext):
        both = context.task_all(
            [context.wait_for_external_event("a"), context.wait_for_external_event("b")]
        )
        timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        winner = yield context.task_any([both, timer])
        timer.cancel()
        return winner.result if winner == both else "timeout"

    world.start("both_or_timeout")
    world.pump()
    world.raise_event("i", "b", 2)
    world.pump()
    world.raise_event("i", "a", 1)
    world.pump_to_end()
    assert world.output() == [1, 2]


def test_a_wait_that_was_given_up_does_not_swallow_an_event(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def reminders(context: df.DurableOrchestrationContext):
        for reminder in range(5):
            approval = context.wait_for_external_event("Approval")
            timer = context.create_timer(
                context.current_utc_datetime + (TICK if reminder == 0 else timedelta(hours=1))
            )
            winner = yield context.task_any([approval, timer])
            if winner == approval:
                timer.cancel()
                return [reminder, approval.result]

    world.start("reminders")
    world.pump_until(lambda: world.events(kind=EventKind.TIMER_FIRED))
    world.raise_event("i", "Approval", "yes")
    world.pump_to_end()
    assert world.output() == [1, "yes"]


def test_a_cancelled_timer(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        other = context.create_timer(context.current_utc_datetime + timedelta(milliseconds=5))
        yield context.call_activity("nothing")
        timer.cancel()
        winner = yield context.task_any([timer, other])
        facts = [winner == other, timer.is_cancelled, timer.is_completed, timer.result]
        try:
            other.cancel()
        except ValueError as e:
            facts.append(str(e))
        context.set_custom_status(facts)
        yield timer

    @my_app.activity_trigger(input_name="unused")
    def nothing(unused):
        return None

    world.start("orchestrator_function")
    world.pump_to_end()
    assert isinstance(failure(world), df.TaskCancelledError)
    assert world.custom_status() == [True, True, False, None, "Cannot cancel a completed task."]
    assert len(world.events(kind=EventKind.TIMER_CANCELED)) == 1


def test_facts_are_the_same_on_every_replay(
    world: World, my_app: df.DFApp, cache_size: int
) -> None:
    seen: list[Any] = []

    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        seen.append((context.new_uuid(), context.new_guid(), context.current_utc_datetime))
        context.set_custom_status({"at": 1})
        yield context.wait_for_external_event("go")
        yield context.wait_for_external_event("go")
        return [
            context.custom_status,
            context.instance_id,
            context.parent_instance_id,
            context.is_replaying,
        ]

    world.start("orchestrator_function")
    for _ in range(2):
        world.pump()
        world.raise_event("i", "go")
    world.pump_to_end()
    assert world.output() == [{"at": 1}, "i", None, False]
    assert len(set(seen)) == 1 and seen[0][0] != str(seen[0][1])
    assert seen[0][2].tzinfo is UTC
    assert len(seen) >= (1 if cache_size else 3)  # one replay each without a cache


@pytest.mark.parametrize("zone", [None, UTC])
def test_a_time_without_a_zone_is_utc(world: World, my_app: df.DFApp, zone: Any) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        yield context.create_timer(datetime(2100, 1, 1, tzinfo=zone))

    world.start("orchestrator_function")
    world.pump()
    (created,) = world.events(kind=EventKind.TIMER_CREATED)
    assert (
        datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1_000_000 in (created.facts or {}).values()
    )


def test_events_that_were_not_taken_are_dropped_by_continue_as_new_unless_saved(
    world: World, my_app: df.DFApp
) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        saved = context.get_input()
        if saved is None:
            yield context.wait_for_external_event("last")
            context.continue_as_new("dropped")
            yield context.call_activity("never called", 1)
        event = context.wait_for_external_event("early")
        timer = context.create_timer(context.current_utc_datetime + TICK)
        winner = yield context.task_any([event, timer])
        if winner == event:
            return [saved, event.result]
        yield context.wait_for_external_event("last")
        context.continue_as_new("saved", save_events=True)

    world.start("orchestrator_function", None)
    world.raise_event("i", "early", 1)
    world.raise_event("i", "last")
    world.pump_until(lambda: world.events(kind=EventKind.TIMER_FIRED))
    world.raise_event("i", "early", 2)
    world.raise_event("i", "early", 3)
    world.raise_event("i", "last")
    world.pump_to_end()
    assert world.output() == ["saved", 3]
    assert world.runs == {}


def test_an_orchestrator_without_a_yield(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context", orchestration="Countdown")
    def countdown(context: df.DurableOrchestrationContext):
        left = context.get_input()
        if left:
            context.continue_as_new(left - 1)
        return "lift-off"

    assert run(world, "Countdown", 3) == "lift-off"


def test_cancellation_reaches_the_orchestrator(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        try:
            yield context.wait_for_external_event("go")
        finally:
            context.set_custom_status("tidied up")

    world.start("orchestrator_function")
    world.pump()
    world.client.cancel("i", None)
    world.pump_to_end()
    assert world.status() is RuntimeStatus.CANCELED
    assert world.custom_status() == "tidied up"


def test_an_event_after_a_cancelled_wait_is_not_lost(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        wait = context.wait_for_external_event("go")
        try:
            yield wait
        except asyncio.CancelledError:
            yield context.wait_for_external_event("tidied up")
            late = yield context.wait_for_external_event("go")
            return [wait.is_cancelled, wait.is_completed, wait.result, late]

    world.start("orchestrator_function")
    world.pump()
    world.client.cancel("i", None)
    world.pump()
    world.raise_event("i", "go", "late")
    world.pump()
    world.raise_event("i", "tidied up")
    world.pump_to_end()
    assert world.output() == [True, False, None, "late"]


@pytest.mark.parametrize("name", ["call_http"])
def test_what_is_not_there_says_so(world: World, my_app: df.DFApp, name: str) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        yield getattr(context, name)("Counter", "add", 1)

    world.start("orchestrator_function")
    world.pump_to_end()
    error = failure(world)
    assert isinstance(error, df.NotSupported) and isinstance(error, NotImplementedError)
    assert str(error).startswith(f"{name} is not available: celery_durable ")


def test_yielding_something_else_says_what_to_yield(world: World, my_app: df.DFApp) -> None:
    @my_app.orchestration_trigger(context_name="context")
    def orchestrator_function(context: df.DurableOrchestrationContext):
        yield [context.wait_for_external_event("a")]

    world.start("orchestrator_function")
    world.pump_to_end()
    assert isinstance(failure(world), TypeError)
    assert "an orchestrator yields tasks, such as context.call_activity(...) gives" in str(
        failure(world)
    )


# -- durabletask -----------------------------------------------------------------------------------


def test_durabletask_sequence_and_fan_out(world: World, worker: df.TaskHubWorker) -> None:
    def hello(ctx: task.ActivityContext, name: str) -> str:
        return f"Hello {name}!"

    def orchestrator(ctx: task.OrchestrationContext, names: list[str]):
        first = yield ctx.call_activity(hello, input=names[0])
        tasks = [ctx.call_activity(hello, input=name) for name in names[1:]]
        rest = yield task.when_all(tasks)
        inner = yield ctx.call_sub_orchestrator(child, input=len(rest), instance_id="named")
        return [first, *rest, inner]

    def child(ctx: task.OrchestrationContext, number: int):
        yield ctx.create_timer(timedelta(milliseconds=5))
        return [number, ctx.instance_id, ctx.parent_instance_id]

    worker.add_orchestrator(orchestrator)
    worker.add_orchestrator(child)
    worker.add_activity(hello)
    ended = run(world, "orchestrator", ["Tokyo", "Seattle", "London"])
    assert ended == ["Hello Tokyo!", "Hello Seattle!", "Hello London!", [2, "named", "i"]]


def purchase_order(worker: df.TaskHubWorker, patience: timedelta) -> None:
    @worker.add_activity
    def place_order(ctx: task.ActivityContext, order: dict) -> str:
        return f"placed {order['product']}"

    @worker.add_orchestrator
    def purchase_order_workflow(ctx: task.OrchestrationContext, order: dict):
        # Orders of less than $1000 are auto-approved
        if order["cost"] < 1000:
            return "Auto-approved"

        # Approvals must be received within the timeout or they will be cancelled.
        approval_event = ctx.wait_for_external_event("approval_received")
        timeout_event = ctx.create_timer(patience)
        winner = yield task.when_any([approval_event, timeout_event])
        if winner == timeout_event:
            return "Cancelled"

        # The order was approved
        placed = yield ctx.call_activity("place_order", input=order)
        approval_details = approval_event.get_result()
        return f"{placed}, approved by '{approval_details}'"


def test_durabletask_human_interaction(world: World, worker: df.TaskHubWorker) -> None:
    purchase_order(worker, timedelta(hours=24))
    world.start("purchase_order_workflow", {"cost": 2000, "product": "MyProduct"})
    world.pump()
    world.raise_event("i", "approval_received", "Me")
    world.pump_to_end()
    assert world.output() == "placed MyProduct, approved by 'Me'"
    world.start("purchase_order_workflow", {"cost": 20, "product": "MyProduct"}, id_="small")
    world.pump_to_end("small")
    assert world.output("small") == "Auto-approved"


def test_durabletask_human_interaction_with_no_one_there(
    world: World, worker: df.TaskHubWorker
) -> None:
    purchase_order(worker, TICK)
    assert (
        run(world, "purchase_order_workflow", {"cost": 2000, "product": "MyProduct"}) == "Cancelled"
    )


def test_durabletask_failures_and_retries(world: World, worker: df.TaskHubWorker) -> None:
    @worker.add_activity
    def broken(ctx: task.ActivityContext, number: int):
        raise ValueError(f"no {number}")

    @worker.add_activity
    def fine(ctx: task.ActivityContext, number: int):
        return number

    @worker.add_orchestrator
    def orchestrator(ctx: task.OrchestrationContext, _):
        policy = task.RetryPolicy(
            first_retry_interval=timedelta(milliseconds=5),
            max_number_of_attempts=3,
            backoff_coefficient=2,
        )
        facts = []
        try:
            yield ctx.call_activity("broken", input=1, retry_policy=policy)
        except task.TaskFailedError as e:
            facts.append([e.details.error_type, e.details.message])
        tasks = [ctx.call_activity("broken", input=2), ctx.call_activity("fine", input=3)]
        try:
            yield task.when_all(tasks)
        except task.TaskFailedError as e:
            facts.append([str(e), [each.is_failed for each in tasks], tasks[1].get_result()])
            facts.append(str(tasks[0].get_exception()))
        ctx.set_custom_status(facts)
        yield ctx.call_activity("broken", input=4)

    world.start("orchestrator")
    world.pump_to_end()
    assert world.custom_status() == [
        ["builtins.ValueError", "no 1"],
        ["no 2", [True, False], 3],
        "no 2",
    ]
    error = failure(world)
    assert isinstance(error, task.TaskFailedError)
    assert error.details == task.FailureDetails("no 4", "builtins.ValueError", None)
    assert world.runs == {"broken": 5, "fine": 1}


def test_durabletask_failures_of_children_and_of_unknown_types(
    world: World, worker: df.TaskHubWorker
) -> None:
    class Unknown(Exception):
        pass

    @worker.add_activity
    def broken(ctx: task.ActivityContext, number: int):
        raise Unknown(f"no {number}")

    @worker.add_orchestrator
    def child(ctx: task.OrchestrationContext, number: int):
        yield ctx.call_activity("broken", input=number)

    @worker.add_orchestrator
    def orchestrator(ctx: task.OrchestrationContext, _):
        try:
            yield ctx.call_sub_orchestrator("child", input=1)
        except task.TaskFailedError as e:
            return [
                e.details.is_caused_by("Unknown"),
                e.details.message,
                "in broken" in e.details.stack_trace,
            ]

    assert run(world, "orchestrator") == [True, "no 1", True]


def test_durabletask_cancellation_of_timers_and_waits(
    world: World, worker: df.TaskHubWorker
) -> None:
    @worker.add_orchestrator
    def orchestrator(ctx: task.OrchestrationContext, _):
        timer = ctx.create_timer(ctx.current_utc_datetime + timedelta(hours=1))
        wait = ctx.wait_for_external_event("go")
        yield ctx.wait_for_external_event("start")
        facts = [
            timer.cancel(),
            timer.cancel(),
            wait.cancel(),
            timer.is_complete,
            timer.is_cancelled,
        ]
        first = yield task.when_any([timer, wait])
        try:
            first.get_result()
        except task.TaskCancelledError:
            facts.append(first == timer)
        go = yield ctx.wait_for_external_event("go")
        return [*facts, go, ctx.current_utc_datetime.tzinfo is None]

    world.start("orchestrator")
    world.pump()
    world.raise_event("i", "start")
    world.pump()
    world.raise_event("i", "go", 5)
    world.pump_to_end()
    assert world.output() == [True, False, True, True, True, True, 5, True]
    assert len(world.events(kind=EventKind.TIMER_CANCELED)) == 1


def test_durabletask_continues_as_new_and_sends_events(
    world: World, worker: df.TaskHubWorker
) -> None:
    @worker.add_orchestrator
    def counter(ctx: task.OrchestrationContext, total: int):
        step = yield ctx.wait_for_external_event("step")
        if step == 0:
            ctx.send_event("listener", "total", data=total)
            return total
        ctx.continue_as_new(total + step, save_events=True)

    @worker.add_orchestrator
    def listener(ctx: task.OrchestrationContext, _):
        total = yield ctx.wait_for_external_event("total")
        return total

    world.start("listener", id_="listener")
    world.start("counter", 100)
    for step in (1, 2, 3, 0):
        world.raise_event("i", "step", step)
    world.pump_to_end("i", "listener")
    assert (world.output(), world.output("listener")) == (106, 106)


# -- declarations and small things -----------------------------------------------------------------


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        df.nonsense


def test_retry_options_are_checked_when_declared() -> None:
    with pytest.raises(ValueError, match="above 0"):
        df.RetryOptions(0, 3)
    with pytest.raises(ValueError, match="at least 1"):
        df.RetryOptions(5, 0)
    policy = df.RetryPolicy(
        first_retry_interval=timedelta(seconds=2),
        max_number_of_attempts=4,
        backoff_coefficient=None,
        max_retry_interval=timedelta(seconds=9),
        retry_timeout=timedelta(minutes=1),
    ).policy
    assert (policy.first_interval, policy.max_attempts, policy.backoff) == (
        timedelta(seconds=2),
        4,
        1.0,
    )
    assert (policy.max_interval, policy.total_timeout) == (
        timedelta(seconds=9),
        timedelta(minutes=1),
    )


def test_the_first_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the first of no tasks would never be done"):
        df.when_any([])


# -- with Celery, and the client -------------------------------------------------------------------


@pytest.fixture
def durable(empty_sqlite: str) -> Durable:
    """A real app that runs activities and turns at once."""
    app = Celery("ported", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, durable_backend_url=empty_sqlite)
    return Durable(app)


def test_the_client(durable: Durable) -> None:
    my_app = df.DFApp(durable)
    client = df.DurableOrchestrationClient(durable)

    @my_app.orchestration_trigger(context_name="context")
    def approval(context: df.DurableOrchestrationContext):
        asked = yield context.call_activity(ask, context.get_input())
        context.set_custom_status(asked)
        answer = yield context.wait_for_external_event("Approval")
        if answer == "break":
            raise ValueError("broken")
        return answer

    @my_app.activity_trigger(input_name="who", queue="questions")
    def ask(who):
        return f"asked {who}"

    async def use() -> None:
        assert not await client.get_status("order-1")
        assert await client.start_new("approval", "order-1", "ada") == "order-1"
        status = await client.get_status("order-1", show_input=True, show_history=True)
        assert status.runtime_status == df.OrchestrationRuntimeStatus.Running == "Running"
        assert (status.name, status.instance_id, status.input_) == ("approval", "order-1", "ada")
        assert (status.custom_status, status.output) == ("asked ada", None)
        assert status.created_time <= status.last_updated_time and status.history
        with pytest.raises(InvalidState):
            await client.start_new("approval", "order-1", "bob")
        await client.raise_event("order-1", "Approval", "yes")
        await client.raise_event("order-1", "Approval", "too late")
        status = await client.get_status("order-1")
        assert (status.runtime_status.name, status.output, status.input_) == (
            "Completed",
            "yes",
            None,
        )
        await client.start_new("approval", "order-1", "bob")
        await client.raise_event("order-1", "Approval", "break")
        status = await client.get_status("order-1")
        assert (status.runtime_status, status.output) == ("Failed", "broken")

    asyncio.run(use())


def test_the_client_steers(durable: Durable) -> None:
    client = df.DurableOrchestrationClient(durable)
    seen = []

    @durable.orchestrator(name="forever")
    @df.orchestrator
    def forever(context: df.DurableOrchestrationContext):
        yield context.wait_for_external_event("never")

    @df.TaskHubWorker(durable).add_activity
    def note(ctx: df.ActivityContext, what: str) -> None:
        seen.append((ctx.orchestration_id, what))

    @durable.orchestrator(name="noting")
    @df.durabletask_orchestrator
    def noting(ctx: df.OrchestrationContext, what: str):
        yield ctx.call_activity(note, input=what)

    async def use() -> None:
        id_ = await client.start_new("forever")
        await client.suspend(id_, "pause")
        assert (
            await client.get_status(id_)
        ).runtime_status is df.OrchestrationRuntimeStatus.Suspended
        await client.resume(id_)
        with pytest.raises(InvalidState):
            await client.purge_instance_history(id_)
        await client.terminate(id_, "enough")
        await client.terminate(id_, "again")
        assert (
            await client.get_status(id_)
        ).runtime_status is df.OrchestrationRuntimeStatus.Terminated
        assert durable.get(id_).reason == "enough"
        assert await client.purge_instance_history(id_) == df.PurgeHistoryResult(1)
        assert await client.purge_instance_history(id_) == df.PurgeHistoryResult(0)
        for verb in (client.terminate(id_, "gone"), client.raise_event(id_, "gone")):
            with pytest.raises(InstanceNotFound):
                await verb
        with pytest.raises(TypeError, match="is not registered here"):
            await client.start_new("unknown")
        assert await client.start_new("noting", "n", "this") == "n"

    asyncio.run(use())
    assert seen == [("n", "this")]
    note("directly")
    assert seen[1:] == [("", "directly")]


def test_the_old_way_of_declaring(durable: Durable) -> None:
    def orchestrator_function(context: df.DurableOrchestrationContext):
        return context.get_input()
        yield

    main = durable.orchestrator(name="main")(df.Orchestrator.create(orchestrator_function))
    assert durable.start(main.s(5)).wait(timeout=300) == 5
    assert durable.start(main.s()).wait(timeout=300) is None
    with pytest.raises(TypeError):
        durable.start(main.s(1, 2))
