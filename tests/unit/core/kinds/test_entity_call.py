"""Calls of entities: messages that go out as events, and answers that come back as events."""

from __future__ import annotations

import json

import pytest

from celery_durable.core.entity_names import REPLY
from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import SendEvent
from celery_durable.core.rewind import rewind
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import CODEC, FACTS, cancel, fresh, live, moment, raised

from .looks import kinds_of, lanes, open_in, take, words


async def asks(ctx):
    return await ctx.entity("Counter", "a").add(5)


def answer(value=None, number=1, at=1, again="", **reply):
    name = f"{REPLY}{FACTS.execution_id}:{again}{number}"
    return raised(name, {"result": value, **reply}, at=at)


def test_a_call_is_a_message_and_its_answer_an_event():
    life = live(asks, inputs=[answer(5)])
    [sent] = [each for each in life.commands if isinstance(each, SendEvent)]
    message = json.loads(sent.payload)
    assert (sent.instance_id, message["op"], message["args"]) == ("@Counter@a", "add", [5])
    assert kinds_of(life) == ["EventSent", "EventRaised"]
    assert life.history[2].command == 1
    assert life.value == 5
    assert lanes(life) == [("entity", "Counter a: add()", "completed")]


def test_a_failure_of_the_operation_reaches_the_code_and_the_timeline():
    life = live(asks, inputs=[answer(failure=CODEC.encode_failure(ValueError("no")))])
    assert (type(life.error), str(life.error)) == (ValueError, "no")
    assert life.history[2].facts["rebuilt"] is True
    assert lanes(life) == [("entity", "Counter a: add()", "failed")]


def test_what_is_not_answered_is_said_in_words():
    life = live(asks)
    [said] = words(life)
    assert "Counter" in said
    assert (lanes(life), open_in(life)) == ([("entity", "Counter a: add()", "live")], [])


def test_a_call_that_nothing_answers_can_be_bounded_by_a_timer():
    async def orchestrator(ctx):
        await ctx.any([ctx.entity("Counter", "a").add(5), ctx.sleep(3)])
        return "went on"

    life = live(orchestrator, inputs=[answer(5, at=9)])
    assert (life.value, life.seconds) == ("went on", 3)


def test_an_answer_counts_once_and_only_for_its_own_call():
    async def goes_on(ctx):
        return [await asks(ctx), await ctx.wait_event("never")]

    taken = take(goes_on, answer(5))
    before = words_of(taken)
    taken.take(answer(6, at=2), answer(7, number=9, at=2))
    assert words_of(taken) == before == ["event 'never'"]
    taken.machine.abandon()


def words_of(taken):
    return [text for part in taken.machine.parts() for text in part.waits_for()]


def test_a_cancel_of_the_execution_reaches_who_waits():
    assert live(asks, inputs=[cancel()]).is_canceled


def test_a_rewind_asks_again_under_the_same_name():
    async def orchestrator(ctx):
        question = ctx.entity("Counter", "a").add(5)
        await ctx.sleep(1)
        if is_broken:
            raise ValueError("broken")
        return await question

    is_broken = True
    life = live(orchestrator, check=False)
    is_broken = False
    request = Event(EventKind.EXECUTION_REWOUND, moment(9))
    again, decision = rewind(lambda: fresh(orchestrator), life.history, request)
    [first] = [each for each in life.commands if isinstance(each, SendEvent)]
    [second] = [each for each in decision.commands if isinstance(each, SendEvent)]
    assert json.loads(first.payload)["reply"] == json.loads(second.payload)["reply"]
    again.abandon()


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.sleep(1)

    with pytest.raises(NonDeterminismError, match="EventSent"):
        live(asks).replayed(another)
