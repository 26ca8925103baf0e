"""Under one name and version there is one function: another one is refused, the same one may be
imported again.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from celery_durable import entity, orchestrator
from celery_durable.app import shared as front_door
from celery_durable.errors import ConfigurationError

MODULE = """
import functools
from celery_durable import orchestrator as shared

def decorated(setting):
    def decorate(fn):
        @functools.wraps(fn)
        async def wrapper(ctx, *args):
            return await fn(ctx, *args)
        return wrapper
    return decorate

def factory(n):
    async def scale(ctx, x):
        return x * n
    return scale

class Scaled:
    def __init__(self, n):
        self.n = n
    async def method(self, ctx, x):
        return x * self.n

class Counter:
    value: int = 0
    def add(self, n):
        self.value += n

def counter(start):
    class Counter:
        value: int = start
        def add(self, n):
            self.value += n
    return Counter

async def plain(ctx, x):
    return x

def generator(ctx, x):
    yield ctx.sleep(1)

async def with_default(ctx, x=[1]):
    return x

async def several(ctx, x, n):
    return x * n

wrapped = decorated(object())(plain)
of_factory = factory(object())
wrapped_of_factory = decorated(object())(factory(object()))
a_method = Scaled(2).method
"""
FUNCTIONS = (
    "plain",
    "generator",
    "with_default",
    "wrapped",
    "of_factory",
    "wrapped_of_factory",
    "a_method",
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a name of its own, to be imported again."""
    name = f"declared_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


@pytest.fixture(params=["app", "shared"])
def declare(
    request: pytest.FixtureRequest, new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """The two ways of declaring an orchestrator or an entity, with a name."""
    monkeypatch.setattr(front_door, "_shared", {})
    monkeypatch.setattr(front_door, "_shared_entities", {})
    durable = new_app().durable
    own = uuid.uuid4().hex  # shared tasks go to every application of this process

    def way(what: Any, name: str = "n", **options: Any) -> Any:
        chosen = (
            (durable.entity, entity)
            if isinstance(what, type)
            else (durable.orchestrator, orchestrator)
        )
        return chosen[request.param == "shared"](name=f"{name}_{own}", **options)(what)

    return way


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_module_that_is_imported_again_declares_its_functions_again(
    module: ModuleType, declare: Callable[..., Any], name: str
) -> None:
    declare(getattr(module, name))
    declare(getattr(module, name))
    declare(getattr(importlib.reload(module), name))


@pytest.mark.parametrize("make", ["counter", "class"])
def test_an_entity_is_declared_again_by_an_import(
    module: ModuleType, declare: Callable[..., Any], make: str
) -> None:
    def made(module: ModuleType) -> Any:
        return module.Counter if make == "class" else module.counter(0)

    declare(made(module))
    declare(made(module))
    declare(made(importlib.reload(module)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_was_edited_in_its_place_is_taken(
    module: ModuleType, declare: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    declare(getattr(module, name))
    Path(str(module.__file__)).write_text(
        "import math\n" + MODULE.replace("return x", "return 2 * x")
    )
    declare(getattr(importlib.reload(module), name))


FACTORIES: dict[str, Callable[[ModuleType, int], Any]] = {
    "closure": lambda module, n: module.factory(n),
    "closure that is decorated": lambda module, n: module.decorated(1)(module.factory(n)),
    "method": lambda module, n: module.Scaled(n).method,
    "class": lambda module, n: module.counter(n),
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_what_a_factory_makes_needs_names_of_its_own(
    module: ModuleType, declare: Callable[..., Any], factory: str
) -> None:
    make = FACTORIES[factory]
    declare(make(module, 2))
    with pytest.raises(ConfigurationError, match="name=") as caught:
        declare(make(module, 3))
    assert "'n_" in str(caught.value)
    assert module.__name__ in str(caught.value)
    declare(make(module, 3), "n-3")


@pytest.mark.parametrize("version", [None, "1"])
def test_two_functions_have_two_names(
    module: ModuleType, declare: Callable[..., Any], version: str | None
) -> None:
    given = {} if version is None else {"version": version}
    declare(module.plain, **given)
    for name in FUNCTIONS[1:]:
        if name != "wrapped":  # it is plain, with something around it
            with pytest.raises(ConfigurationError, match=r"\.plain already, and .* is another one"):
                declare(getattr(module, name), **given)
    declare(module.several, version="2")


def test_what_a_shell_defines_again_is_taken(declare: Callable[..., Any]) -> None:
    shell: dict[str, Any] = {"__name__": "__main__"}
    for number in range(3):
        exec(textwrap.dedent(f"async def flow(ctx):\n    return {number}"), shell)
        declare(shell["flow"])
    exec("async def other(ctx):\n    return 0", shell)
    declare(shell["other"])


def test_an_orchestrator_has_no_name_of_a_plain_task(
    new_app: Callable[..., Any], module: ModuleType
) -> None:
    app = new_app()

    @app.task(name="n", shared=False)
    def plain() -> None: ...

    app.finalize()
    with pytest.raises(ConfigurationError, match="plain task"):
        app.durable.orchestrator(name="n", shared=False)(module.plain)
