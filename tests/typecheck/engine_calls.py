"""Calls of a store's parts and of the publisher, as the engine makes them.

One that is misspelt, or given another type, is refused: each line whose comment expects a text must
be an error that holds it; no other may be one.
"""

from __future__ import annotations

from celery_durable.engine.ports import Publisher
from celery_durable.engine.records import ActivityAttemptId, Outcome
from celery_durable.engine.store_ports import Store


def use(store: Store, publisher: Publisher, ticket: ActivityAttemptId) -> None:
    """Call what is there."""
    store.turns.load("i", None)
    store.turns.lode("i", None)  # expect: has no attribute "lode"
    store.outcomes.record(Outcome(ticket, "null", has_failed=False))
    store.outcomes.record(ticket)  # expect: incompatible type "ActivityAttemptId"
    store.reads.status_of("i")
    store.reads.status_of()  # expect: Missing positional argument
    store.recovery.read_backlog(1)
    store.workers.look(1)  # expect: has no attribute "look"
    publisher.publish_activities([])
    publisher.publish_activitiess([])  # expect: has no attribute "publish_activitiess"
