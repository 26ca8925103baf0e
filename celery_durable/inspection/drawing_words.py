"""The words of pictures and pages: escaped, and broken between words only."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from .timeline import Lane, Segment, Timeline

__all__ = [
    "bdi",
    "breakable",
    "duration",
    "fact",
    "heading",
    "label_lines",
    "lane_text",
    "plain",
    "segment_text",
    "spent",
    "summary",
    "text",
    "when",
]

#: Characters of a label on one line, and on each of two.
LABEL, SMALL_LABEL = 30, 36
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_MERMAID = re.compile(r"[^\w .@/()+=~'*-]+")
#: After what a long name continues in the next line.
_SEPARATOR = re.compile(r"(?<=[./:_@=,-])(?=[^./:_@=,-])")


def text(value: Any) -> str:
    """Return text as markup holds it; what XML cannot hold becomes a replacement character."""
    return html.escape(_NOT_XML.sub("\ufffd", str(value)), quote=True)


def bdi(value: str) -> str:
    """Return text that cannot turn the direction of what stands around it."""
    return f"<bdi>{text(value)}</bdi>"


def plain(value: str) -> str:
    """Return text that Mermaid takes for no syntax of its own."""
    return _NOT_MERMAID.sub("_", value).strip() or "_"


def fact(value: Any) -> str:
    """Return a fact as markup; nothing is a dash."""
    if value is None or value in ({}, []):
        return "-"
    return bdi(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def heading(timeline: Timeline) -> str:
    """Return what a timeline is of, in a line."""
    return f"{timeline.instance_id} ({timeline.name}) is {timeline.status}"


def summary(timeline: Timeline) -> str:
    """Return how many steps there are, and how they went."""
    lanes = timeline.lanes[1:]
    failed, live = (
        sum(lane.outcome == outcome for lane in lanes) for outcome in ("failed", "live")
    )
    number = len(lanes) + timeline.hidden
    kept = f"; {timeline.kept} are kept from before the rewind" if timeline.kept else ""
    return (
        f"{number} steps in {duration(timeline.end - timeline.begin)} since"
        f" {when(timeline.begin)}; {failed} failed, {live} under way{kept}"
    )


def lane_text(lane: Lane) -> str:
    """Return what a lane is, for its tooltip."""
    number = f" {lane.number}" if lane.number else ""
    return f"{lane.kind}{number}: {lane.label}, {lane.outcome}" + (
        f" ({lane.note})" if lane.note else ""
    )


def segment_text(segment: Segment, lane: Lane) -> str:
    """Return what a bar is, for its tooltip."""
    attempt = f" (attempt {segment.attempt})" if segment.attempt else ""
    bar = (
        f"{lane.label}{attempt} {segment.kind} {duration(segment.end - segment.begin)}, from"
        f" {when(segment.begin)}"
    )
    note = segment.note or (lane.note if lane.kind != "activity" else "")
    return f"{bar}: {note}" if note else bar


def spent(lane: Lane, *kinds: str) -> str:
    """Return how long a lane was in these kinds of segments."""
    spans = [segment.end - segment.begin for segment in lane.segments if segment.kind in kinds]
    return duration(sum(spans, timedelta())) if spans else ""


def when(moment: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(span: timedelta) -> str:
    """Return a length of time in its two largest units."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for unit, size, small, part in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // part:.0f} {small}"
    raise AssertionError("unreachable")


def breakable(value: Any) -> str:
    """Return text as markup that is broken after separators of names, and not inside their words.

    Example:
        >>> breakable("shop.orders.fulfil")
        'shop.<wbr>orders.<wbr>fulfil'
    """
    return "<wbr>".join(text(part) for part in _SEPARATOR.split(str(value)))


def label_lines(label: str, more: str = "") -> list[str]:
    """Return a label in one line, or in two that end at separators.

    What has no room there is left out from the beginning, in whole words.

    Args:
        label: the name.
        more: follows it.
    """
    if len(label) + len(more) <= LABEL:
        return [label + more]
    parts = [part for piece in _SEPARATOR.split(label) for part in re.split(r"(?<= )", piece)]
    last = _taken(parts, SMALL_LABEL - len(more)) + more
    if not parts:
        return [last]
    first = _taken(parts, SMALL_LABEL - 1)
    return [f"…{first}" if parts else first, last]


def _taken(parts: list[str], longest: int) -> str:
    """Take parts from the end, as many as fit; one at least."""
    line = parts.pop()
    while parts and len(parts[-1]) + len(line) <= longest:
        line = parts.pop() + line
    return line
