"""The page on telemetry names what there is: every metric with its labels, every field,
every span.
"""

from __future__ import annotations

import re
from pathlib import Path

from celery_durable.telemetry.logs import FIELDS
from celery_durable.telemetry.names import METRICS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "telemetry.md").read_text()
SOURCE = (ROOT / "celery_durable" / "telemetry" / "tracing.py").read_text()


def test_every_metric_is_described_with_its_labels() -> None:
    rows = re.findall(r"^\| `(celery_durable_\w+)` \| ([^|]*)\|", PAGE, re.MULTILINE)
    described = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert described == {name: metric.labels for name, metric in METRICS.items()}


def test_every_field_is_described() -> None:
    assert {name for name in FIELDS if f"`{name}`" not in PAGE} == set()


def test_every_span_and_attribute_is_described() -> None:
    names = {
        name.strip('f"').partition(":")[0]
        for name in re.findall(r'f"(?:create_)?(?:orchestration|activity)[^"]*:', SOURCE)
    }
    assert names == {"create_orchestration", "orchestration", "orchestration_event", "activity"}
    assert all(f"`{name}:" in PAGE for name in names)
    attributes = set(re.findall(r'"celery\.durable\.(\w+)"', SOURCE))
    assert {
        name for name in attributes if not re.search(rf"`(celery\.durable)?\.{name}`", PAGE)
    } == set()
