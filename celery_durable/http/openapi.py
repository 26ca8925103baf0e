"""The OpenAPI document, made from the table of routes.

There are no secrets in it, and no names of orchestrators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__
from ..azure import OrchestrationRuntimeStatus
from .parameters import Parameter
from .routes import Route

__all__ = ["document"]

_TEXT: dict[str, Any] = {"type": "string"}
_MOMENT: dict[str, Any] = {"type": "string", "format": "date-time"}
_ANY: dict[str, Any] = {}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_STATUS = _object(
    name=_TEXT,
    instanceId=_TEXT,
    runtimeStatus={"enum": list(OrchestrationRuntimeStatus)},
    input=_ANY,
    customStatus=_ANY,
    output=_ANY,
    createdTime=_MOMENT,
    lastUpdatedTime=_MOMENT,
)
_STATUS["properties"]["historyEvents"] = {
    "type": "array",
    "items": {**_object(EventType=_TEXT, Timestamp=_MOMENT), "additionalProperties": True},
}
_STATUS["additionalProperties"] = False
_ENTITY = _object(entityId=_object(name=_TEXT, key=_TEXT), lastOperationTime=_MOMENT)
_ENTITY["properties"]["state"] = _ANY
_PROBLEM = {**_object(message=_TEXT), "additionalProperties": False}
_PROBLEM["properties"]["field"] = _TEXT
_SCHEMAS = {
    "CheckStatus": _object(
        **dict.fromkeys(
            (
                "id",
                "statusQueryGetUri",
                "sendEventPostUri",
                "terminatePostUri",
                "purgeHistoryDeleteUri",
                "restartPostUri",
                "suspendPostUri",
                "resumePostUri",
                "rewindPostUri",
            ),
            _TEXT,
        )
    ),
    "Status": _STATUS,
    "Deleted": _object(instancesDeleted={"type": "integer", "minimum": 1}),
    "Entity": _ENTITY,
    "Problem": _PROBLEM,
}

#: the schema of a body, by the route's method and path and the code; what is not here has none
_BODIES: Mapping[tuple[str, str, int], Any] = {
    **{
        ("POST", path, 202): _ref("CheckStatus")
        for path in (
            "orchestrators/{name}",
            "orchestrators/{name}/{instanceId}",
            "instances/{id}/restart",
        )
    },
    **{
        ("POST", path, 200): _ANY
        for path in ("orchestrators/{name}", "orchestrators/{name}/{instanceId}")
    },
    **{("GET", "instances/{id}", code): _ref("Status") for code in (200, 202, 500)},
    ("POST", "instances/{id}/requests/{name}", 200): _ANY,
    ("GET", "instances/{id}/queries/{name}", 200): _ANY,
    ("GET", "instances", 200): {"type": "array", "items": _ref("Status")},
    ("DELETE", "instances/{id}", 200): _ref("Deleted"),
    ("DELETE", "instances", 200): _ref("Deleted"),
    ("GET", "entities", 200): {"type": "array", "items": _ref("Entity")},
    ("GET", "entities/{name}", 200): {"type": "array", "items": _ref("Entity")},
    ("GET", "entities/{name}/{key}", 200): {"type": "object"},
    ("GET", "openapi.json", 200): {"type": "object"},
}
_FOR_ALL = {
    400: "The address or the query cannot be read.",
    401: "It is not known who asks.",
    403: "This client may not do that.",
    413: "The body is too large.",
    503: "The store cannot be used just now, or the orchestration moves too fast: try again.",
}


def document(routes: Sequence[Route], base: str) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: the table.
        base: the absolute URL of the mount.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "celery-durable", "version": __version__},
        "servers": [{"url": base.rstrip("/") or "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    words = re.sub(r"\W+", " ", f"{route.method.lower()} {route.path}").split()
    operation: dict[str, Any] = {
        "operationId": "_".join(words),
        "summary": route.about,
        "parameters": [*map(_path_parameter, route.fields), *map(_parameter, route.parameters)],
        "responses": {
            str(code): _response(route, code, text)
            for code, text in sorted(_answers(route).items())
        },
    }
    if route.has_token:  # it is the permission
        operation["security"] = []
    else:
        operation["x-permission"] = route.verb
    if route.takes_body:
        operation["requestBody"] = {
            "required": False,
            "content": {"application/json": {"schema": _ANY}},
        }
    return operation


def _answers(route: Route) -> Mapping[int, str]:
    refused = (401, 403) if route.has_token else ()
    for_all = {code: text for code, text in _FOR_ALL.items() if code not in refused}
    return {**for_all, **route.answers}


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.kind.schema)
    if parameter.default is not None:
        schema["default"] = parameter.default
    found: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.about,
        "schema": schema,
    }
    return found | ({"style": "form", "explode": False} if parameter.kind.joins else {})


def _response(route: Route, code: int, text: str) -> dict[str, Any]:
    schema = _BODIES.get((route.method, route.path, code), _ref("Problem") if code >= 400 else None)
    found: dict[str, Any] = {"description": text}
    if schema is not None:
        found["content"] = {"application/json": {"schema": schema}}
    headers = _HEADERS.get((route.method, route.path, code))
    return found | ({"headers": headers} if headers else {})


def _header(text: str, schema: Mapping[str, Any], *, is_required: bool = True) -> dict[str, Any]:
    return {"description": text, "required": is_required, "schema": schema}


_WAITING = {
    "Location": _header("Where to ask.", _TEXT),
    "Retry-After": _header("After so many seconds.", {"type": "integer"}),
}
_NEXT = {
    "x-ms-continuation-token": _header(
        "Of the next page; absent on the last.", _TEXT, is_required=False
    )
}
_HEADERS: Mapping[tuple[str, str, int], Any] = {
    **{key: _WAITING for key in _BODIES if key[2] == 202},
    **{("GET", path, 200): _NEXT for path in ("instances", "entities", "entities/{name}")},
}
