"""The OpenAPI document says what is served, and what is served is what it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from celery_durable.engine.completion_tokens import sealed
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.http.access import VERBS
from celery_durable.http.openapi import document
from celery_durable.http.routes import Route
from celery_durable.http.service import contract_routes
from tests.tiers import is_long

from .client import Client
from .conftest import ALL, Shop

BASE = "/durable"
ROUTES = contract_routes()
#: these answer 400 to a status that they do not fit, as the contract says, to a damaged token,
#: or 504 where nothing answers
BY_STATUS = (
    "instances/{id}/restart",
    "instances/{id}/rewind",
    "instances/{id}/requests/{name}",
    "completions/{token}",
    "completions/{token}/fail",
)


def test_every_route_is_in_the_document_and_nothing_else(client: Client) -> None:
    answer = client.get(f"{BASE}/openapi.json")
    assert answer.status == 200
    told = answer.json
    assert told["openapi"].startswith("3.1.")
    assert told["servers"] == [{"url": "https://shop.example:8443/durable"}]
    described = {
        (method, path) for path, operations in told["paths"].items() for method in operations
    }
    assert described == {(route.method.lower(), f"/{route.path}") for route in ROUTES}
    ids = [
        operation["operationId"]
        for operations in told["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(ids)) == len(ids) == len(ROUTES)
    for route in ROUTES:
        operation = told["paths"][f"/{route.path}"][route.method.lower()]
        assert set(map(str, route.answers)) <= set(operation["responses"])
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert named == {*route.fields, *(parameter.name for parameter in route.parameters)}
        assert ("requestBody" in operation) == route.takes_body
        if route.has_token:
            assert operation["security"] == [] and "x-permission" not in operation
            assert not {"401", "403"} & operation["responses"].keys()
        else:
            assert operation["x-permission"] in VERBS
        assert route.method != "GET" or not route.takes_body


def test_mutations_are_never_get() -> None:
    assert {route.verb for route in ROUTES if route.method == "GET"} == {"view", "view_payload"}
    assert "view" not in {route.verb for route in ROUTES if route.method != "GET"}


def test_the_document_is_for_those_who_may_look(wsgi: Any) -> None:
    assert Client(wsgi).get(f"{BASE}/openapi.json").status == 401
    assert ALL not in str(document(ROUTES, "http://a/"))


def test_references_lead_somewhere() -> None:
    told = document(ROUTES, "http://a/")
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(told)))
    assert names == set(told["components"]["schemas"])


# -- generated requests ----------------------------------------------------------------------------

_KNOWN = {
    "id": [
        *"completed failed running suspended terminated canceled pending unknown".split(),
        "a/b",
        "\u00fc?%",
    ],
    "instanceId": ["running", "completed", "new", "new/2", "\u00fc?%#"],
    "eventName": ["approved", "a/b", "\u00fc"],
    "key": ["k", "a/b", "unknown"],
    "token": [
        sealed("of another store", ActivityAttemptId("0123456789abcdef0123", 1, 1)),
        "no-token",
    ],
}
_ORCHESTRATORS = ["http.sale", "http.again"]


@pytest.fixture
def api(shop: Shop, wsgi: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The schema that the application serves, over orchestrations of every status."""
    monkeypatch.setattr("celery_durable.http.starting.LONGEST_WAIT", 0.05)
    shop.one_of_each()
    shop.durable.entity("Visits", "k").signal.add(3)
    schema = schemathesis.openapi.from_wsgi(
        f"{BASE}/openapi.json", app=wsgi, headers={"Authorization": f"Bearer {ALL}"}
    )

    # where nothing answers a request in time
    schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", 504]
    schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", 403, 404, 409, 410]

    @schema.hook
    def map_headers(context: Any, headers: Any) -> Any:
        """A page's token is made by lists alone; other tests forge it."""
        return {
            name: value
            for name, value in (headers or {}).items()
            if name != "x-ms-continuation-token"
        }

    @schema.hook
    def filter_query(context: Any, query: Any) -> bool:
        """What is empty is as what is missing, which no schema can say."""
        return "" not in (query or {}).values()

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        """Let most requests meet something that is there."""
        return {
            name: _met(context.operation.path, name, value)
            for name, value in (path_parameters or {}).items()
        }

    return schema


def _met(path: str, name: str, value: Any) -> Any:
    if name == "name":
        known = _ORCHESTRATORS if "orchestrators" in path else ["Visits", "Other"]
        return known[len(str(value)) % len(known)]
    return _KNOWN[name][sum(map(ord, str(value))) % len(_KNOWN[name])]


@pytest.mark.full
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_generated_requests_are_answered_as_described(
    api: Any, route: Route, mode: GenerationMode
) -> None:
    seen = []

    @settings(
        max_examples=10 if is_long() else 4,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=api[f"/{route.path}"][route.method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        excluded = [positive_data_acceptance] if route.path in BY_STATUS else []
        headers = {"Authorization": f"Bearer {ALL}"}
        seen.append(case.call_and_validate(headers=headers, excluded_checks=excluded).status_code)

    ask()
    assert seen
