"""What a user may see without the permission to view payloads: no inputs, outputs, states, and no
messages of errors.

The text of an exception may hold anything that the code was given, so only its type is shown. A
reason is written by people, or by the engine when it tells of an error (``Type: message``): what
follows the first colon is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from ....inspection.timeline import Timeline
from ....inspection.views import without_message

__all__ = ["without_messages", "without_notes", "without_payloads"]

_TELLING = (
    "due",
    "ran",
    "worker",
    "at",
    "id",
    "fork_of",
    "members",
    "injected",
    "recursive",
    "rebuilt",
)


def without_messages(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts without what follows their first colons."""
    return {key: without_message(text) or "" for key, text in texts.items()}


def without_payloads(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of a history without what may hold data."""
    facts = {name: value for name, value in (event.get("facts") or {}).items() if name in _TELLING}
    if reason := (event.get("facts") or {}).get("reason"):
        facts["reason"] = without_message(str(reason))
    shown = {name: value for name, value in event.items() if name not in ("payload", "error")} | {
        "facts": facts
    }
    if error := event.get("error"):
        shown["error"] = without_message(str(error)) or _("an error")
    return shown


def without_notes(timeline: Timeline) -> Timeline:
    """Return a timeline whose notes, which become tooltips, are cut in the same way."""
    lanes = tuple(
        replace(
            lane,
            note=without_message(lane.note) or "",
            segments=tuple(
                replace(each, note=without_message(each.note) or "") for each in lane.segments
            ),
        )
        for lane in timeline.lanes
    )
    marks = tuple(replace(mark, note=without_message(mark.note) or "") for mark in timeline.marks)
    return replace(timeline, lanes=lanes, marks=marks)
