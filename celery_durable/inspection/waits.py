"""Which events and requests an orchestrator waits for, and as which types, found by reading its
code and the functions of the application that it calls.

Nothing is run. A name counts where it is constant: written there, a constant of a module or of a
class, a member of an enum, an element of a constant that a loop takes, or any of these given to a
helper function. Where it is not, that wait is listed as unknown.
"""

from __future__ import annotations

import ast
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from .lint_calls import Reached, plain, reached_by
from .lint_names import MISSING, ScopedVisitor
from .lint_source import Source, is_of_a_library, package_of, source_of
from .lint_values import CONTEXT, Values

__all__ = ["EVENT", "REQUEST", "Unknown", "Wait", "Waits", "waits_of"]

EVENT, REQUEST = "event", "request"
#: Method -> what it waits for, and under which name and at which place it takes a type.
_METHODS: Mapping[str, tuple[str, str, int | None]] = {
    "wait_event": (EVENT, "type", None),
    "wait_request": (REQUEST, "type", None),
    # of code from Azure
    "wait_for_external_event": (EVENT, "expected_type", 1),
}
_TYPE_NAMES = frozenset({"type", "expected_type", "data_type"})


class Wait(NamedTuple):
    """A wait for an event or a request."""

    kind: str
    name: str
    #: The annotation that is named; ``Any`` if there is none.
    type: Any


class Unknown(NamedTuple):
    """What is not known before the code runs."""

    #: "the name of an event", "the type of the event 'approved'", ...
    what: str
    #: The function in which it is written.
    place: str
    #: As it is written.
    code: str


class Waits(NamedTuple):
    """All waits of one orchestrator, in the order in which they were found."""

    found: list[Wait]
    unknown: list[Unknown]


class _Step(NamedTuple):
    reached: Reached
    #: Parameter -> the values that it may have, where they are known.
    given: Mapping[str, tuple[Any, ...]]


def waits_of(function: Callable[..., Any]) -> Waits:
    """Return which events and requests an orchestrator waits for.

    Args:
        function: its code.
    """
    first = plain(function)
    if not isinstance(first, FunctionType):
        return Waits([], [Unknown("its code", _place(first), "it is no plain function")])
    own = package_of(first)
    names = list(inspect.signature(first).parameters)
    context = names[1 if names[:1] == ["self"] else 0 :][:1]
    waiting = deque([_Step(Reached(first, None), dict.fromkeys(context, (CONTEXT,)))])
    found = Waits([], [])
    seen: set[Any] = set()
    while waiting:
        step = waiting.popleft()
        if (key := _key_of(step)) in seen:
            continue
        seen.add(key)
        source = source_of(step.reached)
        if source is None:
            found.unknown.append(Unknown("its code", _place(step.reached.function), "no source"))
            continue
        reader = _Reader(step, source, own, found)
        reader.generic_visit(source.tree)
        waiting += reader.next
    return Waits(_once(found.found), _once(found.unknown))


def _key_of(step: _Step) -> Any:
    given = frozenset((name, tuple(map(repr, values))) for name, values in step.given.items())
    return step.reached.function.__code__, step.reached.owner, given


