"""Every public name of ``azure-functions-durable`` and ``durabletask`` is here, taking the same, or
the guide says what to do.

``azure_names.json`` lists them, by package, module and class: the parameters of what can be called,
null for the rest.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_durable import azure
from celery_durable.azure.missing import MISSING

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "howto" / "porting-from-azure.md").read_text()
MISSING_THERE = PAGE.partition("## What is not here")[2].partition("\n## ")[0]
DOCUMENTED = {re.sub(r"\(.*|=.*", "", each) for each in re.findall(r"`([^`\n]+)`", MISSING_THERE)}
VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
TOP = "celery_durable.azure"
# the two releases of Azure's have different names
OTHER = {"tasks": "activities", "entityId": "entity_instance_id"}


def names() -> Iterator[tuple[str, str, dict[str, str | None]]]:
    """Give module, class or function, and its members with their parameters.

    That of a function is nameless.
    """
    for modules in json.loads((HERE / "azure_names.json").read_text()).values():
        for module, members in modules.items():
            for name, facts in members.items():
                yield module, name, {"": None, **facts} if isinstance(facts, dict) else {"": facts}


@functools.cache
def source_of(cls: type) -> str:
    """Return the text of a class, which is slow to find."""
    return inspect.getsource(cls)


def found(module: str, name: str, member: str = "") -> Any:
    """Return what has that name here; None if nothing has, or it is refused."""
    try:
        home = importlib.import_module(f"{TOP}.{module}" if module else TOP)
    except ModuleNotFoundError:
        return None
    if name not in vars(home):
        return None
    here = getattr(home, name)
    if not member or member == "__init__":
        return here
    given = inspect.getattr_static(here, member, None)
    is_set = f"self.{member} =" in source_of(here) or member in getattr(
        here, "__dataclass_fields__", {}
    )
    return member if given is None and is_set else given


def problem_of(theirs: str, here: Any) -> str | None:
    """Say why a call that theirs takes is refused here.

    Options that the guide names as refused aside.
    """
    ours = list(inspect.signature(getattr(here, "__func__", here)).parameters.values())
    ours = ours[1:] if ours and ours[0].name == "self" else ours
    by_name = {each.name: each for each in ours}
    takes_all = any(each.kind is each.VAR_KEYWORD for each in ours)
    given, is_by_place = set(), True
    for place, text in enumerate(filter(None, theirs.split(", "))):
        if text.startswith("*"):
            is_by_place = False
            continue
        name = text.rstrip("=")
        known = {name, OTHER.get(name, name)}
        given |= known
        if name not in DOCUMENTED:
            if not known & by_name.keys() and not takes_all:
                return f"it takes no {name}="
            if is_by_place and text == name and not takes_all and ours[place].name not in known:
                return f"{name} is not number {place}"
            if (
                text != name
                and name in by_name
                and by_name[name].default is inspect.Parameter.empty
            ):
                return f"{name} cannot be left out"
    more = [each.name for each in ours if each.default is each.empty and each.kind not in VARIABLE]
    return f"it wants {more} too" if set(more) - given else None


@pytest.mark.parametrize(
    ("module", "name", "members"),
    [pytest.param(*each, id=".".join(filter(None, each[:2]))) for each in names()],
)
def test_a_name_is_here_or_in_the_guide(
    module: str, name: str, members: dict[str, str | None]
) -> None:
    """A class that the guide says is missing needs no word for its members."""
    if name in DOCUMENTED and found(module, name) is None:
        return
    problems = {
        member or name: _judged(module, name, member, theirs) for member, theirs in members.items()
    }
    assert {member: problem for member, problem in problems.items() if problem} == {}


def _judged(module: str, name: str, member: str, theirs: str | None) -> str | None:
    here = found(module, name, member)
    if (member or name) in DOCUMENTED:
        return None
    if here is None:
        return "it is neither here nor in the guide"
    is_called = theirs is not None and callable(getattr(here, "__func__", here))
    return problem_of(theirs or "", here) if is_called else None


def test_the_list_is_whole() -> None:
    """A list that lost its members would prove nothing."""
    listed = list(names())
    assert len(listed) > 100 and sum(len(members) for _, _, members in listed) > 450


def test_what_is_refused_is_in_the_guide() -> None:
    assert [
        name for name in MISSING if name != "trigger" and name.rstrip("=") not in DOCUMENTED
    ] == []


@pytest.mark.parametrize("module", ["", "client", "entities", "task", "worker"])
def test_a_class_that_is_missing_is_refused_in_words(module: str) -> None:
    home = importlib.import_module(f"{TOP}.{module}" if module else TOP)
    for name in (each for each in MISSING if each[0].isupper() and each.isidentifier()):
        with pytest.raises(
            azure.NotSupported,
            match=f"^{name} is not available: .+ See the guide to porting from Azure$",
        ):
            getattr(home, name)


@pytest.mark.parametrize("package", [azure, azure.client, azure.entities, azure.task, azure.worker])
def test_what_a_module_promises_is_there(package: Any) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize(
    "kind",
    ["Task", "CompletableTask", "CancellableTask", "CompositeTask", "WhenAllTask", "WhenAnyTask"],
)
def test_annotations_may_say_of_what_a_task_is(kind: str) -> None:
    assert getattr(azure.task, kind)[int]
