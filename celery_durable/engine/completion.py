"""Completion by token: how an activity ends whose body has said that its outcome comes from
elsewhere.

``durable_context().defer()`` gives a token of the attempt. When the body returns, the row of the
attempt stays: no worker holds it, its time limits and its slot in a window hold on. A client that
has the token brings the outcome, which comes in as every outcome does. The row is what makes it
count once: an outcome deletes it, as do a time-out, a cancel, a rewind and a purge.
"""

from __future__ import annotations

from typing import Any

from .._errors import ActivityError
from ..core.guard import refuse_inside_orchestrator
from .completion_tokens import checked, opened
from .control import Control
from .cursor import Cursor
from .outcome import OutcomeDesk, Verdict
from .records import ActivityAttemptId, Outcome, Recorded
from .store_ports import Store

__all__ = ["complete", "fail", "failure_of", "heartbeat"]


def complete(control: Control, token: str, value: Any = None, session: Any = None) -> bool:
    """Give an activity its result; False if it is over already, or is not of this store.

    Raises:
        ValueError: the token is damaged.
        PayloadError: the value cannot be encoded.
    """
    refuse_inside_orchestrator("complete()")
    body = checked(token)
    return _end(control, body, control.codec.encode(value), session, has_failed=False)


def fail(control: Control, token: str, error: BaseException | str, session: Any = None) -> bool:
    """Let an attempt of an activity have failed; False if it is over already, or is not of this
    store.

    Raises:
        ValueError: the token is damaged.
        TypeError: ``error`` is neither an exception nor text.
    """
    refuse_inside_orchestrator("fail()")
    body = checked(token)
    payload = control.codec.encode_failure(failure_of(error))
    return _end(control, body, payload, session, has_failed=True)


def failure_of(error: BaseException | str) -> BaseException:
    """Return the exception that an attempt failed with; text becomes an ``ActivityError``.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(error, BaseException):
        return error
    if not isinstance(error, str):
        raise TypeError(f"fail() takes an exception or text, not {type(error).__name__}")
    name = f"{ActivityError.__module__}.{ActivityError.__qualname__}"
    return ActivityError(error, type=name, message=error)


def _end(control: Control, body: bytes, payload: str, session: Any, *, has_failed: bool) -> bool:
    transaction = control.transactions.find(session)
    ticket = opened(control.store.completion_key(), body)
    if ticket is None:
        return False
    outcome, desk = Outcome(ticket, payload, has_failed), control.runner.outcomes
    if transaction is None:
        return desk.accept(outcome) is not Verdict.LATE

    def record(store: Store, cursor: Cursor) -> Recorded | None:
        return store.outcomes.record_within(cursor, outcome)

    recorded = transaction.write(record)
    if recorded is None:
        return False
    transaction.after_commit(lambda: _follow(desk, ticket, recorded))
    return True


def _follow(desk: OutcomeDesk, ticket: ActivityAttemptId, recorded: Recorded) -> None:
    desk.follow(ticket, recorded)


def heartbeat(control: Control, token: str, details: Any = None) -> bool:
    """Note that an activity makes progress, as its body would; False if it is over already, or is
    not of this store.

    Raises:
        ValueError: the token is damaged.
        PayloadError: ``details`` cannot be encoded.
    """
    refuse_inside_orchestrator("heartbeat()")
    body = checked(token)
    payload = None if details is None else control.codec.encode(details)
    transaction = control.transactions.find()
    ticket = opened(control.store.completion_key(), body)
    if ticket is None:
        return False

    def note(store: Store, cursor: Cursor) -> bool:
        return store.attempts.heartbeat_within(cursor, ticket, payload)

    if transaction is not None:
        return transaction.write(note)
    return bool(control.store.attempts.heartbeat_outside(ticket, payload))
