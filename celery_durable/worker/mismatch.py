"""Messages of activities that do not fit this worker's store."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.exceptions import Reject

from ..engine.records import ActivityAttemptId, ActivityStart
from ..engine.store_ports import Store
from .delivery import is_replacement
from .headers import MessageHeader
from .runtime import Runtime

__all__ = ["is_of_another_execution", "refuse_foreign"]

log: logging.Logger = logging.getLogger("celery_durable.activity")


def refuse_foreign(store: Store, header: MessageHeader | None, request: Any) -> None:
    """Put back a message of another store.

    Raises:
        Reject: it is one.
        StoreError: the store cannot be reached.
    """
    if header is None or header.store is None or header.is_of(store.id):
        return
    log.error(
        "activity %s belongs to another store (%s...) than this worker's, %s: it is put back."
        " Is durable_backend_url the same, and absolute, everywhere?",
        request.id,
        header.store,
        store.location,
    )
    time.sleep(1.0)
    raise Reject("another store", requeue=True)


def is_of_another_execution(
    runtime: Runtime, start: ActivityStart, task: Any, request: Any
) -> bool:
    """Tell whether the message asks for another task than the store: the store was put back, and
    the broker was not. What was claimed is freed again.
    """
    if start.name == task.name or start.is_delegated or is_replacement(request):
        return False
    log.error(
        "a message runs %s as activity %s, which is %s in the store: was the store restored from a"
        " backup, with older messages left on the broker? It is dropped",
        task.name,
        request.id,
        start.name,
    )
    ticket = ActivityAttemptId.parse(request.id)
    if ticket is not None:
        runtime.store.workers.free_claimed(ticket, runtime.worker_id or "")
    return True
