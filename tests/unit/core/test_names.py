"""The kinds of ids cannot meet, and every id that the engine makes of others can be kept."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from celery_durable.core.entity import LONGEST_NAME, entity_id
from celery_durable.core.kinds.child import child_id_of
from celery_durable.core.names import (
    LONGEST_ID,
    ActivityAttemptId,
    check_instance_id,
    check_new_id,
    next_id,
    parts_of_id,
)
from celery_durable.core.ports import ExecutionInfo
from celery_durable.engine.draft import new_execution_id
from celery_durable.engine.schedules import tick_id

_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    min_size=1,
    max_size=LONGEST_ID,
)
_number = st.integers(0, 10**9 - 1)
tickets = st.builds(
    lambda call, attempt: ActivityAttemptId(new_execution_id(), call, attempt).task_id,
    _number,
    _number,
)
entity_names = st.from_regex(r"[a-zA-Z_éß][\w.-]{0,59}", fullmatch=True)
entities = st.builds(lambda name, key: entity_id(name, key[: 148 - len(name)]), entity_names, _text)


def is_new_id(instance_id: str) -> bool:
    try:
        return check_new_id(instance_id) == instance_id
    except ValueError:
        return False


#: What looks most like an id of another kind.
near_misses = st.one_of(
    tickets.map(lambda id_: id_.upper()),
    tickets.map(lambda id_: f"{id_}\n"),
    entities.map(lambda id_: id_[1:]),
    entities.map(lambda id_: id_.rpartition("@")[0]),
    st.from_regex(r"d-[0-9a-g]{19,21}-[0-9]{1,10}-[0-9]{1,10}", fullmatch=True),
)
chosen_ids = (_text | near_misses).filter(is_new_id)
schedule_names = st.builds(lambda text: text[:100], chosen_ids).filter(
    lambda name: not name.startswith("@")
)
ticks = st.builds(
    tick_id, schedule_names, st.integers(0, 4_102_444_800_000_000)
) | schedule_names.map(lambda name: f"{name}@manual-{'0' * 32}")


def child_id(instance_id: str, command: int) -> str:
    facts = ExecutionInfo(instance_id, new_execution_id(), "orchestrator", None, None)
    return child_id_of(facts, command)


children = st.builds(child_id, chosen_ids | ticks, _number)
further = st.builds(next_id, chosen_ids | children | ticks, st.integers(2, 10**9))


@given(tickets | entities | chosen_ids | ticks | children | further)
@example("@Counter@")
@example("@@")
@example("d-order-12-3")
def test_an_id_is_of_one_kind(id_: str) -> None:
    kinds = [ActivityAttemptId.parse(id_) is not None, parts_of_id(id_) is not None, is_new_id(id_)]
    assert sum(kinds) <= 1


@given(tickets)
def test_the_task_id_of_an_activity_is_no_instance_id(id_: str) -> None:
    with pytest.raises(ValueError, match="activity"):
        check_new_id(id_)
    with pytest.raises(ValueError, match="activity"):
        check_new_id(id_, "Counter")


@given(entities)
@example("@Counter@")
def test_the_id_of_an_entity_is_that_of_its_own_orchestrator_only(id_: str) -> None:
    with pytest.raises(ValueError, match="entities"):
        check_new_id(id_)
    name = id_[1:].partition("@")[0]
    assert check_new_id(id_, name) == id_
    with pytest.raises(ValueError, match="entities"):
        check_new_id(id_, f"{name}x")


@given(ticks | children | further)
def test_what_the_engine_names_may_be_started_and_kept(id_: str) -> None:
    assert is_new_id(id_)


@given(chosen_ids, st.integers(1, 10**9), st.integers(1, 10**9))
def test_attempts_have_ids_of_their_own(base: str, one: int, other: int) -> None:
    assume(one != other)
    assert len({base, next_id(base, one), next_id(base, other)}) == 3


_tails = st.text("abc~2", min_size=2, max_size=2)


@given(_tails, _tails, st.integers(0, 20))
def test_attempts_of_two_children_do_not_meet_for_their_length(
    one: str, other: str, shorter: int
) -> None:
    assume(one != other)
    base = "x" * (LONGEST_ID - 2 - shorter)
    assert next_id(base + one, 2) != next_id(base + other, 2)


@given(schedule_names, schedule_names, st.integers(0, 10**15), st.integers(0, 10**15))
def test_ticks_of_two_schedules_do_not_meet(
    one: str, other: str, tick: int, other_tick: int
) -> None:
    assume((one, tick) != (other, other_tick))
    assert tick_id(one, tick) != tick_id(other, other_tick)


def test_the_longest_name_of_an_entity_leaves_room_for_a_key() -> None:
    assert check_instance_id(entity_id("N" * LONGEST_NAME, "k" * (148 - LONGEST_NAME)))
