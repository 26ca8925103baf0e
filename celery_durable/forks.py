"""What a forked child must make again, such as locks and threads: each object says so once, and is
forgotten when it is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["renew_in_children"]

_Owner = TypeVar("_Owner")
_renewals: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def renew_in_children(owner: _Owner, renew: Callable[[_Owner], None]) -> None:
    """Have ``renew(owner)`` called in every child that is forked while ``owner`` lives."""
    _renewals[owner] = renew


def _renew_all() -> None:
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(after_in_child=_renew_all)
