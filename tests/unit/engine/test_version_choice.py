"""Which version of its code a start gets."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.plain_task import TASK
from celery_durable.engine.registry import Definition, Registry
from celery_durable.engine.switches import Ramp, Switched
from celery_durable.engine.version_choice import OPEN, VersionChoice, choose_version
from celery_durable.errors import ConfigurationError
from celery_durable.payload import PayloadCodec

from .rows import instance_row

ALL, NOBODY = 1.0, 0.0


async def flow(ctx: Any) -> None: ...


def choice(*versions: str | None, ramp: Ramp | None = None, **own: Any) -> VersionChoice:
    """Return the choice of a process that has these versions of "flow", in this order."""
    registry = Registry()
    for version in versions:
        registry.add(Definition("flow", version, flow, **own))
    switched = Switched(ramps={} if ramp is None else {"flow": ramp})
    board: Any = SimpleNamespace(current=lambda: switched)
    return VersionChoice(registry, board, PayloadCodec())


@pytest.mark.parametrize(
    ("versions", "ramp", "version", "has_code"),
    [
        ([], None, OPEN, False),
        (["1", "2"], None, "2", True),
        (["2", "1"], None, "1", True),  # the newest is what was declared last
        (["1", "2"], Ramp("2", ALL), "2", True),
        (["1", "2"], Ramp("2", NOBODY), "1", True),
        (["1", "2", "3"], Ramp("2", NOBODY), "3", True),
        (["1"], Ramp("2", ALL), "2", False),  # another worker has it
        (["1"], Ramp("2", NOBODY), "1", True),
        (["2"], Ramp("2", NOBODY), OPEN, False),  # it cannot tell what the others get
        ([None, "2"], Ramp("2", NOBODY), None, True),
        (["1", None], Ramp(None, ALL), None, True),
    ],
)
def test_a_start_gets_the_ramped_version_or_the_newest_of_the_others(
    versions: list[str | None], ramp: Ramp | None, version: str | None, has_code: bool
) -> None:
    found, definition = choice(*versions, ramp=ramp).of_start("flow", "i")
    assert (found, definition is not None) == (version, has_code)
    assert definition is None or definition.version == version


def test_a_version_that_the_start_names_is_that_whatever_the_ramp() -> None:
    chosen = choice("1", "2", ramp=Ramp("2", ALL))
    assert chosen.of_start("flow", "i", "1")[0] == "1"
    with pytest.raises(ConfigurationError, match="'3'"):
        chosen.of_start("flow", "i", "3")


@pytest.mark.parametrize(
    ("versions", "ramp", "version"),
    [
        ([], None, OPEN),
        (["2"], Ramp("2", NOBODY), "2"),  # nobody else is known to have another
        (["1", "2"], Ramp("2", NOBODY), "1"),
    ],
)
def test_the_first_turn_takes_the_only_version_that_is_known(
    versions: list[str | None], ramp: Ramp | None, version: str | None
) -> None:
    assert choice(*versions, ramp=ramp).of_first_turn("flow", "i") == version


@pytest.mark.parametrize(
    ("versions", "now", "stored"),
    [(["1"], OPEN, ["1"]), (["1"], "0", []), ([], OPEN, []), (["1"], None, [])],
)
def test_a_version_is_stored_once_and_only_where_it_can_be_told(
    versions: list[str | None], now: str | None, stored: list[str]
) -> None:
    chosen: list[tuple[Any, ...]] = []
    turns = SimpleNamespace(choose_version=lambda *given: chosen.append(given))
    store: Any = SimpleNamespace(turns=turns)
    assert choose_version(choice(*versions), store, instance_row(version=now)) is bool(stored)
    assert chosen == [("i", "e", OPEN, version) for version in stored]


@pytest.mark.parametrize(
    ("declares", "upgrade", "version"),
    [
        (False, None, "1"),
        (True, None, "2"),
        (True, False, "1"),
        (False, True, "2"),
        (False, "3", "3"),
    ],
)
def test_the_next_execution_has_what_continue_as_new_says_or_the_declaration(
    declares: bool, upgrade: bool | str | None, version: str
) -> None:
    versions = choice("1", "2", upgrade=declares)
    definition = versions.registry.get("flow", "1")
    assert definition is not None
    assert versions.following(definition, "i", upgrade) == version


def test_an_upgrade_that_cannot_be_told_keeps_the_version() -> None:
    versions = choice("2", ramp=Ramp("2", NOBODY))
    assert versions.following(Definition("flow", "2", flow), "i", True) == "2"


@pytest.mark.parametrize(
    ("ramp", "shares"),
    [
        (None, {"1": 0.0, "2": 1.0}),
        (Ramp("2", 0.25), {"1": 0.75, "2": 0.25}),
        (Ramp("1", 0.25), {"1": 0.25, "2": 0.75}),
        (Ramp("3", 0.25), {"1": 0.0, "2": 0.75, "3": 0.25}),
    ],
)
def test_the_shares_of_all_versions_are_one_together(
    ramp: Ramp | None, shares: dict[str, float]
) -> None:
    versions = choice("1", "2", ramp=ramp)
    assert {each: versions.share("flow", each) for each in shares} == shares
    assert sum(shares.values()) == 1
    ramped = {each for each in shares if versions.is_ramped("flow", each)}
    assert ramped == (set() if ramp is None else {ramp.version})


def test_a_plain_task_of_a_schedule_needs_no_code_here() -> None:
    plain = json.dumps({"plain_task": {}})
    versions = choice("1")
    assert versions.of_schedule("charge", "i", plain)[0] == TASK
    assert versions.of_schedule("flow", "i", None)[0] == "1"
    assert versions.has_code("charge", plain)
    assert versions.has_code("flow", None)
    assert not versions.has_code("charge", None)
