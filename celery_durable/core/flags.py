"""What is True or False, or a number: ``"no"`` would be true to Python, and True a number."""

from __future__ import annotations

from typing import TypeGuard

__all__ = ["check_flags", "is_number", "is_whole", "problem_of_flag"]


def check_flags(**flags: object) -> None:
    """Refuse flags that are neither True nor False.

    Args:
        **flags: by the names that their caller knows.

    Raises:
        TypeError: one of them is something else; the text names it.

    Example:
        >>> check_flags(recursive=True, dry_run=False)
    """
    for name, value in flags.items():
        if (problem := problem_of_flag(name, value)) is not None:
            raise TypeError(problem)


def problem_of_flag(name: str, value: object) -> str | None:
    """Return what is wrong with a flag; None if it is True or False."""
    return None if isinstance(value, bool) else f"{name} must be True or False, not {value!r}"


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether something is a number, and neither True nor False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether something is a whole number by its type, and neither True nor False."""
    return isinstance(value, int) and not isinstance(value, bool)
