"""Which files are an application's: the modules of its tasks, the packages that they lie in, and
the tests beside these.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Source", "Sources", "sources_of"]

_INSTALLED = tuple(
    {
        Path(sysconfig.get_path(name)).resolve()
        for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    }
)
_OURS = Path(__file__).parents[2]
_SKIPPED = frozenset(
    {"node_modules", "site-packages", "migrations", "__pycache__", "venv", "build"}
)
_TESTS = ("tests", "test")
_IGNORE = "# durable: ignore"
_LARGEST = 1_000_000


@dataclass
class Source:
    """One file, as it is written."""

    path: Path
    #: The directory in which the application lies.
    root: Path
    tree: ast.Module
    text: list[str]

    @property
    def ignored(self) -> Iterator[tuple[str, int]]:
        """The lines that say they are to be left alone."""
        for number, line in enumerate(self.text, 1):
            if _IGNORE in line:
                yield str(self.path), number

    @cached_property
    def is_test(self) -> bool:
        """Whether it is for tests only."""
        name = self.path.name
        is_named = name.startswith("test_") or name in ("conftest.py", "tests.py")
        inner = self.path.relative_to(self.root).parts[:-1]
        return is_named or any(part in _TESTS for part in inner)


@dataclass
class Sources:
    """The files of an application."""

    files: list[Source] = field(default_factory=list)
    #: What could not be read, with the reason.
    unread: list[str] = field(default_factory=list)

    def read(self, path: Path, root: Path) -> None:
        """Add a file."""
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError("it is larger than 1 MB")
            text = path.read_text(encoding="utf-8")
            self.files.append(Source(path, root, ast.parse(text), text.splitlines()))
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            self.unread.append(f"{path}: {error}")


def sources_of(app: Any, tasks: Iterable[Any]) -> Sources:
    """Return the files of an application, those of libraries left out.

    Args:
        app: the Celery application.
        tasks: those that are registered and of its own.
    """
    modules = [sys.modules.get(str(task.__module__)) for task in tasks]
    places: dict[Path, Path] = {}
    for module in (*_modules_with(app), *modules):
        if module is not None:
            for root, paths in _files_beside(module):
                places.update(dict.fromkeys(paths, root))
    found = Sources()
    for path in sorted(places):
        found.read(path, places[path])
    return found


def is_own(file: str | None) -> bool:
    """Tell whether a file is of no library."""
    if not file or file.startswith("<"):
        return False
    path = Path(file).resolve()
    return not any(path.is_relative_to(place) for place in (*_INSTALLED, _OURS))


def _modules_with(app: Any) -> list[ModuleType]:
    """Return the modules that have the application under a name."""
    return [
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)
        and is_own(getattr(module, "__file__", None))
        and any(value is app for value in list(vars(module).values()))
    ]


def _files_beside(module: ModuleType) -> Iterator[tuple[Path, Iterator[Path]]]:
    """Return the files that belong to a module, with the directory in which all of them lie."""
    if not is_own(file := getattr(module, "__file__", None)):
        return
    path = Path(str(file)).resolve()
    top = sys.modules.get(module.__name__.partition(".")[0])
    places = [Path(place).resolve() for place in getattr(top, "__path__", ())]
    if not places:  # a module by itself: what lies beside it is taken to belong to it
        yield path.parent, path.parent.glob("*.py")
        yield path.parent, _tests_in(path.parent)
    for place in places:
        yield place.parent, _python_in(place)
        yield place.parent, _tests_in(place.parent)


def _tests_in(place: Path) -> Iterator[Path]:
    yield from place.glob("test_*.py")
    yield from place.glob("conftest.py")
    for name in _TESTS:
        if (place / name).is_dir():
            yield from _python_in(place / name)


def _python_in(place: Path) -> Iterator[Path]:
    for path in place.rglob("*.py"):
        inner = path.relative_to(place).parts[:-1]
        if not any(part in _SKIPPED or part.startswith(".") for part in inner):
            yield path
