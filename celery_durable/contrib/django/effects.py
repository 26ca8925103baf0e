"""Activities whose rows, written with Django's ORM, and whose outcome are one commit.

The transaction is an ``atomic()`` block of the alias, on Django's own connection; the outcome is
written into it last. What happens to it is what ``celery_durable.store.joint`` does with a
session: it is repeated when the database asks for that, and a commit whose answer was lost is
looked into.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import django.db
from django.db import connections, transaction

from ...engine.at_most_once import CommitInDoubt, OutcomeRefused
from ...engine.records import ActivityAttemptId, Deferral, Outcome, Recorded
from ...errors import ConfigurationError
from ...store import Store
from ...store.joint import AgainError, repeated
from .database import is_same_database
from .shared_connection import SharedConnection, driver_error
from .transactions import shared_store

__all__ = ["hold_on", "transact_on"]

log: logging.Logger = logging.getLogger("celery_durable.store")
T = TypeVar("T")


def transact_on(
    alias: str,
    store: Store,
    work: Callable[[], T],
    outcome_of: Callable[[T], Outcome | Deferral] | None,
    *,
    repeats: bool = True,
) -> tuple[T, Recorded | None]:
    """Run ``work`` in an ``atomic()`` block, and commit what it wrote together with the outcome of
    what it returned.

    With no ``outcome_of`` it is a block like any other, and part of the one that is open.

    Raises:
        OutcomeRefused: the outcome is not wanted any more; nothing was committed.
        CommitInDoubt: the connection ended during the commit, with an outcome in it.
        StoreError: the database cannot be reached; nothing was committed.
        ConfigurationError: the alias is not the store's database, or a transaction is open around
            the activity already.
    """
    if alias not in connections.settings or not is_same_database(alias, store.database):
        raise ConfigurationError(
            f"@durable.transactional(using={alias!r}): the store is {store.database}, another"
            " database. Rows and outcome can only be one commit in the store's own"
        )
    if outcome_of is None:
        with transaction.atomic(using=alias):
            return work(), None
    return repeated(lambda: _Joint(alias, store).run(work, outcome_of), repeats=repeats)


def hold_on(alias: str, store: Store, ticket: ActivityAttemptId) -> None:
    """Let those who bring the outcome of an attempt wait for the block that is open on an alias."""
    shared = shared_store(store, alias)
    assert isinstance(shared.database, SharedConnection)
    with shared.database.cursor() as cursor:
        shared.attempts.hold_within(cursor, ticket)


class _Joint:
    """One try of one transaction."""

    def __init__(self, alias: str, store: Store) -> None:
        self.wrapper = connections[alias]
        self.store = shared_store(store, alias)
        assert isinstance(self.store.database, SharedConnection)
        self.shared = self.store.database
        self.errors: list[BaseException] = []
        self.is_begun = self.is_ending = self.is_committed = False

    def run(
        self, work: Callable[[], T], outcome_of: Callable[[T], Outcome | Deferral]
    ) -> tuple[T, Recorded | None]:
        self._connect()
        try:
            with self._immediate(), self.wrapper.execute_wrapper(self._note_errors), self._block():
                self.is_begun = True
                result = work()
                recorded = self._record(outcome_of(result))
                self.is_ending = True
        except Exception as error:
            if self.is_committed:
                log.exception(
                    "what was to follow the commit of an activity failed; its rows and its outcome"
                    " are there"
                )
            elif self.is_ending:
                self._judge_commit(error, result)
            else:
                self._judge(error)
                raise
        if not self.is_committed and not self.wrapper.in_atomic_block:
            raise CommitInDoubt(result)
        return result, recorded

    def _connect(self) -> None:
        if not self.wrapper.in_atomic_block:
            self.wrapper.close_if_unusable_or_obsolete()
        try:
            self.wrapper.ensure_connection()
            if not self.wrapper.in_atomic_block and not self.wrapper.get_autocommit():
                raise ConfigurationError(
                    f"a transactional activity needs the database {self.wrapper.alias!r} in"
                    " autocommit: nothing would be committed when it returns"
                )
        except django.db.Error as error:
            raise self.shared.store_error(driver_error(error)) from error

    def _block(self) -> Any:
        """Return the outermost block; Django's ``TestCase`` may have one around it."""
        try:
            block = transaction.atomic(using=self.wrapper.alias, durable=True)
            block.__enter__()
        except RuntimeError as error:
            raise ConfigurationError(
                "a transactional activity is inside atomic() already, so that its rows and its"
                " outcome would not be committed when it returns. Take that atomic() away:"
                " @durable.transactional is one"
            ) from error
        return _Entered(block, self._note_commit)

    def _note_commit(self) -> None:
        self.is_committed = True

    @contextmanager
    def _immediate(self) -> Iterator[None]:
        """Let SQLite take its write lock first: a reader that becomes a writer may find that it is
        too late.
        """
        if self.wrapper.vendor != "sqlite":
            yield
            return
        mode, self.wrapper.transaction_mode = self.wrapper.transaction_mode, "IMMEDIATE"
        try:
            yield
        finally:
            self.wrapper.transaction_mode = mode

    def _record(self, outcome: Outcome | Deferral) -> Recorded:
        with self.shared.cursor() as cursor:
            if self.shared.family == "postgresql":
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 30000")
            recorded: Recorded | None = self.store.outcomes.record_within(cursor, outcome)
        if recorded is None:
            raise OutcomeRefused
        return recorded

    def _note_errors(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Note whose errors they are: a body may use other databases too."""
        try:
            return execute(sql, params, many, context)
        except Exception as error:
            self.errors.append(error)
            raise

    def _judge(self, error: Exception) -> None:
        """Turn an error of our own connection that is no fault of the body into what is done about
        it.
        """
        if not isinstance(error, django.db.Error) or isinstance(
            error, transaction.TransactionManagementError
        ):
            return
        cause = driver_error(error)
        if self.is_begun and all(
            error is not own and cause is not driver_error(own) for own in self.errors
        ):
            return
        if self.shared.may_repeat(cause):
            raise AgainError(error, is_disconnect=False) from error
        if not self._is_usable():
            raise AgainError(self.shared.store_error(cause), is_disconnect=True) from error

    def _judge_commit(self, error: Exception, result: Any) -> None:
        cause = driver_error(error)
        if self.shared.may_repeat(cause):
            raise AgainError(error, is_disconnect=False) from error
        if isinstance(error, django.db.IntegrityError):
            raise error  # a deferred constraint: the database has rolled back
        raise CommitInDoubt(result) from error

    def _is_usable(self) -> bool:
        if self.wrapper.connection is None:
            return False
        try:
            return bool(self.wrapper.is_usable())
        except Exception:
            return False


class _Entered:
    """A block that was entered already.

    It tells of its commit before anything that was to follow it runs.
    """

    def __init__(self, block: Any, note_commit: Callable[[], None]) -> None:
        self._block = block
        transaction.on_commit(note_commit, using=block.using)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)
