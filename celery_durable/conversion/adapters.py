"""JSON to the types that are named."""

from __future__ import annotations

import logging
import sys
import types
import typing
from typing import Any

from .._errors import PayloadError
from ..versions import demand
from .annotations import hints_of, is_looked_at
from .converters import Converters
from .encoder import Encoder
from .schemas import Reshaper, decoding
from .versions_of_pydantic import options, unshared

__all__ = ["Adapter", "Decoder", "fitting", "understood"]


class _OldRow(typing.TypedDict):
    """A dict as ``typing`` declares them."""


log: logging.Logger = logging.getLogger("celery_durable.payload")


class Adapter:
    """Decodes values to one type."""

    def __init__(self, annotation: Any, converters: Converters) -> None:
        demand("pydantic")
        from pydantic import ConfigDict, TypeAdapter, ValidationError
        from pydantic_core import SchemaValidator

        self._error = ValidationError
        is_class = isinstance(annotation, type) and not typing.is_typeddict(annotation)
        self._class = annotation if is_class else None
        # within a list a model may have settings of its own, and a dataclass takes these
        many: Any = types.GenericAlias(list, (understood(annotation, converters),))
        known: Any = TypeAdapter(many, config=ConfigDict(arbitrary_types_allowed=True))

        def read(hint: Any) -> Any:
            is_of_use = is_looked_at(hint, converters)
            return Adapter(hint, converters).decoded if is_of_use else None

        reshaper = Reshaper(converters, plain=Encoder(converters).plain, read=read)
        schema = reshaper.changed(known.core_schema)
        is_same = schema is known.core_schema
        self._validator: Any = known.validator if is_same else unshared(SchemaValidator, schema)

    def decoded(self, value: Any) -> Any:
        """Return the value.

        Raises:
            ValueError: it does not fit; the text is the first complaint.
        """
        if self._class is not None and isinstance(value, self._class):
            return value
        try:
            return self._validator.validate_python([value], strict=False, **options().reading)[0]
        except self._error as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def understood(annotation: Any, converters: Converters) -> Any:
    """Return an annotation as pydantic takes it, in which a converter decodes what it is for."""
    if sys.version_info < (3, 12) and type(annotation) is type(_OldRow):
        return _typed_dict(annotation, converters)
    if (own := converters.of(annotation)) is not None:
        from pydantic import PlainValidator

        return typing.Annotated[Any, PlainValidator(decoding(annotation, own))]
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not args or origin is None or origin is typing.Literal:
        return annotation
    changed = tuple(understood(each, converters) for each in args)
    if changed == args:
        return annotation
    if origin in (typing.Union, types.UnionType):
        return typing.Union[changed]  # noqa: UP007
    return origin[changed]


def _typed_dict(annotation: Any, converters: Converters) -> Any:
    """Return a ``TypedDict`` as one of ``typing_extensions``: pydantic wants that."""
    from typing_extensions import TypedDict

    marks = (typing.Required, typing.NotRequired)
    fields: dict[str, Any] = {}
    for name, hint in hints_of(annotation).items():
        unmarked = marks[name not in annotation.__required_keys__]
        mark = typing.get_origin(hint) if typing.get_origin(hint) in marks else None
        known = understood(hint if mark is None else typing.get_args(hint)[0], converters)
        fields[name] = (mark or unmarked)[known]
    return TypedDict(annotation.__name__, fields)  # type: ignore[operator]


class Decoder:
    """Decodes values to types that are named; each type is looked at once."""

    def __init__(self, converters: Converters) -> None:
        self._converters = converters
        self._known: dict[Any, Adapter | None] = {}
        self._changes = converters.changes

    def refresh(self, made: dict[Any, Any]) -> None:
        """Forget what was made before the last converter was added, and ``made`` with it."""
        if self._changes != self._converters.changes:
            self._known.clear()
            made.clear()
            self._changes = self._converters.changes

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


def fitting(adapter: Adapter, what: str, value: Any) -> Any:
    """Return a value as its type says.

    Raises:
        PayloadError: it does not fit.
    """
    try:
        return adapter.decoded(value)
    except Exception as error:
        raise PayloadError(f"{what} does not fit: {error}") from None
