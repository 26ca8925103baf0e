"""Contracts: what an orchestrator or a task takes, gives and waits for, as JSON Schema 2020-12.

Each part of a contract (the input, the result, an event, a request) is a schema of its own, with
its definitions. They are of what is written: see ``json_types``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Union
from urllib.parse import quote

from ..conversion import Converters, hints_of, returned_by
from ..core.entity import RESERVED
from ..worker.durable_tasks import is_durable
from ..worker.orchestrator import OrchestratorTask
from .json_types import Described, JsonTypes, default_of, is_optional
from .waits import EVENT, REQUEST, Wait, Waits, waits_of

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.registry import Definition, Registry

__all__ = ["DIALECT", "FORMAT", "Declared", "contract_of", "contracts"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Of the documents that are made here.
FORMAT = 1
_OURS = ("celery.", "celery_durable.", RESERVED)
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Declared(NamedTuple):
    """What an application has declared."""

    app: Celery
    registry: Registry
    converters: Converters


def contracts(declared: Declared) -> dict[str, Any]:
    """Return the contracts of all orchestrators and tasks of an application, by their names."""
    orchestrators = [name for name in declared.registry.names() if not name.startswith(_OURS)]
    tasks = sorted(name for name, task in declared.app.tasks.items() if _is_listed(name, task))
    writer = _Writer(declared)
    return {
        "format": FORMAT,
        "orchestrators": {name: writer.orchestrator(name) for name in orchestrators},
        "tasks": {name: writer.task(name) for name in tasks},
    }


def contract_of(declared: Declared, name: str) -> dict[str, Any]:
    """Return the contract of one orchestrator or task.

    Raises:
        ValueError: there is none of that name in this process.
    """
    writer = _Writer(declared)
    if name in declared.registry:
        return {"format": FORMAT, **writer.orchestrator(name)}
    if name in declared.app.tasks:
        return {"format": FORMAT, **writer.task(name)}
    known = [each for each in declared.registry.names() if not each.startswith(_OURS)]
    raise ValueError(
        f"this process has no orchestrator or task {name!r}; its orchestrators are"
        f" {', '.join(known) or 'none'}"
    )


def _is_listed(name: str, task: Any) -> bool:
    """Tell whether a task is one of the application's whose contract says something."""
    if name.startswith(_OURS) or isinstance(task, OrchestratorTask):
        return False
    return bool(hints_of(task.run)) or is_durable(task, task.app)


