"""Schemas that are said to be compatible never let a value through that one accepts and the other
refuses; a validator of JSON Schema is the judge.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from celery_durable.inspection.containment import reasons_against

validators = pytest.importorskip("jsonschema_rs")
NAMES = ["a", "b", "c"]
#: With the least that each may be.
LIMITS = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum"), -9),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties"), 0),
    **{"maxProperties": 0, "multipleOf": 1},
}
SCALARS: list[Any] = [None, True, False, 0, 1, 2, -1, 1.5, 10, "", "x", "xx", "xxxx"]


def _optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


_small = st.integers(-1, 3)
_leaf = st.one_of(
    st.just({}),
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"const": 1}, {"const": "x"}]),
    st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from(["integer", "number"]).flatmap(
        lambda kind: _optional(
            minimum=_small,
            maximum=_small,
            exclusiveMinimum=_small,
            multipleOf=st.sampled_from([1, 2]),
        ).map(lambda said: {"type": kind, **said})
    ),
    _optional(minLength=st.integers(0, 2), maxLength=st.integers(0, 3)).map(
        lambda said: {"type": "string", **said}
    ),
    st.lists(
        st.sampled_from(["string", "null", "integer", "boolean"]),
        min_size=1,
        max_size=2,
        unique=True,
    ).map(lambda kinds: {"type": kinds}),
)


def _object(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, said: {
            "type": "object",
            **({"properties": properties} if properties is not None else {}),
            **({"required": sorted(required)} if required else {}),
            **said,
        },
        st.none() | st.dictionaries(st.sampled_from(NAMES), schemas, max_size=3),
        st.sets(st.sampled_from(NAMES), max_size=2),
        _optional(
            additionalProperties=st.booleans() | schemas,
            minProperties=st.integers(0, 2),
            maxProperties=st.integers(0, 3),
            propertyNames=st.sampled_from([{"enum": ["a", "b"]}, {"maxLength": 1}]),
        ),
    )


def _array(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _optional(
        items=st.booleans() | schemas,
        prefixItems=st.lists(schemas, min_size=1, max_size=2),
        minItems=st.integers(0, 2),
        maxItems=st.integers(0, 3),
        uniqueItems=st.booleans(),
    ).map(lambda said: {"type": "array", **said})


def _tagged(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def member(tag: str, schema: Any) -> Any:
        properties = {"kind": {"const": tag}, "a": schema}
        return {"type": "object", "properties": properties, "required": ["kind"]}

    return st.builds(
        lambda members: {
            "oneOf": [member(tag, schema) for tag, schema in members.items()],
            "discriminator": {"propertyName": "kind"},
        },
        st.dictionaries(st.sampled_from(["x", "y"]), schemas, min_size=1, max_size=2),
    )


_schemas = st.recursive(
    _leaf | st.just({"$ref": "#/$defs/Node"}),
    lambda inner: st.one_of(
        _object(inner),
        _array(inner),
        _tagged(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda members: {"anyOf": members}),
    ),
    max_leaves=6,
)
#: Documents with one definition that may refer to itself.
_documents = st.builds(
    lambda schema, node: {**schema, "$defs": {"Node": node}},
    _schemas,
    _object(_leaf | st.just({"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]})),
)


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema and what a release makes of it: a few edits, or another one."""
    old = draw(_documents)
    if draw(st.integers(0, 5)) == 0:
        return old, draw(_documents)
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(1, 3))):
        _edit(draw, new)
    return old, new


def _edit(draw: st.DrawFn, document: Any) -> None:
    places = [each for each in _places(document)]
    place = draw(st.sampled_from(places))
    limits = [name for name in place if name in LIMITS]
    if limits and draw(st.booleans()):
        name = draw(st.sampled_from(limits))
        place[name] = max(place[name] + draw(st.sampled_from([-1, 1])), LIMITS[name])
        return
    if place.get("type") in ("integer", "number") and draw(st.booleans()):
        place["type"] = "number" if place["type"] == "integer" else "integer"
        return
    match draw(st.integers(0, 4)):
        case 0:
            said = [name for name in place if name not in ("$defs", "$ref")]
            if said and len(place) > 1:
                del place[draw(st.sampled_from(said))]
        case 1 if place.get("type") == "object":
            place.setdefault("properties", {})[draw(st.sampled_from(NAMES))] = copy.deepcopy(
                draw(_leaf)
            )
        case 2 if place.get("type") == "object":
            place["required"] = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=2))
        case 3 if isinstance(place.get("anyOf"), list):
            place["anyOf"].append(copy.deepcopy(draw(_leaf)))
        case _:
            kept = {name: place[name] for name in ("$defs",) if name in place}
            place.clear()
            place.update(copy.deepcopy(draw(_leaf)), **kept)


