"""The only way out to Celery: activities, turn messages, and the last message of an orchestration.

Everything here happens after the commit that decided it. A failure is reported or logged, never
raised: the rows in the store say what should have been sent, and recovery sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from celery import Celery

from ..core.canvas_options import CanvasOptions
from ..core.status import RuntimeStatus
from ..engine.listing import InstanceRecord
from ..engine.records import ActivityAttemptId, ActivityRow, TurnAddress
from ..engine.registry import Registry
from ..engine.store_ports import Store
from ..payload import PayloadCodec
from .fast_publish import FastPublisher
from .finish import Finisher
from .headers import MessageHeader
from .routing import CeleryRouting
from .send_activities import ActivitySender
from .send_queue import SendQueue
from .send_turns import OrchestratorSender
from .tracing import Tracing

__all__ = ["CeleryPublisher"]


class CeleryPublisher(CeleryRouting):
    """Publishes for one app (``engine.ports.Publisher``); each kind of message has its sender."""

    def __init__(
        self,
        app: Celery,
        store: Store,
        codec: PayloadCodec,
        registry: Registry,
        *,
        turn_timeout: float,
        stores_results: bool,
        turn_queue: str | None = None,
        context_headers: Sequence[str] = (),
    ) -> None:
        super().__init__(app, registry, turn_queue, context_headers)
        #: The queues that this worker consumes; None in a client.
        self.queues: frozenset[str] | None = None
        light = FastPublisher(app)
        self.send_queue: SendQueue = SendQueue(app)
        self.activity_sender: ActivitySender = ActivitySender(
            app,
            store,
            codec,
            self.send_queue,
            light,
            lambda row: self._send_activity(row),  # noqa: PLW0108  looked up each time
            self.context_headers,
            stores_results=stores_results,
        )
        self.orchestrator_sender: OrchestratorSender = OrchestratorSender(
            app, store, codec, self, self.send_queue, light, turn_timeout=turn_timeout
        )
        self.finisher: Finisher = Finisher(
            app,
            store,
            codec,
            self.send_queue,
            lambda *message: self._send_finish(*message),  # noqa: PLW0108  looked up each time
        )

    def watch(self, tracing: Tracing) -> None:
        """Make the sending of activities visible to a tracer."""
        self.activity_sender.tracing = tracing

    # -- questions ---------------------------------------------------------------------------------

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process may run turns of this orchestrator by itself."""
        if name not in self.registry or self.needs_messages(name):
            return False
        if self.send_queue.is_eager:
            return True
        return self.queues is not None and (queue is None or queue in self.queues)

    def needs_finish(self, name: str, canvas: str | None, status: RuntimeStatus) -> bool:
        """Tell whether Celery must be notified of such an end."""
        return self.finisher.needs_finish(name, canvas, status)

    @property
    def is_eager(self) -> bool:
        """Whether this thread runs at once what is sent, as no worker does."""
        return self.send_queue.is_eager

    @property
    def is_draining(self) -> bool:
        """Whether this thread runs at once what is sent, and is running one of those now."""
        return self.send_queue.is_draining

    def at_once(self) -> AbstractContextManager[None]:
        """Run in this thread whatever is sent in this block, and all that comes of it, before the
        block is left.
        """
        return self.send_queue.at_once()

    def together(self) -> AbstractContextManager[None]:
        """Let the turns that are sent in this block reach the broker together, where that can be.

        What it refuses then is logged, and found by recovery.
        """
        return self.orchestrator_sender.together()

    # -- sending -----------------------------------------------------------------------------------

    def _send_activity(self, row: ActivityRow) -> None:
        """Hand one activity to the broker; where tests lose or double it."""
        self.activity_sender.send(row)

    def _send_finish(
        self, address: TurnAddress, canvas: CanvasOptions, header: MessageHeader
    ) -> None:
        """Hand one last message to the broker; where tests lose it."""
        self.orchestrator_sender.send_finish(address, canvas, header)

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        """Send activities.

        Return those that could not be sent, and why: a ``PayloadError`` is damage in the row.
        """
        return self.activity_sender.publish(rows)

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        """Send a turn message, ``delay`` microseconds from now.

        False if it could not be, or was better not, sent.
        """
        return self.orchestrator_sender.publish_turn(address, delay=delay, due=due, tries=tries)

    def finish(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        output: str | None,
        failure: str | None,
        reason: str | None,
    ) -> None:
        """Let Celery finish the orchestration's task: store its result, call its callbacks and
        its handlers.
        """
        self.finisher.finish(address, execution, status, output, failure, reason)

    def finish_again(self, row: ActivityRow) -> None:
        """Send the last message of an orchestration once more."""
        self.finisher.finish_again(row)

    def finish_owed(self, record: InstanceRecord, *, tries: int = 1) -> Exception | None:
        """Let Celery finish one that has ended, and return what went wrong."""
        return self.finisher.finish_owed(record, tries=tries)
