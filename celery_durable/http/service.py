"""One request to one answer: find the route, ask whether that is allowed, call its handler, and put
errors into codes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..core.entity import entity_id
from ..engine.audit import acting
from ..engine.verb import Surface
from ..errors import (
    ConfigurationError,
    DurableError,
    InstanceNotFound,
    InvalidState,
    PayloadError,
    StoreError,
)
from . import asking, audit, completions, entities, instances, starting
from .access import VIEW_PAYLOAD, Authorize, Verdict, principal_of, verdict_of
from .completions import without_token
from .messages import Problem, Request, Response, as_json
from .openapi import document
from .parameters import read_query
from .routes import Call, Route, check_length, match
from .verbs import verb_routes

__all__ = ["Service", "contract_routes"]

log: logging.Logger = logging.getLogger("celery_durable.http")


def _describe(call: Call) -> Response:
    return as_json(200, document(contract_routes(), call.request.base))


def contract_routes() -> tuple[Route, ...]:
    """Return the whole contract: what is served and the OpenAPI document are both made from it."""
    return (
        # before all whose ids may hold what follows an id here
        *asking.ROUTES,
        *audit.ROUTES,
        *instances.ROUTES,
        # of the verbs, events are first: where only the decoded path is known,
        # "instances/a/raiseEvent/suspend" is an event of "a"
        *verb_routes(),
        *completions.ROUTES,
        *starting.ROUTES,
        *entities.ROUTES,
        Route("GET", "openapi.json", "view", _describe, "This document.", {200: "OpenAPI 3.1."}),
    )


class Service:
    """The HTTP contract over one ``Durable``.

    Args:
        durable: where the orchestrators are registered.
        authorize: see ``access``; without one, every request is refused.
    """

    def __init__(self, durable: Any, authorize: Authorize | None = None) -> None:
        self.durable = durable
        self._authorize = authorize

    def answer(self, request: Request) -> Response:
        """Return the answer to a request; what is not foreseen is raised."""
        try:
            response = self._answer(request)
        except Problem as problem:
            response = problem.response()
        except InstanceNotFound as error:  # it was purged while we looked
            response = Problem(404, str(error)).response()
        except InvalidState as error:  # it moved while we looked
            response = Problem(409, str(error)).response()
        except StoreError as error:
            log.error("the store cannot be used: %s", error)
            response = Problem(
                503, "the store cannot be used just now", headers={"Retry-After": "5"}
            ).response()
        except ConfigurationError:
            raise
        except PayloadError as error:  # its text may hold what was stored
            log.error("%s %s: %s", request.method, without_token(request.path), error)
            response = Problem(
                503, "what is stored for it cannot be read; the log says why"
            ).response()
        except DurableError as error:
            response = Problem(503, str(error), headers={"Retry-After": "5"}).response()
        if request.user and request.method not in ("GET", "HEAD"):
            log.info(
                "%s: %s %s was answered %d",
                request.user,
                request.method,
                without_token(request.path),
                response.status,
            )
        return response.without_body() if request.method == "HEAD" else response

    def _answer(self, request: Request) -> Response:
        route, path = match(contract_routes(), request)
        limit = self.durable.settings.payload_limit
        check_length(request, limit)
        instance_id = _instance_of(path)
        if not route.has_token:
            self._admit(request, route.verb, instance_id, path)
        query = read_query(request.query, route.parameters)
        call = Call(
            self.durable, request, route, path, query, limit, self._payloads(request, instance_id)
        )
        who = principal_of(request.origin) or request.user
        with acting(who, Surface.HTTP, query.get("reason") or None):
            return route.handler(call)

    def _admit(
        self, request: Request, verb: str, instance_id: str | None, path: dict[str, str]
    ) -> None:
        if self._authorize is None:
            raise Problem(403, "every request is refused: no authorize hook is set")
        if isinstance(request.origin, dict):
            request.origin["celery_durable.path"] = path
        else:
            request.origin.durable_path = path
        verdict = verdict_of(self._authorize(request.origin, verb, instance_id))
        if verdict is Verdict.ANONYMOUS:
            raise Problem(
                401,
                "say who you are",
                headers={"WWW-Authenticate": 'Bearer realm="celery-durable"'},
            )
        if not verdict.is_allowed:
            raise Problem(403, f"this client may not {verb} here")

    def _payloads(self, request: Request, instance_id: str | None) -> Callable[[], bool]:
        def may_view() -> bool:
            assert self._authorize is not None
            return verdict_of(self._authorize(request.origin, VIEW_PAYLOAD, instance_id)).is_allowed

        return may_view


def _instance_of(path: dict[str, str]) -> str | None:
    if "key" in path:
        try:
            return entity_id(path["name"], path["key"])
        except ValueError:
            # there is none of that name, which the handler says
            return f"@{path['name']}@{path['key']}"
    return path.get("id") or path.get("instanceId")
