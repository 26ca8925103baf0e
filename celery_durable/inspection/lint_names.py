"""What the names in a function mean, as far as that is known before it runs."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType, ModuleType
from typing import Any, Generic, Protocol, Self, TypeVar

from celery.canvas import Signature

from ..replacements import CALLED, MODULES

__all__ = [
    "FUNCTIONS",
    "MISSING",
    "Names",
    "ScopedVisitor",
    "assigned_in",
    "bound_in",
    "names_of",
    "parameters_of",
]

#: What is not known.
MISSING: Any = object()
#: What has arguments of its own.
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SETS = (set, frozenset)
_MAKE_SETS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_MAKE_SIGNATURES = frozenset({"s", "si", "signature", "subtask"})
_KNOWN = frozenset(name.partition(".")[0] for name in (*CALLED, *MODULES))


@dataclass
class Names:
    """The names of one function."""

    outer: Mapping[str, Any]
    #: Those that are bound within it; its own imports are in ``known``.
    local: frozenset[str]
    known: dict[str, Any] = field(default_factory=dict)
    #: The classes of local names, where there is one only.
    classes: dict[str, type] = field(default_factory=dict)

    def within(self, arguments: ast.arguments) -> Names:
        """Return the names within a function that is defined in this one."""
        own = parameters_of(arguments)
        return replace(
            self,
            local=self.local | own,
            classes={name: cls for name, cls in self.classes.items() if name not in own},
            known={name: value for name, value in self.known.items() if name not in own},
        )

    def value(self, node: ast.expr) -> Any:
        """Return what an expression of names and attributes is; ``MISSING`` if not known.

        What a method belongs to need not be known, but only its class.
        """
        if isinstance(node, ast.Name):
            if node.id in self.known:
                return self.known[node.id]
            if node.id in self.local:
                return MISSING
            return self.outer.get(node.id, getattr(builtins, node.id, MISSING))
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if not isinstance(owner, (ModuleType, type)):
                owner = self.class_of(node.value)
            if owner is not None:
                return inspect.getattr_static(owner, node.attr, MISSING)
        return MISSING

    def class_of(self, node: ast.expr) -> type | None:
        """Return the class of what an expression gives; None if it is not known."""
        if isinstance(node, ast.Name) and node.id in self.classes:
            return self.classes[node.id]
        if isinstance(node, ast.Call):
            made = self.value(node.func)
            if isinstance(node.func, ast.Attribute) and node.func.attr in _MAKE_SIGNATURES:
                return Signature if hasattr(self.value(node.func.value), "apply_async") else None
            return made if isinstance(made, type) else None
        value = self.value(node) if isinstance(node, (ast.Name, ast.Attribute)) else MISSING
        if value is MISSING or isinstance(value, (ModuleType, type, property)):
            return None
        return type(value)

    def is_set(self, node: ast.expr) -> bool:
        """Tell whether an expression gives a set, which has no order."""
        if isinstance(node, (ast.Set, ast.SetComp)):
            return True
        if isinstance(node, ast.BinOp):
            return self.is_set(node.left) or self.is_set(node.right)
        if (owner := _owner_of_set(node)) is not None and self.is_set(owner):
            return True
        found = self.class_of(node)
        return found is not None and issubclass(found, _SETS)


class _Scope(Protocol):
    def within(self, arguments: ast.arguments) -> Self: ...


ScopeT = TypeVar("ScopeT", bound=_Scope)


class ScopedVisitor(ast.NodeVisitor, Generic[ScopeT]):
    """Visits the code of a function, with what its names mean where the visit is."""

    scope: ScopeT

    def visit(self, node: ast.AST) -> None:
        """Visit a part of it; a function that is defined here has arguments of its own."""
        if not isinstance(node, FUNCTIONS):
            super().visit(node)
            return
        outer, self.scope = self.scope, self.scope.within(node.args)
        self.generic_visit(node)
        self.scope = outer


def _owner_of_set(node: ast.expr) -> ast.expr | None:
    """Return whose method may give a set; None if no such method is called."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    return node.func.value if node.func.attr in _MAKE_SETS else None


def names_of(function: FunctionType, tree: ast.AST, owner: type | None) -> Names:
    """Return the names of a function.

    Args:
        function: whose.
        tree: its code.
        owner: the class of which it is a method, if it is one.
    """
    code = function.__code__
    closed = inspect.getclosurevars(function)
    bound = bound_in(tree)
    imported = dict(_imported(tree))
    declared = {
        name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
    }
    names = Names(
        {**function.__globals__, **closed.nonlocals},
        frozenset({*code.co_varnames, *code.co_cellvars, *bound} - declared),
        imported,
        _annotated(function),
    )
    if owner is not None and code.co_argcount and not _is_static(owner, function):
        names.classes[code.co_varnames[0]] = owner
    for name, value, binding in assigned_in(tree):
        if isinstance(binding, (ast.For, ast.comprehension)):
            continue
        if bound[name] == 1 or isinstance(value, (ast.Set, ast.SetComp)):
            cls = set if names.is_set(value) else names.class_of(value)
            if cls is not None and name not in code.co_varnames[: code.co_argcount]:
                names.classes[name] = cls
    return names


def _is_static(owner: type, function: FunctionType) -> bool:
    return isinstance(
        inspect.getattr_static(owner, function.__name__, None), (staticmethod, classmethod)
    )


def _annotated(function: FunctionType) -> dict[str, type]:
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that is there for the type checker only
        return {}
    hints.pop("return", None)
    return {name: cls for name, hint in hints.items() if (cls := _class_in(hint)) is not None}


def _class_in(hint: Any) -> type | None:
    """Return the class that an annotation names: of ``X | None`` it is X."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        some = [each for each in typing.get_args(hint) if each is not type(None)]
        return _class_in(some[0]) if len(some) == 1 else None
    hint = typing.get_origin(hint) or hint
    return hint if isinstance(hint, type) else None


def parameters_of(arguments: ast.arguments) -> frozenset[str]:
    """Return the names of a function's parameters."""
    some = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    others = (arguments.vararg, arguments.kwarg)
    return frozenset(each.arg for each in (*some, *others) if each is not None)


def bound_in(tree: ast.AST) -> Counter[str]:
    """Return how often each name is bound."""
    return Counter(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del))
    )


def assigned_in(tree: ast.AST) -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """Return names, each with the expression that it is bound by, and what binds it: then it is
    that value, what a ``with`` enters by it, or an element of it, which a loop takes.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            target, value = node.target, node.value
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            target, value = node.optional_vars, node.context_expr
        elif isinstance(node, (ast.For, ast.comprehension)):
            target, value = node.target, node.iter
        else:
            continue
        if isinstance(target, ast.Name):
            yield target.id, value, node


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Return what a function imports for itself, as far as that can be had without running code of
    the application.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.name if each.asname else each.name.partition(".")[0]
                yield each.asname or name, _module(name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = _module(node.module)
            for each in node.names:
                found = MISSING if module is MISSING else vars(module).get(each.name, MISSING)
                yield each.asname or each.name, found


def _module(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    top = name.partition(".")[0]
    if top in _KNOWN or top in sys.stdlib_module_names:
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    return MISSING
