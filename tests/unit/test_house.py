"""The sizes of modules and classes, and what the ports between the layers may leave untyped."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_durable"
MODULES = sorted(PACKAGE.rglob("*.py"))

LONGEST_LINE = 100
LONGEST_MODULE, LONGEST_TURN = 400, 200
#: Lines and methods of a class, without what it inherits.
LARGEST_CLASS = (300, 25)
LARGEST_FACADE = (350, 45)
#: What a user calls or holds: every method is written out, with its types and its example.
FACADES = {"Durable", "DurableEnv", "Orchestration", "OrchestrationContext", "Schedule"}

LARGE_CLASSES = {
    "DebugShell",  # ``cmd.Cmd`` has one method for each word of the shell
    "AsyncResult",  # Celery's own, declared for type checkers
}
#: Where a port may say ``Any``, by module and by what holds it.
UNTYPED = {
    "attempt_ports.py": {"Session"},  # SQLAlchemy's, which the engine does not know
    "cursor.py": {"Cursor"},  # each driver has another one
    "ports.py": {"Arguments", "Routing"},  # arguments and options of the user's tasks
    "store_ports.py": {"Session"},
    "observers.py": {"Observer"},  # attributes that an observer writes and reads
    "propagation.py": {"Propagator"},  # values of the application
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def size_of(cls: ast.ClassDef) -> tuple[int, int]:
    """Lines and methods; overloads of one method are one."""
    methods = {
        node.name for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return (cls.end_lineno or 0) - cls.lineno + 1, len(methods)


def limits_of(cls: ast.ClassDef) -> tuple[int, int]:
    return LARGEST_FACADE if cls.name in FACADES else LARGEST_CLASS


def is_too_large(cls: ast.ClassDef) -> bool:
    return any(size > limit for size, limit in zip(size_of(cls), limits_of(cls), strict=True))


def uses_of_any(tree: ast.AST) -> Iterator[str]:
    """The names of the classes and of the module's own names that are declared with ``Any``."""
    for node in ast.iter_child_nodes(tree):
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        if "Any" not in names:
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        else:
            yield f"line {getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_fits(path: Path) -> None:
    lines = path.read_text().splitlines()
    limit = LONGEST_TURN if name_of(path) == "engine/turn.py" else LONGEST_MODULE
    assert len(lines) <= limit
    assert [n for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE] == []
    marks = [n for n, line in enumerate(lines, 1) if "fmt:" in line and "# fmt" in line]
    assert marks == [], "the formatter formats everything"
    large = {cls.name: size_of(cls) for cls in classes(tree_of(path)) if is_too_large(cls)}
    assert large.keys() <= LARGE_CLASSES, large


def test_exceptions_are_needed() -> None:
    found = [cls for path in MODULES for cls in classes(tree_of(path))]
    assert {cls.name for cls in found if is_too_large(cls)} == LARGE_CLASSES
    assert {cls.name for cls in found} >= FACADES


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "engine").glob("*.py")), ids=lambda path: path.name
)
def test_ports_are_typed(path: Path) -> None:
    """Modules of ports whole; of others the protocols."""
    tree, allowed = tree_of(path), UNTYPED.get(path.name, set())
    found = set(uses_of_any(tree))
    if not path.stem.endswith("ports"):
        protocols = {
            cls.name
            for cls in classes(tree)
            if any("Protocol" in ast.unparse(base) for base in cls.bases)
        }
        found &= protocols
    assert found == allowed


@pytest.mark.parametrize(
    ("source", "is_large"),
    [
        ("class A:\n" + "    x = 1\n" * 299, False),
        ("class A:\n" + "    x = 1\n" * 300, True),
        ("class Durable:\n" + "    x = 1\n" * 300, False),
        ("class Durable:\n" + "    x = 1\n" * 350, True),
        ("class A:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(25)), False),
        ("class A:\n" + "".join(f"    async def m{n}(self): ...\n" for n in range(26)), True),
        ("class A:\n" + "    def m(self): ...\n" * 26, False),
    ],
)
def test_large_classes_are_found(source: str, is_large: bool) -> None:
    assert [is_too_large(cls) for cls in classes(ast.parse(source))] == [is_large]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Session = Any", {"Session"}),
        ("class Turns(Protocol):\n    def load(self, id: Any) -> None: ...", {"Turns"}),
        ("class Turns(Protocol):\n    def load(self) -> Mapping[str, Any]: ...", {"Turns"}),
        ("class Turns(Protocol):\n    def load(self, id: str) -> None: ...", set()),
    ],
)
def test_any_is_found(source: str, found: set[str]) -> None:
    assert set(uses_of_any(ast.parse(source))) == found
