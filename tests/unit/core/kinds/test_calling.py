"""``ctx.call``: activities, canvases, sub-orchestrations, and what their signatures carry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from celery import chain, chord, group

from celery_durable.core.history import Event, EventKind, load_events
from celery_durable.core.kinds import ScheduleActivity
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import ActivityError, ActivityTimeout, PayloadError
from tests.unit.core.harness import (
    CODEC,
    SECOND,
    START,
    After,
    add,
    app,
    cancel,
    child,
    echo,
    endless_child,
    fail,
    failing_child,
    flaky,
    fresh,
    live,
    never,
    slow,
    started,
    total,
)


def calling(signature, **options):
    async def orchestrator(ctx):
        return await ctx.call(signature, **options)

    return orchestrator


# -- one activity ----------------------------------------------------------------------------------


def test_an_activity_by_name_needs_no_code_of_it_here():
    life = live(
        calling(app.signature("other.app.task", args=(1,), kwargs={"two": 2})),
        script={"other.app.task": ["x"]},
    )
    assert life.value == "x"
    command = life.scheduled[0]
    assert (command.task, command.args, dict(command.kwargs)) == (
        "other.app.task",
        (1,),
        {"two": 2},
    )


def test_history_keeps_the_label():
    life = live(calling(echo.s(1), label="the first"))
    assert life.scheduled[0].confirmation(0).facts == {"label": "the first"}
    assert live(calling(echo.s(1))).scheduled[0].confirmation(0).facts is None


def test_the_options_of_a_signature_travel_with_the_activity():
    signature = echo.s(1).set(queue="fast", priority=7, headers={"tenant": "a"}, time_limit=30)
    options = live(calling(signature)).scheduled[0].options
    assert options["queue"] == "fast"
    assert options["priority"] == 7
    assert options["headers"] == {"tenant": "a"}
    assert options["time_limit"] == 30


def test_timeouts_travel_with_the_activity_in_microseconds():
    life = live(
        calling(echo.s(1), timeout=timedelta(minutes=1), start_timeout=2.5, heartbeat_timeout=3)
    )
    command = life.scheduled[0]
    assert (command.timeout, command.start_timeout, command.heartbeat_timeout) == (
        60 * SECOND,
        2_500_000,
        3 * SECOND,
    )


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_falsy_results_of_an_activity_survive(value):
    life = live(calling(echo.s(value)))
    assert life.value == value


def test_a_failure_is_raised_with_the_type_that_the_activity_raised():
    async def orchestrator(ctx):
        try:
            await ctx.call(flaky.s())
        except FileNotFoundError as error:
            return [type(error).__name__, error.args]

    life = live(orchestrator, script={"flaky": [FileNotFoundError(2, "no such order")]})
    assert life.value == ["FileNotFoundError", [2, "no such order"]]


def test_a_failure_that_cannot_be_rebuilt_raises_activity_error_with_its_facts():
    class Local(Exception):
        pass

    async def orchestrator(ctx):
        try:
            await ctx.call(flaky.s())
        except ActivityError as error:
            return [error.type.rpartition(".")[2], str(error).rpartition(": ")[2]]

    assert live(orchestrator, script={"flaky": [Local("of this function")]}).value == [
        "Local",
        "of this function",
    ]


@pytest.mark.parametrize("wrong", [None, 42, "shop.charge", {}, echo, lambda: None])
def test_what_is_no_signature_is_refused(wrong):
    with pytest.raises(TypeError, match="takes a Celery signature"):
        live(calling(wrong)).value


def test_a_task_without_its_s_is_named_so():
    with pytest.raises(TypeError, match="not the task itself"):
        live(calling(echo)).value


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_exhausted": "explode"}, ValueError),
        ({"label": 7}, TypeError),
        ({"retry": 3}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "soon"}, TypeError),
        ({"timeout": float("nan")}, ValueError),
        ({"start_timeout": float("inf")}, ValueError),
        ({"heartbeat_timeout": True}, TypeError),
    ],
)
def test_options_that_cannot_work_are_refused_at_the_call(options, error):
    life = live(calling(echo.s(1), **options))
    with pytest.raises(error):
        life.value
    assert life.asked == []


def test_an_argument_that_cannot_be_encoded_is_refused_at_the_call_and_can_be_caught():
    async def orchestrator(ctx):
        try:
            ctx.call(echo.s({"deep": [object()]}))
        except PayloadError as error:
            return [await ctx.call(echo.s("instead")), str(error)]

    value = live(orchestrator).value
    assert value[0] == "instead"
    assert "['deep'][0]" in value[1]


def test_an_activity_timeout_is_a_timeout_error():
    async def orchestrator(ctx):
        try:
            await ctx.call(flaky.s(), timeout=5)
        except TimeoutError as error:
            return [type(error).__name__, error.kind]

    ran_out = ActivityTimeout("ran out", kind="timeout", instance_id="order-42")
    assert live(orchestrator, script={"flaky": [After(5, ran_out)]}).value == [
        "ActivityTimeout",
        "timeout",
    ]


# -- countdown, eta, expires -----------------------------------------------------------------------


def test_a_countdown_is_a_durable_timer_before_the_activity():
    life = live(calling(echo.s(1).set(countdown=30)))
    assert life.asked == ["CreateTimer", "ScheduleActivity 'echo'"]
    assert life.timers == [30]
    assert life.seconds == 31
    assert "countdown" not in life.scheduled[0].options


def test_an_eta_is_a_durable_timer_before_the_activity():
    eta = datetime.fromtimestamp(START / SECOND, UTC) + timedelta(hours=2)
    life = live(calling(echo.s(1).set(eta=eta)))
    assert life.timers == [7200]
    assert "eta" not in life.scheduled[0].options


def test_an_eta_in_the_past_schedules_at_once():
    life = live(calling(echo.s(1).set(eta=datetime(2001, 1, 1, tzinfo=UTC))))
    assert life.asked == ["ScheduleActivity 'echo'"]


def test_a_naive_eta_is_refused():
    life = live(calling(echo.s(1).set(eta=datetime(2030, 1, 1))))
    with pytest.raises(ValueError, match="naive"):
        life.value


def test_a_call_that_is_taken_back_while_it_counts_down_cancels_its_timer():
    async def orchestrator(ctx):
        call = ctx.call(echo.s(1).set(countdown=30))
        await ctx.sleep(1)
        call.cancel()
        await ctx.sleep(60)

    life = live(orchestrator)
    assert life.asked == ["CreateTimer", "CreateTimer", "CancelTimer", "CreateTimer"]


def test_expires_is_a_start_timeout():
    soon = datetime.fromtimestamp(START / SECOND, UTC) + timedelta(seconds=90)
    assert live(calling(echo.s(1).set(expires=60))).scheduled[0].start_timeout == 60 * SECOND
    assert live(calling(echo.s(1).set(expires=soon))).scheduled[0].start_timeout == 90 * SECOND
    assert (
        live(calling(echo.s(1).set(expires=60), start_timeout=5)).scheduled[0].start_timeout
        == 5 * SECOND
    )


# -- groups, chains, chords ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "last", 3])
def test_a_group_gives_a_list_in_order(order):
    life = live(calling(group(echo.s(n) for n in range(4))), order=order)
    assert life.value == [0, 1, 2, 3]
    assert [command.task for command in life.scheduled] == ["echo"] * 4


def test_an_empty_group_gives_an_empty_list_at_once():
    life = live(calling(group([])))
    assert life.value == []
    assert len(life.rows) == 1


def test_a_group_raises_the_failure_of_a_member():
    with pytest.raises(ValueError, match="member"):
        live(calling(group(echo.s(1), fail.s("member")))).value


def test_a_chain_hands_each_result_on():
    life = live(calling(chain(add.s(1, 2), add.s(10), add.s(100))))
    assert life.value == 113
    assert [command.args for command in life.scheduled] == [(1, 2), (3, 10), (13, 100)]


def test_an_immutable_step_is_not_given_the_previous_result():
    life = live(calling(chain(add.s(1, 2), add.si(5, 5), add.s(1))))
    assert life.value == 11


def test_a_chain_stops_at_its_first_failure():
    life = live(calling(chain(echo.s(1), fail.si("stop here"), echo.s())))
    with pytest.raises(ValueError, match="stop here"):
        life.value
    assert len(life.scheduled) == 2


def test_a_group_inside_a_chain_gets_the_result_before_and_hands_on_a_list():
    life = live(calling(chain(echo.s(5), group(add.s(1), add.s(2), add.si(7)), total.s())))
    assert life.value == 6 + 7 + 7


def test_a_chain_that_ends_in_a_group_gives_a_list():
    assert live(calling(chain(echo.s(5), group(add.s(1), add.s(2))))).value == [6, 7]


def test_a_chain_that_begins_with_a_group():
    assert live(calling(chain(group(echo.s(1), echo.s(2)), total.s(), add.s(10)))).value == 13


def test_chains_inside_a_group_run_side_by_side():
    life = live(calling(group(chain(echo.s(1), add.s(1)), chain(echo.s(10), add.s(1)))))
    assert life.value == [2, 11]
    assert life.seconds == 2


def test_a_chord_gives_the_result_of_its_body():
    life = live(calling(chord([echo.s(1), echo.s(2), echo.s(3)], total.s())))
    assert life.value == 6
    assert [command.task for command in life.scheduled] == ["echo"] * 3 + ["total"]


def test_a_chord_whose_body_is_immutable_or_a_chain():
    assert live(calling(chord([echo.s(1)], echo.si("body")))).value == "body"
    assert live(calling(chord([echo.s(1), echo.s(2)], chain(total.s(), add.s(1))))).value == 4


def test_the_body_of_a_chord_does_not_run_when_its_header_fails():
    life = live(calling(chord([echo.s(1), fail.s("header")], total.s())))
    with pytest.raises(ValueError, match="header"):
        life.value
    assert [command.task for command in life.scheduled] == ["echo", "fail"]


def test_a_chord_whose_header_holds_a_failing_chord_ends():
    life = live(calling(chord([echo.s(1), chord([fail.s("inner")], total.s())], total.s())))
    with pytest.raises(ValueError, match="inner"):
        life.value


def test_a_chord_in_a_chord_s_header():
    inner = chord([echo.s(1), echo.s(2)], total.s())
    assert live(calling(chord([inner, echo.s(10)], total.s()))).value == 13


def test_a_chord_inside_a_chain_gets_the_result_before():
    assert (
        live(calling(chain(echo.s(5), chord([add.s(1), add.s(2)], total.s()), add.s(100)))).value
        == 113
    )


def test_a_group_in_the_header_of_a_chord_inside_a_chain_gets_the_result_before():
    header = [group(add.s(1), add.s(2)), add.s(3)]
    assert live(calling(chain(echo.s(5), chord(header, echo.s())))).value == [6, 7, 8]


def test_the_options_of_a_group_hold_for_each_member():
    life = live(calling(group(echo.s(1), echo.s(2)).set(queue="fast")))
    assert [command.options.get("queue") for command in life.scheduled] == ["fast", "fast"]


def test_a_signature_that_came_as_json_is_a_signature():
    signature = CODEC.decode(CODEC.encode(chain(add.s(1, 2), group(add.s(1), add.s(2)), total.s())))
    assert type(signature) is dict
    assert live(calling(signature)).value == 9


def test_a_retry_policy_on_a_canvas_holds_for_each_leaf():
    canvas = group(flaky.s(1), chain(echo.s(2), flaky.s()))
    script = {"flaky": [ValueError("first"), After(9, ValueError("second")), "a", "b"]}
    life = live(calling(canvas, retry=RetryPolicy(max_attempts=2)), script=script)
    assert sorted(life.value) == ["a", "b"]
    assert [command.attempt for command in life.scheduled if command.task == "flaky"] == [
        1,
        1,
        2,
        2,
    ]


# -- sub-orchestrations ----------------------------------------------------------------------------


def test_a_signature_of_an_orchestrator_starts_a_child():
    life = live(calling(child.s("given")))
    assert life.value == "given"
    assert life.asked == ["StartChild 'child'"]
    assert CODEC.decode(life.children[0].input) == [["given"], {}]


def test_an_unnamed_child_gets_a_legible_id_that_is_the_same_on_every_replay():
    life = live(calling(group(child.s(1), child.s(2))))
    ids = [command.child_id for command in life.children]
    assert ids == ["order-42:e1a2b3c4:1", "order-42:e1a2b3c4:2"]


def test_a_child_may_be_named():
    life = live(calling(child.s(1).set(task_id="child-1", queue="slow")))
    command = life.children[0]
    assert command.child_id == "child-1"
    assert command.options["queue"] == "slow"
    assert "task_id" not in command.options


def test_children_of_a_very_long_id_keep_within_bounds_and_apart():
    async def orchestrator(ctx):
        await asyncio.gather(*(ctx.call(child.s(n)) for n in range(3)))

    life = live(orchestrator, facts=ExecutionInfo("x" * 150, "f" * 20, "parent"))
    ids = [command.child_id for command in life.children]
    assert len(set(ids)) == 3
    assert all(len(child_id) <= 150 for child_id in ids)


def test_a_failed_child_raises_the_type_that_it_raised():
    with pytest.raises(KeyError, match="no such"):
        live(calling(failing_child.s("no such"))).value


def test_each_attempt_of_a_child_is_an_instance_of_its_own():
    script = {"child": [ValueError("once"), ValueError("twice"), "third"]}
    life = live(
        calling(child.s().set(task_id="c"), retry=RetryPolicy(max_attempts=3)), script=script
    )
    assert life.value == "third"
    assert [command.child_id for command in life.children] == ["c", "c~2", "c~3"]


def test_a_child_that_runs_out_of_time_is_canceled_and_raises():
    life = live(calling(endless_child.s(), timeout=10))
    with pytest.raises(TimeoutError, match="did not finish in time"):
        life.value
    assert life.asked[-1] == "CancelChild"


def test_a_child_that_ends_in_time_leaves_no_timer():
    life = live(calling(child.s(1), timeout=10))
    assert life.asked == ["CreateTimer", "StartChild 'child'", "CancelTimer"]


def test_a_child_that_runs_out_of_time_is_tried_again_at_once_if_the_policy_says_so():
    policy = RetryPolicy(first_interval=0, max_attempts=2)
    life = live(
        calling(child.s().set(task_id="c"), timeout=10, retry=policy),
        script={"child": [After(99, 0), "late"]},
    )
    assert life.value == "late"
    assert [command.child_id for command in life.children] == ["c", "c~2"]


def test_cancel_reaches_the_children():
    life = live(calling(endless_child.s()), inputs=[cancel()])
    assert life.is_canceled
    assert life.asked == ["StartChild 'child.never'", "CancelChild"]


# -- retries ---------------------------------------------------------------------------------------


def retrying(policy, **options):
    return calling(flaky.s(), retry=policy, **options)


def waits(life):
    """The seconds between the end of an attempt and the start of the next."""
    ends = [event.at for event in life.history if event.kind is EventKind.ACTIVITY_FAILED]
    starts = [event.at for event in life.history if event.kind is EventKind.ACTIVITY_SCHEDULED][1:]
    return [(start - end) / SECOND for end, start in zip(ends, starts, strict=False)]


def test_without_a_policy_an_activity_is_tried_once():
    life = live(calling(flaky.s()), script={"flaky": [ValueError("once"), "never"]})
    with pytest.raises(ValueError, match="once"):
        life.value
    assert len(life.scheduled) == 1


def test_attempts_are_retried_with_growing_pauses():
    script = {"flaky": [ValueError(str(n)) for n in range(4)] + ["at last"]}
    life = live(retrying(RetryPolicy(first_interval=1, backoff=3, max_attempts=5)), script=script)
    assert life.value == "at last"
    assert waits(life) == [1, 3, 9, 27]
    assert [command.attempt for command in life.scheduled] == [1, 2, 3, 4, 5]
    assert {command.command for command in life.scheduled} == {1}


def test_the_pauses_do_not_grow_beyond_max_interval():
    script = {"flaky": [ValueError()] * 4 + ["ok"]}
    policy = RetryPolicy(first_interval=timedelta(seconds=2), max_interval=5, max_attempts=9)
    assert waits(live(retrying(policy), script=script)) == [2, 4, 5, 5]


def test_the_last_failure_is_raised_when_the_attempts_are_used_up():
    script = {"flaky": [ValueError("first"), ValueError("second"), "never"]}
    with pytest.raises(ValueError, match="second"):
        live(retrying(RetryPolicy(max_attempts=2)), script=script).value


def test_total_timeout_counts_from_the_first_scheduling_by_history_s_clock():
    script = {"flaky": [After(10, ValueError(str(n))) for n in range(9)]}
    life = live(
        retrying(RetryPolicy(first_interval=1, backoff=1, max_attempts=9, total_timeout=40)),
        script=script,
    )
    with pytest.raises(ValueError, match="3"):
        life.value
    assert life.seconds == 43


def test_a_retry_without_pause_happens_in_the_same_turn():
    life = live(retrying(RetryPolicy(first_interval=0)), script={"flaky": [ValueError(), "ok"]})
    assert life.value == "ok"
    assert life.timers == []


def test_jitter_is_drawn_from_history():
    script = {"flaky": [ValueError()] * 3 + ["ok"]}
    policy = RetryPolicy(first_interval=100, backoff=1, jitter=0.5, max_attempts=5)
    first, second = (waits(live(retrying(policy), script=script)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 3
    assert all(50 <= pause <= 150 for pause in first)


def test_retry_on_and_give_up_on_choose_by_type():
    policy = RetryPolicy(
        max_attempts=5, retry_on=(LookupError, OSError), give_up_on=(FileNotFoundError,)
    )
    retried = live(retrying(policy), script={"flaky": [KeyError("a"), OSError("b"), "ok"]})
    assert retried.value == "ok"
    with pytest.raises(ValueError, match="not retried"):
        live(retrying(policy), script={"flaky": [ValueError("not retried"), "never"]}).value
    with pytest.raises(FileNotFoundError):
        live(retrying(policy), script={"flaky": [FileNotFoundError("given up"), "never"]}).value


def test_a_call_that_waits_for_its_retry_can_be_taken_back():
    async def orchestrator(ctx):
        try:
            async with asyncio.timeout(5):
                await ctx.call(flaky.s(), retry=RetryPolicy(first_interval=60))
        except TimeoutError:
            return "given up"

    life = live(orchestrator, script={"flaky": [ValueError(), "never"]})
    assert life.value == "given up"
    assert life.asked == ["CreateTimer", "ScheduleActivity 'flaky'", "CreateTimer", "CancelTimer"]


def test_a_retry_that_waits_survives_a_restart():
    life = live(
        retrying(RetryPolicy(first_interval=3600)),
        script={"flaky": [ValueError(), "after the restart"]},
    )
    restarted = fresh(life.function)
    for row in life.rows[:2]:
        restarted.replay(load_events(row))
    decision = restarted.take(life.turns[2])
    assert [type(command) for command in decision.commands] == [ScheduleActivity]
    assert decision.commands[0].attempt == 2
    restarted.abandon()


# -- outcomes that are not wanted ------------------------------------------------------------------


def outcome(command, attempt, value=None, at=START + SECOND):
    return Event(EventKind.ACTIVITY_COMPLETED, at, command, attempt, payload=CODEC.encode(value))


def test_an_outcome_that_arrives_twice_counts_once():
    execution = fresh(calling(echo.s(1)))
    execution.take([started()])
    decision = execution.take([outcome(1, 1, "first"), outcome(1, 1, "second")])
    assert CODEC.decode(decision.final.output) == "first"
    assert len(decision.events) == 2
    execution.abandon()


def test_an_outcome_of_an_earlier_attempt_is_dropped():
    execution = fresh(retrying(RetryPolicy(first_interval=0)))
    execution.take([started()])
    failed = Event(
        EventKind.ACTIVITY_FAILED, START, 1, 1, payload=CODEC.encode_failure(ValueError())
    )
    assert execution.take([failed]).commands[0].attempt == 2
    assert execution.take([outcome(1, 1, "late")]).events == []
    assert CODEC.decode(execution.take([outcome(1, 2, "right")]).final.output) == "right"
    execution.abandon()


def test_what_was_never_asked_for_is_dropped():
    execution = fresh(calling(never.s()))
    execution.take([started()])
    strangers = [
        outcome(9, 1),
        Event(EventKind.TIMER_FIRED, START, 7),
        Event(EventKind.CHILD_COMPLETED, START, 9, 1),
    ]
    assert execution.take(strangers).events == []
    execution.abandon()


def test_nothing_that_arrives_after_the_end_resumes_the_code():
    resumed = []

    async def orchestrator(ctx):
        late = asyncio.create_task(background(ctx))
        await ctx.call(echo.s(1))
        return late.done()

    async def background(ctx):
        await ctx.call(slow.s(5))
        resumed.append("resumed")

    execution = fresh(orchestrator)
    decision = execution.take([started()])
    first, second = (command.command for command in decision.commands)
    by_task = {command.task: command.command for command in decision.commands}
    end = execution.take([outcome(by_task["echo"], 1)])
    assert end.final is not None
    after = execution.take(
        [outcome(by_task["slow"], 1), Event(EventKind.CANCEL_REQUESTED, START + SECOND)]
    )
    assert after.events == []
    assert after.commands == []
    execution.abandon()
    assert resumed == []
    assert {first, second} == {1, 2}
