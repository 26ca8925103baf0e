"""Which values an expression may have, where that is known before the code runs: texts and types.

Nothing of the application is run but the subscripts and unions of types, as ``list[Order]``.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Mapping
from enum import Enum
from types import ModuleType
from typing import Any

from .lint_names import FUNCTIONS, MISSING, Names, assigned_in, bound_in, parameters_of

__all__ = ["CONTEXT", "Values"]

#: The context of the orchestrator.
CONTEXT = object()
_MOST = 100
_LISTS = (tuple, list, set, frozenset, dict)


class Values:
    """The values of the names of one function."""

    def __init__(self, tree: ast.AST, names: Names, given: Mapping[str, tuple[Any, ...]]) -> None:
        self.names = names
        bound, taken = bound_in(tree), {*given, *_parameters(tree)}
        self._given = {name: values for name, values in given.items() if not bound[name]}
        #: Name -> the expression that it is, or whose elements it is.
        self._assigned = {
            name: (value, isinstance(binding, (ast.For, ast.comprehension)))
            for name, value, binding in assigned_in(tree)
            if bound[name] == 1 and name not in taken and not isinstance(binding, ast.withitem)
        }
        self._open: set[str] = set()

    def within(self, arguments: ast.arguments) -> Values:
        """Return the values within a function that is defined in this one."""
        own = parameters_of(arguments)
        inner = object.__new__(Values)
        inner.names = self.names.within(arguments)
        inner._given = {name: each for name, each in self._given.items() if name not in own}
        inner._assigned = {name: each for name, each in self._assigned.items() if name not in own}
        inner._open = set()
        return inner

    def of(self, node: ast.expr) -> tuple[Any, ...] | None:
        """Return all values that an expression may have; None if that is not known."""
        try:
            found = self._of(node)
        except Exception:  # of a class that is subscripted
            return None
        return None if found is None or len(found) > _MOST else found

    def _of(self, node: ast.expr) -> tuple[Any, ...] | None:
        match node:
            case ast.Constant(value=value):
                return (value,)
            case ast.Name(id=name):
                return self._of_name(node, name)
            case ast.Attribute():
                return self._of_attribute(node)
            case ast.IfExp(body=body, orelse=other):
                return self._all([body, other])
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self._of(value)
            case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.Add() as operator):
                return self._binary(left, right, is_union=isinstance(operator, ast.BitOr))
            case ast.Subscript(value=owner, slice=index):
                return self._subscript(owner, index)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                each = [self.of(element) for element in elements]
                known = [values for values in each if values is not None]
                if len(known) < len(each):
                    return None
                kind = tuple if isinstance(node, ast.Tuple) else list
                return tuple(map(kind, itertools.islice(itertools.product(*known), _MOST + 1)))
        return None

    def _all(self, nodes: Iterable[ast.expr]) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] = ()
        for node in nodes:
            if (values := self.of(node)) is None:
                return None
            found += values
        return found

    def _of_name(self, node: ast.expr, name: str) -> tuple[Any, ...] | None:
        if name in self._given:
            return self._given[name]
        if name in self._assigned and name not in self._open:
            value, is_element = self._assigned[name]
            self._open.add(name)
            try:
                return self._elements(value) if is_element else self.of(value)
            finally:
                self._open.discard(name)
        value = self.names.value(node)
        return None if value is MISSING else (value,)

    def _of_attribute(self, node: ast.Attribute) -> tuple[Any, ...] | None:
        owner = self.names.value(node.value)
        if isinstance(owner, type) and issubclass(owner, Enum):
            member = owner.__members__.get(node.attr)
            return None if member is None else (member,)
        if isinstance(owner, (ModuleType, type)):
            value = self.names.value(node)
            return None if value is MISSING else (value,)
        owners = self.of(node.value)
        if owners and node.attr == "value" and all(isinstance(each, Enum) for each in owners):
            return tuple(each.value for each in owners)
        return None

    def _elements(self, node: ast.expr) -> tuple[Any, ...] | None:
        """Return what a loop takes."""
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return self._all(node.elts)
        if isinstance(node, ast.Dict):
            return self._all([key for key in node.keys if key is not None])
        values = self.of(node)
        if values is None or len(values) != 1:
            return None
        found = values[0]
        if isinstance(found, type) and issubclass(found, Enum):
            return tuple(found)
        return tuple(found) if isinstance(found, _LISTS) else None

    def _joined(self, parts: list[ast.expr]) -> tuple[Any, ...] | None:
        each = [self.of(part) for part in parts]
        texts = [values for values in each if values and all(type(v) is str for v in values)]
        if len(texts) < len(each):
            return None
        return tuple(map("".join, itertools.islice(itertools.product(*texts), _MOST + 1)))

    def _binary(self, left: ast.expr, right: ast.expr, *, is_union: bool) -> tuple[Any, ...] | None:
        some, others = self.of(left), self.of(right)
        if some is None or others is None:
            return None
        pairs = itertools.islice(itertools.product(some, others), _MOST + 1)
        if is_union:
            return tuple(one | other for one, other in pairs)
        return tuple(one + other for one, other in pairs if type(one) is type(other) is str) or None

    def _subscript(self, owner: ast.expr, index: ast.expr) -> tuple[Any, ...] | None:
        owners, indices = self.of(owner), self.of(index)
        if owners is None or indices is None or len(owners) != 1 or len(indices) != 1:
            return None
        return (owners[0][indices[0]],)


def _parameters(tree: ast.AST) -> frozenset[str]:
    inner = (node.args for node in ast.walk(tree) if isinstance(node, FUNCTIONS))
    return frozenset().union(*map(parameters_of, inner))
