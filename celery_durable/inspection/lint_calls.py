"""What a call means: what to write instead of it, and what it leads to."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import pathlib
import random
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from ..replacements import CALL_TASK, CALLED, EFFECT, GLOBAL, HARMLESS, MODULES, WITHOUT_ARGUMENTS
from .lint_names import MISSING, Names

__all__ = ["Reached", "default_of", "harm_of", "is_container", "is_model", "plain", "reached_by"]

#: Modules under the names by which they are known.
_ALIASES = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "ntpath": "os.path",
    "genericpath": "os.path",
}
_SENDING = frozenset({"delay", "apply_async", "apply", "send_task"})
_CHANGING = frozenset(
    {
        "append",
        "appendleft",
        "extend",
        "extendleft",
        "insert",
        "remove",
        "pop",
        "popleft",
        "popitem",
        "clear",
        "add",
        "discard",
        "update",
        "setdefault",
        "sort",
        "reverse",
        "rotate",
        "subtract",
    }
)
#: Of a path, what looks at files; the rest only computes names.
_OF_PATHS = frozenset(
    {
        *("read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "is_file"),
        *("is_dir", "iterdir", "glob", "rglob", "stat", "unlink", "mkdir", "rmdir", "touch"),
        *("rename", "replace", "resolve", "cwd", "home", "samefile", "symlink_to"),
    }
)
_OF_MODELS = frozenset(
    ["save", "asave", "delete", "adelete", "refresh_from_db", "arefresh_from_db", "full_clean"]
)
_STARTING = frozenset(
    {
        *("start", "start_many", "get", "find", "count", "signal_event", "raise_event"),
        *("schedule", "purge", "verify"),
    }
)
_STARTS = "await ctx.call(orchestrator.s(...)), or ctx.signal_event(id, name)"
#: What calls the functions that it is given, at once.
_CALLERS = (
    "builtins.map",
    "builtins.filter",
    "builtins.sorted",
    "builtins.min",
    "builtins.max",
    "functools.reduce",
    "functools.partial",
    "_functools.reduce",
)


class Reached(NamedTuple):
    """A function that an orchestrator comes to."""

    function: Any
    #: The class of which it is a method.
    owner: type | None


def plain(function: Any) -> Any:
    """Return the function as it is written, below what wraps it."""
    found = inspect.unwrap(function)
    found = getattr(found, "durable_code", found)
    return getattr(found, "__func__", found)


def reached_by(node: ast.Call, target: Any, names: Names) -> Iterator[Reached]:
    """Return what a call runs: a function, a method, what makes an object, or what it is given."""
    if _is_caller(target):
        given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "key")]
        for each in given:
            value = names.value(each)
            if isinstance(value, FunctionType):
                yield Reached(plain(value), None)
        return
    if isinstance(target, type):
        for name in ("__init__", "__post_init__", "__new__"):
            if isinstance(found := vars(target).get(name), FunctionType):
                yield Reached(found, target)
        return
    if isinstance(target, (staticmethod, classmethod, FunctionType)) or inspect.ismethod(target):
        owner = None
        if isinstance(node.func, ast.Attribute):
            value = names.value(node.func.value)
            owner = value if isinstance(value, type) else names.class_of(node.func.value)
        yield Reached(plain(target), owner)


def _is_caller(target: Any) -> bool:
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    return f"{module}.{name}" in _CALLERS


def harm_of(node: ast.Call, target: Any, names: Names) -> str | None:
    """Return what to write instead of a call; None if it does no harm."""
    if isinstance(node.func, ast.Attribute):
        found = _harm_of_method(node.func, names)
        if found is not None:
            return found
    if target is MISSING:
        return None
    if _is_task(target):
        return CALL_TASK
    if target is next and node.args and _is_shared_iterator(node.args[0], names):
        return GLOBAL
    if target is random.Random and not node.args and not node.keywords:
        return CALLED["os.urandom"]
    return _instead_of(target, node, names)


def _harm_of_method(method: ast.Attribute, names: Names) -> str | None:
    owner, cls = names.value(method.value), names.class_of(method.value)
    if method.attr in _SENDING and _sends(owner, cls):
        return CALL_TASK
    if method.attr in _CHANGING and is_container(method.value, names):
        return GLOBAL
    if cls is None:
        return None
    if issubclass(cls, pathlib.PurePath) and method.attr in _OF_PATHS:
        return EFFECT
    if is_model(cls) and method.attr in _OF_MODELS:
        return EFFECT
    if f"{cls.__module__}.{cls.__qualname__}" == "celery_durable.app.durable.Durable":
        return _STARTS if method.attr in _STARTING else None
    if cls.__module__ == "django.utils.connection":  # ``cache``, ``connection``
        return EFFECT
    return None


def _sends(owner: Any, cls: type | None) -> bool:
    """Tell whether this is a task, a canvas or an application."""
    known = owner if owner is not MISSING else cls
    return known is not None and (hasattr(known, "apply_async") or hasattr(known, "send_task"))


def _is_task(target: Any) -> bool:
    if isinstance(target, (type, ModuleType)):
        return False
    cls = getattr(target, "__class__", type(target))
    return any(each.__module__ == "celery.app.task" for each in cls.__mro__)


def is_container(node: ast.expr, names: Names) -> bool:
    """Tell whether this is a container of a module's, or of a class."""
    if isinstance(node, ast.Name):
        value = MISSING if node.id in names.local else names.outer.get(node.id, MISSING)
    elif isinstance(node, ast.Attribute) and isinstance(
        owner := names.value(node.value), (ModuleType, type)
    ):
        value = inspect.getattr_static(owner, node.attr, MISSING)
    else:
        return False
    kinds = (list, dict, set, bytearray)
    return isinstance(value, kinds) or type(value).__module__ == "collections"


