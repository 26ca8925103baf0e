"""The pages as a whole: each is in the index, and the page of all names has all names."""

from __future__ import annotations

import re
from pathlib import Path

import celery_durable
import celery_durable.testing

DOCS = Path(__file__).parents[2] / "docs"
OUTSIDE = ("examples", "changelog.d", "index.md")


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if path.relative_to(DOCS).parts[0] not in OUTSIDE
    }
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", index))
    assert pages - linked == set()


def test_the_page_of_all_names_has_all_names() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    listed = re.findall(r"^\* `(\w+)`$", page, re.MULTILINE)
    assert len(listed) == len(set(listed))
    kit = set(celery_durable.testing.__all__)
    assert set(listed) == set(celery_durable.__all__) | kit


def test_figures_of_the_comparison_are_measured_ones() -> None:
    explanation = DOCS / "explanation"
    told = re.findall(r"\b\d+\.\d+\b(?!\.)", (explanation / "which-engine.md").read_text())
    measured = (explanation / "guarantees.md").read_text()
    assert len(told) >= 4
    assert [figure for figure in told if figure not in measured] == []
