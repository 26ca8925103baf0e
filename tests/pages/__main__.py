"""``python -m tests.pages docs/howto/entities.md``: run a page's blocks in this process.

A page's scenery (``scenery/howto_entities.py``) holds the names that the page takes for granted. It
may have ``begin(env)``, called before the first block, whose result are names, too;
``prove(names)`` and ``end(env, names)``, called after the last one; and ``SKIPPED``, the numbers of
blocks that are not run here, each with the reason.

Beside running them, each name that a block uses is looked up, also those within functions that
nothing calls, and so are attributes and keywords of ``ctx`` and of the classes of this package.
"""

from __future__ import annotations

import ast
import builtins
import dis
import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from celery_durable import OrchestrationContext
from celery_durable.testing import durable_environment
from tests.pages.blocks import Block, blocks_of, scenery_of


def run(page: Path) -> None:
    """Run the blocks of a page in their order."""
    names = vars(_module("page"))
    scenery = importlib.import_module(f"tests.pages.scenery.{scenery_of(page)}")
    names.update({name: each for name, each in vars(scenery).items() if not name.startswith("__")})
    skipped = names.pop("SKIPPED", {})
    begin, prove, end = (names.pop(name, None) for name in ("begin", "prove", "end"))
    ran = [block for block in blocks_of(page) if block.number not in skipped]
    with ExitStack() as stack:
        if begin:
            env = stack.enter_context(durable_environment(names["durable"]))
            names.update(begin(env) or {})
        for block in ran:
            exec(compile(block.source, f"{page}", "exec"), names)
    for block in ran:
        _look_up(block, names)
    if prove:
        prove(names)
    if end:
        with durable_environment(names["durable"]) as env:
            end(env, names)


def _module(name: str) -> ModuleType:
    """Make the module that the blocks are the text of."""
    made = sys.modules[name] = ModuleType(name)
    return made


# -- names -----------------------------------------------------------------------------------------


def _look_up(block: Block, names: dict[str, Any]) -> None:
    """Find every name that is used, and every attribute of what is known."""
    unknown = {
        name
        for name in _used(compile(block.source, "", "exec"))
        if name not in names and not hasattr(builtins, name)
    }
    assert not unknown, f"{block}: not defined: {', '.join(sorted(unknown))}"
    for node in ast.walk(ast.parse(block.source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            _look_at(block, node.value.id, node.attr, names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            _look_at_keywords(block, node, node.func, names)


def _used(code: CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield each.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _used(constant)


def _owner(name: str, names: dict[str, Any]) -> Any:
    """Return what a name means, as far as it is of this package; or else None."""
    if name == "ctx":
        return OrchestrationContext
    value = names.get(name)
    ours = str(getattr(type(value), "__module__", "")).startswith("celery_durable")
    return value if ours or isinstance(value, ModuleType) else None


def _look_at(block: Block, name: str, attribute: str, names: dict[str, Any]) -> None:
    owner = _owner(name, names)
    assert owner is None or hasattr(owner, attribute), f"{block}: no {name}.{attribute}"


def _look_at_keywords(
    block: Block, call: ast.Call, method: ast.Attribute, names: dict[str, Any]
) -> None:
    if not isinstance(method.value, ast.Name):
        return
    owner = _owner(method.value.id, names)
    if owner is None or isinstance(owner, ModuleType):
        return
    parameters = inspect.signature(getattr(owner, method.attr)).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    given = {keyword.arg for keyword in call.keywords if keyword.arg}
    assert given <= set(parameters), f"{block}: {method.attr} takes no {given - set(parameters)}"


if __name__ == "__main__":
    run(Path(sys.argv[1]))
