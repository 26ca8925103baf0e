"""The header of our messages: what is sent, and what is read of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_durable.worker.headers import MessageHeader, ticket_of

TAG = "0123456789ab"


@pytest.mark.parametrize(
    ("header", "wire"),
    [
        (MessageHeader("activity", TAG), {"n": 0, "s": TAG}),
        (MessageHeader("activity", TAG, 3), {"n": 3, "s": TAG}),
        (MessageHeader("turn", TAG), {"t": "turn", "s": TAG}),
        (MessageHeader("turn", TAG, 2, due=7), {"t": "turn", "s": TAG, "due": 7, "n": 2}),
        (MessageHeader("finish", TAG, execution="e"), {"t": "finish", "x": "e", "s": TAG}),
        (MessageHeader("finish", TAG, 1, "e"), {"t": "finish", "x": "e", "s": TAG, "n": 1}),
    ],
)
def test_wire_format(header: MessageHeader, wire: dict[str, object]) -> None:
    assert list(header.to_wire().items()) == list(wire.items())
    assert MessageHeader.from_wire(wire) == header


@pytest.mark.parametrize("wire", [None, 5, "turn", ["t"]])
def test_what_is_no_object_is_no_header(wire: object) -> None:
    assert MessageHeader.from_wire(wire) is None


def test_forged_values_count_as_not_said() -> None:
    header = MessageHeader.from_wire({"t": ["turn"], "s": 5, "n": "many", "x": {}, "due": "soon"})
    assert header == MessageHeader("unknown", "5", 1)
    assert not header.is_of(TAG + "cdef")


def test_header_of_its_store() -> None:
    assert MessageHeader("turn", TAG).is_of(TAG + "cdef")
    assert MessageHeader("turn", None).is_of("another")
    assert not MessageHeader("turn", TAG).is_of("another")


def test_ticket_needs_the_header_of_an_activity() -> None:
    task_id = f"d-{'0' * 20}-3-1"
    request = SimpleNamespace(id=task_id, headers={"durable": {"n": 0, "s": TAG}})
    assert ticket_of(request) is not None
    request.headers = {"durable": {"t": "turn", "s": TAG}}
    assert ticket_of(request) is None
    request.headers = {}
    assert ticket_of(request) is None
    request.replaced_task_nesting = 1
    assert ticket_of(request) is not None
