"""What verbs share: a change is tried again while turns are faster, and a message is sent once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.control import TRIES, Control
from celery_durable.engine.verbs import VERBS
from celery_durable.errors import DurableError, InstanceNotFound, InvalidState


class Stage:
    """A store with one instance, and a publisher that remembers what it sent."""

    def __init__(self, status: RuntimeStatus | None = RuntimeStatus.RUNNING) -> None:
        self.status = status
        self.loads = 0
        self.sent: list[str] = []
        self.takes_messages = True
        instance = None if status is None else SimpleNamespace(id="i", status=status)
        store = SimpleNamespace(
            audit=SimpleNamespace(),
            turns=SimpleNamespace(load=self._load),
            inbox=SimpleNamespace(put=lambda messages: self.takes_messages),
            reads=SimpleNamespace(fetch=lambda id_: instance, turn_addresses=lambda ids: list(ids)),
        )
        publisher = SimpleNamespace(publish_turn=self.sent.append)
        runner = SimpleNamespace(starter=SimpleNamespace())
        parts: list[Any] = [store, SimpleNamespace(), SimpleNamespace(), publisher, runner]
        self.control = Control(*parts)

    def _load(self, *_: Any) -> Any:
        self.loads += 1
        return None if self.status is None else SimpleNamespace(number=self.loads)


def test_a_change_is_tried_again_with_a_new_snapshot() -> None:
    stage, seen = Stage(), list[int]()

    def commit(snapshot: Any) -> bool:
        seen.append(snapshot.number)
        return snapshot.number == 3

    stage.control.change("i", commit)
    assert seen == [1, 2, 3]


def test_a_change_gives_up_when_turns_are_always_faster() -> None:
    stage = Stage()
    with pytest.raises(DurableError, match="'i' moves too fast to be changed"):
        stage.control.change("i", lambda snapshot: False)
    assert stage.loads == TRIES


def test_a_change_needs_an_instance() -> None:
    with pytest.raises(InstanceNotFound, match="'i'"):
        Stage(None).control.change("i", lambda snapshot: True)


def test_a_message_that_is_taken_is_followed_by_a_turn() -> None:
    stage, message = Stage(), SimpleNamespace(instance="i")
    stage.control.send(message, VERBS["raise_event"])  # type: ignore[arg-type]
    assert stage.sent == ["i"]


def test_a_message_that_is_not_taken_is_refused_as_the_verb_says() -> None:
    stage, message = Stage(RuntimeStatus.COMPLETED), SimpleNamespace(instance="i")
    stage.takes_messages = False
    with pytest.raises(InvalidState, match="raise_event needs one that is"):
        stage.control.send(message, VERBS["raise_event"])  # type: ignore[arg-type]
    assert stage.sent == []


def test_what_is_there_already_is_sent_again() -> None:
    """A repeat may follow a crash between the message and its turn."""
    stage, message = Stage(), SimpleNamespace(instance="i")
    stage.takes_messages = False  # its key is there: the same message came before
    stage.control.send(message, VERBS["cancel"])  # type: ignore[arg-type]
    assert stage.sent == ["i"]
