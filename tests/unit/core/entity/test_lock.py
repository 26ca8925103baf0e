"""What waits for the end of a lock: in the state while it is little, else put aside in batches."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest

from celery_durable.core.entity.lock import Lock, Waiting
from celery_durable.payload import PayloadCodec

CODEC = PayloadCodec()


def op(number: int) -> dict[str, Any]:
    return {"op": "add", "args": [number], "id": f"message-{number}"}


@pytest.fixture(autouse=True)
def little_is_kept():
    with patch("celery_durable.core.entity.lock.MOST_KEPT", 100):
        yield


def test_a_free_entity_takes_each_message_at_once_and_in_order():
    waiting = Waiting(CODEC)
    for number in range(9):
        waiting.keep(op(number), is_free=True)
    assert [waiting.next()["args"] for _ in range(9)] == [[number] for number in range(9)]
    assert not waiting


def test_what_is_too_much_for_the_state_is_put_aside_without_its_id():
    waiting = Waiting(CODEC)
    for number in range(4):
        waiting.keep(op(number), is_free=False)
    aside = waiting.take_aside(is_free=False)
    assert waiting.has_aside
    kept = len(waiting.saved_queue())
    assert 0 < kept < 4
    assert [number for number, _, _ in aside.put] == list(range(1, 4 - kept + 1))
    assert all(
        json.loads(text).get("was_aside") and "id" not in json.loads(text)
        for _, _, text in aside.put
    )


def test_a_batch_is_shown_once_the_lock_is_free_and_the_next_after_it():
    waiting = Waiting(CODEC)
    for number in range(8):
        waiting.keep(op(number), is_free=False)
    first = waiting.take_aside(is_free=True)
    assert first.shows is not None
    assert json.loads(first.end) == {"shown": first.shows}
    assert waiting.take_aside(is_free=True) is None, "the batch that is shown was not seen yet"
    waiting.note_shown()
    second = waiting.take_aside(is_free=True)
    assert second.shows is not None
    assert second.shows > first.shows


def test_a_request_that_is_withdrawn_is_forgotten_wherever_it_waits():
    waiting = Waiting(CODEC)
    waiting.keep({"lock": "a:1"}, is_free=False)
    assert waiting.has_request("a:1")
    waiting.drop("a:1")
    assert not waiting.has_request("a:1")
    for number in range(4):
        waiting.keep(op(number), is_free=False)
    waiting.keep({"lock": "a:2"}, is_free=False)
    waiting.withdraw("a:2")
    assert waiting.was_withdrawn({"lock": "a:2", "was_aside": True})
    aside = waiting.take_aside(is_free=False)
    assert aside.withdrawn == ["a:2"]
    assert "a:2" not in [request for _, request, _ in aside.put]


def test_it_is_saved_as_a_value_and_comes_back_from_it():
    waiting = Waiting(CODEC)
    assert (waiting.saved_queue(), waiting.saved_aside()) == ([], None)
    for number in range(6):
        waiting.keep(op(number), is_free=False)
    again = Waiting(CODEC, waiting.saved_queue(), tuple(waiting.saved_aside()))
    assert again.saved_queue() == waiting.saved_queue()
    assert again.saved_aside() == waiting.saved_aside()
    lock = Lock("a:1", 5, 10, is_watched=True, holder="i")
    assert Lock(*lock.saved()) == lock
