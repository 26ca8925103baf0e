"""The code of a function as text, with its names: what is read by the lint, and for contracts."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import textwrap
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from .lint_calls import Reached
from .lint_names import Names, names_of

__all__ = ["Source", "is_of_a_library", "package_of", "source_of"]

_OURS = str(Path(__file__).parents[1])
_STANDARD, _INSTALLED = (
    tuple({f"{Path(sysconfig.get_path(name)).resolve()}/" for name in names})
    for names in (("stdlib", "platstdlib"), ("purelib", "platlib"))
)


class Source(NamedTuple):
    """The code of one function."""

    file: str
    tree: ast.AST
    #: The lines of its file, from the first one on to its last; empty before it begins.
    text: list[str]
    names: Names


def source_of(reached: Reached) -> Source | None:
    """Return the code of a function; None if its text is not there."""
    function: FunctionType = reached.function
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    body = _body(tree)
    ast.increment_lineno(body, max(first, 1) - 1)
    text = [""] * (max(first, 1) - 1) + lines
    names = names_of(function, body, reached.owner)
    return Source(function.__code__.co_filename, body, text, names)


def _body(tree: ast.Module) -> ast.AST:
    (body,) = tree.body[:1]
    if isinstance(body, (ast.FunctionDef, ast.AsyncFunctionDef)):
        body.decorator_list = []  # run once, when it is declared
    return body


def package_of(function: Any) -> str:
    """Return the first part of the name of a function's module."""
    return str(getattr(function, "__module__", "")).partition(".")[0]


def is_of_a_library(function: FunctionType, own: str) -> bool:
    """Tell whether a function is not the application's, which may be installed as a package.

    Args:
        function: which.
        own: the application's package.
    """
    file = str(Path(function.__code__.co_filename).resolve())
    if file.startswith(_INSTALLED):  # within the standard library's place
        return package_of(function) != own
    return file.startswith((f"{_OURS}/", *_STANDARD))
