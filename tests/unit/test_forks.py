"""What a forked child makes again, and what it shares with its parent."""

from __future__ import annotations

import subprocess
import sys

FORKS = """
import gc, os
from celery_durable.forks import share_with_children

{before}
def forked():
    if (child := os.fork()) == 0:
        os._exit(gc.get_freeze_count() > 1000)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

first = forked(), gc.get_freeze_count()
more = [[] for _ in range(100)]
print(*first, forked(), gc.get_freeze_count() <= first[1])
"""
SHARES = "share_with_children(); share_with_children()"


def forked(before: str = "") -> list[str]:
    """Return, of two forks: whether the child's collector passes over what was there, and over how
    much the parent's does; at last whether the second fork has added nothing to that.
    """
    code = FORKS.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_collector_passes_over_what_a_child_shares_with_its_parent() -> None:
    first, frozen, second, is_once = forked(SHARES)
    assert (first, second, is_once) == ("1", "1", "True")
    assert int(frozen) > 1000


def test_nothing_is_kept_from_the_collector_of_other_processes() -> None:
    assert forked() == ["0", "0", "0", "True"]


def test_what_the_application_has_frozen_is_all_that_stays_in_the_parent() -> None:
    count = int(forked("import gc; gc.freeze()")[1])
    assert abs(int(forked(f"gc.freeze(); {SHARES}")[1]) - count) < 100
