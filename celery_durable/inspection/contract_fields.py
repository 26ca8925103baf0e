"""Fields and defaults of two schemas, by their paths: what is new, gone or changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["field_changes"]

Fields = dict[str, list[Mapping[str, Any]]]
_MOST = 2000


def field_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the paths of fields that are new or gone, or that have another default now."""
    before, after = _fields_of(old), _fields_of(new)
    for path in after:
        if path not in before:
            yield path, "is new"
        elif (was := _defaults(before[path])) != (now := _defaults(after[path])):
            yield path, f"has the default {_text(now)} now; it was {_text(was)}"
    for path in before:
        if path not in after:
            yield path, "is not there any more, and is ignored"


def _defaults(schemas: list[Mapping[str, Any]]) -> list[str]:
    return [json.dumps(each["default"], sort_keys=True) for each in schemas if "default" in each]


def _text(defaults: list[str]) -> str:
    return " or ".join(defaults) or "none"


def _fields_of(root: Mapping[str, Any]) -> Fields:
    found: Fields = {}
    definitions = root.get("$defs", {})
    waiting: list[tuple[str, Any, frozenset[str]]] = [("", root, frozenset())]
    while waiting and len(found) < _MOST:
        path, schema, seen = waiting.pop()
        if not isinstance(schema, Mapping):
            continue
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions and name not in seen:
            waiting.append((path, definitions[name], seen | {name}))
        for field, each in schema.get("properties", {}).items():
            if isinstance(each, Mapping):
                found.setdefault(f"{path}.{field}", []).append(each)
                waiting.append((f"{path}.{field}", each, seen))
        waiting += [(f"{path}[]", schema.get("items"), seen)]
        waiting += [(f"{path}.*", schema.get("additionalProperties"), seen)]
        for number, each in enumerate(schema.get("prefixItems", [])):
            waiting.append((f"{path}[{number}]", each, seen))
        for key in ("anyOf", "oneOf", "allOf"):
            waiting += [(path, each, seen) for each in schema.get(key, [])]
    return found
