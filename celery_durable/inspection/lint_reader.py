"""Reads the code of one function for what a replay may do otherwise."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from ..replacements import CALLED, EFFECT, GIVEN, GLOBAL, MODULES, SORT
from .lint_calls import Reached, default_of, harm_of, is_container, is_model, reached_by
from .lint_names import MISSING, Names, ScopedVisitor
from .lint_source import source_of

__all__ = ["Finding", "Reader"]

_IGNORE = "# durable: ignore"
_CAUGHT = "catch Exception: a cancel has to get through, and so has the end of the process"
#: What takes things in any order.
_ORDERLESS = (set, frozenset, sorted, len, sum, min, max, any, all)
#: What keeps the order in which it takes things.
_ORDERED = (list, tuple, enumerate, iter, zip, map, filter, reversed)


class Finding(NamedTuple):
    """One thing that a replay may do otherwise."""

    file: str
    line: int
    #: The name of the orchestrator from which it is reached.
    orchestrator: str
    #: What it is, as it is written.
    what: str
    #: What to do instead.
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} in {self.orchestrator}: {self.instead}"


class Reader(ScopedVisitor[Names], ast.NodeVisitor):
    """Reads the code of one function."""

    def __init__(self, name: str, file: str, tree: ast.AST, text: list[str], names: Names) -> None:
        self._name, self._file, self._tree, self._text = name, file, tree, text
        self.scope = names
        self._found: list[Finding] = []
        #: What it comes to from here.
        self.reached: list[Reached] = []

    @classmethod
    def of(cls, name: str, reached: Reached) -> Reader | None:
        """Return the reader of a function; None if its text is not there."""
        source = source_of(reached)
        return None if source is None else cls(name, *source)

    def read(self) -> list[Finding]:
        """Return what is found."""
        self.generic_visit(self._tree)
        return self._found

    def _note(self, node: ast.AST, what: str, instead: str) -> None:
        line = getattr(node, "lineno", 1)
        if _IGNORE not in self._text[line - 1 : line][0]:
            self._found.append(Finding(self._file, line, self._name, what, instead))

    # -- calls -------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """Look at what is called; what ``ctx.run`` is given is recorded."""
        target = self.scope.value(node.func)
        self._look(node, target)
        if isinstance(node.func, ast.Attribute) and _is_recorded(node.func, self.scope):
            self.visit(node.func.value)
        elif _is_one_of(target, _ORDERLESS):
            self._visit_orderless(node)
        else:
            self.generic_visit(node)

    def _look(self, node: ast.Call, target: Any) -> None:
        if (instead := harm_of(node, target, self.scope)) is not None:
            self._note(node, f"{ast.unparse(node.func)}()", instead)
            return
        for name, factory in default_of(target, node):
            if (instead := _of_factory(factory)) is not None:
                self._note(node, f"the default of {name} in {ast.unparse(node.func)}()", instead)
        if _is_one_of(target, _ORDERED) or _joins(node):
            for each in node.args:
                self._look_at_order(each)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
            self._look_at_order(node.func.value)
        self.reached += reached_by(node, target, self.scope)

    def _visit_orderless(self, node: ast.Call) -> None:
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(each, (ast.GeneratorExp, ast.ListComp)):
                self._visit_parts(each.generators, each.elt)
            elif isinstance(each, ast.Call) and _is_one_of(
                target := self.scope.value(each.func), _ORDERED
            ):
                self.reached += reached_by(each, target, self.scope)
                self._visit_orderless(each)
            else:
                self.visit(each)

    def visit_Starred(self, node: ast.Starred) -> None:
        """Look at the order of what is spread."""
        self._look_at_order(node.value)
        self.generic_visit(node)

    # -- names -------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        """Look at what is read without a call."""
        if self.scope.value(node) is os.environ:
            self._note(node, node.id, GIVEN)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """See ``visit_Name``; a property is a call."""
        value = self.scope.value(node)
        if value is os.environ:
            self._note(node, ast.unparse(node), GIVEN)
        elif node.attr == "objects" and is_model(self.scope.value(node.value)):
            self._note(node, ast.unparse(node), EFFECT)
        elif isinstance(value, property) and isinstance(value.fget, FunctionType):
            self.reached.append(Reached(value.fget, self.scope.class_of(node.value)))
        self.generic_visit(node)

    # -- what outlives the turn --------------------------------------------------------------------

    def visit_Global(self, node: ast.Global) -> None:
        """Look at names of the module that are bound here."""
        self._note(node, f"global {', '.join(node.names)}", GLOBAL)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Look at what belongs to the module and is changed here."""
        self._look_at_targets(node, node.targets)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """See ``visit_Assign``."""
        self._look_at_targets(node, [node.target])
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """See ``visit_Assign``."""
        self._look_at_targets(node, node.targets)
        self.generic_visit(node)

    def _look_at_targets(self, node: ast.AST, targets: list[ast.expr]) -> None:
        for target in targets:
            is_item = isinstance(target, ast.Subscript) and is_container(target.value, self.scope)
            if is_item or (
                isinstance(target, ast.Attribute) and _is_shared(target.value, self.scope)
            ):
                self._note(node, ast.unparse(target), GLOBAL)

    # -- the order of sets -------------------------------------------------------------------------

    def visit_For(self, node: ast.For) -> None:
        """Look at the order in which things are taken."""
        self._look_at_order(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """See ``visit_For``."""
        self._look_at_order(node.iter)
        self.generic_visit(node)

    def _look_at_order(self, node: ast.expr) -> None:
        if self.scope.is_set(node):
            self._note(node, f"the order of {ast.unparse(node)}", SORT)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        """A set that is made of a set has no order to lose."""
        self._visit_parts(node.generators, node.elt)

    def _visit_parts(self, generators: list[ast.comprehension], element: ast.expr) -> None:
        for generator in generators:
            for part in (generator.iter, *generator.ifs):
                self.visit(part)
        self.visit(element)

    # -- what is caught ----------------------------------------------------------------------------

    def visit_Try(self, node: ast.Try) -> None:
        """Look at handlers that let nothing through."""
        if any(
            isinstance(each, (ast.Await, ast.Yield))
            for part in node.body
            for each in ast.walk(part)
        ):
            for handler in node.handlers:
                if _takes_all(handler) and not _raises(handler):
                    what = "except" if handler.type is None else ast.unparse(handler.type)
                    self._note(
                        handler, f"except {what}".replace("except except", "except:"), _CAUGHT
                    )
        self.generic_visit(node)


def _is_one_of(target: Any, known: tuple[Any, ...]) -> bool:
    return any(target is each for each in known)


def _joins(node: ast.Call) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "join"
        and isinstance(function.value, ast.Constant)
    )


