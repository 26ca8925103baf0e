"""Reads one file of an application for what to look at."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .calls import Found, about_call, about_raise, about_status, setting_in, short
from .canvases import shape_of, used_in
from .kinds import Item
from .scope import Function, Scope, imports_of, is_true, keyword_of
from .sources import Source

__all__ = ["Known", "Place", "Reader"]

_TASKS = frozenset({"task", "shared_task"})
_ORCHESTRATORS = frozenset({"orchestrator", "orchestration_trigger"})
#: What is of interest in tests.
_IN_TESTS = frozenset({"patched", "eager"})

#: A file and a line.
Place = tuple[str, int]


@dataclass
class Known:
    """What is known of an application before its files are read, and collected from them."""

    #: Where the functions of registered tasks begin.
    tasks: frozenset[Place] = frozenset()
    #: The names of the functions of orchestrators.
    orchestrators: frozenset[str] = frozenset()
    #: How many seconds the broker leaves a message unacknowledged; None for ever.
    longest: float | None = None
    #: Where settings are given values, by their names in lower case; tests left out.
    settings: dict[str, Place] = field(default_factory=dict)
    #: Where a canvas uses the result of the task of this function.
    members: dict[str, Place] = field(default_factory=dict)
    #: Where strings are keys: the names of entries of ``beat_schedule``.
    keys: dict[str, Place] = field(default_factory=dict)
    #: Where applications are made and configured.
    made: list[Place] = field(default_factory=list)


class Reader(ast.NodeVisitor):
    """Reads one file."""

    def __init__(self, source: Source, known: Known) -> None:
        self._source, self._known = source, known
        self._file = str(source.path)
        self._scope = Scope(imports_of(source.tree), known.orchestrators)
        self._in_canvas = False
        self._class: ast.ClassDef | None = None
        self.items: list[Item] = []

    def read(self) -> list[Item]:
        """Return what is found."""
        self.visit(self._source.tree)
        return list(dict.fromkeys(self.items))

    def _note(self, node: ast.AST, found: Iterable[Found]) -> None:
        line = getattr(node, "lineno", 1)
        self.items += [
            Item(kind, self._file, line, text)
            for kind, text in found
            if kind in _IN_TESTS or not self._source.is_test
        ]

    # -- functions ---------------------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Read a class, which may be that of a task."""
        outer, self._class = self._class, node
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Read a function, which may be a task."""
        self._read_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """See ``visit_FunctionDef``."""
        self._read_function(node)

    def _read_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        outer = self._scope.function
        self._scope.function = found = self._function(node, outer)
        for name, value in _assigned(node):
            if self._scope.is_result(value):
                found.results.add(name)
            elif self._scope.is_signature(value):
                found.signatures.add(name)
        if found.is_task and found is not outer:
            self._note_guards(node)
        for part in node.body:
            self.visit(part)
        self._scope.function = outer

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, outer: Function) -> Function:
        names = {ast.unparse(_called(each)).rpartition(".")[2] for each in node.decorator_list}
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        is_method = self._class is not None and node in self._class.body
        is_run = is_method and node.name == "run" and self._is_of_a_task()
        is_task = bool(names & _TASKS) or (self._file, first) in self._known.tasks or is_run
        if not is_task and outer.node is not None:
            is_task = outer.is_task  # a function within a task
        me = node.args.args[0].arg if node.args.args and (is_run or _is_bound(node)) else outer.me
        return Function(node, is_task, bool(names & _ORCHESTRATORS) or outer.is_orchestrator, me)

    def _is_of_a_task(self) -> bool:
        bases = [] if self._class is None else self._class.bases
        return any(self._scope.dotted(each).endswith("Task") for each in bases)

    def _note_guards(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Note early returns by a status that the function itself sets."""
        written = {
            ast.unparse(target)
            for each in ast.walk(node)
            if isinstance(each, (ast.Assign, ast.AugAssign))
            for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
            if isinstance(target, ast.Attribute) and target.attr in ("status", "state")
        }
        for each in ast.walk(node):
            if isinstance(each, ast.If) and _leaves(each.body):
                read = {
                    ast.unparse(part)
                    for part in ast.walk(each.test)
                    if isinstance(part, ast.Attribute)
                }
                if read & written:
                    self._note(each, [("status-guard", f"if {short(each.test)}: return")])

    # -- expressions -------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """Look at a call."""
        self._note(node, about_call(node, self._scope, self._known.longest))
        self._note_settings(node)
        if self._scope.dotted(node.func).rpartition(".")[2] in ("Celery", "config_from_object"):
            self._known.made.append((self._file, node.lineno))
        if isinstance(node.func, ast.Attribute) and node.func.attr == "canvas":
            self._visit_within(node)  # it is run by this package already
        else:
            self._visit_canvas(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Look at what may be a chain."""
        self._visit_canvas(node)

    def _visit_canvas(self, node: ast.expr) -> None:
        shape = None if self._in_canvas else shape_of(node, self._scope)
        if shape is None:
            self.generic_visit(node)
            return
        if not self._scope.function.is_orchestrator and not self._source.is_test:
            kind = "canvas" if shape.could_be_more else "canvas-keeps"
            self._note(node, [(kind, f"{shape.text}: {short(node)}")])
            for name in used_in(node, self._scope):
                self._known.members.setdefault(name, (self._file, node.lineno))
        self._visit_within(node)

    def _visit_within(self, node: ast.AST) -> None:
        outer, self._in_canvas = self._in_canvas, True
        self.generic_visit(node)
        self._in_canvas = outer

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at what is read of a result."""
        self._note(node, about_status(node, self._scope))
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Look at what is raised."""
        self._note(node, about_raise(node, self._scope))
        self.generic_visit(node)

    # -- settings ----------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        """Look at settings."""
        self._note_settings(node)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """See ``visit_Assign``."""
        self._note_settings(node)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        """See ``visit_Assign``."""
        self._note_settings(node)
        self.generic_visit(node)

    def _note_settings(self, node: ast.AST) -> None:
        for name, value in setting_in(node):
            line = getattr(value, "lineno", getattr(node, "lineno", 1))
            if not self._source.is_test:
                self._known.settings.setdefault(name.lower(), (self._file, line))
                if isinstance(node, ast.Dict):
                    self._known.keys.setdefault(name, (self._file, line))
            if name.lower().endswith("always_eager") and is_true(value):
                self._note(value, [("eager", f"{name} = {short(value)}")])
            if name in ("acks_late", "reject_on_worker_lost") and is_true(value):
                self._note(value, [("acks", f"{name}={short(value)}")])


def _called(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


def _is_bound(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(each, ast.Call) and is_true(keyword_of(each, "bind"))
        for each in node.decorator_list
    )


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for each in ast.walk(node):
        if isinstance(each, ast.Assign) and len(each.targets) == 1:
            target, value = each.targets[0], each.value
        elif isinstance(each, ast.NamedExpr):
            target, value = each.target, each.value
        else:
            continue
        if isinstance(target, ast.Name):
            yield target.id, value


def _leaves(body: list[ast.stmt]) -> bool:
    """Tell whether a branch does nothing but return nothing, beside logging."""
    last = body[-1]
    is_return = isinstance(last, ast.Return) and (
        last.value is None or isinstance(last.value, ast.Constant)
    )
    is_raise = isinstance(last, ast.Raise) and "Ignore" in ast.unparse(last)
    return (is_return or is_raise) and all(isinstance(each, ast.Expr) for each in body[:-1])
