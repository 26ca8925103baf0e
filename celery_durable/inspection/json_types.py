"""Annotations as JSON Schema: what this package writes of a value of a type, and reads back.

pydantic describes types; what it says otherwise than ``conversion`` writes is put right here. A
``timedelta`` is a number of seconds, except in a model of pydantic, which writes a text. What a
converter is for is opaque: ``{}``, which is anything.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..conversion import Converters, Encoder, is_closed_model, understood
from ..errors import ConfigurationError
from ..versions import demand

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

__all__ = ["ANYTHING", "Described", "JsonTypes", "default_of", "is_optional"]

#: The schema of what nothing is known of.
ANYTHING: Mapping[str, Any] = {}
Mode = Literal["validation", "serialization"]


class Described(NamedTuple):
    """The schemas of several annotations, which share definitions."""

    #: By the key that each annotation was given with.
    schemas: dict[str, dict[str, Any]]
    definitions: dict[str, Any]
    #: Keys of what could not be described, and why; the schema is ``{}``.
    failed: dict[str, str]


class JsonTypes:
    """Describes annotations for one application.

    Raises:
        ConfigurationError: pydantic is missing, or too old.
    """

    def __init__(self, converters: Converters) -> None:
        try:
            demand("pydantic")
            from pydantic.json_schema import GenerateJsonSchema
        except ImportError as error:
            raise ConfigurationError(
                f"types are described by pydantic, which cannot be used here: {error}."
                " Run: pip install 'pydantic>=2.7'"
            ) from error
        self._converters = converters
        self._generator: type[Any] = _generator(GenerateJsonSchema, converters)

    def describe(self, annotations: Mapping[str, Any], mode: Mode) -> Described:
        """Return schemas of annotations.

        Args:
            annotations: by keys of the caller's.
            mode: "validation" for what is given to an orchestrator, "serialization" for what it
                gives.
        """
        adapters: list[tuple[str, Mode, TypeAdapter[Any]]] = []
        failed: dict[str, str] = {}
        for key, annotation in annotations.items():
            try:
                adapter = _adapter(annotation, self._converters)
                adapter.json_schema(by_alias=False, schema_generator=self._generator, mode=mode)
            except Exception as error:  # of pydantic, and of classes that it asks
                failed[key] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            else:
                adapters.append((key, mode, adapter))
        found, shared = _together(adapters, self._generator)
        schemas = {
            key: found[key, mode].get("items", {}) if (key, mode) in found else {}
            for key in annotations
        }
        return Described(schemas, shared, failed)


def _adapter(annotation: Any, converters: Converters) -> TypeAdapter[Any]:
    """Return the adapter for a list of it: a list takes settings where a model refuses them."""
    from pydantic import ConfigDict, TypeAdapter

    many: Any = types.GenericAlias(list, (understood(annotation, converters),))
    return TypeAdapter(many, config=ConfigDict(arbitrary_types_allowed=True))


def _together(
    adapters: list[tuple[str, Mode, TypeAdapter[Any]]], generator: type[Any]
) -> tuple[dict[tuple[str, Mode], Any], dict[str, Any]]:
    from pydantic import TypeAdapter

    if not adapters:
        return {}, {}
    found, shared = TypeAdapter.json_schemas(adapters, by_alias=False, schema_generator=generator)
    return dict(found), shared.get("$defs", {})


def _generator(base: type[GenerateJsonSchema], converters: Converters) -> type[Any]:
    """Return the class that describes types as they are written here."""

    class Generator(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            #: How many models of pydantic are around what is described.
            self._depth = 0
            #: Whether the model keeps or refuses what it does not know.
            self._is_closed = False

        def generate_inner(self, schema: Any) -> Any:
            cls = schema.get("cls") if isinstance(schema, dict) else None
            if converters.of(cls) is not None:
                return {}
            if schema.get("type") != "model":
                return super().generate_inner(schema)
            outer, self._depth, self._is_closed = (
                (self._depth, self._is_closed),
                self._depth + 1,
                is_closed_model(schema),
            )
            try:
                return super().generate_inner(schema)
            finally:
                self._depth, self._is_closed = outer

        def model_fields_schema(self, schema: Any) -> Any:
            """Leave out computed fields where they are not written: they could not be read."""
            if self._is_closed:
                schema = {**schema, "computed_fields": []}
            return super().model_fields_schema(schema)

        def timedelta_schema(self, schema: Any) -> Any:
            if self._depth:
                return super().timedelta_schema(schema)
            return {"type": "number", "description": "Seconds."}

        def dict_schema(self, schema: Any) -> Any:
            """A dict may have any keys, which older releases of pydantic leave unsaid."""
            found = super().dict_schema(schema)
            if "patternProperties" not in found:
                found.setdefault("additionalProperties", True)
            return found

        def encode_default(self, dft: Any) -> Any:
            if isinstance(dft, timedelta) and not self._depth:
                return dft.total_seconds()
            return super().encode_default(dft)

        def field_is_required(self, field: Any, total: bool) -> bool:
            """What is written has every field, also those with a default."""
            if self.mode == "serialization" and field["type"] != "typed-dict-field":
                return not field.get("serialization_exclude")
            return bool(super().field_is_required(field, total))

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
            return {}

        def emit_warning(self, kind: Any, detail: str) -> None:
            pass

    return Generator


def default_of(value: Any, converters: Converters) -> Iterator[Any]:
    """Give the default of a parameter as it is written; nothing if it cannot be."""
    try:
        yield json.loads(json.dumps(Encoder(converters).plain(value), default=str))
    except Exception:  # an object of a class that no one writes
        return


def is_optional(annotation: Any) -> bool:
    """Tell whether None is among what an annotation names."""
    if annotation in (None, type(None), Any):
        return True
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(is_optional(each) for each in typing.get_args(annotation))
    return False
