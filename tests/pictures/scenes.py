"""Timelines to draw, and the files that hold what is drawn of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery_durable import RuntimeStatus
from celery_durable.inspection import drawing
from celery_durable.inspection.timeline import Lane, Mark, Segment, Timeline

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOSTILE = "\"'><script>alert(1)</script>&\x00\ud800\u202e]]>;:#%%\n"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def segment(kind: str, begin: float, end: float, attempt: int = 0, note: str = "") -> Segment:
    return Segment(kind, at(begin), at(end), attempt, note)


def order() -> Timeline:
    """An order that waits for an approval after its second try to charge."""
    return Timeline(
        "order-42",
        "shop.fulfil",
        RuntimeStatus.RUNNING,
        at(0),
        at(60),
        (
            Lane(
                "orchestration",
                0,
                "shop.fulfil",
                "live",
                (
                    segment("queued", 0, 1),
                    segment("running", 1, 40),
                    segment("waiting", 40, 45, note="suspended"),
                    segment("running", 45, 60),
                ),
            ),
            Lane(
                "activity",
                1,
                "shop.tasks.reserve",
                "completed",
                (segment("queued", 1, 2, 1), segment("running", 2, 6, 1)),
            ),
            Lane(
                "activity",
                2,
                "shop.tasks.charge",
                "completed",
                (
                    segment("queued", 6, 7, 1),
                    segment("failed", 7, 12, 1, "CardDeclined: try later"),
                    segment("waiting", 12, 18, 2, "until the next attempt"),
                    segment("queued", 18, 19, 2),
                    segment("running", 19, 24, 2),
                ),
            ),
            Lane(
                "activity",
                4,
                "shop.tasks.notify",
                "failed",
                (segment("failed", 24, 26, 1, "OSError: no route"),),
            ),
            Lane(
                "child", 5, "shop.ship", "live", (segment("running", 26, 60, 1),), "order-42:ship"
            ),
            Lane(
                "timer",
                6,
                "timer",
                "live",
                (segment("waiting", 26, 60),),
                "due 2026-11-22 12:00:26 UTC",
            ),
            Lane(
                "event",
                0,
                "approved",
                "live",
                (segment("waiting", 26, 60, note="at least since then"),),
            ),
            Lane("run", 7, "price", "completed", (segment("running", 26, 26),)),
        ),
        marks=(Mark("suspended", at(40), "stock count"), Mark("resumed", at(45))),
        now=at(60),
    )


def hostile() -> Timeline:
    """Everything that people can name is markup."""
    lane = Lane("activity", 1, HOSTILE, "failed", (segment("failed", 0, 3, 1, HOSTILE),), HOSTILE)
    return Timeline(
        HOSTILE,
        HOSTILE,
        RuntimeStatus.FAILED,
        at(0),
        at(3),
        (lane,),
        3,
        (Mark("rewound", at(1), HOSTILE),),
    )


_KEPT = Path(__file__).parent / "kept"
_DOCS = Path(__file__).parents[2] / "docs" / "howto"
FILES: dict[Path, Callable[[], str]] = {
    _KEPT / "order.svg": lambda: drawing.svg(order()),
    _KEPT / "order.html": lambda: drawing.table(order()),
    _KEPT / "order.mmd": lambda: drawing.mermaid(order()),
    _KEPT / "hostile.svg": lambda: drawing.svg(hostile()),
    _KEPT / "hostile.html": lambda: drawing.table(hostile()),
    _KEPT / "hostile.mmd": lambda: drawing.mermaid(hostile()),
    _DOCS / "watching.svg": lambda: drawing.svg(order(), embeds_style=True),
}
