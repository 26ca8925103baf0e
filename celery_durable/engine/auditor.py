"""What a verb leaves in the audit trail: it is written with the change, or by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .._errors import DurableError, StoreError
from .audit import NOTHING, REFUSED, AuditRows, Entry, actor, text_of_arguments, written_as
from .cursor import Cursor
from .ports import Transactions
from .store_ports import Session, Store

__all__ = ["Auditor"]

log: logging.Logger = logging.getLogger("celery_durable.audit")


@dataclass(frozen=True, slots=True)
class Auditor:
    """Surrounds verbs."""

    rows: AuditRows
    transactions: Transactions

    @contextmanager
    def around(
        self,
        kind: str,
        target: str | None,
        verb: str,
        reason: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        session: Session = None,
    ) -> Iterator[None]:
        """Let the verb in the block leave an entry, if an actor is set.

        Args:
            kind: of what it is done to.
            target: its id or name; None where the verb finds it.
            verb: what is done.
            reason: why.
            arguments: what else it was given; those that are None are left out.
            session: whose transaction the verb joins.
        """
        who = actor()
        if who is None:
            yield
            return
        entry = Entry(
            kind, target, verb, who, who.reason or reason, text_of_arguments(arguments or {})
        )
        with written_as(entry):
            try:
                yield
            except DurableError as error:
                if not isinstance(error, StoreError):
                    self._note_refusal(entry, error, session)
                raise
            else:
                if not entry.is_written:
                    entry.effect = NOTHING
                    self._note(entry, session)

    def _note(self, entry: Entry, session: Session) -> None:
        transaction = self.transactions.find(session)
        if transaction is None:
            self.rows.insert(entry)
            return

        def write(store: Store, cursor: Cursor) -> None:
            store.audit.insert_within(cursor, entry)

        transaction.write(write)

    def _note_refusal(self, entry: Entry, error: DurableError, session: Session) -> None:
        if self.transactions.find(session) is not None:
            return  # the caller's transaction may be over, or hold what another one would wait for
        entry.effect, entry.error = REFUSED, f"{type(error).__name__}: {error}"
        try:
            self.rows.insert(entry)
        except DurableError:
            log.warning("a refused %s of %r is not in the audit", entry.verb, entry.target)
