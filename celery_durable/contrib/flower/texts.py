"""Values as text for the tab, cut to what a page bears."""

from __future__ import annotations

import json
from typing import Any

from ...core.text import encodable

__all__ = ["LONG", "SHORT", "cut", "fact_text", "pretty"]

LONG, SHORT = 64 * 1024, 4 * 1024


def pretty(value: Any, longest: int) -> str:
    """Return a value as JSON to read, cut to so many characters."""
    if isinstance(value, str):
        return cut(value, longest)
    return cut(json.dumps(value, indent=2, ensure_ascii=False, default=str), longest)


def cut(text: str, longest: int) -> str:
    """Return text, or its beginning and how much more there is."""
    text = encodable(text)
    if len(text) <= longest:
        return text
    return (
        f"{text[:longest]}\n... and {len(text) - longest} more characters: celery durable show"
        " --payloads has all"
    )


def fact_text(key: str, value: Any) -> str:
    """Return a fact of an event in words."""
    if key == "ran" and isinstance(value, int):
        return f"ran for {value / 1000:.1f} ms"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"{key}: {text}"
