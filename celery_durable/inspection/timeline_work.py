"""When an orchestration works, and when it only waits: from the rows of its timeline.

It works while anything that it asked for is queued or runs. While all that is under way are timers,
events, deferred outcomes and sub-orchestrations that wait themselves, it waits; so do its bar, and
the bar of it in the timeline of its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .timeline_rows import Row, Span

__all__ = ["Interval", "shortest_wait", "show_waits", "split", "waits_of"]

#: From, and until, in microseconds since the epoch.
Interval = tuple[int, int]
#: A wait that is shorter than this part of a timeline is not told from work.
_SHARE = 50


def shortest_wait(begin: int, end: int) -> int:
    """Return how long a wait is at least that is shown in a timeline of this length."""
    return max(1, (end - begin) // _SHARE)


def show_waits(whole: Row, others: Iterable[Row], shortest: int) -> None:
    """Let the row of an orchestration show as waiting where none of the other rows works."""
    work = sorted(
        (span.begin, span.end) for row in others for span in row.spans if span.kind != "waiting"
    )
    whole.spans = [
        piece
        for span in whole.spans
        for piece in (
            split(span, _gaps(span, work), shortest) if span.kind == "running" else [span]
        )
    ]


def waits_of(row: Row) -> list[Interval]:
    """Return when a row is shown as waiting."""
    return [(span.begin, span.end) for span in row.spans if span.kind == "waiting"]


def split(span: Span, waits: Sequence[Interval], shortest: int = 1) -> list[Span]:
    """Return a span in pieces: those within ``waits`` wait, the others are what it was.

    How a failure ended is its last piece, also if it waited until then.
    """
    pieces: list[Span] = []
    at = span.begin
    for wait in waits:
        begin, end = max(wait[0], at), min(wait[1], span.end)
        if end - begin < shortest:
            continue
        if begin > at:
            pieces.append(replace(span, begin=at, end=begin))
        pieces.append(replace(span, kind="waiting", begin=begin, end=end))
        at = end
    if at < span.end or not pieces or span.kind == "failed":
        pieces.append(replace(span, begin=at))
    return pieces


def _gaps(span: Span, work: Sequence[Interval]) -> list[Interval]:
    """Return the parts of a span in which none of these intervals, in order, lies."""
    gaps: list[Interval] = []
    at = span.begin
    for begin, end in work:
        if begin > at:
            gaps.append((at, min(begin, span.end)))
        at = max(at, end)
        if at >= span.end:
            return gaps
    return [*gaps, (at, span.end)]
