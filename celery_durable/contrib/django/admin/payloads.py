"""Inputs, outputs and states as people read them: JSON, indented, and cut where it gets too long
for a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from ....core.text import encodable
from ....errors import PayloadError, StoreError
from ....inspection.views import plain

__all__ = ["MOST_SHOWN", "Payload", "pretty", "shown_payload"]

#: So many bytes of a payload are shown on a page; the download has all of it.
MOST_SHOWN = 64 * 1024


@dataclass(frozen=True)
class Payload:
    """A payload on a page; ``text`` is None where there is nothing."""

    name: str
    label: Any
    text: str | None
    is_cut: bool = False
    size: int = 0
    problem: str = ""


def pretty(value: Any) -> str:
    """Return a value as indented JSON; what JSON cannot hold becomes text.

    Raises:
        PayloadError: it has keys, or a depth, that JSON cannot have.
    """
    try:
        return encodable(json.dumps(plain(value), indent=2, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as problem:
        raise PayloadError(_("It cannot be shown as JSON: %s") % problem) from problem


def shown_payload(
    name: str, label: Any, read: Callable[[], Any], most: int = MOST_SHOWN
) -> Payload:
    """Read a payload for a page; one that cannot be read says so in its place.

    Args:
        name: what it is called in addresses.
        label: what it is called on pages.
        read: gives the value; None is nothing.
        most: how many bytes of it are shown.
    """
    try:
        value = read()
        text = None if value is None else pretty(value)
    except (PayloadError, StoreError) as problem:
        return Payload(name, label, None, problem=str(problem))
    data = (text or "").encode()
    if len(data) <= most:
        return Payload(name, label, None if text is None else data.decode(), size=len(data))
    return Payload(name, label, data[:most].decode("utf-8", "ignore"), is_cut=True, size=len(data))
