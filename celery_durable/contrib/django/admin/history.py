"""The history of an orchestration as a table: numbered events, a page at a time, all or only what
failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator

from ....core.history import Event
from ....handles.orchestration import Orchestration
from ....inspection.views import is_failure, timeline_view
from .payloads import shown_payload
from .secrecy import without_payloads

__all__ = ["EVENTS_PER_PAGE", "HistoryTable", "history_table"]

EVENTS_PER_PAGE = 100
_MOST_OF_AN_EVENT = 4 * 1024


@dataclass(frozen=True)
class HistoryTable:
    """A page of events; ``count`` is of all, ``failed`` of those that tell of a failure."""

    page: Page
    rows: list[dict[str, Any]]
    count: int
    failed: int
    only_failed: bool


def history_table(
    run: Orchestration,
    events: Sequence[Event],
    *,
    only_failed: bool,
    number: object,
    payloads: bool,
) -> HistoryTable:
    """Return a page of a history.

    Args:
        run: whose it is.
        events: all of them.
        only_failed: leave out what is no failure.
        number: of the page, as the address has it; nonsense is the first or the last.
        payloads: whether the user may see them.
    """
    numbered = list(enumerate(events, 1))
    failed = [pair for pair in numbered if is_failure(pair[1].kind)]
    page = Paginator(failed if only_failed else numbered, EVENTS_PER_PAGE).get_page(number)
    shown = timeline_view(run, [event for _, event in page], payloads=payloads)
    rows = [_row(place, event, payloads) for (place, _), event in zip(page, shown, strict=True)]
    return HistoryTable(page, rows, len(numbered), len(failed), only_failed)


def _row(number: int, event: dict[str, Any], payloads: bool) -> dict[str, Any]:
    shown = event if payloads else without_payloads(event)
    payload = None
    if "payload" in shown:
        payload = shown_payload("event", "", lambda: shown["payload"], _MOST_OF_AN_EVENT)
    facts = {
        name: value for name, value in (shown.get("facts") or {}).items() if _is_shown(name, value)
    }
    if "ran" in facts:
        facts["ran"] = f"{facts['ran'] / 1_000_000:.3f} s"
    return {
        **shown,
        "number": number,
        "at": (event["at"] or "").replace("T", " ").rstrip("Z"),
        "moment": event["at"],
        "facts": facts,
        "payload": payload,
        "has_failed": event["kind"].endswith("Failed"),
    }


def _is_shown(name: str, value: Any) -> bool:
    return name != "rebuilt" and value not in (None, "", [], {})