def _of_factory(factory: Callable[..., Any]) -> str | None:
    """Return what to write instead of a function that fills in a default."""
    owner = getattr(factory, "__self__", None)
    prefix = owner if isinstance(owner, type) else factory
    module = getattr(prefix, "__module__", None) or getattr(owner, "__name__", "")
    place = f"{module}.{getattr(factory, '__qualname__', '')}"
    return CALLED.get(place) or MODULES.get(str(module))


def _takes_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        ast.unparse(each).rpartition(".")[2] in ("BaseException", "CancelledError")
        for each in types
    )


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(each, ast.Raise) for part in handler.body for each in ast.walk(part))


def _is_recorded(method: ast.Attribute, names: Names) -> bool:
    """Tell whether this is ``ctx.run``, and not a function of a module."""
    is_of_a_module = isinstance(names.value(method.value), ModuleType)
    return method.attr == "run" and not is_of_a_module


def _is_shared(node: ast.expr, names: Names) -> bool:
    """Tell whether attributes of this outlive the turn: of a module, a class or an object that
    a module has.
    """
    if not isinstance(node, (ast.Name, ast.Attribute)):
        return False
    value = names.value(node)
    if isinstance(node, ast.Attribute) and not isinstance(value, (ModuleType, type)):
        return False
    return value is not MISSING
