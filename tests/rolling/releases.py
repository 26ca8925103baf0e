"""Older releases, as they are in this repository's own history."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from celery_durable.store.migrate import HEAD, WORKS_SINCE

ROOT = Path(__file__).resolve().parents[2]
_MIGRATE = "celery_durable/store/migrate.py"
_HEAD = re.compile(r'^HEAD = "(\d+)"', re.MULTILINE)


def git(*arguments: str) -> bytes:
    """Run git on the repository of these tests; skip the test where it does not answer."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed: no older release can be taken from the history")
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"the history of the repository is not there: {done.stderr.decode().strip()}")
    return done.stdout


def head_of(commit: str) -> str:
    """Return the revision of the tables that a commit works with."""
    found = _HEAD.search(git("show", f"{commit}:{_MIGRATE}").decode())
    assert found is not None, f"{commit} names no revision"
    return found[1]


def last_with_head(revision: str) -> str:
    """Return the last commit that works with tables of a revision: that of a release before the
    next one.
    """
    later = git("log", "--format=%H", "--", _MIGRATE).decode().split()
    for number, commit in enumerate(later):
        if head_of(commit) == revision:
            return "HEAD~5" if number == 0 else f"{later[number - 1]}~1"
    pytest.skip(f"no commit in the history works with revision {revision}: is it a shallow clone?")


def supported() -> list[str]:
    """Return the revisions whose releases are promised to work beside this one."""
    return [f"{number:04}" for number in range(int(WORKS_SINCE), int(HEAD) + 1)]


def unpack(commit: str, folder: Path) -> Path:
    """Put the package of a commit into a folder, and return the folder."""
    archive = git("archive", commit, "celery_durable")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder
