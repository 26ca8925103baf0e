"""How an orchestration is created: one way for all that start one.

Whatever starts an orchestration builds its rows here, so that each gets the version of its code,
its limits and retention, the caller's trace, and the time when recovery looks after it:

* ``durable.start`` and its kin, also in the caller's transaction, and restarts (``Starter.start``);
* a start message that a foreign process has sent (``Starter.start_from_message``);
* ticks of schedules, ``trigger``, ``backfill`` and forks (``Starter.complete``);
* sub-orchestrations, whose turn builds them from a command (``engine.commit``), and entities, which
  their first message creates (``engine.entities``).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._errors import ConfigurationError, DurableError, InstanceExists, PayloadError
from ..core.entity import ORCHESTRATORS
from ..core.guard import refuse_inside_orchestrator
from ..core.names import check_new_id, checked_name
from ..core.plain_task import TASK, carrier_of
from ..core.tags import check_tags
from .call_types import expect_fitting
from .draft import new_execution_id
from .ports import NoTransactions, Transaction, Transactions
from .records import TurnAddress
from .writes import CHECK_MESSAGE_AFTER, EXPIRES, AlreadyWaitsError, NewInstance

if TYPE_CHECKING:
    from .admission import AdmissionController
    from .inline_turns import InlineTurns
    from .parts import Parts
    from .registry import Definition
    from .replacing import Replacing

__all__ = [
    "IfExists",
    "StartRequest",
    "Nudge",
    "Started",
    "Starter",
    "check_if_exists",
    "is_debounced",
    "new_id",
]

log: logging.Logger = logging.getLogger("celery_durable.client")
IfExists = Literal["return", "raise", "restart", "replace"]
#: So often a start is tried again that meets another one of its debounce key.
_TRIES = 60


@dataclass(slots=True)
class StartRequest:
    """One orchestration to start, as a caller asks for it."""

    #: Of the orchestrator.
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: None is a random one.
    instance_id: str | None = None
    #: It does not begin before this time; microseconds by the store's clock.
    start_at: int | None = None
    tags: Mapping[str, str] | None = None
    #: What to do if the id is taken.
    if_exists: IfExists = "return"
    #: Where its messages go; None is where its options or routes say.
    queue: str | None = None
    #: What Celery keeps for its end: options and callbacks.
    canvas: Mapping[str, Any] | None = None
    #: The Celery task at the root of what it belongs to.
    root_id: str | None = None
    #: It does not begin after this time; microseconds by the store's clock.
    expires: int | None = None
    #: Of its code; None is what the ramp says, or the newest.
    version: str | None = None


@dataclass(slots=True, eq=False)
class Nudge:
    """Sends the first turn of an orchestration that joined a transaction."""

    announce: Callable[[], None]
    #: Whether that has committed, where it can be told.
    has_committed: bool = False

    def __call__(self) -> None:
        """Send it now."""
        self.announce()

    def note_commit(self) -> None:
        """The transaction has committed."""
        self.has_committed = True
        self.announce()


class Started(NamedTuple):
    """What was started."""

    id: str
    #: Sends its first turn again, where a transaction was joined.
    nudge: Callable[[], None] | None = None


@dataclass(slots=True)
class Starter:
    """Creates orchestrations."""

    parts: Parts
    admission: AdmissionController
    inline: InlineTurns
    replacing: Replacing
    #: Which transaction of the caller's a start joins.
    transactions: Transactions = field(default_factory=NoTransactions)

    # -- build -------------------------------------------------------------------------------------

    def build(self, request: StartRequest, *, now: int | None = None) -> NewInstance:
        """Check a request and return the rows that it makes; ``now`` is the store's clock, if it is
        known.

        Raises:
            PayloadError: an argument cannot be encoded, or does not fit its annotation.
            ValueError: the id or the tags do not fit, or a limit's key cannot be told from the
                arguments.
            ConfigurationError: this process does not have the version.
        """
        refuse_inside_orchestrator("durable.start()")
        _check(request)
        parts, instance_id = self.parts, new_id(request.instance_id, request.name)
        version, definition = parts.versions.of_start(request.name, instance_id, request.version)
        try:
            call = [list(request.args), dict(request.kwargs)]
            payload = parts.codec.encode(call)
            if definition is not None:
                expect_fitting(parts.codec, definition, call, payload)
            canvas = parts.codec.encode(dict(request.canvas)) if request.canvas else None
        except PayloadError as error:
            raise PayloadError(
                f"orchestration {instance_id!r} ({request.name}) cannot start: {error}",
                **error.facts,
            ) from error
        new = NewInstance(
            instance_id,
            new_execution_id(),
            request.name,
            version,
            payload,
            queue=request.queue,
            canvas=canvas,
            tags=dict(request.tags or {}),
            root_id=request.root_id,
            start_at=request.start_at,
            check_after=CHECK_MESSAGE_AFTER,
            facts=None if request.expires is None else {EXPIRES: request.expires},
        )
        return self.complete(new, definition, now=now, debounces=True)

    def complete(
        self,
        new: NewInstance,
        definition: Definition | None,
        *,
        now: int | None = None,
        debounces: bool = False,
    ) -> NewInstance:
        """Give a new instance what its orchestrator declares, the caller's trace, and the time when
        recovery looks.

        Args:
            new: the instance; is changed, and returned.
            definition: its code, where this process has it.
            now: the store's clock, if it is known.
            debounces: whether it may be merged into one that waits.

        Raises:
            ValueError: a limit's key cannot be told from its arguments, or it cannot be debounced.
        """
        if new.start_at is not None:
            horizon = self._horizon
            if new.start_at - (self.parts.store.now() if now is None else now) > horizon:
                new.check_after = -horizon  # too far ahead for a message: in time to send one
        self.admission.apply_policies(new, definition, debounces=debounces)
        self.parts.notifier.starting(new)
        return new

    @property
    def _horizon(self) -> int:
        """Within how many microseconds a message may be sent that waits on the broker."""
        return int(self.parts.settings.timer_horizon * 1_000_000)

    # -- start -------------------------------------------------------------------------------------

    def start(self, request: StartRequest, session: Any = None) -> Started:
        """Start an orchestration, within the caller's transaction where there is one.

        Raises:
            InstanceExists: the id is taken and ``if_exists`` is "raise".
            InvalidState: ``if_exists`` is "restart" and the one there is not over.
            StoreError: the store cannot be reached; nothing was started.
            ConfigurationError: the start cannot join the transaction.
        """
        if (transaction := self.transactions.find(session)) is not None:
            return self._start_within(transaction, request)
        return self.start_alone(request)

    def start_alone(self, request: StartRequest) -> Started:
        """Start an orchestration at once, whatever transaction is open around the caller."""
        new, parts = self.build(request), self.parts
        needs_message = parts.publisher.needs_messages(carrier_of(new.name, new.version))
        # a first turn that sends one activity costs less than its message
        is_short = parts.settings.start_inline or new.version == TASK
        if is_short and not needs_message and self.inline.begin(new):
            return Started(new.id)
        return Started(self.insert(new, request.if_exists))

    def _start_within(self, transaction: Transaction, request: StartRequest) -> Started:
        check_if_exists(request)
        if request.if_exists not in ("return", "raise"):
            raise ConfigurationError(
                "a start that joins a transaction takes if_exists='return' or 'raise', not"
                f" {request.if_exists!r}: that would lock the orchestration until the commit. Start"
                " it after the commit"
            )
        self.read_switches(transaction)
        new = self.build(request)
        if is_debounced(new):
            raise ConfigurationError(
                f"{new.name} is debounced: a start that joins a transaction would hold up all"
                " others of its key until the commit. Start it after the commit"
            )
        is_new = transaction.write(lambda store, cursor: store.starts.insert_within(cursor, new))
        if is_new:
            nudge = Nudge(lambda: self.announce(new))
            transaction.after_commit(nudge.note_commit)
            return Started(new.id, nudge)
        if request.if_exists == "raise":
            raise InstanceExists(
                f"there is an orchestration {new.id!r} already", instance_id=new.id
            )
        return Started(new.id)

    def read_switches(self, transaction: Transaction) -> None:
        """Read the switches in a caller's transaction if they are to be read: no other connection
        is made for it.
        """
        board = self.parts.switches
        if board.is_due:
            board.refresh(
                transaction.write(lambda store, cursor: store.switches.read_within(cursor))
            )

    def start_from_message(self, request: StartRequest) -> None:
        """Create the instance of a start message, and take its first turn here."""
        new = self.build(request)
        if new.admission is not None:
            self.insert(new)
            return
        if self.parts.store.starts.insert(new):
            self.parts.notifier.started(new)
        self.inline.run(new.id)

    # -- insert and announce -----------------------------------------------------------------------

    def insert(self, new: NewInstance, if_exists: IfExists = "return") -> str:
        """Insert what was built, schedule its first turn, and return the id of what was started.

        That is another one's id, if the start was merged into one that waits under the same
        debounce key.
        """
        starts = self.parts.store.starts
        for _ in range(_TRIES):
            try:
                if is_debounced(new) and (other := starts.merge(new)) is not None:
                    return str(other)
                if starts.insert(new) or self.replacing.meet_existing(new, if_exists):
                    self.announce(new)
                return new.id
            except AlreadyWaitsError:
                time.sleep(0.01)
        raise DurableError(
            f"orchestration {new.id!r} could not be merged into the one that waits; try again"
        )

    def announce(self, new: NewInstance, now: int | None = None) -> None:
        """Notify observers of an instance that is committed.

        Then have it admitted, or schedule its first turn, unless that is too far ahead.

        Args:
            new: the instance.
            now: the store's clock, if it is known.
        """
        self.parts.notifier.started(new)
        if new.admission is not None:
            self.admission.admit(new.name)
        else:
            self.send_first_turn(new, now)

    def send_first_turn(self, new: NewInstance, now: int | None = None) -> None:
        """Schedule the first turn of an instance that waits for no admission, unless that is too
        far ahead.
        """
        parts, delay = self.parts, 0
        if new.start_at is not None:
            delay = max(0, new.start_at - (parts.store.now() if now is None else now))
        if delay <= self._horizon:
            name = carrier_of(new.name, new.version)
            address = TurnAddress(new.id, name, new.queue, new.canvas, new.root_id)
            due = new.start_at if delay else None
            parts.publisher.publish_turn(address, delay=delay, due=due)


def new_id(chosen: Any, orchestrator: str) -> str:
    """Return the id of a new orchestration: the one that was chosen, or a random one.

    Raises:
        ValueError: it cannot be an id of this orchestrator.
    """
    if chosen is None:
        return str(uuid.uuid4())
    is_entity = orchestrator.startswith(ORCHESTRATORS)
    return check_new_id(chosen, orchestrator.removeprefix(ORCHESTRATORS) if is_entity else None)


def is_debounced(new: NewInstance) -> bool:
    """Tell whether a start may be merged into another one."""
    return new.admission is not None and new.admission.debounce is not None


def check_if_exists(request: StartRequest) -> None:
    """Refuse what says nothing of an orchestration that is there already.

    Raises:
        ValueError: that is it.
    """
    if request.if_exists not in ("return", "raise", "restart", "replace"):
        raise ValueError(
            "if_exists must be 'return', 'raise', 'restart' or 'replace', not"
            f" {request.if_exists!r}"
        )


def _check(request: StartRequest) -> None:
    check_if_exists(request)
    check_tags({} if request.tags is None else request.tags)
    if request.root_id is not None:
        checked_name(request.root_id, "a root_id")
