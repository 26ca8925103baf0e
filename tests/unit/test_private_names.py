"""What begins with an underscore is read in its own module alone: neighbours ask by a function."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import celery_durable

ROOT = Path(celery_durable.__file__).parent
#: Pickles name it where errors are imported from.
KNOWN = {("errors.py", "_rebuild")}
#: Of Celery and its transports, and called so here, too.
LIBRARIES = {"_local", "_message", "_name", "_size", "_tasks"}
NAMEDTUPLES = {"_asdict", "_fields", "_make", "_replace", "_field_defaults"}


def trees() -> dict[str, ast.Module]:
    paths = (path for path in ROOT.rglob("*.py") if "versions" not in path.parts)
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMEDTUPLES | {"_"}


def defined_in(tree: ast.Module) -> set[str]:
    """Return the private names that a module gives to classes, objects or itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if is_private(name)}


def read_in(tree: ast.Module) -> set[str]:
    """Return the private names of others that a module reads."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.ImportFrom(level=level, names=names) if level:
                found |= {each.name for each in names}
    return {name for name in found if is_private(name)}


def test_no_module_reads_what_is_private_in_another() -> None:
    modules = trees()
    owners = defaultdict(set)
    for module, tree in modules.items():
        for name in defined_in(tree):
            owners[name].add(module)
    bad = {
        (module, name)
        for module, tree in modules.items()
        for name in read_in(tree)
        # not one of a library's, nor of its own
        if name not in LIBRARIES and owners.get(name) and module not in owners[name]
    }
    assert bad - KNOWN == set()