def _is_shared_iterator(node: ast.expr, names: Names) -> bool:
    value = names.value(node)
    return value is not MISSING and hasattr(value, "__next__")


def is_model(value: Any) -> bool:
    """Tell whether this is a model of Django's."""
    models = sys.modules.get("django.db.models")
    return models is not None and isinstance(value, type) and issubclass(value, models.Model)


def _instead_of(target: Any, node: ast.Call, names: Names) -> str | None:
    for place in _places(target, node.func, names):
        if (instead := CALLED.get(place)) is not None:
            is_given = bool(node.args or node.keywords)
            return None if is_given and place in WITHOUT_ARGUMENTS else instead
        module = place
        while module := module.rpartition(".")[0]:
            if module in MODULES:
                return None if _is_harmless(target, place) else MODULES[module]
    return None


def _is_harmless(target: Any, place: str) -> bool:
    """Tell whether it only makes a value: an exception, or what is listed."""
    return place in HARMLESS or (isinstance(target, type) and issubclass(target, BaseException))


def _places(target: Any, node: ast.expr, names: Names) -> Iterator[str]:
    """Return by which names something is known: where it was made, and where it was taken from."""
    target = getattr(target, "__func__", target)
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", getattr(target, "__name__", None))
    maker = getattr(target, "__self__", None)
    if isinstance(module, str) and isinstance(name, str):
        yield f"{_ALIASES.get(module, module)}.{name}"
    elif maker is not None and not isinstance(maker, ModuleType) and isinstance(name, str):
        yield f"{type(maker).__module__}.{name}"  # a method of an object that a module made
    if isinstance(node, ast.Name) and getattr(builtins, node.id, None) is target:
        yield f"builtins.{node.id}"
    if isinstance(node, ast.Attribute):
        owner = names.value(node.value)
        if isinstance(owner, ModuleType):
            yield f"{_ALIASES.get(owner.__name__, owner.__name__)}.{node.attr}"
        elif isinstance(owner, type):
            yield from (f"{cls.__module__}.{cls.__qualname__}.{node.attr}" for cls in owner.__mro__)


def default_of(target: Any, node: ast.Call) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Return the fields of a new object that a function fills in, where none is given."""
    if not isinstance(target, type) or any(each.arg is None for each in node.keywords):
        return
    given = {each.arg for each in node.keywords}
    if dataclasses.is_dataclass(target):
        for number, each in enumerate(dataclasses.fields(target)):
            factory = each.default_factory
            if each.name not in given and number >= len(node.args) and callable(factory):
                yield each.name, factory
        return
    for name, found in getattr(target, "__pydantic_fields__", {}).items():
        filler = getattr(found, "default_factory", None)
        if filler is not None and name not in given:
            yield name, filler
