"""What an orchestrator must not do, found by reading its code: a replay would not come out alike.

The code of an orchestrator is read as text, its names are looked up as Python would, and what it
calls is followed into the functions of the application. What is given to ``ctx.run`` is recorded,
and so is free to do what it likes. Nothing is run.

It finds what is written plainly: what a library does, or a name that is bound at run time, it
cannot see. ``celery_durable.testing`` finds those by replaying.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

__all__ = ["Finding", "lint"]

_CLOCK = "ask ctx.now()"
_SLEEP = "await ctx.sleep(...)"
_RANDOM = "use ctx.random"
_UUID = "use ctx.uuid4()"
_EFFECT = "do it in an activity, or a quick one by await ctx.run(...)"
_THREAD = "await activities beside each other: asyncio.gather(ctx.call(...), ...)"
_GIVEN = "pass it as an argument, or read it by await ctx.run(...)"
_CALL = "await ctx.call(task.s(...))"
_SORT = "sort it: its order differs between processes"
_GLOBAL = "keep it in a local variable, or in an entity"

#: What must not be called, by the module and name that it has, or by the module alone.
_CALLED: Mapping[str, str] = {
    "time.time": _CLOCK,
    "time.time_ns": _CLOCK,
    "time.monotonic": _CLOCK,
    "time.monotonic_ns": _CLOCK,
    "time.perf_counter": _CLOCK,
    "time.perf_counter_ns": _CLOCK,
    "time.localtime": _CLOCK,
    "time.gmtime": _CLOCK,
    "time.sleep": _SLEEP,
    "datetime.datetime.now": _CLOCK,
    "datetime.datetime.utcnow": _CLOCK,
    "datetime.datetime.today": _CLOCK,
    "datetime.date.today": _CLOCK,
    "django.utils.timezone.now": _CLOCK,
    "django.utils.timezone.localdate": _CLOCK,
    "django.utils.timezone.localtime": _CLOCK,
    "uuid.uuid1": _UUID,
    "uuid.uuid4": _UUID,
    "os.urandom": _RANDOM,
    "os.getenv": _GIVEN,
    "os.getpid": _GIVEN,
    "os.getcwd": _GIVEN,
    "socket.gethostname": _GIVEN,
    "builtins.open": _EFFECT,
    "builtins.input": _EFFECT,
    "builtins.id": "use a value of your own: it differs between processes",
    "builtins.hash": "use hashlib: it differs between processes",
    "asyncio.to_thread": _THREAD,
    "threading.Thread": _THREAD,
    "concurrent.futures.ThreadPoolExecutor": _THREAD,
    "concurrent.futures.ProcessPoolExecutor": _THREAD,
}
_MODULES: Mapping[str, str] = {
    "random": _RANDOM,
    "secrets": _RANDOM,
    "requests": _EFFECT,
    "httpx": _EFFECT,
    "aiohttp": _EFFECT,
    "urllib.request": _EFFECT,
    "urllib3": _EFFECT,
    "smtplib": _EFFECT,
    "subprocess": _EFFECT,
    "socket": _EFFECT,
    "sqlite3": _EFFECT,
    "psycopg": _EFFECT,
    "pymysql": _EFFECT,
    "redis": _EFFECT,
    "boto3": _EFFECT,
    "shutil": _EFFECT,
    "tempfile": _EFFECT,
}
_SENDING = frozenset({"delay", "apply_async", "apply"})
_CHANGING = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "popitem",
        "clear",
        "add",
        "discard",
        "update",
        "setdefault",
        "sort",
        "reverse",
    }
)
_MISSING: Any = object()
_LIBRARIES = tuple(
    str(Path(place).resolve())
    for place in {
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    }
)


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


def lint(name: str, function: Callable[..., Any]) -> list[Finding]:
    """Return what an orchestrator does that a replay may do otherwise, in the order of its code.

    Empty where its code cannot be read.

    Args:
        name: of the orchestrator.
        function: its code.
    """
    found: list[Finding] = []
    seen: set[Any] = set()
    waiting = [_plain(function)]
    while waiting:
        each = waiting.pop(0)
        if not isinstance(each, FunctionType):
            continue
        if each.__code__ in seen or _is_of_a_library(each):
            continue
        seen.add(each.__code__)
        reader = _Reader.of(name, each)
        if reader is not None:
            reader.visit(reader.tree)
            found += reader.found
            waiting += reader.called
    return sorted(set(found), key=lambda finding: (finding.file, finding.line, finding.what))


def _plain(function: Any) -> Any:
    found = inspect.unwrap(function)
    return getattr(found, "__func__", found)


def _is_of_a_library(function: FunctionType) -> bool:
    file = str(Path(function.__code__.co_filename).resolve())
    return file.startswith(_LIBRARIES)


@dataclass
class _Names:
    """What the names of a function mean, as far as that is known before it runs."""

    outer: Mapping[str, Any]
    local: frozenset[str]

    def value(self, node: ast.expr) -> Any:
        """Return what an expression of names and attributes is; ``_MISSING`` if not known."""
        if isinstance(node, ast.Name):
            if node.id in self.local:
                return _MISSING
            return self.outer.get(node.id, getattr(builtins, node.id, _MISSING))
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if isinstance(owner, (ModuleType, type)):
                return inspect.getattr_static(owner, node.attr, _MISSING)
        return _MISSING


class _Reader(ast.NodeVisitor):
    """Reads the code of one function."""

    def __init__(self, name: str, function: FunctionType, tree: ast.AST, first: int) -> None:
        self.name, self.function, self.tree = name, function, tree
        self._first = first
        code = function.__code__
        closed = inspect.getclosurevars(function)
        self._names = _Names(
            {**function.__globals__, **closed.nonlocals},
            frozenset((*code.co_varnames, *code.co_cellvars)),
        )
        self._globals = function.__globals__
        self.found: list[Finding] = []
        self.called: list[FunctionType] = []

    @classmethod
    def of(cls, name: str, function: FunctionType) -> _Reader | None:
        """Return the reader of a function; None if its text is not there."""
        try:
            lines, first = inspect.getsourcelines(function)
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):
            return None
        (body,) = tree.body[:1]
        if isinstance(body, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body.decorator_list = []  # run once, when it is declared
        return cls(name, function, body, first)

    def _note(self, node: ast.AST, what: str, instead: str) -> None:
        line = self._first + getattr(node, "lineno", 1) - 1
        self.found.append(
            Finding(self.function.__code__.co_filename, line, self.name, what, instead)
        )

    # -- calls -------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """Look at what is called; what ``ctx.run`` is given is recorded."""
        self._look(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "run":
            self.visit(node.func.value)
            return
        self.generic_visit(node)

    def _look(self, node: ast.Call) -> None:
        written = ast.unparse(node.func)
        target = self._names.value(node.func)
        instead = None if target is _MISSING else _instead_of(target, node.func, self._names)
        if instead is not None:
            self._note(node, f"{written}()", instead)
        elif isinstance(node.func, ast.Attribute):
            self._look_at_method(node, node.func, written)
        if isinstance(function := _plain(target), FunctionType):
            self.called.append(function)

    def _look_at_method(self, node: ast.Call, method: ast.Attribute, written: str) -> None:
        owner = self._names.value(method.value)
        if method.attr in _SENDING and owner is not _MISSING and hasattr(owner, "apply_async"):
            self._note(node, f"{written}()", _CALL)
        elif method.attr in _CHANGING and self._is_global(method.value):
            self._note(node, f"{written}()", _GLOBAL)

    def _is_global(self, node: ast.expr) -> bool:
        """Tell whether this is a container of the module's."""
        value = self._names.value(node)
        return (
            isinstance(node, ast.Name)
            and self._globals.get(node.id, _MISSING) is value
            and isinstance(value, (list, dict, set))
        )

    # -- the rest ----------------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at what is read without a call."""
        if ast.unparse(node) == "os.environ" and self._names.value(node) is not _MISSING:
            self._note(node, "os.environ", _GIVEN)
        if node.attr == "objects" and _is_model(self._names.value(node.value)):
            self._note(node, ast.unparse(node), _EFFECT)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        """Look at names of the module that are bound here."""
        self._note(node, f"global {', '.join(node.names)}", _GLOBAL)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Look at containers of the module that are changed here."""
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
            if isinstance(target, ast.Subscript) and self._is_global(target.value):
                self._note(node, ast.unparse(target), _GLOBAL)

    def visit_For(self, node: ast.For) -> None:
        """Look at the order in which things are taken."""
        self._look_at_order(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """See ``visit_For``."""
        self._look_at_order(node.iter)
        self.generic_visit(node)

    def _look_at_order(self, node: ast.expr) -> None:
        is_set = isinstance(node, (ast.Set, ast.SetComp)) or (
            isinstance(node, ast.Call) and self._names.value(node.func) in (set, frozenset)
        )
        if is_set:
            self._note(node, f"the order of {ast.unparse(node)}", _SORT)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        """A set that is made of a set has no order to lose."""
        for generator in node.generators:
            for part in (*generator.ifs, node.elt):
                self.visit(part)


def _is_model(value: Any) -> bool:
    models = sys.modules.get("django.db.models")
    return models is not None and isinstance(value, type) and issubclass(value, models.Model)


def _instead_of(target: Any, node: ast.expr, names: _Names) -> str | None:
    """Return what to do instead of a call; None if it does no harm."""
    for place in _places(target, node, names):
        if (instead := _CALLED.get(place)) is not None:
            return instead
        module = place
        while module := module.rpartition(".")[0]:
            if module in _MODULES and place not in _HARMLESS:
                return _MODULES[module]
    return None


#: What makes a value of a module that is named above, and does nothing else.
_HARMLESS = frozenset(
    {"random.Random", "socket.inet_aton", "subprocess.list2cmdline", "sqlite3.Row"}
)


def _places(target: Any, node: ast.expr, names: _Names) -> Iterator[str]:
    """Return by which names something is known: where it was made, and where it was taken from."""
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", getattr(target, "__name__", None))
    if isinstance(module, str) and isinstance(name, str):
        yield f"{module}.{name}"
    elif (owner := getattr(target, "__self__", None)) is not None and isinstance(name, str):
        yield f"{type(owner).__module__}.{name}"  # a method of an object that a module made
    if isinstance(node, ast.Name) and getattr(builtins, node.id, None) is target:
        yield f"builtins.{node.id}"
    if isinstance(node, ast.Attribute):
        owner = names.value(node.value)
        if isinstance(owner, ModuleType):
            yield f"{owner.__name__}.{node.attr}"
        elif isinstance(owner, type):
            yield f"{owner.__module__}.{owner.__qualname__}.{node.attr}"
