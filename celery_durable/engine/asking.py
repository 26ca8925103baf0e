"""Asking an orchestration, and reading its answer.

A request is a message in the inbox, as an event is, and its answer a row that the turn commits. Who
asks puts the one and reads the other, again and again; nothing else connects the two.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigurationError, InstanceNotFound, InvalidState
from ..core.guard import refuse_inside_orchestrator
from ..core.history import EventKind
from ..core.names import (
    LONGEST_EVENT,
    check_instance_id,
    checked_key,
    checked_text,
    parts_of_id,
    request_key,
)
from ..core.status import RuntimeStatus
from .control import Control
from .records import Answer, Asked
from .start import Nudge
from .verb import LIVE, refusal
from .writes import CHECK_MESSAGE_AFTER, NewInbox

__all__ = ["Question", "answer_to", "ask", "refuse_within"]

#: So many seconds lie between two looks at old answers.
_DROP_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was asked."""

    instance_id: str
    name: str
    #: The same one again is the same request.
    request_id: str

    @property
    def key(self) -> str:
        """Its key in the store."""
        return request_key(self.request_id)


def ask(
    control: Control, instance_id: str, name: str, data: Any, request_id: str | None
) -> Question:
    """Put a request into the inbox of an orchestration, unless it is answered already.

    It is committed at once, whatever transaction is open around the caller.

    Raises:
        InvalidState: the orchestration is over, or is an entity.
        InstanceNotFound: there is none.
        ConfigurationError: the transaction that starts it is still open.
        ValueError: the name or the id cannot be used.
        PayloadError: the data cannot be encoded.
    """
    refuse_inside_orchestrator("ask()")
    question = _question(check_instance_id(instance_id), name, request_id)
    message = NewInbox(
        instance_id,
        EventKind.REQUEST_RECEIVED,
        f"request:{question.key}",
        name=name,
        payload=control.codec.encode(data),
        facts={"id": question.request_id},
        check_after=CHECK_MESSAGE_AFTER,
    )
    asked = control.store.answers.read(instance_id, question.key)
    if asked is None:
        _refuse_unborn(control, instance_id)
    if _answer_in(asked, question) is None:
        _drop_old(control)
        control.store.inbox.put([message])  # one that came in between is found by the next look
        control.publish([instance_id])
    return question


def refuse_within(control: Control, instance_id: str, nudge: object) -> None:
    """Refuse to ask within the transaction that starts an orchestration, as far as its handle
    tells.

    Raises:
        ConfigurationError: that is still open.
    """
    if not isinstance(nudge, Nudge) or nudge.has_committed:
        return
    is_there = control.store.reads.status_of(instance_id) is not None
    if not is_there or control.transactions.find() is not None:
        raise _unborn(instance_id)


def answer_to(control: Control, question: Question) -> Answer | None:
    """Return the answer to a request, or None while there is none.

    Raises:
        InvalidState: there will be none, as the orchestration is over, or has continued as new.
        InstanceNotFound: it is gone.
    """
    return _answer_in(control.store.answers.read(question.instance_id, question.key), question)


def _question(instance_id: str, name: str, request_id: str | None) -> Question:
    name = checked_text(name, "a request's name", LONGEST_EVENT)
    if request_id is None:
        request_id = uuid.uuid4().hex
    request_id = checked_key(request_id, "a request's id")
    if parts_of_id(instance_id) is not None:
        raise InvalidState(
            f"{instance_id!r} is an entity: ask is for orchestrations", instance_id=instance_id
        )
    return Question(instance_id, name, request_id)


def _answer_in(asked: Asked | None, question: Question) -> Answer | None:
    id_ = question.instance_id
    if asked is None:
        raise InstanceNotFound(f"there is no orchestration {id_!r}", instance_id=id_)
    status, answer = asked
    if answer is None and status.is_terminal:
        raise refusal("ask", LIVE, status, id_)
    if answer is not None and answer.payload is None:
        raise InvalidState(
            f"orchestration {id_!r} has continued as new without an answer to request"
            f" {question.request_id!r} ({question.name}): ask again, with another request_id",
            instance_id=id_,
            status=status,
        )
    return answer


def _refuse_unborn(control: Control, instance_id: str) -> None:
    """Refuse to ask what only the caller's transaction knows: it begins with the commit.

    Raises:
        ConfigurationError: it was started there.
    """
    transaction = control.transactions.find()
    if transaction is None:
        return
    status: RuntimeStatus | None = transaction.write(
        lambda store, cursor: store.reads.status_within(cursor, instance_id)
    )
    if status is not None:
        raise _unborn(instance_id)


def _unborn(instance_id: str) -> ConfigurationError:
    """Return the error of asking within the transaction that starts what is asked."""
    return ConfigurationError(
        f"orchestration {instance_id!r} begins when the transaction that starts it commits: asked"
        " within it, it could never answer. Ask after the commit",
        instance_id=instance_id,
    )


def _drop_old(control: Control) -> None:
    """Now and then, delete answers that are an hour old."""
    answers, now = control.store.answers, time.monotonic()
    if now >= control.drops_answers_at and not answers.drop_old():
        control.drops_answers_at = now + _DROP_EVERY
