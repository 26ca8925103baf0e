"""Many starts as one: in one transaction, by few statements for each five hundred, all or none.

Each is built as a start by itself is; only the insert is one for all. First turns are sent after
the commit, one message each; if the process dies before that, recovery finds the start messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._errors import ConfigurationError, DurableError, InstanceExists
from .audit import settled
from .ports import Transaction
from .records import Resident, TakenIdsError
from .start import Nudge, Started, Starter, StartRequest, check_if_exists, is_debounced
from .writes import NewInstance

__all__ = ["start_many"]

log: logging.Logger = logging.getLogger("celery_durable.client")


def start_many(
    starter: Starter,
    requests: Sequence[StartRequest],
    session: Any = None,
    clock: Callable[[], int] | None = None,
) -> list[Started]:
    """Start orchestrations in one transaction: the caller's, where there is one.

    Args:
        starter: that starts them.
        requests: what to start; all have the same ``if_exists``.
        session: whose transaction they join.
        clock: gives the store's clock; it is asked if one is to begin at a time.

    Returns:
        What was started, in the order of the requests.

    Raises:
        InstanceExists: an id is taken, or comes twice, and ``if_exists`` is "raise"; nothing was
            started.
        ConfigurationError: ``if_exists`` is another one, one is debounced, or they cannot join the
            transaction.
    """
    if not requests:
        return []
    _check(requests)
    is_timed = any(request.start_at is not None for request in requests)
    now = (clock or starter.parts.store.now)() if is_timed else None
    transaction = starter.transactions.find(session)
    if transaction is not None:
        starter.read_switches(transaction)
    news = _built(starter, requests, now)
    expects_new = requests[0].if_exists == "raise"
    try:
        if transaction is not None:
            return _start_within(starter, transaction, news, now, expects_new=expects_new)
        return _start_alone(starter, news, now, expects_new=expects_new)
    except TakenIdsError as error:
        if not expects_new:
            raise DurableError(
                f"{len(news)} orchestrations could not be started, as others of the same ids are"
                " started just now; nothing was started. Try again"
            ) from error
        raise _exists(error.ids, "there is an orchestration of the same id already") from None


def _check(requests: Sequence[StartRequest]) -> None:
    for request in requests:
        check_if_exists(request)
        if request.if_exists not in ("return", "raise"):
            raise ConfigurationError(
                f"start_many takes if_exists='return' or 'raise', not {request.if_exists!r}: that"
                " ends the orchestration that is there, which takes several commits. Start it by"
                " itself, with durable.start()"
            )


def _built(
    starter: Starter, requests: Sequence[StartRequest], now: int | None
) -> list[NewInstance]:
    """Return the rows of all requests, in order; one id that comes twice is twice the same row."""
    by_id: dict[str, NewInstance] = {}
    found = []
    for request in requests:
        new = starter.build(request, now=now)
        if is_debounced(new):
            raise ConfigurationError(
                f"{new.name} is debounced: its starts become one, which holds up all others of"
                " their key until the commit. Start it by itself, with durable.start()"
            )
        if request.if_exists == "raise" and new.id in by_id:
            raise _exists([new.id], "the id is given twice")
        found.append(by_id.setdefault(new.id, new))
    return found


def _start_alone(
    starter: Starter, news: Sequence[NewInstance], now: int | None, *, expects_new: bool
) -> list[Started]:
    rows = _once(news)
    residents = starter.parts.store.starts.insert_all(rows, expects_new=expects_new)
    _warn_of_others(rows, residents)
    _announce(starter, [new for new in rows if new.id not in residents], now)
    return [Started(new.id) for new in news]


def _start_within(
    starter: Starter,
    transaction: Transaction,
    news: Sequence[NewInstance],
    now: int | None,
    *,
    expects_new: bool,
) -> list[Started]:
    rows = _once(news)
    residents = transaction.write(
        lambda store, cursor: store.starts.insert_all_within(cursor, rows, expects_new=expects_new)
    )
    inserted = [new for new in rows if new.id not in residents]
    nudges = {new.id: _nudge_of(starter, new) for new in inserted}

    def note_commit() -> None:
        for nudge in nudges.values():
            nudge.has_committed = True
        _announce(starter, inserted, now)

    if inserted:
        transaction.after_commit(note_commit)
    return [Started(new.id, nudges.get(new.id)) for new in news]


def _nudge_of(starter: Starter, new: NewInstance) -> Nudge:
    return Nudge(lambda: starter.announce(new))


def _once(news: Sequence[NewInstance]) -> list[NewInstance]:
    return list({new.id: new for new in news}.values())


def _announce(starter: Starter, news: Sequence[NewInstance], now: int | None) -> None:
    """Notify observers of instances that are committed, send their first turns, and let those in
    that wait for admission: one look for each orchestrator.
    """
    with settled():
        for new in news:
            starter.parts.notifier.started(new)
        with starter.parts.publisher.together():
            for new in news:
                if new.admission is None:
                    starter.send_first_turn(new, now)
        for name in dict.fromkeys(new.name for new in news if new.admission is not None):
            starter.admission.admit(name)


def _warn_of_others(news: Sequence[NewInstance], residents: Mapping[str, Resident]) -> None:
    for new in news:
        there = residents.get(new.id)
        if there is not None and (there.name, there.input) != (new.name, new.input):
            log.warning(
                "orchestration %r exists already, with another input; that one is returned", new.id
            )


def _exists(ids: Sequence[str], why: str) -> InstanceExists:
    shown = ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return InstanceExists(f"{why}: {shown}; nothing was started", instance_id=ids[0])
