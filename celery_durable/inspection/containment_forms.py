"""A JSON Schema as the forms of its values: each of one type, or a list of values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Form", "Resolver", "Undecided", "forms_of", "is_of", "same", "type_of"]

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
#: Keyword -> the type of values that it says something of.
_OF_TYPE: Mapping[str, str] = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format", "contentEncoding"), "string"),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"
    ),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"), "array"),
    **dict.fromkeys(
        (
            *("properties", "required", "additionalProperties", "propertyNames"),
            *("minProperties", "maxProperties"),
        ),
        "object",
    ),
}
#: What is looked at, beside that.
_COMMON = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "discriminator"})
#: What says nothing of values.
_SILENT = frozenset(
    {
        *("$schema", "$id", "$defs", "$comment", "$anchor", "title", "description", "default"),
        *("examples", "deprecated", "readOnly", "writeOnly", "contentMediaType", "contentSchema"),
    }
)
_MOST_FORMS = 200


class Undecided(Exception):
    """It cannot be said what a schema describes."""


class Form(NamedTuple):
    """Values of one type, or some values."""

    #: None is any type.
    type: str | None
    #: What is said of values of this type.
    keywords: Mapping[str, Any]
    #: These values alone; None is all of the type.
    literals: tuple[Any, ...] | None = None

    @property
    def is_anything(self) -> bool:
        """Whether every value is of this form."""
        return self.type is None and self.literals is None

    @property
    def text(self) -> str:
        """What it is, for people."""
        if self.literals in ((None,), (True, False)):
            return "null" if self.literals == (None,) else "boolean"
        if self.literals is not None:
            return " or ".join(map(_json, self.literals)) or "nothing"
        if self.type == "object" and (title := self.keywords.get("title")):
            return f"object {title}"
        kind = self.keywords.get("format")
        return str(self.type or "anything") + (f" ({kind})" if kind else "")

    def takes_type(self, type_: str | None) -> bool:
        """Tell whether values of a type may be of this form."""
        return self.type in (None, type_) or (self.type == "number" and type_ == "integer")


class Resolver:
    """Follows the references of one document."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def of(self, reference: str) -> Any:
        """Return what a reference leads to.

        Raises:
            Undecided: it leads out of the document, or nowhere.
        """
        if reference == "#":
            return self._root
        if not reference.startswith("#/"):
            raise Undecided(f"{reference} is in another document")
        found: Any = self._root
        for step in reference[2:].split("/"):
            part = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or part not in found:
                raise Undecided(f"{reference} leads nowhere")
            found = found[part]
        return found

    @staticmethod
    def key(schema: Any) -> str:
        """Return what is the same for a schema that is met once more."""
        if isinstance(schema, Mapping):
            schema = {name: each for name, each in schema.items() if name not in _SILENT}
        return _json(schema)


def same(given: Mapping[str, Any], taken: Mapping[str, Any]) -> bool:
    """Tell whether two documents say the same."""
    return _json({**given, "$id": None}) == _json({**taken, "$id": None})


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def forms_of(schema: Any, resolver: Resolver, seen: frozenset[str] = frozenset()) -> list[Form]:
    """Return the forms of the values that a schema describes.

    Raises:
        Undecided: it says something of them that is not understood here.
    """
    if schema is True:
        return [Form(None, {})]
    if schema is False:
        return []
    if not isinstance(schema, Mapping):
        raise Undecided("it is no schema")
    stated = {name: each for name, each in schema.items() if name not in _SILENT}
    if odd := sorted(name for name in stated if name in _NOT_UNDERSTOOD):
        raise Undecided(f"the keyword {odd[0]}")
    stated = {name: each for name, each in stated.items() if name in _COMMON or name in _OF_TYPE}
    parts = [name for name in ("$ref", "anyOf", "oneOf", "allOf") if name in stated]
    if not parts:
        return _simple(stated, schema)
    if len(stated.keys() - {"discriminator"}) > 1:
        if len(parts) == 1 and stated.keys() - {"discriminator"} <= {parts[0], "type"}:
            return _typed(
                forms_of({parts[0]: stated[parts[0]]}, resolver, seen), stated.get("type")
            )
        raise Undecided(f"{parts[0]} beside {sorted(stated.keys() - {parts[0]})[0]}")
    return _combined(parts[0], stated, resolver, seen)


_NOT_UNDERSTOOD = frozenset(
    {
        *("not", "if", "then", "else", "contains", "minContains", "maxContains"),
        *("patternProperties", "dependentRequired", "dependentSchemas", "dependencies"),
        *("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"),
        "additionalItems",
    }
)


