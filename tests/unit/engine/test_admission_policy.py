"""What the beginnings of an orchestrator's instances wait for, and what may be declared of it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.limits import Debounce, Limit, Rate
from celery_durable.engine.admission_policy import AdmissionPolicy, declared_policy
from celery_durable.engine.writes import Admission, Slot
from celery_durable.errors import ConfigurationError

SECOND = 1_000_000


async def sync(ctx: Any, customer: str | None, urgent: bool = False) -> None: ...


def admission(policy: AdmissionPolicy | None, *args: Any, **given: Any) -> Admission | None:
    assert policy is not None
    priority, debounces = given.pop("priority", None), given.pop("debounces", True)
    return policy.admission("sync", args, given, priority, debounces=debounces)


def declared(**options: Any) -> AdmissionPolicy | None:
    return declared_policy(sync, options)


# -- declared --------------------------------------------------------------------------------------


def test_without_a_limit_and_a_debounce_there_is_no_policy() -> None:
    assert declared() is None
    assert declared(priority=5) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"limit": "3"}, "limit"),
        ({"limit": [Limit(1), Limit(2)]}, "two limits have the same key"),
        ({"limit": [Limit(1, key="customer"), Limit(2, key="customer")]}, "two limits"),
        ({"limit": Limit(1, key="colour")}, "colour"),
        ({"debounce": 5}, "debounce takes Debounce"),
        ({"debounce": Debounce(5, key="colour")}, "colour"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_orchestrator(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refusal:
        declared(**options)
    assert "orchestrator sync" in str(refusal.value)


def test_limits_of_other_keys_and_periods_are_others() -> None:
    policy = declared(limit=[Limit(1), Limit(2, key="customer"), Rate(3, 60), Rate(4, 61)])
    assert policy is not None
    assert sorted(policy.maxima.values()) == [1, 2, 3, 4]


@pytest.mark.parametrize(("given", "kept"), [(7, 7), (None, 0), ("7", 0)])
def test_a_priority_is_a_number(given: object, kept: int) -> None:
    policy = declared(limit=Limit(1), priority=given)
    assert policy is not None and policy.priority == kept


# -- applied ---------------------------------------------------------------------------------------


def test_each_limit_is_a_place_by_the_value_of_its_key() -> None:
    limits = (Limit(1), Limit(2, key="customer"), Rate(3, 60, key="customer"))
    policy = declared(limit=limits)
    found = admission(policy, "ann")
    assert found is not None
    labels = [limit.label for limit in limits]
    assert found.slots == (
        Slot(labels[0], None, 1, None),
        Slot(labels[1], "ann", 2, None),
        Slot(labels[2], "ann", 3, 60 * SECOND),
    )
    assert found.debounce is None


def test_a_key_of_none_is_not_limited() -> None:
    policy = declared(limit=[Limit(1), Limit(2, key="customer")])
    found = admission(policy, None)
    assert found is not None and [slot.most for slot in found.slots] == [1]
    assert admission(declared(limit=Limit(2, key="customer")), None) is None


@pytest.mark.parametrize(
    ("own", "asked", "chosen"),
    [(5, None, 5), (5, 0, 0), (5, -3, -3), (0, 2**40, 2**31 - 1), (0, -(2**40), -(2**31) + 1)],
)
def test_what_a_start_asks_for_comes_before_what_is_declared_within_a_column(
    own: int, asked: int | None, chosen: int
) -> None:
    found = admission(declared(limit=Limit(1), priority=own), "ann", priority=asked)
    assert found is not None and found.priority == chosen


def test_a_debounce_is_one_by_name_and_key() -> None:
    policy = declared(debounce=Debounce(5, key="customer", max_wait=60))
    ann, bob = admission(policy, "ann"), admission(policy, "bob")
    assert ann is not None and bob is not None and policy is not None
    assert (ann.slots, ann.quiet, ann.max_wait) == ((), 5 * SECOND, 60 * SECOND)
    assert ann == admission(policy, customer="ann")
    assert ann.debounce != bob.debounce
    other = policy.admission("other", ("ann",), {}, None, debounces=True)
    assert other is not None and other.debounce != ann.debounce
    assert len(ann.debounce or "") == 40  # the column has no more


def test_what_begins_at_once_is_not_debounced() -> None:
    policy = declared(debounce=Debounce(5))
    assert admission(policy, "ann", debounces=False) is None
    found = admission(policy, "ann")
    assert found is not None and found.max_wait is None


def test_a_key_that_cannot_be_computed_names_its_limit() -> None:
    policy = declared(limit=Limit(1, key=lambda *args, **kwargs: 1 / 0))
    with pytest.raises(
        ValueError, match=r"the key of its limit '\S+' cannot be told: ZeroDivisionError"
    ):
        admission(policy, "ann")
    odd = declared(debounce=Debounce(5, key=lambda *args, **kwargs: [1]))
    with pytest.raises(ValueError, match=r"'debounce' cannot be told: TypeError.*not list"):
        admission(odd, "ann")
