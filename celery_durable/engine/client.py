"""What a client can do: start, look, and steer. Every verb is idempotent and keeps its reason in history.

Verbs that need no orchestrator code (suspend, resume, terminate) commit at once, from the calling process, under the
same comparison as a turn; those that do (cancel, events) put a message into the inbox and bring about a turn.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..core.context import refuse_inside_orchestrator
from ..core.entity import RESERVED
from ..core.events import Event, EventKind
from ..core.replay import Codec
from ..core.rewind import Override
from ..core.status import RuntimeStatus
from ..errors import ConfigurationError, DurableError, InstanceExists, InstanceNotFound, InvalidState, PayloadError
from .decisions import new_execution_id
from .entities import releases_in
from .protocols import NoTransactions, Publisher, Transaction, Transactions
from .records import (
    AlreadyWaitsError,
    Filters,
    InboxKind,
    InboxRow,
    InstanceRecord,
    NewInbox,
    NewInstance,
    Snapshot,
    TurnAddress,
    TurnCommit,
)
from .registry import Registry
from .repair import Forecast, call_in, forecast, fork_rows
from .turn import TurnRunner, current_events, events_of
from .verbs import acts

__all__ = ["Client", "IfExists", "StartRequest", "Started", "check_instance_id"]

log = logging.getLogger("celery_durable.client")
IfExists = Literal["return", "raise", "restart", "replace"]
_CHECK_AFTER = 4_000_000
_CHECK_SOON = 1_000_000
_TRIES = 60
_COMPLETED = (EventKind.ACTIVITY_COMPLETED, EventKind.CHILD_COMPLETED)


def check_instance_id(instance_id: Any) -> str:
    """Return a usable instance id.

    Raises:
        ValueError: it is empty, longer than 150 characters, or contains NUL.
        TypeError: it is no string.
    """
    check_text("an instance id", instance_id)
    if not instance_id or len(instance_id) > 150 or "\x00" in instance_id:
        raise ValueError(f"an instance id has 1 to 150 characters and no NUL; {instance_id[:40]!r} does not fit")
    return str(instance_id)


def check_text(what: str, value: Any) -> None:
    """Refuse what no column holds.

    Raises:
        TypeError: it is no string.
        ValueError: it has halves of characters (surrogates).
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid Unicode; {value[:40]!r} is not") from None


