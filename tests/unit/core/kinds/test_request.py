"""Requests: what waits for them, how they are answered, and what is shown of it."""

from __future__ import annotations

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import AnswerRequest
from celery_durable.errors import InvalidState, NonDeterminismError, RequestRejected
from tests.unit.core.harness import CODEC, cancel, live, moment

from .looks import kinds_of, lanes, open_in, take, words


def requested(name="move", data=None, id_="r1", at=1):
    return Event(
        EventKind.REQUEST_RECEIVED,
        moment(at),
        name=name,
        payload=CODEC.encode(data),
        facts={"id": id_},
    )


async def answers(ctx):
    request = await ctx.wait_request("move")
    request.reply({"to": request.data})
    return request.id


def test_a_request_is_recorded_given_to_the_code_and_answered():
    life = live(answers, inputs=[requested(data="Bonn")])
    [answer] = [each for each in life.commands if isinstance(each, AnswerRequest)]
    assert (answer.request_id, CODEC.decode(answer.payload)) == ("r1", {"to": "Bonn"})
    assert kinds_of(life) == ["RequestReceived", "RequestAnswered"]
    assert (life.value, lanes(life)) == ("r1", [("request", "move", "completed")])
    assert open_in(life) == []


def test_what_is_awaited_is_said_in_words():
    life = live(answers)
    assert (life.is_waiting, words(life)) == (True, ["a request 'move'"])


def test_a_refusal_is_an_answer_that_has_failed():
    async def orchestrator(ctx):
        (await ctx.wait_request("move")).reject("shipped")

    life = live(orchestrator, inputs=[requested()])
    [answer] = [each for each in life.commands if isinstance(each, AnswerRequest)]
    error, _ = CODEC.decode_failure(answer.payload)
    assert (answer.has_failed, isinstance(error, RequestRejected)) == (True, True)
    assert lanes(life) == [("request", "move", "failed")]


def test_a_time_out_raises():
    async def orchestrator(ctx):
        await ctx.wait_request("move", timeout=2)

    life = live(orchestrator)
    assert isinstance(life.error, TimeoutError)
    assert life.seconds == 2


def test_a_copy_leaves_no_trace_and_a_second_answer_is_refused():
    async def orchestrator(ctx):
        request = await ctx.wait_request("move")
        request.reply()
        with pytest.raises(InvalidState, match="answered already"):
            request.reply()
        await ctx.wait_event("never")

    taken = take(orchestrator, requested())
    assert taken.take(requested()) == []
    taken.machine.abandon()


def test_a_cancel_of_the_execution_reaches_who_waits():
    assert live(answers, inputs=[cancel()]).is_canceled


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.wait_request("move")
        await ctx.sleep(1)

    with pytest.raises(NonDeterminismError, match="RequestAnswered 'move'"):
        live(answers, inputs=[requested()]).replayed(another)