def _places(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield schema
        for name in ("properties", "$defs"):
            for each in schema.get(name, {}).values():
                yield from _places(each)
        for name in ("items", "additionalProperties"):
            yield from _places(schema.get(name))
        for name in ("anyOf", "oneOf", "prefixItems"):
            for each in schema.get(name, []):
                yield from _places(each)


def _closed(schema: Any) -> Any:
    """The schema of what is written: objects have no other fields than those that it declares."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: {key: _closed(part) for key, part in each.items()}
        if name in ("properties", "$defs")
        else _closed(each)
        if name not in ("enum", "const")
        else each
        for name, each in schema.items()
    }
    if schema.get("type") == "object" and "properties" in schema:
        found.setdefault("additionalProperties", False)
    return found


_values = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*NAMES, "kind", "long"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def _values_of(draw: st.DrawFn, root: Any) -> Any:
    return _value(draw, root, root, 0)


def _value(draw: st.DrawFn, schema: Any, root: Any, depth: int) -> Any:
    """Return a value that is likely to fit a schema."""
    if not isinstance(schema, dict) or depth > 5 or draw(st.integers(0, 12)) == 0:
        return draw(_values)
    if "$ref" in schema:
        return _value(draw, root["$defs"]["Node"], root, depth + 1)
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _value(draw, draw(st.sampled_from(schema[name])), root, depth)
    if "const" in schema or "enum" in schema:
        return draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        prefix = schema.get("prefixItems", [])
        rest = [schema.get("items", {})] * draw(st.integers(0, 2))
        return [_value(draw, each, root, depth + 1) for each in (*prefix, *rest)]
    if schema.get("type") != "object":
        return draw(st.sampled_from(SCALARS))
    names = {name: each for name, each in schema.get("properties", {}).items()}
    more = schema.get("additionalProperties", False)
    for name in (*NAMES, "kind") if more is not False else ():
        names.setdefault(name, more)
    return {
        name: _value(draw, each, root, depth + 1)
        for name, each in names.items()
        if name in schema.get("required", []) or draw(st.booleans())
    }


def _is_valid(schema: Any, value: Any) -> bool:
    return bool(validators.Draft202012Validator(schema).is_valid(value))


@settings(
    max_examples=600, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(st.data())
def test_what_is_compatible_refuses_nothing_that_was_accepted(data: st.DataObject) -> None:
    old, new = data.draw(_pairs())
    assume(not reasons_against(old, new))
    closed = _closed(old)
    for _ in range(4):
        value = data.draw(_values_of(old))
        if _is_valid(closed, value) and _is_valid(old, value):
            assert _is_valid(new, value), json.dumps([old, new, value])


#: Every value of which the limits of one level can tell something.
GRID: list[Any] = [
    *SCALARS,
    *([1] * length for length in range(4)),
    *([1, "x", None][:length] for length in range(4)),
    *(dict.fromkeys(names, value) for names in ("", "a", "b", "ab", "abc") for value in (1, "x")),
]
_shallow = _leaf | _object(_leaf) | _array(_leaf)


@st.composite
def _shallow_pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    old = draw(_shallow)
    if draw(st.integers(0, 2)) == 0:
        return old, draw(_shallow)
    new = copy.deepcopy(old)
    _edit(draw, new)
    return old, new


_OPEN = {"type": "object", "properties": {}, "additionalProperties": {}}


@settings(max_examples=1000)
@example(({**_OPEN, "maxProperties": 1}, {**_OPEN, "maxProperties": 0}))
@given(_shallow_pairs())
def test_limits_that_are_said_to_be_wider_are(pair: tuple[Any, Any]) -> None:
    old, new = pair
    if not reasons_against(old, new):
        closed = _closed(old)
        for value in GRID:
            if _is_valid(closed, value) and _is_valid(old, value):
                assert _is_valid(new, value), json.dumps([old, new, value])


@settings(max_examples=150)
@given(_documents)
def test_a_schema_takes_what_it_gives(document: Any) -> None:
    assert reasons_against(document, copy.deepcopy(document)) == []


@settings(max_examples=300)
@given(st.data())
def test_the_verdict_does_not_hang_or_fail(data: st.DataObject) -> None:
    reasons_against(*data.draw(_pairs()))
