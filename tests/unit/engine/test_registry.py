"""The orchestrators that a process knows: which version is meant, and what may share a name."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from celery_durable.core.plain_task import TASK
from celery_durable.engine.registry import Definition, Registry, refuse_another
from celery_durable.errors import ConfigurationError


async def flow(ctx: Any) -> None: ...


async def other(ctx: Any) -> None: ...


def defined(name: str = "flow", version: str | None = None, **values: Any) -> Definition:
    return Definition(name, version, values.pop("function", flow), **values)


def registry(*definitions: Definition) -> Registry:
    found = Registry()
    for each in definitions:
        found.declare(each)
    return found


def test_the_newest_is_what_was_registered_last_apart_from_one() -> None:
    known = registry(*(defined(version=each) for each in ("2", "10", None)))
    assert known.versions("flow") == ["2", "10", None]
    assert [known.newest("flow"), known.newest("flow", but=None)] == [
        known.get("flow", None),
        known.get("flow", "10"),
    ]
    assert known.newest("other") is None and known.newest("other", but=None) is None


def test_a_start_gets_the_version_that_it_names_or_the_newest() -> None:
    known = registry(defined(version="1"), defined(version="2"))
    first, newest = known.chosen("flow", "1"), known.chosen("flow", None)
    assert first is not None and newest is not None
    assert (first.version, newest.version) == ("1", "2")
    assert known.chosen("unknown", None) is None
    with pytest.raises(ConfigurationError, match="no version '3' in this process, which has '1'"):
        known.chosen("flow", "3")
    with pytest.raises(ConfigurationError, match="no orchestrator flw.*flow"):
        known.chosen("flw", "1")


def test_an_instance_gets_exactly_its_version_and_any_process_has_plain_tasks() -> None:
    known = registry(defined(version="1"))
    assert known.get("flow", None) is None and known.get("flow", "2") is None
    plain = known.get("whatever", TASK)
    assert plain is not None and (plain.name, plain.version) == ("whatever", TASK)
    assert "whatever" not in known and "flow" in known


@pytest.mark.parametrize("version", ["", "?", TASK])
def test_what_the_store_keeps_for_itself_is_no_version(version: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a version"):
        Registry().add(defined(version=version))


def test_names_and_versions_that_no_column_holds_are_refused_when_they_are_used() -> None:
    for name, version in (("x" * 300, None), ("flow", "v" * 300)):
        known = registry(defined(name, version))
        for use in (known.check, lambda: known.newest(name), lambda: known.chosen(name, version)):
            with pytest.raises(ConfigurationError, match="has 1 to"):
                use()
    registry(defined(), defined("flow", "1")).check()


def test_names_are_sorted() -> None:
    assert registry(defined("b"), defined("a", function=other)).names() == ["a", "b"]


def test_queries_are_those_of_all_versions_and_its_own_are_first() -> None:
    old = defined(version="1", queries={"total": int, "only_old": float})
    new = defined(version="2", queries={"total": str})
    known = registry(old, new)
    assert known.queries_of(new) == {"total": str, "only_old": float}
    assert known.queries_of(old) == {"total": int, "only_old": float}


def test_another_function_under_a_name_and_version_is_refused() -> None:
    known = registry(defined(version="1"))
    known.declare(defined(version="2", function=other))
    with pytest.raises(ConfigurationError, match=r"'flow' version '1' is .*flow already.*other"):
        known.declare(defined(version="1", function=other))
    known.add(defined(version="1", function=other))
    found = known.get("flow", "1")
    assert found is not None and found.function is other


def made(amount: int, default: Any = None) -> Callable[..., Any]:
    async def inner(ctx: Any, most: Any = default) -> int:
        return amount

    return inner


def compiled_again(function: Any) -> Any:
    """Return a function as the next import of its module gives it."""
    again = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    again.__qualname__, again.__module__ = function.__qualname__, function.__module__
    return again


def test_the_same_function_may_be_imported_again() -> None:
    refuse_another("orchestrator 'x'", None, flow, flow)
    refuse_another("orchestrator 'x'", None, flow, compiled_again(flow))
    refuse_another("orchestrator 'x'", None, made(1), made(1))
    edited = compiled_again(flow)
    edited.__defaults__ = (7,)
    refuse_another("orchestrator 'x'", None, flow, edited)


def test_the_same_code_around_other_values_is_another_function() -> None:
    for one, two in ((made(1), made(2)), (made(1), made(1, default=3))):
        with pytest.raises(ConfigurationError, match="other values around the same code"):
            refuse_another("orchestrator 'x'", None, one, two)


def test_what_is_written_in_a_shell_may_be_written_again() -> None:
    shell = compiled_again(other)
    shell.__module__ = "__main__"
    refuse_another("orchestrator 'x'", None, flow, shell)
    refuse_another("orchestrator 'x'", None, shell, flow)


def test_classes_differ_by_their_values_too() -> None:
    def entity(limit: int) -> type:
        class Counter:
            most = limit

            def add(self) -> None: ...

        return Counter

    refuse_another("entity 'Counter'", None, entity(1), entity(1))
    with pytest.raises(ConfigurationError, match="other values"):
        refuse_another("entity 'Counter'", None, entity(1), entity(2))
