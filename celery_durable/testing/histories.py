"""Recorded histories against the code as it is now."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..archive import read_archived
from ..errors import DurableError

if TYPE_CHECKING:
    from ..app.durable import Durable

__all__ = ["replay_histories"]


def replay_histories(durable: Durable, folder: str | PathLike[str]) -> int:
    """Replay every ``*.json`` of a folder, as ``run.export_history()`` wrote them, and every
    ``*.json.gz``, as an archive has them.

    Return how many there were.

    Raises:
        AssertionError: the code does not follow one of them, with the file, the event and the line
            of each disagreement; or there are none.

    Example:
        >>> def test_histories():
        ...     replay_histories(durable, "tests/histories")
    """
    files = sorted([*Path(folder).glob("*.json"), *Path(folder).glob("*.json.gz")])
    assert files, f"there are no *.json in {Path(folder).absolute()}: nothing was replayed"
    problems = []
    for file in files:
        try:
            durable.replay(read_archived(file))
        except (DurableError, ValueError, EOFError, OSError) as error:
            problems.append(f"{file}: {error}")
    assert not problems, (
        f"{len(problems)} of {len(files)} histories are not what the code does now:\n"
        + "\n".join(problems)
    )
    return len(files)
