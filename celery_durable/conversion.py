"""Values of the application's own types, as plain JSON and back.

Encoded anywhere: models of pydantic, dataclasses, named tuples, enums, ``timedelta``, ``Path``,
sets and tuples, inside each other too, and what a converter knows. What is stored has no class
names: a model as pydantic's ``mode="json"`` gives it, a dataclass as a dict, a named tuple as a
list, an enum as its value, a ``timedelta`` as seconds, a ``Path`` as text, a set as a list in
order.

Decoded where a type is named: by an annotation with such a type in it, through pydantic. Other
annotations are not looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ._errors import PayloadError
from .versions import demand

if TYPE_CHECKING:  # kombu has no types
    from json import JSONEncoder
else:
    from kombu.utils.json import JSONEncoder

__all__ = [
    "Adapter",
    "SignatureTypes",
    "Converter",
    "Converters",
    "Decoder",
    "Encoder",
    "fitting",
    "is_looked_at",
]

log: logging.Logger = logging.getLogger("celery_durable.payload")
#: What JSON writes by itself: a converter for such a class is asked before.
_NATIVE = (dict, list, tuple, str, int, float)
#: A value without what a subclass adds.
_EXACT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
_BUILT_IN = (
    Enum,
    timedelta,
    PurePath,
    set,
    frozenset,
    tuple,
    datetime,
    date,
    time,
    Decimal,
    UUID,
    bytes,
)


class Converter(NamedTuple):
    """How values of a class become JSON, and come back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class Converters:
    """The converters of one application; the one of the nearest class holds."""

    def __init__(self) -> None:
        self._by_class: dict[type, Converter] = {}
        #: Whether one is for a class that JSON writes by itself.
        self.walks: bool = False

    def add(self, cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        """Let values of a class and its subclasses be encoded and decoded so.

        Raises:
            TypeError: ``cls`` is no class, or a function is none.
        """
        if not isinstance(cls, type):
            raise TypeError(f"a converter is for a class, not {cls!r}")
        if not callable(encode) or not callable(decode):
            raise TypeError(f"the converter of {cls.__qualname__} needs two functions")
        self._by_class[cls] = Converter(encode, decode)
        self.walks = self.walks or issubclass(cls, _NATIVE)

    def __bool__(self) -> bool:
        return bool(self._by_class)

    def of(self, cls: Any) -> Converter | None:
        """Return the converter for values of a class; None if there is none."""
        if not self._by_class or not isinstance(cls, type):
            return None
        return next((self._by_class[each] for each in cls.__mro__ if each in self._by_class), None)

    def walked(self, value: Any) -> Any:
        """Return a value in which nothing is left that a converter is for."""
        if (own := self.of(type(value))) is not None:
            return self.walked(own.encode(value))
        if isinstance(value, dict):
            return {key: self.walked(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.walked(part) for part in value]
        return value


class Encoder(JSONEncoder):
    """Writes what kombu's JSON does, and what this module says."""

    def __init__(self, converters: Converters | None = None) -> None:
        super().__init__()
        self._converters = converters
        #: Whether something was written that does not come back by itself.
        self.has_converted: bool = False

    def default(self, o: Any) -> Any:
        """Return JSON for a value that JSON does not know."""
        if self._converters and (own := self._converters.of(type(o))) is not None:
            self.has_converted = True
            encoded = own.encode(o)
            return self._converters.walked(encoded) if self._converters.walks else encoded
        try:
            return super().default(o)  # type: ignore[no-untyped-call]
        except TypeError:
            found = self._converted(o)
            self.has_converted = True
            return found

    def plain(self, value: Any) -> Any:
        """Return a value made of what JSON and kombu know, and of nothing else.

        Raises:
            TypeError: a part of it is of another type.
        """
        own = None if self._converters is None else self._converters.of(type(value))
        if own is not None:
            return self.plain(own.encode(value))
        if isinstance(value, dict):
            found = {_key(key): self.plain(part) for key, part in value.items()}
            if len(found) < len(value):
                raise PayloadError("a dict with keys that are the same in JSON: one would be lost")
            return found
        if isinstance(value, (list, tuple)):
            return [self.plain(part) for part in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.plain(value.value)
        for native, exact in _EXACT.items():
            if isinstance(value, native):
                return exact(value)
        if hasattr(value, "__json__"):
            return self.plain(value.__json__())
        try:
            super().default(value)  # type: ignore[no-untyped-call]
        except TypeError:
            return self.plain(self._converted(value))
        return value

    def _converted(self, o: Any) -> Any:
        if isinstance(o, Enum):
            return o.value
        if isinstance(o, timedelta):
            return o.total_seconds()
        if isinstance(o, PurePath):
            return str(o)
        if isinstance(o, (set, frozenset)):  # in an order that no hash seed changes
            return sorted(o, key=self._text_of)
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            return {field.name: getattr(o, field.name) for field in dataclasses.fields(o)}
        if hasattr(type(o), "model_dump"):  # of the class: a mock has every attribute
            return o.model_dump(mode="json")
        raise TypeError(f"Object of type {type(o).__name__} is not JSON serializable")

    def _text_of(self, part: Any) -> str:
        return type(self)(self._converters).encode(part)


def _key(key: Any) -> Any:
    """Return the key of a dict as JSON writes it, of the types that have a text."""
    if isinstance(key, Enum):
        return key.value
    return str(key) if isinstance(key, (UUID, PurePath)) else key


# -- back ------------------------------------------------------------------------------------------


def is_looked_at(
    annotation: Any, converters: Converters, seen: frozenset[int] = frozenset()
) -> bool:
    """Tell whether values are decoded to a type: whether there is a class in it that JSON does not
    give back by itself.
    """
    if id(annotation) in seen:
        return False
    inner = seen | {id(annotation)}
    if typing.is_typeddict(annotation):
        hints = _hints_of(annotation).values()
        return any(is_looked_at(part, converters, inner) for part in hints)
    for name in ("__supertype__", "__value__"):  # of a NewType, of a type alias
        if (meant := getattr(annotation, name, None)) is not None:
            return is_looked_at(meant, converters, inner)
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return (
            (issubclass(annotation, _BUILT_IN) and annotation is not tuple)
            or dataclasses.is_dataclass(annotation)
            or hasattr(annotation, "model_validate")
            or converters.of(annotation) is not None
        )
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, (set, frozenset, tuple)):
        return True
    if origin is typing.Literal:
        return any(isinstance(each, Enum) for each in typing.get_args(annotation))
    parts = (origin, *typing.get_args(annotation))
    return any(is_looked_at(part, converters, inner) for part in parts if part is not None)


class Adapter:
    """Decodes values to one type."""

    def __init__(self, annotation: Any, converters: Converters) -> None:
        demand("pydantic")
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        self._error = ValidationError
        self._class = annotation if isinstance(annotation, type) else None
        known = _with_converters(annotation, converters)
        try:
            self._adapter: Any = TypeAdapter(known, config=ConfigDict(arbitrary_types_allowed=True))
        except Exception as error:
            if "config" not in str(error):  # a model has its own
                raise
            self._adapter = TypeAdapter(known)

    def decoded(self, value: Any) -> Any:
        """Return the value.

        Raises:
            ValueError: it does not fit; the text is the first complaint.
        """
        if self._class is not None and isinstance(value, self._class):
            return value
        try:
            return self._adapter.validate_python(value, strict=False, **_by_name())
        except self._error as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


@functools.cache
def _by_name() -> dict[str, bool]:
    """Return what lets a field with an alias be read by its name too, where pydantic can."""
    import pydantic

    release = tuple(map(int, pydantic.VERSION.split(".")[:2]))
    return {"by_alias": True, "by_name": True} if release >= (2, 11) else {}


def _with_converters(annotation: Any, converters: Converters) -> Any:
    """Return an annotation in which a converter decodes what it is for."""
    if not converters:
        return annotation
    if (own := converters.of(annotation)) is not None:
        from pydantic import PlainValidator

        def decode(value: Any) -> Any:
            try:
                return value if isinstance(value, annotation) else own.decode(value)
            except Exception as error:  # another member of a union may fit
                raise ValueError(f"{type(error).__name__}: {error}") from error

        return typing.Annotated[Any, PlainValidator(decode)]
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not args or origin is None or origin is typing.Literal:
        return annotation
    changed = tuple(_with_converters(each, converters) for each in args)
    if changed == args:
        return annotation
    if origin in (typing.Union, types.UnionType):
        return typing.Union[changed]  # noqa: UP007
    return origin[changed]


class Decoder:
    """Decodes values to types that are named; each type is looked at once."""

    def __init__(self, converters: Converters) -> None:
        self._converters = converters
        self._known: dict[Any, Adapter | None] = {}

    def adapter(self, annotation: Any) -> Adapter | None:
        """Return what decodes to a type; None where JSON gives it back by itself.

        Raises:
            Exception: pydantic cannot use the annotation.
        """
        try:
            return self._known[annotation]
        except (KeyError, TypeError):
            pass
        found = None
        if is_looked_at(annotation, self._converters):
            found = Adapter(annotation, self._converters)
        try:
            self._known[annotation] = found
        except TypeError:
            log.debug("%r is looked at each time: it has no hash", annotation)
        return found


class SignatureTypes:
    """The annotations of one orchestrator that count: of its parameters, and of what it returns."""

    def __init__(
        self, function: Callable[..., Any], decoder: Decoder, *, is_used: bool = True
    ) -> None:
        self._decoder = decoder
        self._signature = inspect.signature(function)
        #: Parameter -> what decodes it.
        self._parameters: dict[str, Adapter] = {}
        names = list(self._signature.parameters)[1:]  # after the context
        hints = _hints_of(function) if is_used else {}
        for name in names:
            if name in hints and (found := self._adapter(function, name, hints[name])) is not None:
                self._parameters[name] = found
        self._returns: Adapter | None = None
        if "return" in hints:
            self._returns = self._adapter(function, "return", _returned(hints["return"]))

    def _adapter(self, function: Any, name: str, hint: Any) -> Adapter | None:
        try:
            return self._decoder.adapter(hint)
        except Exception:
            log.warning(
                "the annotation of %r of %r cannot be used, and its values stay as JSON gives them",
                name,
                function,
                exc_info=True,
            )
            return None

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def decoded(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return arguments as the types say that are named.

        Raises:
            PayloadError: one does not fit; it is named with the first complaint.
        """
        if not self._parameters:
            return args, kwargs
        try:
            bound = self._signature.bind(None, *args, **kwargs)
        except TypeError:
            return args, kwargs  # the call says so
        for name, value in list(bound.arguments.items())[1:]:
            parameter = self._signature.parameters[name]
            adapter = self._parameters.get(name)
            if adapter is None or (value is None and parameter.default is None):
                continue
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    found: Any = tuple(
                        fitting(adapter, f"argument {name!r}", each) for each in value
                    )
                case inspect.Parameter.VAR_KEYWORD:
                    found = {
                        key: fitting(adapter, f"argument {key!r}", each)
                        for key, each in value.items()
                    }
                case _:
                    found = fitting(adapter, f"argument {name!r}", value)
            bound.arguments[name] = found
        return bound.args[1:], bound.kwargs

    def result(self, value: Any) -> Any:
        """Return a result as the type that the orchestrator names.

        Raises:
            PayloadError: it does not fit.
        """
        return value if self._returns is None else fitting(self._returns, "its result", value)


def fitting(adapter: Adapter, what: str, value: Any) -> Any:
    """Return a value as its type says.

    Raises:
        PayloadError: it does not fit.
    """
    try:
        return adapter.decoded(value)
    except Exception as error:
        raise PayloadError(f"{what} does not fit: {error}") from None


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, but for those whose names are not known at run time."""
    inner = inspect.unwrap(function)
    inner = getattr(inner, "__func__", inner)
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except Exception:
        found: dict[str, Any] = {}
        for name, hint in getattr(inner, "__annotations__", {}).items():
            try:
                known = {"__annotations__": {name: hint}, "__module__": inner.__module__}
                holder = type("_One", (), known)
                found |= typing.get_type_hints(
                    holder, getattr(inner, "__globals__", {}), include_extras=True
                )
            except Exception:
                log.debug("an annotation of %r cannot be read", function, exc_info=True)
        return found


def _returned(hint: Any) -> Any:
    """Return the type of a result: of a generator it is the third part, of an iterator it is not
    known.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (abc.Generator, abc.Coroutine):
        return args[2] if len(args) == 3 else Any
    if origin is abc.Awaitable:
        return args[0]
    return Any if origin in (abc.Iterator, abc.Iterable) else hint
