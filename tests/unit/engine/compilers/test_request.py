"""The row of an answer, and what is told of requests that get none."""

from __future__ import annotations

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import AnswerRequest
from celery_durable.core.names import request_key
from celery_durable.engine.compilers.request import answer_request, dropped, unanswered
from celery_durable.engine.records import UNANSWERED, Answer

from .drafts import new_draft


def test_an_answer_lies_under_the_key_of_its_request() -> None:
    draft = new_draft()
    answer_request(draft, AnswerRequest(3, "r1", "move", "5", False))
    answer_request(draft, AnswerRequest(4, "r2", "move", "{}", True))
    assert [tuple(each) for each in draft.commit.answers] == [
        (request_key("r1"), Answer("5", False)),
        (request_key("r2"), Answer("{}", True)),
    ]


def test_of_messages_that_are_dropped_the_requests_are_answered_by_nothing() -> None:
    events = [
        Event(EventKind.EVENT_RAISED, 1, facts={"id": "e1"}),
        Event(EventKind.REQUEST_RECEIVED, 1, facts={"id": "r1"}),
    ]
    assert dropped(events) == unanswered(["r1"])
    assert [each.answer for each in unanswered(["r1"])] == [UNANSWERED]
