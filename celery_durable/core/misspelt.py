"""What is meant by a name that there is not: the likeliest of those that there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["near_names", "which_is_meant"]


def near_names(
    name: str, names: Iterable[str], most: int = 1, likeness: float = 0.6
) -> tuple[str, ...]:
    """Return the names that may be meant, the likeliest first.

    Args:
        name: as it was given.
        names: those that there are; of several of which it is the end, the first is the likeliest.
        most: how many to return at most.
        likeness: how near to it a name must be, from 0 to 1; one of which it is the end, after a
            dot, is always near enough, and comes before the others.
    """
    known = list(names)
    ends = [each for each in known if each.endswith(f".{name}")]
    return tuple(dict.fromkeys((*ends, *get_close_matches(name, known, most, likeness))))[:most]


def which_is_meant(
    name: str, names: Iterable[str], form: str = "{!r}", likeness: float = 0.6
) -> str:
    """Return the question whether another name is meant, for a message; empty if none is near.

    Example:
        >>> which_is_meant("fulfil", ["shop.fulfil", "shop.cancel"])
        "Is 'shop.fulfil' meant?"
    """
    near = near_names(name, names, 1, likeness)
    return f"Is {form.format(*near)} meant?" if near else ""
