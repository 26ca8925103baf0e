"""What a forked child must make again, such as locks and threads: each object says so once, and is
forgotten when it is gone. And what it is to keep as it was, to share the memory of its parent.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["renew_in_children", "share_with_children"]

_Owner = TypeVar("_Owner")
_renewals: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def renew_in_children(owner: _Owner, renew: Callable[[_Owner], None]) -> None:
    """Have ``renew(owner)`` called in every child that is forked while ``owner`` lives."""
    _renewals[owner] = renew


def _renew_all() -> None:
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(after_in_child=_renew_all)


_shares: bool = False


def share_with_children() -> None:
    """Let the children that are forked from now on share with this process what it has by then.

    The garbage collector writes into each object that it looks at, and so makes a copy of all
    memory in each process. What is there at a fork is left out of its search from then on: in the
    child, and here at the first fork alone, so that later ones keep no garbage.
    """
    global _shares  # noqa: PLW0603
    if not _shares:
        _shares = True
        os.register_at_fork(before=_freeze_once, after_in_child=gc.freeze)


def _freeze_once() -> None:
    if gc.get_freeze_count() == 0:  # else this has been done, or the application has done it
        gc.freeze()
