"""One event for all orchestrations that match filters: one commit for each batch of them.

All have the event's id in common, and the inbox of each takes an id once. So a broadcast that broke
off is made again with the same id, and reaches those that it has not reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._errors import InstanceNotFound
from .bulk import BulkResult, pages
from .control import Control
from .listing import Filters
from .ports import Transaction
from .verb import refusal
from .verbs.events import RAISE_EVENT, event_message
from .writes import NewInbox

__all__ = ["raise_event_many"]

#: Stands for the receivers while a message is made.
_ANY = "*"


def raise_event_many(
    control: Control,
    filters: Filters,
    name: str,
    data: Any = None,
    event_id: str | None = None,
    *,
    limit: int | None = None,
    session: Any = None,
) -> BulkResult:
    """Raise an external event on every orchestration that matches, newest first, batch by batch.

    Each batch is one commit, or all are part of the caller's transaction, where there is one.

    Raises:
        ValueError: the name or the id cannot be used.
        PayloadError: the data cannot be encoded.
    """
    message = event_message(control, _ANY, name, data, event_id)
    filters = replace(filters, entities=False)
    transaction = control.transactions.find(session)
    result = BulkResult(control.store.reads.count(filters))
    for ids in pages(control.store, filters, limit):
        if ids:
            _put(control, transaction, message, ids, result)
    return result


def _put(
    control: Control,
    transaction: Transaction | None,
    message: NewInbox,
    ids: Sequence[str],
    result: BulkResult,
) -> None:
    """Put the event into the inboxes of a batch, and send their turns after the commit."""
    if transaction is None:
        new = control.store.inbox.put_to_all(message, ids)
        # a crash before the turns are sent: recovery sends them after ``check_after``
        control.publish(ids)
    else:
        new = transaction.write(
            lambda store, cursor: store.inbox.put_to_all_within(cursor, message, ids)
        )
        transaction.after_commit(lambda: control.publish(ids))
    result.done += len(ids)
    if new < len(ids):  # they have it already, or ended meanwhile
        _note_refused(control, ids, result)


def _note_refused(control: Control, ids: Sequence[str], result: BulkResult) -> None:
    statuses = control.store.reads.statuses_of(ids)
    for id_ in ids:
        status = statuses.get(id_)
        if status is None:
            result.refused[id_] = InstanceNotFound(
                f"there is no orchestration {id_!r}", instance_id=id_
            )
        elif status not in RAISE_EVENT.acts_in:
            result.refused[id_] = refusal(RAISE_EVENT.name, RAISE_EVENT.acts_in, status, id_)
        else:
            continue
        result.done -= 1
