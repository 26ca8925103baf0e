"""The tables of states: whole, and drawn as the page shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.states import (
    ACTIVITY,
    GONE,
    INSTANCE,
    MESSAGE,
    allows,
    page_with_pictures,
)
from celery_durable.engine.verbs import VERBS

PAGE = Path(__file__).parents[3] / "docs/internals/states.md"


def test_the_page_shows_the_tables() -> None:
    page = PAGE.read_text()
    assert page.count("stateDiagram-v2") == 3
    assert page_with_pictures(page) == page
    pictures = page.split("```mermaid")[1:]
    assert not any(";" in each.partition("```")[0] for each in pictures)  # it ends a statement


def test_every_status_is_a_state() -> None:
    assert [state.name for state in INSTANCE] == list(RuntimeStatus)


@pytest.mark.parametrize(
    "table", [INSTANCE, ACTIVITY, MESSAGE], ids=["instance", "activity", "message"]
)
def test_every_move_leads_to_a_state(table: tuple) -> None:
    names = {state.name for state in table} | {GONE}
    for state in table:
        assert state.moves and {move.to for move in state.moves} <= names


def test_an_ended_instance_runs_again_only_by_a_rewind() -> None:
    revivals = {
        (before, after)
        for before in RuntimeStatus
        for after in RuntimeStatus
        if before.is_terminal and before is not after and allows(before, after)
    }
    assert revivals == {(RuntimeStatus.FAILED, RuntimeStatus.RUNNING)}


@pytest.mark.parametrize(
    ("verb", "after"),
    [("suspend", "SUSPENDED"), ("terminate", "TERMINATED"), ("rewind", "RUNNING")],
)
def test_verbs_act_where_their_move_is(verb: str, after: str) -> None:
    acts_in = set(VERBS[verb].acts_in)
    assert acts_in == {status for status in RuntimeStatus if _has_move(status, after, f"{verb}()")}


def _has_move(status: RuntimeStatus, after: str, by: str) -> bool:
    (state,) = [state for state in INSTANCE if state.name == status]
    return any(move.to == after and by in move.by for move in state.moves)
