"""Pictures: the same as the kept files, well-formed, without a word of what people named as markup,
readable in both themes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from celery_durable.inspection import drawing
from celery_durable.inspection.timeline import Timeline
from tests.pictures.scenes import FILES, HOSTILE, at, hostile, order, segment

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_drawing_is_as_it_is_kept(path: Path) -> None:
    assert FILES[path]() == path.read_text("utf-8"), (
        "if that is meant: python -m tests.pictures, and look at the difference"
    )


@pytest.mark.parametrize("scene", [order, hostile])
def test_a_picture_is_xml_with_a_name_and_nothing_that_a_strict_policy_refuses(
    scene: Callable[[], Timeline],
) -> None:
    root = ElementTree.fromstring(drawing.svg(scene()))
    title, desc = root.get("aria-labelledby", "").split()
    named = {each.get("id"): each.text for each in root.iter() if each.get("id")}
    assert root.get("role") == "img"
    assert "is " in str(named[title])
    assert "steps in" in str(named[desc])
    for each in root.iter():
        assert each.tag.removeprefix(SVG) in {
            "svg",
            "title",
            "desc",
            "defs",
            "pattern",
            "path",
            "text",
            "tspan",
            "line",
            "rect",
            "circle",
            "g",
        }
        assert not [name for name in each.attrib if name == "style" or name.startswith("on")]


def test_every_segment_has_its_words_and_its_kind() -> None:
    root = ElementTree.fromstring(drawing.svg(order()))
    bars = root.findall(f".//{SVG}rect")
    told = [(bar.get("class"), bar.findtext(f"{SVG}title")) for bar in bars]
    assert len(told) == sum(len(lane.segments) for lane in order().lanes)
    assert (
        "dt-failed",
        (
            "shop.tasks.charge (attempt 1) failed 5.0 s, from 2026-11-21 12:00:07 UTC:"
            " CardDeclined: try later"
        ),
    ) in told
    assert all(
        float(bar.get("width", 0)) >= 3 and 230 <= float(bar.get("x", 0)) <= 1000 for bar in bars
    )
    assert len(root.findall(f".//{SVG}path[@class='dt-tick']")) == 1
    assert len(root.findall(f".//{SVG}path[@class='dt-cross-inside']")) == 2
    assert root.find(f".//{SVG}g[@class='dt-now']") is not None
    over = ElementTree.fromstring(drawing.svg(replace(order(), now=None)))
    assert over.find(f".//{SVG}g[@class='dt-now']") is None


class Tags(HTMLParser):
    """The tags and the text of markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("draw", [drawing.svg, drawing.table])
def test_hostile_names_stay_text(draw: Callable[[Timeline], str]) -> None:
    found = Tags(draw(hostile()))
    assert "script" not in {tag for tag, _ in found.tags}
    assert "<script>alert(1)</script>" in "".join(found.words)
    assert "\x00" not in draw(hostile())
    draw(hostile()).encode()


def test_mermaid_text_has_one_statement_a_line() -> None:
    lines = drawing.mermaid(hostile()).splitlines()
    assert lines[0] == "gantt"
    statement = re.compile(
        r"    (title [^:;#%<]+|dateFormat x|axisFormat %.*|section [^:;#%<]+|\w+( \d+)? :(\w+,"
        r" )?\d+, \d+)"
    )
    assert all(statement.fullmatch(line) for line in lines[1:]), lines
    assert HOSTILE not in "".join(lines)


@pytest.mark.parametrize(
    ("seconds", "most"),
    [(0, 9), (0.004, 9), (0.7, 9), (59, 9), (3600, 9), (86_400, 9), (40 * 86_400, 9), (9e9, 9)],
)
def test_the_axis_has_round_moments_for_any_length(seconds: float, most: int) -> None:
    lane = replace(order().lanes[1], segments=(segment("running", 0, seconds),))
    drawn = drawing.svg(
        replace(order(), end=at(0) + timedelta(seconds=seconds), now=None, marks=(), lanes=(lane,))
    )
    ticks = re.findall(r'x="([\d.]+)"[^>]*text-anchor="middle"', drawn)
    assert 1 <= len(ticks) <= most
    assert len(set(ticks)) == len(ticks)


def test_the_stylesheet_has_both_themes_and_every_variable_in_each() -> None:
    sheet = drawing.stylesheet()
    blocks = re.findall(r"\{([^{}]*--dt-background[^{}]*)\}", sheet)
    variables = [
        set(re.findall(r"(--dt-\w+):", block)) for block in blocks if "--dt-background:" in block
    ]
    assert len(variables) == 3
    assert (
        variables[0] == variables[1] == variables[2] >= set(re.findall(r"var\((--dt-\w+)\)", sheet))
    )
    assert "prefers-color-scheme: dark" in sheet
    assert '[data-theme="dark"]' in sheet
    classes = set(re.findall(r'class="(dt-[a-z-]+)"', drawing.svg(order())))
    assert classes - {"dt-lane"} <= set(re.findall(r"\.(dt-[a-z-]+)", sheet))
