"""Pictures of timelines, drawn where the data is: SVG, an HTML table, a page to send to someone,
Mermaid text.

Nothing here runs in a browser: no script, and no ``style=``, so that a strict content security
policy lets it through. Colours come from ``static/timeline.css``; without it the presentation
attributes do. Ids, names and errors may hold anything: all text goes through
``drawing_words.text``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources

from ..core.flags import check_flags
from ..handles.orchestration import Orchestration
from . import drawing_words as words
from .timeline import Lane, Mark, Segment, Timeline, since_rewind, timeline_of
from .views import SCHEMA, instance_view, iso, timeline_view

__all__ = ["Links", "mermaid", "page", "stylesheet", "svg", "table"]

_WIDTH, _GUTTER, _ROW, _TOP, _BAR, _FOOT = 1000, 230, 24, 40, 14, 10
_MARGIN = 36
_PLOT = _WIDTH - _GUTTER - _MARGIN
_LINE = 22
_COLOURS = {"queued": "#b6c7dc", "running": "#2f6fca", "waiting": "#8a8f98", "failed": "#c62f3b"}
_STEPS = [
    *(timedelta(milliseconds=ms) for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(timedelta(seconds=s) for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(timedelta(hours=h) for h in (1, 2, 3, 6, 12)),
    *(timedelta(days=d) for d in (1, 2, 7, 14, 30, 90, 180, 365, 1825, 3650, 36500)),
]
_MOST_TICKS = 8
_HEADS = ("what", "kind", "outcome", "attempts", "began", "queued", "took", "note")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Links:
    """Where the names and bars of a picture lead to; None is nowhere.

    Example:
        >>> Links(lambda id: f"/orchestrations/{id}", lambda number: f"#event-{number}")
    """

    #: The page of an orchestration, by its id.
    instance: Callable[[str], str | None]
    #: The place of an event, by its number in ``run.history()``.
    event: Callable[[int], str | None]

    def of_lane(self, lane: Lane) -> str | None:
        """Return where the name of a lane leads to."""
        if lane.instance_id:
            return self.instance(lane.instance_id)
        return self.event(lane.event) if lane.event else None

    def of_segment(self, segment: Segment, lane: Lane) -> str | None:
        """Return where a bar leads to."""
        number = segment.event or lane.event
        return self.of_lane(lane) if lane.instance_id or not number else self.event(number)


_NO_LINKS = Links(lambda _: None, lambda _: None)


def stylesheet() -> str:
    """Return the stylesheet of the pictures, light and dark."""
    return resources.files("celery_durable").joinpath("static/timeline.css").read_text("utf-8")


def svg(timeline: Timeline, *, embeds_style: bool = False, links: Links | None = None) -> str:
    """Draw a timeline as one SVG element, for a page that links ``static/timeline.css``.

    Queued is light, running solid, waiting hatched, a failed attempt red with a cross; a tick is
    where an attempt after the first was asked for. It scales to the width that it is given.

    Args:
        timeline: what to draw.
        embeds_style: put the stylesheet into it, for a file of its own.
        links: where names and bars lead to.
    """
    check_flags(embeds_style=embeds_style)
    part = "" if timeline.kept is None else " since its rewind"  # both may be on one page
    named = f"{timeline.instance_id}{part}".encode("utf-8", "replace")
    key = "dt" + hashlib.sha256(named).hexdigest()[:8]
    scale = _Scale(timeline)
    more = _left_out(timeline)
    height = _TOP + _ROW * len(timeline.lanes) + _FOOT + (18 if more else 0)
    role = "img" if links is None else "group"  # what is in a picture cannot be reached
    parts = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" class="durable-timeline"'
            f' role="{role}" viewBox="0 0 {_WIDTH} {height}"'
            f' aria-labelledby="{key}-title {key}-desc"'
            ' font-family="system-ui, sans-serif" font-size="12">'
        ),
        *([f"<style>{stylesheet()}</style>"] if embeds_style else []),
        f'<title id="{key}-title">{words.text(words.heading(timeline))}</title>',
        f'<desc id="{key}-desc">{words.text(words.summary(timeline))}</desc>',
        (
            f'<defs><pattern id="{key}-hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
            ' patternTransform="rotate(45)"><path class="dt-hatch" d="M0 0V6"'
            f' stroke="{_COLOURS["waiting"]}" stroke-width="5"/></pattern></defs>'
        ),
        *_axis(scale, height),
    ]
    for row, lane in enumerate(timeline.lanes):
        parts += _lane(lane, _TOP + row * _ROW, scale, f"{key}-hatch", links or _NO_LINKS)
    parts += [_mark(mark, scale, height) for mark in timeline.marks]
    if timeline.now is not None:
        parts.append(_now(timeline.now, scale, height))
    if more:
        parts.append(f'<text class="dt-muted" x="8" y="{height - 8}" fill="#6a6f78">{more}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _left_out(timeline: Timeline) -> str:
    """Say what has no lane."""
    return "; ".join(
        text
        for count, text in (
            (timeline.hidden, f"and {timeline.hidden} more"),
            (timeline.kept, f"{timeline.kept} more are kept from before the rewind"),
        )
        if count
    )


def table(timeline: Timeline, *, links: Links | None = None) -> str:
    """Return the same as an HTML table, for those who do not see pictures.

    Args:
        timeline: what to tell.
        links: where names lead to.
    """
    heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS)
    rows = "\n".join(_table_row(lane, links or _NO_LINKS) for lane in timeline.lanes)
    more = f" {timeline.hidden} of them are not shown." if timeline.hidden else ""
    return (
        f'<table class="durable-lanes">\n<caption>{words.bdi(words.heading(timeline))}.'
        f" {words.text(words.summary(timeline))}.{more}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n"
    )


def page(run: Orchestration, *, now: datetime | None = None, payloads: bool = False) -> str:
    """Return a whole HTML page about an orchestration, to keep or to attach to a ticket.

    It loads nothing.

    Args:
        run: the handle.
        now: see ``timeline_of``.
        payloads: inputs, outputs, custom status and events' payloads too. Error texts are always
            there.
    """
    check_flags(payloads=payloads)
    timeline = timeline_of(run, now=now)
    latest = since_rewind(timeline)
    drawn = svg(latest or timeline)
    before = "" if latest is None else _folded("With what was before the rewind", svg(timeline))
    shown = instance_view(run, payloads=payloads)
    facts = "".join(
        f"<div><dt>{words.text(name)}</dt><dd>{words.fact(value)}</dd></div>"
        for name, value in shown.items()
    )
    whole = {
        "schema": SCHEMA,
        **shown,
        "history": timeline_view(run, run.history(), payloads=payloads),
    }
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
        " 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme"'
        ' content="light dark">\n'
        f"<title>{words.text(words.heading(timeline))}</title>\n<style>\n{stylesheet()}"
        '</style>\n</head>\n<body class="durable-page">\n'
        f"<h1>{words.bdi(timeline.instance_id)}</h1>\n<dl>{facts}</dl>\n"
        f'<h2>Timeline</h2>\n<div class="dt-scroll">{drawn}</div>{before}\n<h2>Steps</h2>\n'
        f'<div class="dt-scroll">{table(timeline)}</div>\n<h2>Data</h2>\n'
        "<details><summary>JSON</summary>\n"
        f"<pre>{words.text(json.dumps(whole, indent=1, ensure_ascii=False))}</pre></details>\n"
        "</body>\n</html>\n"
    )


def _folded(summary: str, markup: str) -> str:
    return f'<details><summary>{summary}</summary><div class="dt-scroll">{markup}</div></details>'


def mermaid(timeline: Timeline) -> str:
    """Return a Mermaid ``gantt``; characters that have a meaning there become underscores."""
    lines = [
        "gantt",
        f"    title {words.plain(f'{timeline.instance_id} ({timeline.name}) {timeline.status}')}",
        "    dateFormat x",
        (
            "    axisFormat"
            f" {'%H:%M:%S' if timeline.end - timeline.begin < timedelta(days=1) else '%Y-%m-%d'}"
        ),
    ]
    tags = {"queued": "done, ", "running": "active, ", "failed": "crit, "}
    for lane in timeline.lanes:
        lines.append(f"    section {words.plain(lane.label)}")
        for segment in lane.segments:
            begin, end = (int(moment.timestamp() * 1000) for moment in (segment.begin, segment.end))
            attempt = f" {segment.attempt}" if segment.attempt else ""
            lines.append(
                f"    {segment.kind}{attempt} :{tags.get(segment.kind, '')}{begin},"
                f" {max(end, begin + 1)}"
            )
    return "\n".join(lines) + "\n"


# -- the parts of a picture ------------------------------------------------------------------------


class _Scale:
    """Where a moment lies on the paper."""

    def __init__(self, timeline: Timeline) -> None:
        self.begin, self.end = timeline.begin, timeline.end
        self._whole = max(timeline.end - timeline.begin, timedelta(milliseconds=1))

    def x(self, moment: datetime) -> float:
        share = (moment - self.begin) / self._whole
        return round(_GUTTER + _PLOT * min(1.0, max(0.0, share)), 1)

    def ticks(self) -> Iterator[tuple[datetime, str]]:
        """Give round moments, and how each is written."""
        step = next((each for each in _STEPS if self._whole / each <= _MOST_TICKS), _STEPS[-1])
        first = -((_EPOCH - self.begin) // step)
        for number in range(first, first + _MOST_TICKS + 1):
            moment = _EPOCH + number * step
            if moment > self.begin + self._whole:
                return
            yield moment, _clock(moment, step)


def _clock(moment: datetime, step: timedelta) -> str:
    if step >= timedelta(days=1):
        return f"{moment:%Y-%m-%d}"
    if step >= timedelta(minutes=1):
        return f"{moment:%H:%M}" if moment.hour or moment.minute else f"{moment:%m-%d}"
    return f"{moment:%H:%M:%S}" + (
        f".{moment.microsecond // 1000:03}" if step < timedelta(seconds=1) else ""
    )


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    yield (
        f'<text class="dt-muted" x="8" y="14" fill="#6a6f78">{scale.begin:%Y-%m-%d %H:%M:%S}'
        " UTC</text>"
    )
    for moment, text in scale.ticks():
        x = scale.x(moment)
        yield (
            f'<line class="dt-grid" x1="{x}" x2="{x}" y1="{_LINE}" y2="{height - _FOOT}"'
            ' stroke="#d5d9df"/>'
        )
        yield (
            f'<text class="dt-muted" x="{x}" y="14" text-anchor="middle"'
            f' fill="#6a6f78">{text}</text>'
        )


def _lane(lane: Lane, y: int, scale: _Scale, hatch: str, links: Links) -> Iterator[str]:
    yield f'<g class="dt-lane dt-{lane.kind} dt-is-{lane.outcome}">'
    attempts = max((segment.attempt for segment in lane.segments), default=0)
    yield _linked(_label(lane, y, attempts), links.of_lane(lane))
    for segment in lane.segments:
        bar = "\n".join(_segment(segment, lane, y, scale, hatch))
        yield _linked(bar, links.of_segment(segment, lane), 'tabindex="-1"')  # the names suffice
    yield "</g>"


def _label(lane: Lane, y: int, attempts: int) -> str:
    """Write the name of a lane: in two smaller lines if it is long."""
    again = f" \N{MULTIPLICATION SIGN}{attempts}" if attempts > 1 else ""
    lines = words.label_lines(lane.label, again)
    weight = ' font-weight="600"' if lane.kind == "orchestration" else ""
    if len(lines) == 1 and len(lines[0]) <= words.LABEL:
        shown, size = words.text(lines[0]), ""
    else:
        first = y + (15 if len(lines) == 1 else 10)
        shown = "".join(
            f'<tspan x="8" y="{first + 11 * row}"{_squeezed(line)}>{words.text(line)}</tspan>'
            for row, line in enumerate(lines)
        )
        size = ' font-size="10"'
    return (
        f'<text class="dt-label" x="8" y="{y + 15}"{weight}{size} fill="currentColor">{shown}\n'
        f"<title>{words.text(words.lane_text(lane))}</title></text>"
    )


def _squeezed(line: str) -> str:
    """Let a word that is too long be narrow, and not cut."""
    is_long = len(line) > words.SMALL_LABEL
    return f' textLength="{_GUTTER - 20}" lengthAdjust="spacingAndGlyphs"' if is_long else ""


def _linked(markup: str, where: str | None, more: str = "") -> str:
    """Let markup lead to an address."""
    if where is None:
        return markup
    return f'<a href="{words.text(where)}"{" " if more else ""}{more}>{markup}</a>'


def _segment(segment: Segment, lane: Lane, y: int, scale: _Scale, hatch: str) -> Iterator[str]:
    x, end, top = scale.x(segment.begin), scale.x(segment.end), y + (_ROW - _BAR) / 2
    width = max(round(end - x, 1), 3.0)
    x = min(x, _WIDTH - _MARGIN - width)
    fill = f"url(#{hatch})" if segment.kind == "waiting" else _COLOURS[segment.kind]
    size = f'x="{x:g}" y="{top:g}" width="{width:g}" height="{_BAR}" rx="2"'
    stroke = f' stroke="{_COLOURS["waiting"]}"' if segment.kind == "waiting" else ""
    yield f'<rect class="dt-{segment.kind}" {size} fill="{fill}"{stroke}>'
    yield f"<title>{words.text(words.segment_text(segment, lane))}</title></rect>"
    is_inside = width > 14
    if segment.kind == "failed" and (is_inside or segment is lane.segments[-1]):
        name, colour = (
            ("dt-cross-inside", "#ffffff") if is_inside else ("dt-cross", _COLOURS["failed"])
        )
        cross = (
            f"M{x + width + (-11 if is_inside else 2):g} {top + 3:g}l7 {_BAR - 6}m0 {6 - _BAR}l-7"
            f" {_BAR - 6}"
        )
        yield f'<path class="{name}" d="{cross}" stroke="{colour}" stroke-width="2" fill="none"/>'
    if segment.attempt > 1 and _asks_again(segment, lane):
        yield f'<path class="dt-tick" d="M{x:g} {top - 3:g}v{_BAR + 6}" stroke="currentColor"/>'


def _asks_again(segment: Segment, lane: Lane) -> bool:
    """Tell whether an attempt after the first was asked for at the beginning of this segment."""
    first = next(
        each for each in lane.segments if each.attempt == segment.attempt and each.kind != "waiting"
    )
    return first is segment


def _mark(mark: Mark, scale: _Scale, height: int) -> str:
    x = scale.x(mark.at)
    text = f"{mark.kind} {words.when(mark.at)}" + (f": {mark.note}" if mark.note else "")
    return (
        f'<g class="dt-mark dt-mark-{mark.kind}"><title>{words.text(text)}</title><path d="M{x}'
        f' {_LINE}V{height - _FOOT}" stroke="#8457b8" stroke-dasharray="2 3"/><circle cx="{x}"'
        f' cy="{_LINE}" r="3.5" fill="#8457b8"/></g>'
    )


def _now(now: datetime, scale: _Scale, height: int) -> str:
    x = scale.x(now)
    return (
        f'<g class="dt-now"><title>now: {words.when(now)}</title>'
        f'<path d="M{x} {_LINE}V{height - _FOOT}" stroke="#b3541e"/>'
        f'<text x="{x - 4:g}" y="{_LINE + 12}" text-anchor="end" fill="#b3541e">now</text></g>'
    )


def _table_row(lane: Lane, links: Links) -> str:
    attempts = {segment.attempt for segment in lane.segments if segment.attempt}
    began = "".join(
        f'<time datetime="{iso(each.begin)}">{words.when(each.begin)}</time>'
        for each in lane.segments[:1]
    )
    notes = [lane.note, *(segment.note for segment in lane.segments)]
    note = "; ".join(dict.fromkeys(note for note in notes if note))
    spent = words.spent(lane, "queued"), words.spent(lane, "running", "failed", "waiting")
    name = _linked(f"<bdi>{words.breakable(lane.label)}</bdi>", links.of_lane(lane))
    cells = (lane.kind, lane.outcome, str(len(attempts) or ""), began, *spent)
    return (
        f'<tr class="dt-is-{lane.outcome}"><th scope="row">{name}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}<td>{words.bdi(note)}</td></tr>"
    )