def _combined(
    name: str, stated: Mapping[str, Any], resolver: Resolver, seen: frozenset[str]
) -> list[Form]:
    if name == "$ref":
        reference = stated["$ref"]
        if reference in seen:
            raise Undecided(f"{reference} is itself")
        return forms_of(resolver.of(reference), resolver, seen | {reference})
    if name == "allOf":
        if len(stated["allOf"]) != 1:
            raise Undecided("allOf of several")
        return forms_of(stated["allOf"][0], resolver, seen)
    parts = [forms_of(each, resolver, seen) for each in stated[name]]
    if name == "oneOf":
        _refuse_overlap(parts, stated.get("discriminator"))
        parts = [[_tagged(form, stated.get("discriminator")) for form in part] for part in parts]
    found = [form for part in parts for form in part]
    if len(found) > _MOST_FORMS:
        raise Undecided("it has too many forms")
    return found


def _refuse_overlap(parts: list[list[Form]], discriminator: Any) -> None:
    """Refuse what may fit two members of a ``oneOf``, and so fits none.

    Raises:
        Undecided: members have a type in common, and no field tells them apart.
    """
    if isinstance(discriminator, Mapping):
        tags = [tag for part in parts for tag in _tags(part, discriminator["propertyName"])]
        if len(set(tags)) < len(tags):
            raise Undecided("oneOf whose members have a tag in common")
        return
    for number, part in enumerate(parts):
        for other in (form for each in parts[number + 1 :] for form in each):
            if any(_meet(form, other) for form in part):
                raise Undecided("oneOf whose members may overlap")


def _tags(part: list[Form], name: str) -> list[str]:
    """Return the values that tell members of a tagged union apart.

    Raises:
        Undecided: one has no such value.
    """
    found: list[str] = []
    for form in part:
        tag = form.keywords.get("properties", {}).get(name, {})
        values = [tag["const"]] if "const" in tag else tag.get("enum")
        if not values:
            raise Undecided("oneOf whose members have no tags")
        found += map(_json, values)
    return found


def _meet(form: Form, other: Form) -> bool:
    kinds = [
        {type_of(v) for v in f.literals} if f.literals is not None else {f.type}
        for f in (form, other)
    ]
    if any(None in kind for kind in kinds):
        return True
    one, another = ({"number" if k == "integer" else k for k in kind} for kind in kinds)
    return bool(one & another)


def _tagged(form: Form, discriminator: Any) -> Form:
    """Return a form of a tagged union, whose tag is always there."""
    if not isinstance(discriminator, Mapping) or form.type != "object":
        return form
    tag = discriminator["propertyName"]
    required = form.keywords.get("required", [])
    if tag in required or tag not in form.keywords.get("properties", {}):
        return form
    return form._replace(keywords={**form.keywords, "required": [*required, tag]})


def _typed(forms: list[Form], types: Any) -> list[Form]:
    """Return those of some forms that are of a type."""
    wanted = [types] if isinstance(types, str) else list(types or _TYPES)
    if all(form.type in wanted for form in forms):
        return forms
    raise Undecided("a type beside forms of other types")


def _simple(stated: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Form]:
    if not stated:
        return [Form(None, {})]
    types = stated.get("type")
    wanted = [types] if isinstance(types, str) else types
    if "const" in stated or "enum" in stated:
        values = [stated["const"]] if "const" in stated else stated["enum"]
        is_both = "const" in stated and stated.get("enum", values) != values
        if stated.keys() - {"type", "const", "enum"} or is_both:
            raise Undecided("a list of values beside other keywords")
        return [Form(None, {}, tuple(v for v in values if wanted is None or is_of(v, wanted)))]
    if wanted is None:
        wanted = [each for each in _TYPES if each != "integer"]
    found = []
    for each in wanted:
        kind = "number" if each == "integer" else each
        keywords = {name: value for name, value in stated.items() if _OF_TYPE.get(name) == kind}
        if each == "null":
            found.append(Form(None, {}, (None,)))
        elif each == "boolean":
            found.append(Form(None, {}, (True, False)))
        else:
            title = {"title": schema["title"]} if "title" in schema else {}
            found.append(Form(each, {**keywords, **title}))
    return found


def type_of(value: Any) -> str:
    """Return the type of a JSON value; that of a whole number is "integer"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if math.isfinite(value) and value == int(value) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def is_of(value: Any, types: list[str]) -> bool:
    """Tell whether a JSON value is of one of some types."""
    found = type_of(value)
    return found in types or (found == "integer" and "number" in types)
