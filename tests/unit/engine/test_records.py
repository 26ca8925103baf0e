"""Names of activities and ids of instances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.names import check_instance_id
from celery_durable.engine.draft import new_execution_id
from celery_durable.engine.records import ActivityAttemptId


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
def test_a_ticket_is_found_again_in_its_task_id(command: int, attempt: int) -> None:
    ticket = ActivityAttemptId(new_execution_id(), command, attempt)
    assert ActivityAttemptId.parse(ticket.task_id) == ticket
    assert len(ticket.task_id) <= 155


@given(st.none() | st.text())
def test_other_task_ids_hold_no_ticket(task_id: str | None) -> None:
    ticket = ActivityAttemptId.parse(task_id)
    # leading zeros are read, and never written
    assert ticket is None or ticket.task_id == task_id or "-0" in task_id


@pytest.mark.parametrize(
    "task_id",
    [
        None,
        "",
        "d-",
        "d-a-1",
        "d-a-b-1",
        "d-a-1-b",
        "x-a-1-1",
        "d-a-1-1-1",
        "d-a--1-1",
        "d-a-1.0-1",
    ],
)
def test_a_damaged_task_id_holds_no_ticket(task_id: str | None) -> None:
    assert ActivityAttemptId.parse(task_id) is None


def test_every_life_has_a_name_of_its_own() -> None:
    names = {new_execution_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) <= 32 and "-" not in name for name in names)


@pytest.mark.parametrize("instance_id", ["i", "x" * 150, "\U0001f600" * 150, " ", "'", "\n"])
def test_an_id_that_fits_is_taken_as_it_is(instance_id: str) -> None:
    assert check_instance_id(instance_id) == instance_id


@pytest.mark.parametrize("instance_id", ["", "x" * 151, "\x00", "a\x00b", "\ud800"])
def test_an_id_that_no_store_could_keep_is_refused(instance_id: str) -> None:
    with pytest.raises(ValueError, match="id"):
        check_instance_id(instance_id)


@pytest.mark.parametrize("instance_id", [None, 1, b"i"])
def test_an_id_is_a_string(instance_id: object) -> None:
    with pytest.raises(TypeError, match="string"):
        check_instance_id(instance_id)
