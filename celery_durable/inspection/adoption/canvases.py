"""The shape of a canvas: what it is called, and whether an orchestration would be more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from .scope import Scope

__all__ = ["Shape", "shape_of", "used_in"]

_MANY = 3
_MEMBERS = frozenset({"s", "si", "signature", "subtask", "map", "starmap", "chunks"})


class Shape(NamedTuple):
    """What a canvas is."""

    text: str
    #: Whether something follows what runs in parallel, or there are more than two steps.
    could_be_more: bool


def shape_of(node: ast.AST, scope: Scope) -> Shape | None:
    """Return the shape of the canvas that an expression makes; None if it makes none."""
    if isinstance(node, ast.BinOp):
        return _of_steps(_piped(node), scope) if scope.is_signature(node) else None
    if not isinstance(node, ast.Call):
        return None
    name = scope.canvas(node) or scope.canvas(node.func)
    given = node if scope.canvas(node) else node.func
    if name == "chord":
        return Shape("a chord", True)
    if name == "chain" and isinstance(given, ast.Call):
        return _of_steps(_listed(given), scope)
    if name == "group" and isinstance(given, ast.Call):
        is_nested = any(shape_of(each, scope) for each in _elements(given))
        return Shape("a group of canvases" if is_nested else "a group", is_nested)
    return None if name is None else Shape(name, False)


def _of_steps(steps: list[ast.expr], scope: Scope) -> Shape:
    if any(isinstance(each, (ast.Starred, ast.GeneratorExp, ast.Name)) for each in steps[:1]):
        return Shape("a chain of any number of steps", True)
    inner = [shape for each in steps if (shape := shape_of(each, scope)) is not None]
    if inner:
        return Shape(f"a chain of {len(steps)} steps with {inner[0].text} in it", True)
    number = len(steps)
    return Shape(f"a chain of {number} steps", number >= _MANY)


def _piped(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_piped(node.left), *_piped(node.right)]
    return [node]


def _listed(node: ast.Call) -> list[ast.expr]:
    if len(node.args) == 1 and isinstance(node.args[0], (ast.List, ast.Tuple)):
        return list(node.args[0].elts)
    return list(node.args)


def _elements(node: ast.Call) -> Iterator[ast.expr]:
    for each in _listed(node):
        yield each.elt if isinstance(each, (ast.GeneratorExp, ast.ListComp)) else each


def used_in(node: ast.AST, scope: Scope) -> Iterator[str]:
    """Return the names of the tasks in a canvas whose results another one of it gets."""
    if isinstance(node, ast.BinOp):
        yield from _passed_on(_piped(node))
    for each in ast.walk(node):
        if not isinstance(each, ast.Call):
            continue
        if scope.canvas(each) == "chord" and each.args:
            yield from _members_of(each.args[0])
        elif scope.canvas(each) == "chain":
            yield from _passed_on(_listed(each))


def _passed_on(steps: list[ast.expr]) -> Iterator[str]:
    for step, following in pairwise(steps):
        if not _is_immutable(following):
            yield from _members_of(step)


def _is_immutable(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".si")


def _members_of(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and each.attr in _MEMBERS:
            yield ast.unparse(each.value).rpartition(".")[2]
