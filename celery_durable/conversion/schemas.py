"""What pydantic makes of a type, changed so that all is read back that was written.

pydantic describes a type by a tree of dicts, its core schema. Some of its nodes are replaced: those
of a class that a converter is for, of an enum whose values JSON has no form for, of a secret.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from .converters import Converter, Converters
from .versions_of_pydantic import release

__all__ = ["Reshaper", "decoding", "is_closed_model"]

Node = dict[str, Any]
#: What is no part of the tree.
_LEAVES = frozenset(
    {"metadata", "members", "default", "cls", "config", "serialization", "function", "expected"}
)
#: Dicts of nodes by names.
_NAMED = frozenset({"fields", "choices"})
_NATIVE: Mapping[str, type] = {
    "decimal": Decimal,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
    "bytes": bytes,
}
_SIMPLE = (str, int, float, bool, type(None))


class Reshaper:
    """Changes the core schema of a type.

    Args:
        converters: of the application's own types.
        plain: makes JSON of a value.
        read: returns what decodes to an annotation; None if the schema is to write values.
    """

    def __init__(
        self,
        converters: Converters,
        *,
        plain: Callable[[Any], Any],
        read: Callable[[Any], Callable[[Any], Any] | None] | None = None,
    ) -> None:
        self._converters = converters
        self._plain = plain
        self._read = read

    @property
    def _writes(self) -> bool:
        return self._read is None

    def changed(self, node: Any, *, is_key: bool = False, is_closed: bool = False) -> Any:
        """Return a node, changed; the same object if nothing in it is to be changed.

        Args:
            node: of a core schema.
            is_key: it is within the key of a dict, which is text in JSON.
            is_closed: it is within a model that keeps or refuses what it does not know.
        """
        if isinstance(node, (list, tuple)):
            parts = [self.changed(part, is_key=is_key, is_closed=is_closed) for part in node]
            is_same = all(new is old for new, old in zip(parts, node, strict=True))
            return node if is_same else type(node)(parts)
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if (cls := _class_of(node)) is not None and (own := self._converters.of(cls)) is not None:
            return _converted(node, cls, own)
        if self._writes and _is_secret(node):
            return {**node, "serialization": _function_plain(_refuse_secret)}
        if kind == "model":
            is_closed = is_closed_model(node)
        found = self._descended(node, is_key, is_closed)
        if self._writes:
            return self._for_writing(node, found, is_closed)
        return self._for_reading(node, found, is_key, is_closed)

    def _descended(self, node: Node, is_key: bool, is_closed: bool) -> Node:
        found: Node = {}
        for name, part in node.items():
            if name in _LEAVES or not isinstance(part, (dict, list, tuple)):
                found[name] = part
            elif name in _NAMED and isinstance(part, dict):
                found[name] = {
                    key: self.changed(each, is_key=is_key, is_closed=is_closed)
                    for key, each in part.items()
                }
                if all(found[name][key] is each for key, each in part.items()):
                    found[name] = part
            else:
                within = is_key or name == "keys_schema"
                found[name] = self.changed(part, is_key=within, is_closed=is_closed)
        return node if all(found[name] is part for name, part in node.items()) else found

    def _for_writing(self, node: Node, found: Node, is_closed: bool) -> Node:
        if is_closed and node.get("type") == "model-fields" and node.get("computed_fields"):
            return {**found, "computed_fields": []}
        if node.get("type") == "enum" and _is_odd(node["cls"]):
            return {**found, "serialization": _function_plain(self._enum_value)}
        is_any = node.get("serialization", {"type": node.get("type")}) == {"type": "any"}
        if is_any or node.get("type") == "call":
            return {**found, "serialization": _function_plain(self._within)}
        return found

    def _within(self, value: Any) -> Any:
        """Return a value of no known type, in which models are written as they are elsewhere."""
        if isinstance(value, dict):
            return {key: self._within(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._within(part) for part in value]
        cls = type(value)
        if hasattr(cls, "model_dump") or self._converters.of(cls) is not None:
            return self._plain(value)
        return value

    def _enum_value(self, member: Any) -> Any:
        return self._plain(member.value) if isinstance(member, Enum) else member

    def _for_reading(self, node: Node, found: Node, is_key: bool, is_closed: bool) -> Node:
        match node.get("type"):
            case "enum" if is_key or _is_odd(node["cls"]):
                return _before(found, _member_finder(node["cls"], self._plain))
            case "json" if "schema" in node:  # what is written is what it held
                inner = found["schema"]
                return _kept(
                    found,
                    {
                        "type": "union",
                        "mode": "left_to_right",
                        "choices": [_without_ref(found), inner],
                    },
                )
            case "dataclass":
                return self._with_all_fields(node, found)
            case "model-fields" | "dataclass-args" if release() < (2, 11):
                found = {**found, "populate_by_name": True}
        if is_closed and node.get("type") == "model-fields" and node.get("computed_fields"):
            return _before(found, _without_computed(node))
        return found

    def _with_all_fields(self, node: Node, found: Node) -> Node:
        """Let those fields be read too that ``__init__`` does not take."""
        left = [each.name for each in dataclasses.fields(node["cls"]) if not each.init]
        if not left or self._read is None:
            return found
        from .annotations import hints_of

        hints = hints_of(node["cls"])
        readers = {name: self._read(hints.get(name)) for name in left}

        def read(value: Any, handler: Callable[[Any], Any]) -> Any:
            made = handler(value)
            for name, reader in readers.items():
                if isinstance(value, dict) and name in value:
                    part = value[name] if reader is None else reader(value[name])
                    object.__setattr__(made, name, part)
            return made

        function = {"type": "no-info", "function": read}
        return _kept(
            found, {"type": "function-wrap", "function": function, "schema": _without_ref(found)}
        )


def decoding(cls: type, own: Converter) -> Callable[[Any], Any]:
    """Return what decodes a value by a converter, unless it is one already."""

    def decode(value: Any) -> Any:
        try:
            return value if isinstance(value, cls) else own.decode(value)
        except Exception as error:  # another member of a union may fit
            raise ValueError(f"{type(error).__name__}: {error}") from error

    return decode


def _class_of(node: Node) -> Any:
    """Return the class whose objects a node describes; None if it is none of one class."""
    kind = node.get("type")
    if kind in ("is-instance", "model", "dataclass", "enum"):
        return node.get("cls")
    if kind == "call":
        return node.get("function")
    return _secret_of(node) or _NATIVE.get(str(kind))


def _is_secret(node: Node) -> bool:
    """Tell whether a node describes a secret of pydantic's, which JSON shows as asterisks."""
    if node.get("type") != "json-or-python":
        return False
    function = node.get("serialization", {}).get("function")
    name = str(getattr(function, "__name__", "")).lstrip("_")
    return getattr(function, "__module__", "") == "pydantic.types" and name.startswith("serialize")


