"""What an author of orchestrators writes, end to end on one prefork worker with Redis and
PostgreSQL.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest

from celery_durable import InstanceExists, OrchestrationFailed, OrchestrationRevoked, RuntimeStatus
from tests.conftest import wait_until
from tests.integration.conftest import Stage


def unique(name: str = "key") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def attempt(stage: Stage):
    """Call one activity by name in an orchestration.

    Return {"returned": ...} or what was raised.
    """

    def call(name: str, *args, **options):
        return stage.outcome(stage.testapp.attempt.s(f"testapp.{name}", args, **options))

    return call


# -- one activity ----------------------------------------------------------------------------------


def test_an_activity_is_called_by_object(stage):
    assert stage.outcome(stage.testapp.call_by_object.s(2)) == 3


def test_an_activity_is_called_by_name(attempt):
    assert attempt("add", 1, 2) == {"returned": 3}


@pytest.mark.parametrize("value", [0, "", [], None, False, {"a": [1.5, "ü\u0000"]}])
def test_falsy_and_odd_values_survive_the_way_there_and_back(attempt, value):
    assert attempt("echo", value) == {"returned": value}


def test_a_bound_task_sees_a_message_of_its_orchestration(stage):
    run = stage.start(stage.testapp.attempt.s("testapp.describe"))
    seen = stage.finish(run)["returned"]
    assert seen["root_id"] == seen["parent_id"] == run.id
    assert run.id not in seen["id"]


def test_a_custom_base_class_keeps_its_call(stage, attempt):
    before = len(stage.runs("before"))
    assert attempt("with_custom_base", 1) == {"returned": 2}
    assert attempt("factorial", 5) == {"returned": 120}, "a task may call itself as a function"
    assert len(stage.runs("before")) == before + 1


def test_shared_tasks_and_shared_orchestrators_work(stage):
    assert stage.outcome(stage.testapp.negate_durably.s(5)) == -5


@pytest.mark.parametrize("name", ["add_late", "add_ignored"])
def test_acknowledgement_and_ignored_results_make_no_difference(attempt, name):
    assert attempt(name, 1, 2) == {"returned": 3}


def test_autoretry_continues_until_it_succeeds(stage, attempt):
    key = unique()
    assert attempt("flaky_by_celery", key, 2) == {"returned": key}
    assert len(stage.runs("flaky_by_celery", key)) == 3


def test_exhausted_autoretry_raises_the_last_exception(stage, attempt):
    key = unique()
    answer = attempt("never_in_stock", key)
    assert (answer["raised"], answer["message"]) == ("OutOfStock", key)
    assert len(stage.runs("never_in_stock", key)) == 3


def test_a_task_may_retry_itself(attempt):
    assert attempt("retry_itself", unique()) == {"returned": 2}


def test_the_result_of_a_replaced_task_is_its_replacements(attempt):
    assert attempt("replace_itself", 21) == {"returned": 42}


@pytest.mark.parametrize(("name", "message"), [("ignore", "ignored"), ("reject", "rejected")])
def test_ignore_and_reject_are_failures(attempt, name, message):
    answer = attempt(name)
    assert (answer["raised"], message in answer["message"]) == ("ActivityError", True), answer


def test_a_message_that_is_put_back_runs_again(attempt):
    key = unique()
    assert attempt("reject_once", key) == {"returned": key}


def test_the_soft_time_limit_raises_in_the_activity(attempt):
    assert attempt("sleep_and_clean_up", options={"soft_time_limit": 1}) == {
        "returned": "cleaned up"
    }
    assert (
        attempt("sleep_long", options={"soft_time_limit": 1})["raised"] == "SoftTimeLimitExceeded"
    )


def test_the_hard_time_limit_is_a_failure(stage, attempt):
    before = len(stage.runs("sleep_long"))
    assert attempt("sleep_long", options={"time_limit": 1})["raised"] == "TimeLimitExceeded"
    assert len(stage.runs("sleep_long")) == before + 1


def test_a_result_that_cannot_be_encoded_is_a_readable_failure(attempt):
    answer = attempt("unserialisable")
    assert answer["raised"] == "PayloadError"
    assert "testapp.unserialisable" in answer["message"]
    assert "builtins.object" in answer["message"]


def test_queue_priority_and_headers_of_a_signature_are_used(stage, attempt):
    options = {"queue": f"{stage.queue}-other", "priority": 6, "headers": {"color": "red"}}
    seen = attempt("describe", options=options)["returned"]
    assert (seen["routing_key"], seen["priority"], seen["color"]) == (
        f"{stage.queue}-other",
        6,
        "red",
    )


def test_an_orchestrators_own_queue_is_used(stage):
    assert stage.outcome(stage.testapp.elsewhere.s())["routing_key"] == stage.queue


def test_countdown_is_a_durable_timer_before_the_activity(stage):
    run = stage.start(stage.testapp.attempt.s("testapp.add", (1, 2), options={"countdown": 1}))
    assert stage.finish(run) == {"returned": 3}
    assert "TimerFired" in [event.kind for event in run.history()]
    assert (run.completed_at - run.created_at) >= timedelta(seconds=1)


# -- failures --------------------------------------------------------------------------------------


def test_the_original_exception_type_is_raised_with_its_attributes(stage):
    assert stage.outcome(stage.testapp.pay.s()) == ["no money", 7]


@pytest.mark.parametrize("name", ["ValueError", "KeyError", "OutOfStock"])
def test_exception_types_survive(attempt, name):
    assert attempt("fail_with", name, "because")["raised"] == name


def test_an_exception_that_cannot_be_rebuilt_is_an_activity_error(attempt):
    answer = attempt("fail_locally")
    assert answer["raised"] == "ActivityError"
    assert "Hidden" in answer["facts"]["type"]
    assert "nobody can import me" in answer["message"]


def test_an_unhandled_failure_fails_the_orchestration_with_the_same_exception(stage):
    run = stage.start(stage.testapp.fail_unhandled.s("nothing left"))
    with pytest.raises(stage.testapp.CardDeclined, match="nothing left") as caught:
        stage.finish(run)
    assert caught.value.code == 9
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert "CardDeclined" in run.reason
    assert isinstance(run.failure, stage.testapp.CardDeclined)


def test_a_retry_policy_tries_again(stage, attempt):
    key = unique()
    assert attempt("flaky", key, 2, retry={"first_interval": 0.1, "max_attempts": 3}) == {
        "returned": key
    }
    assert len(stage.runs("flaky", key)) == 3


def test_a_retry_policy_gives_up(stage, attempt):
    key = unique()
    answer = attempt("flaky", key, 9, retry={"first_interval": 0, "max_attempts": 2})
    assert answer["raised"] == "OutOfStock"
    assert len(stage.runs("flaky", key)) == 2


def test_exhausted_attempts_may_suspend_and_resume_starts_over(stage):
    run = stage.start(stage.testapp.suspend_when_exhausted.s(key := unique()))
    wait_until(
        lambda: run.refresh().runtime_status is RuntimeStatus.SUSPENDED, what="the suspension"
    )
    assert "OutOfStock" in run.reason
    run.resume()
    assert stage.finish(run) == key


# -- time-outs of activities -----------------------------------------------------------------------


def test_timeout_raises_while_the_activity_still_runs_and_it_is_told(stage, attempt):
    key = unique()
    answer = attempt("watch_for_cancel", key, call={"timeout": 1})
    assert answer["raised"] == "ActivityTimeout"
    assert answer["facts"]["kind"] == "timeout"
    stage.wait_for_run("saw cancel", key, True)


def test_start_timeout_raises_for_an_activity_on_a_queue_that_no_one_reads(stage, attempt):
    answer = attempt(
        "add", 1, 1, options={"queue": f"{stage.queue}-dead"}, call={"start_timeout": 0.5}
    )
    assert (answer["raised"], answer["facts"]["kind"]) == ("ActivityTimeout", "start_timeout")


def test_expires_is_a_start_timeout(stage, attempt):
    answer = attempt("add", 1, 1, options={"queue": f"{stage.queue}-dead", "expires": 0.5})
    assert (answer["raised"], answer["facts"]["kind"]) == ("ActivityTimeout", "start_timeout")


def test_a_timed_out_attempt_is_tried_again(stage, attempt):
    key = unique()
    answer = attempt(
        "watch_for_cancel",
        key,
        call={"timeout": 0.5},
        retry={"first_interval": 0, "max_attempts": 2},
    )
    assert answer["raised"] == "ActivityTimeout"
    assert answer["facts"]["attempt"] == 2


def test_heartbeats_keep_an_activity_alive(attempt):
    assert attempt("beat_often", 10, call={"heartbeat_timeout": 1.2}) == {"returned": "done"}


def test_a_missing_heartbeat_is_a_timeout(attempt):
    answer = attempt("watch_for_cancel", unique(), call={"heartbeat_timeout": 0.5})
    assert (answer["raised"], answer["facts"]["kind"]) == ("ActivityTimeout", "heartbeat_timeout")


# -- what an activity knows ------------------------------------------------------------------------


def test_the_durable_context_tells_an_activity_where_it_belongs(stage):
    run = stage.start(stage.testapp.attempt.s("testapp.context_fields", call={"timeout": 60}))
    seen = stage.finish(run)["returned"]
    assert seen["instance_id"] == run.id
    assert seen["attempt"] == 1
    assert seen["idempotency_key"]
    assert seen["cancelled"] is False
    deadline = datetime.fromisoformat(seen["deadline"])
    assert timedelta(0) < deadline - run.created_at < timedelta(seconds=120)


def test_there_is_no_durable_context_outside_an_orchestration(stage):
    assert stage.testapp.has_context.delay().get(timeout=300) is False


# -- composition -----------------------------------------------------------------------------------


def test_group_chain_and_chord_give_their_results(stage):
    assert stage.outcome(stage.testapp.canvas.s()) == {
        "group": [1, 2, 3],
        "empty group": [],
        "chain": 16,
        "chord": 12,
    }


def test_asyncio_composition_works(stage):
    assert stage.outcome(stage.testapp.with_asyncio.s()) == {
        "task group": [3, 12],
        "wait": [[2, 4], 0],
        "as completed": ["a", "b"],
        "wait for": "timed out",
    }


def test_a_generator_is_an_orchestrator(stage):
    assert stage.outcome(stage.testapp.in_generator.s(1)) == [2, [3, 4], "won"]


def test_a_plain_function_completes_in_its_first_turn(stage):
    assert stage.outcome(stage.testapp.at_once.s(1)) == 2


def most_at_once(stage: Stage, before: int) -> int:
    """How many ran at the same time, by the run log after its first lines."""
    moments = [(run.at, 1) for run in stage.runs("busy")[before:]] + [
        (run.at, -1) for run in stage.runs("idle")[before:]
    ]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def test_map_keeps_to_its_concurrency(stage):
    before = len(stage.runs("busy"))
    assert stage.outcome(stage.testapp.map_busy.s(10, 2)) == list(range(10))
    assert most_at_once(stage, before) == 2
    assert len(stage.runs("busy")) == before + 10


def test_map_without_a_limit_uses_the_whole_pool(stage):
    before = len(stage.runs("busy"))
    assert stage.outcome(stage.testapp.map_busy.s(12)) == list(range(12))
    assert most_at_once(stage, before) > 2


def test_map_tolerates_failures_up_to_its_limit(stage):
    assert stage.outcome(stage.testapp.map_with_failures.s(2)) == [
        "ValueError",
        "none",
        "KeyError",
        "none",
    ]
    with pytest.raises((ValueError, KeyError)):
        stage.outcome(stage.testapp.map_with_failures.s(0.25))


@pytest.mark.long  # hundreds: test_no_copies.py; thousands without a worker: tests/contract
def test_a_thousand_activities_run_once_each(stage):
    before = len(stage.runs("double"))
    run = stage.start(stage.testapp.sum_of_doubles.s(1000))
    assert stage.finish(run) == 999_000
    assert len(stage.runs("double")) == before + 1000


def test_the_loser_of_a_race_is_told(stage):
    run = stage.start(stage.testapp.race.s(key := unique()))
    stage.wait_for_run("watching", key)
    run.raise_event("go", "winner")
    assert stage.finish(run) == "winner"
    stage.wait_for_run("saw cancel", key, True)


# -- sub-orchestrations ----------------------------------------------------------------------------


def test_a_sub_orchestration_gives_its_result_and_knows_its_parent(stage):
    child_id = unique("child")
    run = stage.start(stage.testapp.parent.s(4, child_id))
    assert stage.finish(run) == {"child": {"value": 8, "parent_id": run.id}}
    assert [one.id for one in run.children()] == [child_id]
    assert run.children()[0].parent_id == run.id


def test_the_failure_of_a_child_is_raised_in_the_parent_as_it_was(stage):
    assert stage.outcome(stage.testapp.parent_of_failing.s()) == ["from the child", 9]


def test_a_terminated_child_is_an_orchestration_failed(stage):
    child_id = unique("child")
    run = stage.start(stage.testapp.try_child.s(child_id))
    wait_until(lambda: stage.durable.count(id_prefix=child_id) == 1, what="the child")
    stage.durable.get(child_id).terminate(reason="not needed")
    answer = stage.finish(run)
    assert answer["raised"] == OrchestrationFailed.__name__
    assert answer["facts"]["status"] == "TERMINATED"


def test_a_child_id_in_use_is_raised_in_the_parent(stage):
    taken = stage.start(stage.testapp.wait_for_go.s(), instance_id=unique("taken"))
    assert stage.outcome(stage.testapp.try_child.s(taken.id))["raised"] == InstanceExists.__name__
    taken.terminate()


# -- time, events, state ---------------------------------------------------------------------------


def test_timers_are_never_early(stage):
    run = stage.start(stage.testapp.sleep_for.s(0.4))
    assert 1.2 <= stage.finish(run) < 10
    assert run.completed_at - run.created_at >= timedelta(seconds=1.2)


def test_an_event_ends_a_wait_and_a_timeout_ends_it_without(stage):
    run = stage.start(stage.testapp.approval.s(60))
    run.raise_event("approved", {"by": "me"})
    assert stage.finish(run) == {"by": "me"}
    assert stage.outcome(stage.testapp.approval.s(0.3)) == "too late"


def test_events_are_taken_in_order(stage):
    run = stage.start(stage.testapp.collect.s(5))
    for number in range(5):
        run.raise_event("item", number)
    assert stage.finish(run) == [0, 1, 2, 3, 4]


def test_continue_as_new_keeps_events_in_order(stage):
    run = stage.start(stage.testapp.count_down.s(4))
    for number in range(4):
        run.raise_event("item", number)
    assert stage.finish(run) == [0, 1, 2, 3]
    assert run.refresh().input["args"][0] == 1


def test_the_custom_status_of_a_turn_is_its_last_one(stage):
    run = stage.start(stage.testapp.with_status.s())
    wait_until(lambda: run.refresh().custom_status == {"phase": 1}, what="the first status")
    run.raise_event("go")
    wait_until(lambda: run.refresh().custom_status == ["phase", 2], what="the second status")
    run.raise_event("go")
    assert stage.finish(run) == "over"


def test_facts_of_the_context_are_the_same_after_a_replay(stage):
    run = stage.start(stage.testapp.facts.s(1))
    answer = stage.finish(run)
    assert answer["instance_id"] == run.id
    assert answer["name"] == run.name == "testapp.facts"
    assert answer["version"] is None and answer["parent_id"] is None
    assert answer["inline"] == 2


def test_an_orchestration_signals_another(stage):
    other = stage.start(stage.testapp.wait_for_go.s())
    run = stage.start(stage.testapp.signal_other.s(other.id))
    assert stage.finish(run) == "sent"
    assert stage.finish(other) == f"from {run.id}"
    assert stage.outcome(stage.testapp.signal_other.s("nobody")) == "sent"


# -- cancel ----------------------------------------------------------------------------------------


def test_cancel_raises_in_the_orchestrator_tells_its_activity_and_lets_it_clean_up(stage):
    run = stage.start(stage.testapp.cooperative.s(key := unique()))
    stage.wait_for_run("watching", key)
    before = len(stage.runs("add", 0, 0))
    run.cancel(reason="changed my mind")
    with pytest.raises(OrchestrationRevoked):
        stage.finish(run)
    assert run.refresh().runtime_status is RuntimeStatus.CANCELED
    assert run.reason == "changed my mind"
    assert len(stage.runs("add", 0, 0)) == before + 1
    stage.wait_for_run("saw cancel", key, True)


def test_an_orchestrator_that_catches_the_cancel_completes(stage):
    run = stage.start(stage.testapp.unstoppable.s())
    wait_until(lambda: run.refresh().started_at is not None, what="its first turn")
    run.cancel()
    assert stage.finish(run) == "went on"
