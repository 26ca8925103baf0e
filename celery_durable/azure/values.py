"""Values as Azure's libraries pass them: objects go out as JSON, and come back as the types that
the code names.

A class with ``to_json`` and ``from_json`` is kept with its name, as Azure Functions keeps it. A
dataclass goes out as a dict, and comes back where an annotation or ``return_type=``,
``data_type=``, ``expected_type=`` says so, as in ``durabletask``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

__all__ = [
    "Reader",
    "incoming",
    "outgoing",
    "parameter_type",
    "positional_names",
    "reader",
    "return_type",
]

Reader = Callable[[Any], Any]

_TAGS = {"__class__", "__module__", "__data__"}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.MutableSequence)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS = {set: set, frozenset: frozenset, collections.abc.Set: set}
_FROM_TEXT: Mapping[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}


def outgoing(value: Any) -> Any:
    """Return a value as JSON can hold it; what is not known here is left to the serializer."""
    if isinstance(value, dict):
        return {key: outgoing(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [outgoing(each) for each in value]
    if (
        value is None
        or isinstance(value, (str, int, float, bytes, type))
        or hasattr(value, "__json__")
    ):
        return value
    cls = type(value)
    if callable(to_json := getattr(cls, "to_json", None)):
        data = outgoing(to_json(value))
        is_readable = callable(getattr(cls, "from_json", None))
        return (
            {"__class__": cls.__qualname__, "__module__": cls.__module__, "__data__": data}
            if is_readable
            else data
        )
    if dataclasses.is_dataclass(value):
        return {
            each.name: outgoing(getattr(value, each.name)) for each in dataclasses.fields(value)
        }
    if isinstance(value, Enum):
        return outgoing(value.value)
    if isinstance(value, types.SimpleNamespace):
        return outgoing(vars(value))
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    return value


def incoming(value: Any, wanted: Any = None) -> Any:
    """Return what ``outgoing`` was given, as far as the payload or the wanted type says what that
    was.

    Raises:
        TypeError, ValueError: the value does not fit the type.
    """
    return _as(_untagged(value), wanted)


def reader(wanted: Any = None) -> Reader:
    """Return a function that does the same as ``incoming`` for one type."""
    return lambda value: incoming(value, wanted)


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(each) for each in value]
    if not isinstance(value, dict):
        return value
    if (
        value.keys() == _TAGS
        and (cls := _loaded_class(value["__module__"], value["__class__"])) is not None
    ):
        return cls.from_json(_untagged(value["__data__"]))
    return {key: _untagged(each) for key, each in value.items()}


def _loaded_class(module: Any, name: Any) -> Any:
    """Return a class that can read itself, of a module that is loaded already.

    A payload imports nothing.
    """
    found: Any = (
        sys.modules.get(module) if isinstance(module, str) and isinstance(name, str) else None
    )
    for part in str(name).split("."):
        found = getattr(found, part, None)
    return found if inspect.isclass(found) and callable(getattr(found, "from_json", None)) else None


def _as(value: Any, wanted: Any) -> Any:
    if value is None or wanted in (None, Any, object, inspect.Parameter.empty):
        return value
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return _as(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _as_one_of(value, arguments)
    if origin is not None:
        return _as_many(value, origin, arguments)
    return (
        _as_object(value, wanted)
        if inspect.isclass(wanted) and not isinstance(value, wanted)
        else value
    )


def _as_one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    classes = [each for each in choices if inspect.isclass(each)]
    if any(isinstance(value, each) for each in classes if typing.get_origin(each) is None):
        return value
    problems = []
    for each in choices:
        try:
            if each is not type(None) and (made := _as(value, each)) is not value:
                return made
        except (TypeError, ValueError) as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return value


def _as_many(value: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if origin in _DICTS and isinstance(value, dict) and len(arguments) == 2:
        return {key: _as(each, arguments[1]) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    if origin in _LISTS and arguments:
        return [_as(each, arguments[0]) for each in value]
    if origin in _SETS and arguments:
        return _SETS[origin](_as(each, arguments[0]) for each in value)
    if origin is tuple and arguments:
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_as(each, kind) for each, kind in zip(value, kinds, strict=True))
    return value


def _as_object(value: Any, cls: Any) -> Any:
    if callable(from_json := getattr(cls, "from_json", None)):
        return from_json(value)
    if callable(validate := getattr(cls, "model_validate", None)):
        return validate(value)
    if dataclasses.is_dataclass(cls) and isinstance(value, dict):
        return _as_dataclass(value, cls)
    if issubclass(cls, Enum):
        return cls(value)
    if isinstance(value, str) and cls in _FROM_TEXT:
        return _FROM_TEXT[cls](value)
    if cls in (tuple, set, frozenset) and isinstance(value, list):
        return cls(value)
    return value


def _as_dataclass(value: dict[str, Any], cls: Any) -> Any:
    hints = _hints(cls)
    names = [each.name for each in dataclasses.fields(cls) if each.init]
    given = {name: _as(value[name], hints.get(name)) for name in names if name in value}
    try:
        return cls(**given)
    except TypeError as error:
        raise TypeError(
            f"the payload with {', '.join(value) or 'no keys'} is no {cls.__qualname__}: {error}"
        ) from None


# -- what code says of its types -------------------------------------------------------------------


def parameter_type(function: Any, position: int) -> Any:
    """Return the annotation of a function's parameter, or None if it has none that can be found
    out.
    """
    names = positional_names(function)
    return _hints(function).get(names[position]) if position < len(names) else None


def positional_names(function: Any) -> list[str]:
    """Return the names of the parameters that can be given by position.

    None of what tells nothing.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]


def return_type(function: Any) -> Any:
    """Return the type that a function says it returns, or None.

    A generator's is that of its ``return``.
    """
    found = _hints(inspect.unwrap(getattr(function, "run", function))).get("return")
    if typing.get_origin(found) is collections.abc.Generator:
        arguments = typing.get_args(found)
        return arguments[2] if len(arguments) == 3 else None
    return found


def _hints(target: Any) -> dict[str, Any]:
    """Return the annotations that mean something here.

    Not those of names that only a type checker imports.
    """
    if not callable(target):
        return {}
    try:
        return typing.get_type_hints(target)
    except Exception:
        namespace = getattr(target, "__globals__", None) or vars(
            sys.modules.get(getattr(target, "__module__", ""), typing)
        )
        return {
            name: found
            for name, each in _annotations(target)
            if (found := _resolved(each, namespace)) is not None
        }


def _annotations(target: Any) -> Iterator[tuple[str, Any]]:
    for each in reversed(target.__mro__) if inspect.isclass(target) else [target]:
        yield from inspect.get_annotations(each).items()


def _resolved(annotation: Any, namespace: dict[str, Any]) -> Any:
    alone = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(alone, namespace)["it"]
    except Exception:
        return None