def _secret_of(node: Node) -> type | None:
    """Return the class of a secret that a node describes; None if it describes none."""
    if not _is_secret(node):
        return None
    from pydantic import Secret

    made: Any = node["json_schema"].get("function", {}).get("function")
    return made if isinstance(made, type) else Secret


def is_closed_model(model: Node) -> bool:
    """Tell whether a model refuses, or keeps, what it does not know: a computed value too."""
    settings = {**model.get("config", {}), **_fields_node(model)}
    extra = settings.get("extra_behavior") or settings.get("extra_fields_behavior")
    return extra in ("forbid", "allow")


def _fields_node(node: Any) -> Node:
    """Return the node of a model's fields, which its validators may be around."""
    while isinstance(node, dict) and node.get("type") != "model-fields":
        node = node.get("schema")
    return node if isinstance(node, dict) else {}


def _without_computed(fields: Node) -> Callable[[Any], Any]:
    """Return what leaves out the computed fields of a model, which pydantic writes by itself."""
    computed = {
        name
        for each in fields["computed_fields"]
        for name in (each["property_name"], each.get("alias"))
    }

    def left(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: part for name, part in value.items() if name not in computed}

    return left


def _is_odd(enum: type[Enum]) -> bool:
    """Tell whether JSON has no form of its own for a value of an enum."""
    return any(type(each.value) not in _SIMPLE for each in enum.__members__.values())


def _member_finder(enum: type[Enum], plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what finds a member by what its value is in JSON, also as the key of a dict."""
    from pydantic_core import to_jsonable_python

    def find(value: Any) -> Any:
        if isinstance(value, enum):
            return value
        for each in enum.__members__.values():
            known = plain(each.value)
            if value in (known, to_jsonable_python(known)) or (
                isinstance(value, str) and value == _as_key(known)
            ):
                return each
        return value

    return find


def _as_key(value: Any) -> str | None:
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return None


def _converted(node: Node, cls: type, own: Converter) -> Node:
    function = {"type": "no-info", "function": decoding(cls, own)}
    changed = {"type": "function-plain", "function": function}
    return _kept(node, {**changed, "serialization": _function_plain(own.encode)})


def _before(node: Node, function: Callable[[Any], Any]) -> Node:
    before = {"type": "no-info", "function": function}
    return _kept(
        node, {"type": "function-before", "function": before, "schema": _without_ref(node)}
    )


def _function_plain(function: Callable[[Any], Any]) -> Node:
    return {"type": "function-plain", "function": function, "when_used": "unless-none"}


def _refuse_secret(value: Any) -> Any:
    from pydantic_core import PydanticSerializationError

    if value.get_secret_value() in ("", b""):
        return ""
    name = type(value).__name__
    raise PydanticSerializationError(
        f"JSON does not show a {name}, so it could not be read back: give the model a"
        f" field_serializer for it, or durable.add_converter({name}, ...), which store it readably"
    )


def _kept(node: Node, changed: Node) -> Node:
    """Return a node in the place of another, under the same name."""
    return {**changed, "ref": node["ref"]} if "ref" in node else changed


def _without_ref(node: Node) -> Node:
    return {name: part for name, part in node.items() if name != "ref"}