@dataclass(slots=True)
class StartRequest:
    """One orchestration to start; ``canvas`` is what Celery keeps for its end (options, callbacks)."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    instance_id: str | None = None
    start_at: int | None = None
    tags: Mapping[str, str] | None = None
    if_exists: IfExists = "return"
    queue: str | None = None
    canvas: Mapping[str, Any] | None = None
    root_id: str | None = None


class Started(NamedTuple):
    """What was started; ``nudge`` sends its first turn again, where a transaction was joined."""

    id: str
    nudge: Callable[[], None] | None = None


@dataclass(slots=True)
class Client:
    """The verbs, over a store, a publisher and the registry of this process."""

    store: Any
    registry: Registry
    codec: Codec
    publisher: Publisher
    runner: TurnRunner
    transactions: Transactions = field(default_factory=NoTransactions)

    # -- start ------------------------------------------------------------------------------------------

    def prepare(self, request: StartRequest) -> NewInstance:
        """Check a request and return the rows that it makes.

        Raises:
            PayloadError: an argument cannot be encoded.
            ValueError: the id or the tags do not fit, or a limit's key cannot be told from the arguments.
        """
        refuse_inside_orchestrator("durable.start()")
        if request.if_exists not in ("return", "raise", "restart", "replace"):
            raise ValueError(f"if_exists must be 'return', 'raise', 'restart' or 'replace', not {request.if_exists!r}")
        instance_id = check_instance_id(str(uuid.uuid4()) if request.instance_id is None else request.instance_id)
        for key, value in (request.tags or {}).items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"tags are strings, not {key!r}: {value!r}")
            check_text("a tag", key + value)
        definition = self.registry.newest(request.name)
        try:
            payload = self.codec.encode([list(request.args), dict(request.kwargs)])
            canvas = self.codec.encode(dict(request.canvas)) if request.canvas else None
        except PayloadError as error:
            raise PayloadError(
                f"orchestration {instance_id!r} ({request.name}) cannot start: {error}", **error.facts
            ) from error
        new = NewInstance(
            instance_id, new_execution_id(), request.name, definition.version if definition else None, payload,
            queue=request.queue, canvas=canvas, tags=dict(request.tags or {}), root_id=request.root_id,
            start_at=request.start_at, check_after=self._check_after(request.start_at),
        )  # fmt: skip
        self.runner.flows.dress(new, definition, debounces=True)
        self.runner.observation.starting(new)
        return new

    def _check_after(self, start_at: int | None) -> int:
        """When recovery looks: for a start that is too far ahead for a message, in time to send one."""
        horizon = int(self.runner.settings.timer_horizon * 1_000_000)
        is_far = start_at is not None and start_at - self.store.now() > horizon
        return -horizon if is_far else _CHECK_AFTER

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
        return self._start_alone(request)

    def _start_alone(self, request: StartRequest) -> Started:
        new = self.prepare(request)
        if self.runner.settings.start_inline and self.runner.begin(new):
            return Started(new.id)
        return Started(self.start_prepared(new, request.if_exists))

    def _start_within(self, transaction: Transaction, request: StartRequest) -> Started:
        if request.if_exists not in ("return", "raise"):
            raise ConfigurationError(
                "a start that joins a transaction takes if_exists='return' or 'raise', not "
                f"{request.if_exists!r}: that would lock the orchestration until the commit. Start it after the commit"
            )
        new = self.prepare(request)
        if new.admission is not None and new.admission.debounce is not None:
            raise ConfigurationError(
                f"{new.name} is debounced: a start that joins a transaction would hold up all others of its key until the "
                "commit. Start it after the commit"
            )
        is_new = transaction.write(lambda store, cursor: store.insert_instance_with(cursor, new))
        if not is_new and request.if_exists == "raise":
            raise InstanceExists(f"there is an orchestration {new.id!r} already", instance_id=new.id)
        if not is_new:
            return Started(new.id)
        transaction.after_commit(lambda: self.nudge(new))
        return Started(new.id, lambda: self.nudge(new))

    def start_prepared(self, new: NewInstance, if_exists: IfExists = "return") -> str:
        """Insert what ``prepare`` returned and bring about its first turn; return the id of what was started.

        That is another one's id, if the start was merged into one that waits under the same debounce key.
        """
        for _ in range(_TRIES):
            try:
                is_debounced = new.admission is not None and new.admission.debounce is not None
                if is_debounced and (other := self.store.merge_start(new)) is not None:
                    return str(other)
                if self.store.insert_instance(new) or self._meet_existing(new, if_exists):
                    self.nudge(new)
                return new.id
            except AlreadyWaitsError:
                time.sleep(0.01)
        raise DurableError(f"orchestration {new.id!r} could not be merged into the one that waits; try again")

    def nudge(self, new: NewInstance) -> None:
        """Bring about the first turn of an instance that is committed, or its admission."""
        self.runner.observation.started(new)
        if new.admission is not None:
            self.runner.flows.admit(new.name)
            return
        address = TurnAddress(new.id, new.name, new.queue, new.canvas, new.root_id)
        delay = 0 if new.start_at is None else max(0, new.start_at - self.store.now())
        horizon = int(self.runner.settings.timer_horizon * 1_000_000)
        if delay <= horizon:
            self.publisher.publish_turn(address, delay=delay, due=new.start_at if delay else None)

    def _meet_existing(self, new: NewInstance, if_exists: IfExists) -> bool:
        """Deal with an id that is taken; True if the new orchestration took the old one's place."""
        old = self.store.fetch(new.id)
        if old is None:  # purged between our two looks
            return bool(self.store.insert_instance(new))
        if if_exists == "raise":
            raise InstanceExists(f"there is an orchestration {new.id!r} already, {old.status}", instance_id=new.id)
        if if_exists == "return":
            if old.input != new.input or old.name != new.name:
                log.warning("orchestration %r exists already, with another input; that one is returned", new.id)
            return False
        if if_exists == "restart":
            acts("restart", old.status, new.id)
        left: list[NewInbox] = []

        def farewell(execution: str, rows: Sequence[str]) -> Sequence[NewInbox]:
            left[:] = releases_in(new.id, rows, self.codec)
            return left

        if not self.store.replace_instance(new, farewell):
            raise InvalidState(f"orchestration {new.id!r} changed while it was replaced; try again", instance_id=new.id)
        self.runner.publish_messages(left, self.store.now() if left else 0)
        return True

    # -- look -------------------------------------------------------------------------------------------

    def fetch(self, instance_id: str) -> InstanceRecord:
        """Return one instance.

        Raises:
            InstanceNotFound: there is none.
        """
        record: InstanceRecord | None = self.store.fetch(check_instance_id(instance_id))
        if record is None:
            raise InstanceNotFound(f"there is no orchestration {instance_id!r}", instance_id=instance_id)
        return record

    def history(self, instance_id: str) -> list[Event]:
        """Return the events of the current execution, in order.

        Raises:
            PayloadError: the history is damaged.
        """
        rows = self.store.events(check_instance_id(instance_id))
        return [event for number, row in enumerate(rows, 1) for event in events_of(row, instance_id, number)]

    # -- steer ------------------------------------------------------------------------------------------

    def raise_event(
        self, instance_id: str, name: str, data: Any, event_id: str | None, session: Any = None
    ) -> None:  # fmt: skip
        """Put an external event into an instance's inbox, within the caller's transaction where there is one.

        Raises:
            InvalidState: the orchestration is over.
            InstanceNotFound: there is none.
        """
        message = self.event_message(instance_id, name, data, event_id)
        if (transaction := self.transactions.find(session)) is None:
            self._send(message, "raise_event")
            return

        def put(store: Any, cursor: Any) -> RuntimeStatus | None:
            if store.put_with(cursor, [message]):
                return RuntimeStatus.RUNNING
            status: RuntimeStatus | None = store.status_with(cursor, instance_id)
            return status

        if (status := transaction.write(put)) is None:
            raise InstanceNotFound(f"there is no orchestration {instance_id!r}", instance_id=instance_id)
        acts("raise_event", status, instance_id)
        transaction.after_commit(lambda: self._publish([instance_id]))

    def answer(self, instance_id: str, execution: str, name: str, data: Any, event_id: str) -> None:
        """Put an external event into an instance's inbox if it still is in this execution; at once, as verbs do.

        Raises:
            InvalidState: the orchestration is over, or in another execution.
            InstanceNotFound: there is none.
        """
        message = self.event_message(instance_id, name, data, event_id)

        def commit(snapshot: Snapshot) -> bool:
            instance = snapshot.instance
            acts("raise_event", instance.status, instance_id)
            if instance.execution != execution:
                raise InvalidState(f"orchestration {instance_id!r} is in another execution", instance_id=instance_id)
            return bool(self.store.put_into(message, execution))

        self._administer(instance_id, commit)
        self._publish([instance_id])

    def event_message(self, instance_id: str, name: str, data: Any, event_id: str | None) -> NewInbox:
        """Return the inbox row of an external event; ``event_id`` deduplicates within an execution."""
        refuse_inside_orchestrator("raise_event()")
        check_text("an event's name", name)
        if "\x00" in name:
            raise ValueError("an event's name must not contain NUL")
        if name.startswith(RESERVED):
            raise ValueError(f"event names that begin with {RESERVED!r} are reserved; {name[:60]!r} does")
        if event_id is None:
            event_id = uuid.uuid4().hex  # a repeat after a lost answer is recognised by it
        check_text("an event's id", event_id)
        dedup, facts = f"event:{hashlib.sha256(event_id.encode()).hexdigest()[:48]}", {"id": event_id}
        return NewInbox(
            check_instance_id(instance_id), EventKind.EVENT_RAISED, dedup, name=name, payload=self.codec.encode(data),
            facts=facts, check_after=_CHECK_AFTER,
        )  # fmt: skip

    def cancel(self, instance_id: str, reason: str | None) -> None:
        """Ask an orchestration to cancel itself; without effect on one that is over."""
        refuse_inside_orchestrator("cancel()")
        message = NewInbox(
            instance_id, EventKind.CANCEL_REQUESTED, "cancel", facts={"reason": reason}, check_after=_CHECK_AFTER
        )
        if acts("cancel", self.fetch(instance_id).status, instance_id):
            self._send(message, "cancel")

    def _send(self, message: NewInbox, verb: str) -> None:
        if not self.store.put([message]):
            acts(verb, self.fetch(message.instance).status, message.instance)
        self._publish([message.instance])

    def suspend(self, instance_id: str, reason: str | None) -> None:
        """Stop taking turns; what arrives is kept for ``resume``.

        Raises:
            InvalidState: the orchestration is over.
        """

        def commit(snapshot: Snapshot) -> bool:
            if not acts("suspend", snapshot.instance.status, instance_id):
                return True
            return self.runner.suspend(snapshot, reason or "suspended by request")

        self._administer(instance_id, commit)

    def resume(self, instance_id: str, reason: str | None) -> None:
        """Go on after a suspension; what has arrived meanwhile is delivered in order.

        Raises:
            InvalidState: the orchestration is over.
        """

        def commit(snapshot: Snapshot) -> bool:
            instance = snapshot.instance
            if not acts("resume", instance.status, instance_id):
                return True
            wake = NewInbox(
                instance_id, EventKind.EXECUTION_RESUMED, f"resume:{instance.execution}:{instance.sequence}",
                execution=instance.execution, facts={"reason": reason} if reason else None, check_after=_CHECK_AFTER,
            )  # fmt: skip
            has_begun = self._has_begun(instance_id)
            return self.runner.commit_alone(instance, TurnCommit(
                instance_id, instance.execution, instance.sequence, (RuntimeStatus.SUSPENDED,), events="[]",
                status=RuntimeStatus.RUNNING if has_begun else RuntimeStatus.PENDING,
                own_inbox=[wake] if has_begun else [], wakes_all=True,
            ))  # fmt: skip

        self._administer(instance_id, commit)
        self._publish([instance_id])

    def _has_begun(self, instance_id: str) -> bool:
        try:
            return any(event.kind is EventKind.EXECUTION_STARTED for event in self.history(instance_id))
        except PayloadError:
            return True  # its next turn meets the damage, and tells of it

    def terminate(self, instance_id: str, reason: str | None, output: Any, *, recursive: bool = True) -> None:
        """End an orchestration at once, with its children; without effect on one that is over."""
        payload = None if output is None else self.codec.encode(output)

        def commit(snapshot: Snapshot) -> bool:
            if not acts("terminate", snapshot.instance.status, instance_id):
                return True
            return self.runner.end(snapshot, reason, payload, is_recursive=recursive)

        self._administer(instance_id, commit)

    def restart(self, instance_id: str, new_id: str | None) -> str:
        """Start an orchestration once more with the input of its current execution, on the newest version; return the id.

        Args:
            instance_id: of the one to repeat.
            new_id: of the new one; None takes the place of the old one, whose history is deleted.

        Raises:
            InvalidState: it is not over, and no ``new_id`` is given.
            InstanceNotFound: there is none.
            InstanceExists: ``new_id`` is in use.
        """
        old = self.fetch(instance_id)
        args, kwargs = self.codec.decode(old.input or "[[], {}]")
        canvas = self._canvas_again(old)
        request = StartRequest(
            old.name, args, kwargs, instance_id=instance_id if new_id is None else new_id, tags=old.tags, queue=old.queue,
            canvas=self.codec.decode(canvas) if canvas else None, if_exists="restart" if new_id is None else "raise",
        )  # fmt: skip
        return self._start_alone(request).id  # as all verbs: at once, whatever transaction is open

    def rewind(self, instance_id: str, reason: str | None, *, override: Override | None = None) -> None:
        """Let a failed orchestration run what failed again, and keep what has succeeded; see ``Orchestration.rewind``.

        Raises:
            InvalidState: it has not failed, or Celery has not been told of its end yet.
        """

        def commit(snapshot: Snapshot) -> bool:
            instance = snapshot.instance
            if not acts("rewind", instance.status, instance_id):
                return True
            self._refuse_unfinished(instance_id, instance.execution, instance.status)
            return self.runner.reopen(snapshot, reason, self._rewind_wish(snapshot, reason, override))

        self._administer(instance_id, commit)
        self._publish([instance_id])

    def _rewind_wish(self, snapshot: Snapshot, reason: str | None, override: Override | None) -> NewInbox:
        instance, facts = snapshot.instance, dict[str, Any](reason=reason)
        if override is not None:
            facts["failed"] = override.has_failed
        return NewInbox(
            instance.id, InboxKind.REWIND, f"rewind:{instance.execution}:{instance.sequence}", execution=instance.execution,
            command=override.command if override else 0, payload=override.payload if override else None, facts=facts,
            check_after=_CHECK_AFTER,
        )  # fmt: skip

    def override(
        self, instance_id: str, command: int, result: Any, error: BaseException | None, reason: str | None,
        *, is_dry: bool = False,
    ) -> Forecast | None:  # fmt: skip
        """Give an activity or sub-orchestration an outcome from outside; see ``Orchestration.override``.

        Raises:
            InvalidState: the orchestration is over and has not failed, or the call has its outcome already.
            ValueError: there is no such call.
            PayloadError: the result cannot be encoded.
        """
        refuse_inside_orchestrator("override()")
        payload = self.codec.encode(result) if error is None else self.codec.encode_failure(error)
        snapshot = self._look(instance_id)
        instance = snapshot.instance
        acts("override", instance.status, instance_id)
        asked, outcome = call_in(current_events(snapshot.history, instance_id), command, instance_id)
        override = Override(command, payload, error is not None, reason)
        has_failed = instance.status is RuntimeStatus.FAILED
        if outcome is None if has_failed else outcome is not None and outcome.kind in _COMPLETED:
            told = "has no outcome; a rewind runs it again" if outcome is None else "has its outcome already"
            raise InvalidState(
                f"call {command} ({asked.name}) of {instance_id!r}, which is {instance.status}, {told}",
                instance_id=instance_id, status=instance.status,
            )  # fmt: skip
        if has_failed:
            if is_dry:
                return forecast(
                    self.runner, snapshot, self._as_row(self._rewind_wish(snapshot, reason, override), snapshot)
                )
            self.rewind(instance_id, reason, override=override)
            return None
        message = NewInbox(
            instance_id, override.kind_for(asked), f"override:{instance.execution}:{command}:{uuid.uuid4().hex}",
            execution=instance.execution, command=command, attempt=asked.attempt, payload=payload,
            facts=override.facts, check_after=_CHECK_AFTER,
        )  # fmt: skip
        if is_dry:
            return forecast(self.runner, snapshot, self._as_row(message, snapshot))
        self._send(message, "override")
        return None

    def forecast_rewind(self, instance_id: str) -> Forecast:
        """Tell what a rewind would do; see ``Orchestration.rewind``."""
        snapshot = self._look(instance_id)
        if snapshot.instance.status is not RuntimeStatus.FAILED:
            acts("rewind", snapshot.instance.status, instance_id)
            return Forecast(snapshot.instance.status)
        return forecast(self.runner, snapshot, self._as_row(self._rewind_wish(snapshot, None, None), snapshot))

    def _look(self, instance_id: str) -> Snapshot:
        snapshot: Snapshot | None = self.store.load(check_instance_id(instance_id), None)
        if snapshot is None:
            raise InstanceNotFound(f"there is no orchestration {instance_id!r}", instance_id=instance_id)
        return snapshot

    def _as_row(self, message: NewInbox, snapshot: Snapshot) -> InboxRow:
        return InboxRow(
            0, message.kind, message.execution, message.command, message.attempt, message.name, message.payload,
            message.facts, snapshot.now, snapshot.now,
        )  # fmt: skip

    def fork(self, instance_id: str, at: int, new_id: str | None, reason: str | None) -> str:
        """Start another orchestration from a point in the history of this one; see ``Orchestration.fork``.

        Raises:
            ValueError: there is no such point.
            InstanceNotFound: there is no such orchestration.
            InstanceExists: ``new_id`` is in use.
        """
        refuse_inside_orchestrator("fork()")
        old = self.fetch(instance_id)
        acts("fork", old.status, instance_id)
        rows = fork_rows(snapshot := self._look(instance_id), at)
        new = NewInstance(
            check_instance_id(str(uuid.uuid4()) if new_id is None else new_id), new_execution_id(), old.name, old.version,
            snapshot.instance.input or "[[], {}]", queue=old.queue, canvas=self._canvas_again(old), tags=old.tags,
        )  # fmt: skip
        self.runner.flows.dress(new, self.registry.get(old.name, old.version))
        new.admission = None  # it has begun already
        facts = {"seed": new.execution, "fork_of": instance_id, "at": at, **({"reason": reason} if reason else {})}
        message = NewInbox(
            new.id, EventKind.WORK_RENEWED, f"fork:{new.execution}", execution=new.execution, facts=facts,
            check_after=_CHECK_AFTER,
        )  # fmt: skip
        if not self.store.insert_fork(new, rows, message):
            raise InstanceExists(f"there is an orchestration {new.id!r} already", instance_id=new.id)
        self.runner.observation.started(new)
        self._publish([new.id])
        return new.id

    def _canvas_again(self, old: InstanceRecord) -> str | None:
        """Return what of an orchestration's canvas holds for another one: nobody waits for its end twice."""
        canvas = self.codec.decode(old.canvas) if old.canvas else {}
        kept = {key: canvas[key] for key in ("options", "ignore_result", "shown") if key in canvas}
        return self.codec.encode(kept) if kept else None

    def _publish(self, ids: Sequence[str]) -> None:
        for address in self.store.turn_addresses(ids):
            self.publisher.publish_turn(address)

    def _refuse_unfinished(self, instance_id: str, execution: str, status: RuntimeStatus) -> None:
        if not self.store.is_finished_for_celery(execution):
            raise InvalidState(
                f"orchestration {instance_id!r} is {status}, but its last message to Celery is still under way; "
                "try again in a moment",
                instance_id=instance_id, status=status,
            )  # fmt: skip

    def purge(self, instance_id: str, *, recursive: bool = True) -> None:
        """Delete a finished orchestration and its history; without effect if there is none.

        Raises:
            InvalidState: it is not over, or Celery has not been told of its end yet.
        """
        refuse_inside_orchestrator("purge()")
        record = self.store.fetch(check_instance_id(instance_id))
        if record is None:
            return
        acts("purge", record.status, instance_id)
        self._refuse_unfinished(instance_id, record.execution, record.status)
        if recursive:
            for child in self.children(instance_id):
                if child.status.is_terminal:
                    self.purge(child.id)
        if self.store.purge(instance_id, record.execution):
            self.runner.observation.purged(instance_id, record.name)

    def children(self, instance_id: str) -> list[InstanceRecord]:
        """Return the direct sub-orchestrations, oldest first."""
        found: list[InstanceRecord] = []
        cursor: str | None = None
        while True:
            page, cursor = self.store.find(Filters(parent_id=instance_id), 500, cursor)
            found += page
            if cursor is None:
                return found[::-1]

    def _administer(self, instance_id: str, commit: Callable[[Snapshot], bool]) -> None:
        """Commit from here under the comparison of a turn, again while turns are faster."""
        refuse_inside_orchestrator("a verb")
        for _ in range(_TRIES):
            if commit(self._look(instance_id)):
                return
        raise DurableError(
            f"orchestration {instance_id!r} moves too fast to be changed; try again", instance_id=instance_id
        )
