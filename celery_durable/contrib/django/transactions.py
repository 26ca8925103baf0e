"""The ``atomic()`` block that a start, an event or a signal joins, by itself: it commits or rolls
back with the view's rows.

The rows are written on Django's connection, under a savepoint; the message that makes them move is
sent by ``on_commit``. If that message is lost, recovery finds the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.db import connections, transaction

from ...engine.cursor import Cursor
from ...store import Store
from .database import is_same_database
from .shared_connection import SharedConnection

__all__ = ["AtomicBlock", "shared_store", "commits_by_itself", "open_block"]

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])


def commits_by_itself(view: View) -> View:
    """Let a view commit what it does by itself, whatever ``ATOMIC_REQUESTS`` says.

    Verbs use the store's own connection; SQLite has one writer, which would be the request's own
    transaction.
    """
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(alias)(view)
    return view


def open_block(store: Store) -> AtomicBlock | None:
    """Return the transaction that this thread has open on the store's database.

    None if there is none.
    """
    found = None
    for wrapper in connections.all(initialized_only=True):
        if _is_open(wrapper, store) and is_same_database(wrapper.alias, store.database):
            found = wrapper
            if _alias_of(store) == wrapper.alias:
                break
    return None if found is None else AtomicBlock(found, store)


def _alias_of(store: Store) -> str | None:
    address = getattr(store.database, "address", None)
    return None if address is None else address.name


def _is_open(wrapper: Any, store: Store) -> bool:
    """Tell of ``atomic()``, and of a transaction that the application manages by hand."""
    if isinstance(
        store.database, SharedConnection
    ):  # all is in Django's transaction anyway: a block is what the test opened
        blocks = getattr(wrapper, "atomic_blocks", ())
        return any(not getattr(block, "_from_testcase", False) for block in blocks)
    return bool(
        wrapper.in_atomic_block or (wrapper.connection is not None and not wrapper.autocommit)
    )


class AtomicBlock:
    """One of them (``engine.protocols.Transaction``)."""

    def __init__(self, wrapper: Any, store: Store) -> None:
        self._wrapper = wrapper
        self._store = store

    def write(self, work: Callable[[Store, Cursor], T]) -> T:
        """Return ``work(store, cursor)`` on Django's own connection.

        Raises:
            StoreError: the database refuses; the block continues without what ``work`` did.
            TransactionManagementError: the block is broken already.
        """
        store = shared_store(self._store, self._wrapper.alias)
        result: T = store.database.transact(lambda cursor: work(store, cursor))
        return result

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call when the outermost block has committed; never if a savepoint around us is undone."""
        if self._wrapper.in_atomic_block:
            transaction.on_commit(call, using=self._wrapper.alias, robust=True)


def shared_store(store: Store, alias: str) -> Store:
    """Return the store as it is reached through Django's connection to an alias."""
    return (
        store
        if isinstance(store.database, SharedConnection)
        else store.through(_connection_of(alias))
    )


@functools.cache
def _connection_of(alias: str) -> SharedConnection:
    return SharedConnection(alias)
