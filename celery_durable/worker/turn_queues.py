"""The queues of turn messages: one beside each queue, so that turns do not wait behind activities.

An orchestration whose messages go to ``orders`` has its turns on ``orders.turns``, and each worker
that consumes the first consumes the second. Brokers serve the queues of a worker in turn: a turn
waits behind what the worker has prefetched, however long the backlog is.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

__all__ = ["TurnQueues", "common_queue"]

_PLACE = "{queue}"


def common_queue(setting: str | None) -> str | None:
    """Return the one queue of all turns, if ``durable_turn_queue`` names one.

    None if it is a pattern for one beside each queue, or turns have none of their own.
    """
    return setting if setting and _PLACE not in setting else None


class TurnQueues:
    """Names and declares them, by the setting ``durable_turn_queue``.

    Args:
        app: whose queues they are beside.
        pattern: their names, with ``{queue}`` for the queue that one is beside. Without that, or
            None, there are none: then turns go where Celery sends any task.
    """

    def __init__(self, app: Celery, pattern: str | None) -> None:
        self._app = app
        self._pattern: str | None = None if common_queue(pattern) else pattern
        self._made: dict[str, Queue | None] = {}
        #: Those that this worker consumes because it consumes another one.
        self._consumed: set[str] = set()

    @property
    def is_off(self) -> bool:
        """Whether there are none."""
        return self._pattern is None

    def name_beside(self, queue: str) -> str:
        """Return where the turns of this queue's orchestrations go: itself if it has none."""
        made = self.beside(queue)
        return queue if made is None else str(made.name)

    def beside(self, name: str) -> Queue | None:
        """Return the queue of turns beside another one; None if there is to be none."""
        if self._pattern is None:
            return None
        if name not in self._made:
            self._made[name] = self._declared(name)
        made = self._made[name]
        # a worker that consumes it has an object of its own for it
        return None if made is None else self._app.amqp.queues.get(made.name, made)

    def _declared(self, name: str) -> Queue | None:
        assert self._pattern is not None
        queues = self._app.amqp.queues
        base: Any = queues.get(name)
        if base is None:
            base = queues.aliases.get(name) or queues.new_missing(name)
        is_shared = type(base) is Queue and not (base.exclusive or base.auto_delete)
        if not is_shared or self.is_one(name):
            return None  # of a Broadcast and the like, each worker has its own
        turns = self._pattern.replace(_PLACE, name)
        arguments = dict(base.queue_arguments or {})
        if queues.max_priority is not None:  # a missing one gets it when it is added
            arguments.setdefault("x-max-priority", queues.max_priority)
        kind = "direct" if base.exchange is None else base.exchange.type
        return Queue(  # type: ignore[no-untyped-call]
            turns,
            # an exchange of its own: a pattern by which the other queue is bound may fit this one
            Exchange(turns, type=kind),  # type: ignore[no-untyped-call]
            routing_key=turns,
            durable=base.durable,
            queue_arguments=arguments,
            max_priority=base.max_priority,
        )

    def is_one(self, name: str) -> bool:
        """Tell whether a queue is one of turns, by its name."""
        if self._pattern is None:
            return False
        before, _, after = self._pattern.partition(_PLACE)
        is_long_enough = len(name) > len(before) + len(after)
        return is_long_enough and name.startswith(before) and name.endswith(after)

    # -- consuming ---------------------------------------------------------------------------------

    def missing(self) -> list[Queue]:
        """Return the queues that this worker should consume, and does not yet."""
        consumed = dict(self._app.amqp.queues.consume_from)
        found = (self.beside(name) for name in consumed)
        return [queue for queue in found if queue is not None and queue.name not in consumed]

    def consume(self, queue: Queue, consumer: Any = None) -> None:
        """Let a worker consume one: from its start on, or its consumer, which runs already."""
        self._consumed.add(queue.name)
        self._app.amqp.queues.select_add(queue)
        if consumer is not None:
            consumer.add_task_queue(queue.name)

    def left_over(self) -> list[str]:
        """Return those that were added here to queues which the worker has left since."""
        consumed = dict(self._app.amqp.queues.consume_from)
        beside = {self.name_beside(name) for name in consumed if not self.is_one(name)}
        return sorted(self._consumed & consumed.keys() - beside)

    def follow(self, consumer: Any) -> None:
        """Consume and leave queues of turns as the worker was told to do with the others since it
        started; called by any thread.
        """
        if getattr(consumer, "task_consumer", None) is None:
            return
        for queue in self.missing():
            consumer.call_soon(self.consume, queue, consumer)
        for name in self.left_over():
            self._consumed.discard(name)
            consumer.call_soon(consumer.cancel_task_queue, name)