def _once(found: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for each in found:
        if each not in kept:  # a type need not have a hash
            kept.append(each)
    return kept


class _Reader(ScopedVisitor[Values], ast.NodeVisitor):
    """Reads the code of one function for waits."""

    def __init__(self, step: _Step, source: Source, own: str, found: Waits) -> None:
        self._place = _place(step.reached.function)
        self._own = own
        self._found = found
        self.scope = Values(source.tree, source.names, step.given)
        self._inner = {
            node.name
            for node in ast.walk(source.tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        #: What it comes to from here.
        self.next: list[_Step] = []

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at a method that is not called here, but kept or passed on."""
        if node.attr in _METHODS and self._is_of_context(node):
            self._note(f"the name of {_an(_METHODS[node.attr][0])}", node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Look at a wait, or at what is called."""
        method = node.func
        if (
            isinstance(method, ast.Attribute)
            and method.attr in _METHODS
            and self._is_of_context(method)
        ):
            self._wait(node, *_METHODS[method.attr])
            for part in (method.value, *node.args, *(each.value for each in node.keywords)):
                self.visit(part)
            return
        self._follow(node)
        self.generic_visit(node)

    def _is_of_context(self, method: ast.Attribute) -> bool:
        """Tell whether this may be a context's method: it is of no class of the application's."""
        cls = self.scope.names.class_of(method.value)
        own = None if cls is None else inspect.getattr_static(cls, method.attr, None)
        return own is None or str(getattr(own, "__module__", "")).startswith("celery_durable.")

    # -- waits -------------------------------------------------------------------------------------

    def _wait(self, node: ast.Call, kind: str, type_name: str, type_place: int | None) -> None:
        given = {each.arg: each.value for each in node.keywords}
        name = node.args[0] if node.args else given.get("name")
        names = None if name is None else self.scope.of(name)
        if names is None or not all(isinstance(each, str) for each in names):
            self._note(f"the name of {_an(kind)}", node)
            return
        types = self._types_of(node, type_place)
        for each in names:
            if types is None:
                self._note(f"the type of the {kind} {_text(each)!r}", node)
            for wanted in types or (Any,):
                self._found.found.append(Wait(kind, _text(each), wanted))

    def _types_of(self, node: ast.Call, place: int | None) -> tuple[Any, ...] | None:
        """Return the types that a wait names; None if they are not known."""
        if any(each.arg is None for each in node.keywords):
            return None
        wanted = next((each.value for each in node.keywords if each.arg in _TYPE_NAMES), None)
        if wanted is None and place is not None and len(node.args) > place:
            wanted = node.args[place]
        if wanted is None:
            return (Any,)
        types = self.scope.of(wanted)
        return None if types is None else tuple(Any if each is None else each for each in types)

    def _note(self, what: str, node: ast.expr) -> None:
        self._found.unknown.append(Unknown(what, self._place, ast.unparse(node)))

    # -- what is called ----------------------------------------------------------------------------

    def _follow(self, node: ast.Call) -> None:
        names = self.scope.names
        target = names.value(node.func)
        read = [
            each
            for each in reached_by(node, target, names)
            if isinstance(each.function, FunctionType)
            and not is_of_a_library(each.function, self._own)
        ]
        for each in read:
            self.next.append(_Step(each, self._given(node, each, target)))
        if not read and self._takes_context(node) and not self._is_read_here(node, target):
            self._note("what is waited for where the context is passed to", node)

    def _takes_context(self, node: ast.Call) -> bool:
        parts = (*node.args, *(each.value for each in node.keywords))
        return any(self.scope.of(each) == (CONTEXT,) for each in parts)

    def _is_read_here(self, node: ast.Call, target: Any) -> bool:
        """Tell whether a function is defined within this one, or a part of Python."""
        if isinstance(node.func, ast.Name) and node.func.id in self._inner:
            return True
        return target is not MISSING and getattr(target, "__module__", None) == "builtins"

    def _given(
        self, node: ast.Call, reached: Reached, target: Any
    ) -> Mapping[str, tuple[Any, ...]]:
        """Return the values that are known of what a function is called with."""
        if any(isinstance(each, ast.Starred) for each in node.args) or any(
            each.arg is None for each in node.keywords
        ):
            return {}
        if plain(target) is not reached.function and not isinstance(target, type):
            return {}  # a function that this one is given
        parameters = list(inspect.signature(reached.function).parameters.values())
        if _is_bound(node, reached, target):
            parameters = parameters[1:]
        known = {
            each.name: (each.default,)
            for each in parameters
            if each.default is None
            or (isinstance(each.default, (str, type)) and each.default is not each.empty)
        }
        by_place = [each.name for each in parameters if each.kind in _BY_PLACE]
        given = dict(zip(by_place, node.args, strict=False))
        given |= {str(each.arg): each.value for each in node.keywords}
        for name, value in given.items():
            known.pop(name, None)
            if (values := self.scope.of(value)) is not None:
                known[name] = values
        return known


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_bound(node: ast.Call, reached: Reached, target: Any) -> bool:
    """Tell whether the first parameter is the object, or the class, and not the first argument."""
    if isinstance(target, staticmethod) or reached.owner is None:
        return False
    return isinstance(target, (type, classmethod)) or isinstance(node.func, ast.Attribute)


def _place(function: Any) -> str:
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _text(name: str) -> str:
    return str(getattr(name, "value", name))


def _an(kind: str) -> str:
    return f"an {kind}" if kind == EVENT else f"a {kind}"
