"""The dashboard and the alert rules: whole files, whose expressions name metrics and labels that
exist.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import pytest
import yaml

from celery_durable.telemetry.names import METRICS

FILES = resources.files("celery_durable.telemetry") / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(rule["expr"] for rule in RULES),
]
VARIABLES = re.findall(r"label_values\((\w+), (\w+)\)", json.dumps(DASHBOARD["templating"]))

TOKEN = re.compile(
    r'\s+|"[^"]*"|\$__rate_interval|=~|!~|!=|==|>=|<=|[-+*/><=(){}\[\],]|\d+(?:\.\d+)?[smhd]?|[a-zA-Z_:][a-zA-Z0-9_:]*'
)
FUNCTIONS = {"sum", "min", "max", "rate", "increase", "time", "histogram_quantile"}
WORDS = FUNCTIONS | {"by", "and", "or"}


def tokens(expression: str) -> list[str]:
    found, place = [], 0
    while place < len(expression):
        match = TOKEN.match(expression, place)
        assert match is not None, f"{expression[place : place + 20]!r} in {expression}"
        found.append(match[0])
        place = match.end()
    return [token for token in found if token.strip()]


def metric_of(name: str) -> Any:
    """Return the metric that a series belongs to."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    found = METRICS.get(name) or METRICS.get(base)
    assert found is not None, f"there is no metric {name}"
    assert (found.kind == "histogram") == (name != found.name), (
        f"{name} is no series of {found.name}"
    )
    return found


def check(expression: str) -> None:
    """Refuse what Prometheus would: unbalanced brackets, unknown names.

    And labels that the metric has not.
    """
    words = tokens(expression)
    open_: list[str] = []
    labels: set[str] | None = None
    groups: list[set[str]] = []
    counters: list[str] = []
    for place, word in enumerate(words):
        if word in "([{":
            open_.append(word)
        elif word in ")]}":
            assert open_ and open_.pop() + word in ("()", "[]", "{}"), expression
        elif word[0].isalpha() or word[0] == "_":
            following = words[place + 1] if place + 1 < len(words) else ""
            if open_[-1:] == ["{"] and following in ("=", "=~", "!=", "!~"):
                assert labels is not None and word in labels, f"{word} in {expression}"
            elif open_[-1:] == ["("] and groups and word in groups[-1]:
                continue
            elif word not in WORDS:
                metric = metric_of(word)
                labels = set(metric.labels) | ({"le"} if metric.kind == "histogram" else set())
                for group in groups[-1:]:
                    assert group <= labels, f"{group - labels} in {expression}"
                if metric.kind != "gauge":
                    counters.append(word)
                    assert words[place - 2 : place] in (["rate", "("], ["increase", "("]), (
                        f"{word} is not rated"
                    )
            elif word in FUNCTIONS:
                assert following in ("(", "by"), expression
            elif word == "by":
                end = words.index(")", place)
                groups.append(set(words[place + 2 : end]) - {","})
    assert not open_, f"unbalanced: {expression}"
    assert expression.count("_bucket") == expression.count("histogram_quantile"), expression
    if "_bucket" in expression:
        assert all("le" in group for group in groups), "a quantile needs the buckets"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_is_sound(expression: str) -> None:
    check(expression)


@pytest.mark.parametrize(
    "broken",
    [
        "sum(celery_durable_up",
        "sum(celery_durable_upp)",
        'celery_durable_up{queue="a"}',
        "sum by (queue) (celery_durable_up)",
        "celery_durable_turns_total",
        "rate(celery_durable_turn_lag_seconds[5m])",
        "celery_durable_up & 1",
        "avg_(celery_durable_up)",
        (
            "histogram_quantile(0.5, sum by (orchestration)"
            " (rate(celery_durable_turn_lag_seconds_bucket[5m])))"
        ),
    ],
)
def test_the_check_finds_what_is_broken(broken: str) -> None:
    with pytest.raises(AssertionError):
        check(broken)


def test_every_variable_is_a_label() -> None:
    assert VARIABLES and all(label in METRICS[name].labels for name, label in VARIABLES)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(EXPRESSIONS)
    missing = {name for name in METRICS if not re.search(rf"\b{name}(_bucket)?\b", shown)}
    assert missing == {"celery_durable_schema_revision_info"}


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}" and panel["title"]
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = set(
                re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"])))
            )
            assert wanted <= grouped, (
                f"{panel['title']}: {wanted - grouped} is not left by the expression"
            )


def test_the_alerts_are_whole() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) >= 6
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0m"))
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert used <= grouped, rule["alert"]
