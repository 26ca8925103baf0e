"""What names mean in a file that is only read: by its imports, and by what is assigned to them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...core.flags import is_number

__all__ = ["Function", "Scope", "imports_of", "is_true", "keyword_of", "seconds_in"]

_SIGNATURES = frozenset({"s", "si", "signature", "subtask"})
_CANVASES = frozenset({"chain", "group", "chord", "chunks", "xmap", "xstarmap"})
_SENDS = frozenset({"delay", "apply_async", "send_task", "apply"})
_UNITS = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


@dataclass
class Function:
    """The function that is being read."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    is_task: bool = False
    is_orchestrator: bool = False
    #: The first argument of a bound task.
    me: str | None = None
    results: set[str] = field(default_factory=set)
    signatures: set[str] = field(default_factory=set)


@dataclass
class Scope:
    """The names of one file, and of the function that is being read."""

    imports: dict[str, str]
    #: The names of the functions of orchestrators.
    orchestrators: frozenset[str] = frozenset()
    function: Function = field(default_factory=Function)

    def dotted(self, node: ast.AST) -> str:
        """Return the full name of what an expression names; empty if it is none."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def canvas(self, node: ast.AST) -> str | None:
        """Return the name of the canvas that a call makes."""
        if not isinstance(node, ast.Call):
            return None
        module, _, name = self.dotted(node.func).rpartition(".")
        return name if module in ("celery", "celery.canvas") and name in _CANVASES else None

    def is_signature(self, node: ast.AST) -> bool:
        """Tell whether an expression gives a signature or a canvas."""
        if isinstance(node, ast.Name):
            return node.id in self.function.signatures
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.is_signature(node.left) or self.is_signature(node.right)
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _SIGNATURES:
                return True
            if node.func.attr in ("set", "clone", "on_error"):
                return self.is_signature(node.func.value)
        return self.canvas(node) is not None or self.dotted(node.func) in (
            "celery.signature",
            "celery.canvas.signature",
        )

    def is_result(self, node: ast.AST) -> bool:
        """Tell whether an expression gives an ``AsyncResult``."""
        if isinstance(node, ast.Name):
            return node.id in self.function.results
        if not isinstance(node, ast.Call):
            return False
        name = self.dotted(node.func)
        if name in ("celery.result.AsyncResult", "celery.result.GroupResult"):
            return True
        if isinstance(node.func, ast.Attribute):
            return node.func.attr == "AsyncResult" or node.func.attr in ("delay", "apply_async")
        return self.canvas(node.func) == "chord" or (
            self.canvas(node.func) in ("group", "chain") and isinstance(node.func, ast.Call)
        )


def imports_of(tree: ast.AST) -> dict[str, str]:
    """Return what the names that a file imports stand for."""
    return dict(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.partition(".")[0]
                yield each.asname or top, each.name if each.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for each in node.names:
                yield each.asname or each.name, f"{module}.{each.name}"


def keyword_of(node: ast.Call, name: str) -> ast.expr | None:
    """Return what a call is given under a name."""
    return next((each.value for each in node.keywords if each.arg == name), None)


def is_true(node: ast.AST | None) -> bool:
    """Tell whether an expression may be true: it is there, and no false constant."""
    return node is not None and not (isinstance(node, ast.Constant) and not node.value)


def seconds_in(node: ast.AST) -> float | None:
    """Return how many seconds an expression says, as far as it is written in numbers.

    Of a moment (``now() + timedelta(days=3)``) it is how far ahead that is.
    """
    if isinstance(node, ast.Constant):
        return float(node.value) if is_number(node.value) else None
    if isinstance(node, ast.BinOp):
        return _computed(node)
    if isinstance(node, ast.Call):
        if ast.unparse(node.func).rpartition(".")[2] == "timedelta":
            return _of_timedelta(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("total_seconds", "int"):
            return seconds_in(node.func.value)
        if isinstance(node.func, ast.Name) and node.func.id == "int" and node.args:
            return seconds_in(node.args[0])
    return None


def _computed(node: ast.BinOp) -> float | None:
    left, right = seconds_in(node.left), seconds_in(node.right)
    if isinstance(node.op, ast.Add):  # a moment and a time after it
        return None if left is None and right is None else (left or 0) + (right or 0)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Mult):
        return left * right
    return left - right if isinstance(node.op, ast.Sub) else None


def _of_timedelta(node: ast.Call) -> float | None:
    total = 0.0
    for name, value in (
        *zip(("days", "seconds"), node.args, strict=False),
        *((each.arg, each.value) for each in node.keywords),
    ):
        number = seconds_in(value)
        if number is None or name not in _UNITS:
            return None
        total += number * _UNITS[name]
    return total
