"""What is True or False, and nothing that Python takes for one of them: ``"no"`` would be true."""

from __future__ import annotations

__all__ = ["check_flags", "problem_of_flag"]


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
