"""The rows of the table of verbs: what is stored and public of them stays, and each is whole."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from celery_durable.app.durable import Durable
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.verb import Effect, Surface
from celery_durable.engine.verbs import VERBS, offered_in
from celery_durable.errors import InvalidState
from celery_durable.handles.orchestration import Orchestration

#: Those whose names, permissions and places are stored or public.
KNOWN = [
    "raise_event",
    "suspend",
    "resume",
    "cancel",
    "terminate",
    "rewind",
    "restart",
    "purge",
    "fork",
    "override",
]
OWN = Path(__file__).parent / "verbs"
EVERY = pytest.mark.parametrize("name", list(VERBS))


def test_names_and_their_order_stay() -> None:
    assert [name for name in VERBS if name in KNOWN] == KNOWN


def test_each_verb_has_a_test_of_its_own_and_no_other_has() -> None:
    found = {path.stem.removeprefix("test_"): path for path in OWN.glob("test_*.py")}
    assert set(found) == set(VERBS)
    for name, path in found.items():
        assert re.search(rf'\(OfVerb\):\n    name = "{name}"\n', path.read_text()), path


def test_surfaces_offer_what_they_have_always_offered() -> None:
    left_out = {
        surface: set(KNOWN) - {verb.name for verb in offered_in(surface)} for surface in Surface
    }
    assert left_out == {
        Surface.CODE: set(),
        Surface.CLI: set(),
        Surface.HTTP: {"cancel", "fork", "override"},
        Surface.ADMIN: {"fork", "override"},
        Surface.FLOWER: {"fork", "override"},
    }


@EVERY
def test_permission_is_what_databases_hold(name: str) -> None:
    assert VERBS[name].permission == f"{name}_instance"


@EVERY
def test_each_status_is_in_one_column_at_most(name: str) -> None:
    verb = VERBS[name]
    assert not set(verb.acts_in) & set(verb.ignored_in)
    assert verb.acts_in


@EVERY
def test_function_takes_the_arguments_of_its_row(name: str) -> None:
    verb = VERBS[name]
    expected = {each.name for each in verb.arguments} | ({"reason"} if verb.keeps_reason else set())
    taken = list(inspect.signature(verb.function).parameters)[2:]
    assert expected <= set(taken)
    assert set(taken) - expected <= {"session", "override"}  # of the code alone
    if verb.forecast is not None:
        assert expected <= set(inspect.signature(verb.forecast).parameters)


@EVERY
def test_handle_has_a_method_with_the_defaults_of_the_row(name: str) -> None:
    verb = VERBS[name]
    parameters = inspect.signature(getattr(Orchestration, name)).parameters
    for argument in verb.arguments_in(Surface.CODE):
        default = inspect.Parameter.empty if argument.is_required else argument.default
        assert parameters[argument.name].default == default
    assert ("reason" in parameters) == verb.keeps_reason
    assert ("dry_run" in parameters) == (verb.forecast is not None)


@pytest.mark.parametrize("name", KNOWN)
def test_verbs_for_many_are_methods_of_durable(name: str) -> None:
    parameters = inspect.signature(getattr(Durable, name)).parameters
    assert ("filters" in parameters) == VERBS[name].is_bulk


def test_refusal_names_what_was_found_and_what_is_needed() -> None:
    with pytest.raises(InvalidState) as refusal:
        VERBS["override"].acts(RuntimeStatus.PENDING, "i")
    assert str(refusal.value) == (
        "orchestration 'i' is PENDING: override needs one that is RUNNING, SUSPENDED or FAILED"
    )
    assert refusal.value.facts == {
        "instance_id": "i",
        "status": RuntimeStatus.PENDING,
        "verb": "override",
        "needed": VERBS["override"].acts_in,
    }
    assert not VERBS["suspend"].acts(RuntimeStatus.SUSPENDED, "i")
    assert VERBS["suspend"].effect_in(RuntimeStatus.SUSPENDED) is Effect.NOTHING