class _Writer:
    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._types = JsonTypes(declared.converters)

    def orchestrator(self, name: str) -> dict[str, Any]:
        """Return the contract of the newest version, with those of the others in it."""
        registry = self._declared.registry
        *others, newest = [registry.get(name, version) for version in registry.versions(name)]
        assert newest is not None  # a name has a version
        found = {"name": name, "kind": "orchestrator", **self._version(newest)}
        if others:
            found["versions"] = {
                each.version or "": self._version(each) for each in others if each is not None
            }
        return found

    def _version(self, definition: Definition) -> dict[str, Any]:
        function = definition.function
        waits = waits_of(function)
        id_ = _id_of(definition.name, definition.version)
        _, *parameters = inspect.signature(function).parameters.values()
        unknown = [each._asdict() for each in waits.unknown]
        found = {
            "version": definition.version,
            **self._call(id_, function, parameters, unknown),
            "events": self._waits(id_, waits, EVENT, unknown),
            "requests": self._waits(id_, waits, REQUEST, unknown),
            "queries": sorted(self._declared.registry.queries_of(definition)),
        }
        return {**found, "unknown": sorted(unknown, key=lambda each: tuple(each.values()))}

    def task(self, name: str) -> dict[str, Any]:
        """Return the contract of a task."""
        run = self._declared.app.tasks[name].run
        unknown: list[dict[str, str]] = []
        parameters = list(inspect.signature(run).parameters.values())
        found = self._call(_id_of(name, None), run, parameters, unknown)
        return {"name": name, "kind": "task", **found, "unknown": unknown}

    # -- parts -------------------------------------------------------------------------------------

    def _call(
        self,
        id_: str,
        function: Callable[..., Any],
        parameters: list[inspect.Parameter],
        unknown: list[dict[str, str]],
    ) -> dict[str, Any]:
        """Return what a function takes and gives."""
        hints = hints_of(function)
        place = f"{function.__module__}.{getattr(function, '__qualname__', '')}"
        given = {each.name: hints[each.name] for each in parameters if each.name in hints}
        taken = self._types.describe(given, "validation")
        result = {"return": returned_by(hints["return"])} if "return" in hints else {}
        gives = self._types.describe(result, "serialization")
        for key, why in (*taken.failed.items(), *gives.failed.items()):
            what = "the result" if key == "return" else f"the argument {key!r}"
            unknown.append({"what": f"the type of {what}", "place": place, "code": why})
        found = {
            "input": _document(f"{id_}:input", self._input(parameters, hints, taken), taken),
            "by_position": [each.name for each in parameters if each.kind in _BY_PLACE],
        }
        for each in parameters:
            if each.kind is each.VAR_POSITIONAL:
                schema = taken.schemas.get(each.name, {})
                found["more_by_position"] = _document(f"{id_}:more", schema, taken)
        schema = gives.schemas.get("return", {})
        return {**found, "result": _document(f"{id_}:result", schema, gives)}

    def _input(
        self, parameters: list[inspect.Parameter], hints: Mapping[str, Any], taken: Described
    ) -> dict[str, Any]:
        """Return the schema of the arguments by their names."""
        found: dict[str, Any] = {
            "type": "object",
            "properties": {},
            "required": [],
            "additionalProperties": False,
        }
        for each in parameters:
            schema = taken.schemas.get(each.name, {})
            if each.kind is each.VAR_KEYWORD:
                found["additionalProperties"] = schema or True
            elif each.kind is not each.VAR_POSITIONAL:
                found["properties"][each.name] = self._with_default(each, hints, schema)
                if each.default is each.empty:
                    found["required"].append(each.name)
        return found

    def _with_default(
        self, parameter: inspect.Parameter, hints: Mapping[str, Any], schema: dict[str, Any]
    ) -> dict[str, Any]:
        if parameter.default is parameter.empty:
            return schema
        if parameter.default is None and schema and not is_optional(hints[parameter.name]):
            schema = {"anyOf": [schema, {"type": "null"}]}  # it is let through
        for default in default_of(parameter.default, self._declared.converters):
            return {**schema, "default": default}
        return schema

    def _waits(
        self, id_: str, waits: Waits, kind: str, unknown: list[dict[str, str]]
    ) -> dict[str, Any]:
        """Return the schemas of what is waited for, by names; of several types any will do."""
        found = sorted((each for each in waits.found if each.kind == kind), key=lambda w: w.name)
        by_name: dict[str, list[Wait]] = {}
        for each in found:
            by_name.setdefault(each.name, []).append(each)
        documents = {}
        for name, all_ in by_name.items():
            union = _union(each.type for each in all_)
            described = self._types.describe({name: union}, "validation")
            documents[name] = _document(
                f"{id_}:{kind}:{quote(name, safe='')}", described.schemas[name], described
            )
            for why in described.failed.values():
                what = f"the type of the {kind} {name!r}"
                unknown.append({"what": what, "place": "", "code": why})
        return documents


def _union(types: Iterable[Any]) -> Any:
    """Return the annotation of a value that fits one of several."""
    found = list(types)
    if Any in found:
        return Any
    return Union[tuple(found)]  # noqa: UP007


def _id_of(name: str, version: str | None) -> str:
    parts = (name,) if version is None else (name, version)
    return ":".join(("urn:celery-durable", *(quote(each, safe="") for each in parts)))


def _document(id_: str, schema: Mapping[str, Any], described: Described) -> dict[str, Any]:
    """Return a schema with what it refers to."""
    found = {"$schema": DIALECT, "$id": id_, **schema}
    needed = _needed(schema, described.definitions)
    if needed:
        found["$defs"] = {name: described.definitions[name] for name in sorted(needed)}
    return found


def _needed(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Return the names of definitions that a schema refers to, also by others."""
    needed: set[str] = set()
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            name = str(each.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in needed:
                needed.add(name)
                waiting.append(definitions[name])
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return needed
