"""Text as UTF-8 can hold it."""

from __future__ import annotations

__all__ = ["encodable"]


def encodable(text: str) -> str:
    """Return text as UTF-8 holds it: half a character, as of a file name, becomes its number, as
    JSON writes it.
    """
    return text.encode("utf-8", "backslashreplace").decode()
