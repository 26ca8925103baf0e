"""The turn: look, replay, decide, commit, publish. The page to read first.

A turn looks at an instance without a lock, brings the orchestrator to where history ends, applies what lies in the
inbox, and commits everything at once if the instance has not moved meanwhile; else it drops what it decided and looks
again. Only after the commit is anything sent. Whoever puts a waking message into an inbox brings about a turn after its
own commit, so no message can be overlooked; what dies between commit and send is found by recovery.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from ..conf import Settings
from ..core.events import INPUTS, Event, EventKind, dump_events, load_events
from ..core.replay import Codec, Decision, Execution, Facts
from ..core.rewind import Override, rewind
from ..core.status import RuntimeStatus
from ..errors import DurableError, NonDeterminismError, PayloadError, StoreError, TurnLimitExceeded
from .cache import LiveExecutions, known_of
from .clock import StoreClock
from .decisions import activity_rows, termination, translate
from .flow import Flows
from .observation import Observation, at_turn, life_of
from .protocols import Publisher
from .records import (
    ActivityRow,
    ActivityStart,
    ActivityTicket,
    Committed,
    InboxKind,
    InboxRow,
    InstanceRow,
    NewInbox,
    NewInstance,
    Outcome,
    Recorded,
    Snapshot,
    TurnAddress,
    TurnCommit,
    TurnStore,
)
from .registry import Definition, Registry
from .watchdog import Watchdog

__all__ = ["TurnRunner", "TurnState", "address_of", "current_events", "current_rows", "events_of", "replay_rows"]

log = logging.getLogger("celery_durable.turn")
MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
_CONFLICTS = 40
_LARGEST_TURN = 4_000_000
_LARGEST_BEGINNING = 20
_OF_CHILDREN = (EventKind.CHILD_COMPLETED, EventKind.CHILD_FAILED)
_UNTIL_MENDED = 60_000_000
_REWRITTEN = '[["HistoryRewritten"'
_REOPENED = '[["ExecutionRewound"'
_RESTORE = ". The instance is suspended; nothing is lost. Restore the old code, then resume it"
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


class TurnState(Enum):
    """What a turn found."""

    DONE = auto()
    MISSING = auto()
    UNKNOWN = auto()
    CONTENDED = auto()


@dataclass(slots=True)
class _Progress:
    """Where one call of ``TurnRunner.run`` stands: whether the next turn takes what rides along, whether it is counted."""

    takes_all: bool = False
    is_counted: bool = False


@dataclass(slots=True)
class TurnRunner:
    """Runs turns of this process; all effects go through ``store`` and ``publisher``."""

    store: TurnStore
    registry: Registry
    codec: Codec
    settings: Settings
    publisher: Publisher
    live: LiveExecutions
    clock: StoreClock = field(init=False)
    watchdog: Watchdog = field(init=False)
    flows: Flows = field(init=False)
    observation: Observation = field(init=False)

    def __post_init__(self) -> None:
        self.flows = Flows(self)
        self.observation = Observation()
        self.clock = StoreClock(self.store.now)
        self.watchdog = Watchdog(self.settings.turn_timeout)

    # -- a turn by message ----------------------------------------------------------------------------

    def run(self, instance_id: str) -> TurnState:
        """Take turns of an instance until nothing in its inbox wants one.

        Raises:
            StoreError: the store cannot be reached; nothing is lost, the message is to be delivered again.
        """
        progress = _Progress()
        try:
            return self._run(instance_id, progress)
        except StoreError:
            if progress.is_counted:  # this process lives: it is the store that failed
                with suppress(DurableError):
                    self.store.count_crash(instance_id, -1)
            raise

    def _run(self, instance_id: str, progress: _Progress) -> TurnState:
        snapshot: Snapshot | None = None
        conflicts = 0
        while conflicts < _CONFLICTS:
            cached = self.live.take_instance(instance_id)
            try:
                snapshot = self.store.load(instance_id, known_of(cached))
            except BaseException:
                self._keep(cached)
                raise
            if snapshot is None:
                if cached is not None:
                    cached.abandon()
                return TurnState.MISSING
            progress.takes_all, took_all = False, progress.takes_all
            with at_turn(snapshot):
                state = self._turn(snapshot, cached, progress, took_all)
            if state is not None:
                return state
            if not progress.takes_all:
                conflicts += 1
                time.sleep(random.uniform(0, 0.002 * min(conflicts, 10)))  # noqa: S311
        if snapshot is not None:
            self.publisher.publish_turn(address_of(snapshot.instance), delay=1_000_000)
        return TurnState.CONTENDED

    def _keep(self, cached: Execution | None) -> None:
        if cached is not None:
            self.live.put(cached)

    def _turn(
        self, snapshot: Snapshot, cached: Execution | None, progress: _Progress, takes_all: bool
    ) -> TurnState | None:
        """Take one turn; None asks for another look."""
        instance, inbox = snapshot.instance, snapshot.inbox
        definition = self.registry.get(instance.name, instance.version)
        wish = next((row for row in inbox if row.kind == InboxKind.TERMINATE), None)
        wishes = [row for row in inbox if row.kind == InboxKind.REWIND]
        rewinding = next((row for row in wishes if row.command), next(iter(wishes), None))
        if cached is not None and (instance.status.is_terminal or wish is not None or definition is None):
            cached.abandon()
        if rewinding is not None and instance.status is RuntimeStatus.FAILED:
            progress.takes_all = self.reopen(snapshot, _facts_of(rewinding).get("reason"))
            return None
        if instance.status.is_terminal:
            self.store.discard(instance.id, instance.execution, [row.id for row in inbox])
            return TurnState.DONE
        if wish is not None:
            return TurnState.DONE if self.terminate(snapshot, wish) else None
        is_due = any(row.wake_at is not None for row in inbox) or (
            takes_all and any(row.kind != InboxKind.JOIN for row in inbox)
        )
        if instance.status is RuntimeStatus.SUSPENDED or not is_due:
            self._keep(cached)
            return TurnState.DONE
        if definition is None:
            return TurnState.UNKNOWN
        if rewinding is not None and cached is not None:
            cached.abandon()
            progress.takes_all = True
            return None
        if rewinding is not None and not _awaits_rewind(snapshot.history):
            rewinding = None  # it came too late: another wish was granted, and the code lives
        is_again = any(row.sends for row in inbox) and not progress.is_counted
        if is_again and not self._may_try_again(snapshot, cached, progress):
            return TurnState.DONE
        try:
            messages, rest = _portion(_in_order(snapshot))
            if rewinding is not None:
                messages, rest = [], [*messages, *rest]
        except PayloadError as error:
            if cached is not None:
                cached.abandon()
            return TurnState.DONE if self._suspend(snapshot, error) else None
        try:
            execution, decision, commit = self._decide(
                snapshot, snapshot.history, cached, definition, messages, rewinding
            )
            commit.taken, commit.reset_joins = _taken(snapshot, decision)
            left = {row.id for row, _ in rest} if decision.final is None else set()
            if commit.next_execution is not None and decision.keeps_events:
                left = {row.id for row, _ in [*messages[decision.applied :], *rest] if row.execution is None}
            commit.taken = [id_ for id_ in commit.taken if id_ not in left]
            committed = self._commit(commit, execution)
        except StoreError as error:
            if not error.is_permanent:
                raise
            return TurnState.DONE if self._suspend(snapshot, error) else None
        except Exception as error:
            return TurnState.DONE if self._suspend(snapshot, error) else None
        if committed is None:
            return None
        self._after(instance, execution, decision, commit, committed)
        changed_joins = bool(commit.join_changes or commit.reset_joins or decision.joins_formed or decision.joins_ended)
        if (rest and (decision.final is None or commit.rests)) or (
            changed_joins and not commit.clears and self.store.has_untaken(instance.id)
        ):
            progress.takes_all = True
            return None
        return TurnState.DONE

    def _may_try_again(self, snapshot: Snapshot, cached: Execution | None, progress: _Progress) -> bool:
        """Count a try whose message was sent again: the one before it may have died. A commit sets the count to zero.

        False once there were too many in a row: the instance is suspended.
        """
        try:
            if not self._has_too_many_crashes(snapshot, progress):
                return True
        except BaseException:
            self._keep(cached)
            raise
        if cached is not None:
            cached.abandon()
        return False

    def _has_too_many_crashes(self, snapshot: Snapshot, progress: _Progress) -> bool:
        crashes = self.store.count_crash(snapshot.instance.id)
        progress.is_counted = True
        # copies that run side by side all count, but they share one number of sends, whose intervals grow
        if min(crashes - 1, max(row.sends for row in snapshot.inbox)) < self.settings.max_turn_crashes:
            return False
        reason = f"{crashes} tries of a turn in a row came to no end: it may crash its worker. Mend it, then resume it"
        log.error("orchestration %r is suspended: %s", snapshot.instance.id, reason)
        return self.suspend(snapshot, reason)

    def _revive(
        self, instance: InstanceRow, history: Sequence[str], cached: Execution | None, definition: Definition
    ) -> Execution:
        """Bring the orchestrator to where history ends."""
        if cached is not None and (
            cached.facts.execution_id != instance.execution or cached.sequence + len(history) != instance.sequence
        ):
            cached.abandon()
            raise _StaleLookError(f"history of {instance.id!r} moved while it was read")
        if cached is None and len(history) != instance.sequence:
            raise PayloadError(
                f"history of {instance.id!r} is damaged: {len(history)} of {instance.sequence} rows are there"
            )
        execution = cached or self.new_execution(instance, definition)
        try:
            replay_rows(execution, history)
        except BaseException:
            execution.abandon()
            raise
        return execution

    def new_execution(
        self, instance: InstanceRow, definition: Definition, *, traces: bool = False, is_dry: bool = False
    ) -> Execution:
        """Return an execution that has not replayed anything yet; a dry one runs nothing that ``ctx.run`` is given."""
        facts = Facts(instance.id, instance.execution, instance.name, instance.version, instance.parent_id)
        execution = Execution(
            facts, definition.function, self.codec, self.registry.__contains__,
            most_commands=self.settings.max_turn_commands, traces=traces,
        )  # fmt: skip
        execution.is_dry = is_dry
        return execution

    def rewound(
        self, snapshot: Snapshot, definition: Definition, wish: InboxRow, *, is_dry: bool = False
    ) -> tuple[Execution, Decision]:
        """Return a failed execution as it lives on, as a message asks, and what to commit; see ``core.rewind``."""
        instance, facts = snapshot.instance, _facts_of(wish)
        rows = snapshot.history
        if len(rows) != instance.sequence:
            raise PayloadError(
                f"history of {instance.id!r} is damaged: {len(rows)} of {instance.sequence} rows are there"
            )
        events = current_events(rows, instance.id)
        override = None
        if wish.command:
            override = Override(wish.command, wish.payload or "null", bool(facts.get("failed")), facts.get("reason"))
        request = Event(EventKind.EXECUTION_REWOUND, wish.visible_at, facts={"reason": facts.get("reason")})
        execution, decision = rewind(
            lambda: self.new_execution(instance, definition, is_dry=is_dry), events, request, override
        )
        execution.sequence = instance.sequence
        return execution, decision

    def reopen(self, snapshot: Snapshot, reason: str | None, wish: NewInbox | None = None) -> bool:
        """Make a failed instance one that runs, for a rewind to follow; False if it has moved meanwhile."""
        instance = snapshot.instance
        note = Event(EventKind.EXECUTION_REWOUND, snapshot.now, facts={"reason": reason})
        return self.commit_alone(instance, TurnCommit(
            instance.id, instance.execution, instance.sequence, (RuntimeStatus.FAILED,), events=dump_events([note]),
            status=RuntimeStatus.RUNNING, own_inbox=[] if wish is None else [wish], reopens=True,
        ))  # fmt: skip

    def commit_alone(self, instance: InstanceRow, commit: TurnCommit) -> bool:
        """Commit what no orchestrator decided, and nothing is to be sent for; False if the instance has moved meanwhile."""
        committed = self.store.commit_turn(commit)
        if committed is not None:
            self.observation.committed(instance, commit, committed)
        return committed is not None

    def _decide(
        self,
        snapshot: Snapshot,
        history: Sequence[str],
        cached: Execution | None,
        definition: Definition,
        messages: Sequence[tuple[InboxRow, Event]],
        rewinding: InboxRow | None = None,
    ) -> tuple[Execution, Decision, TurnCommit]:
        """Replay, apply what is new, and say what to commit; whatever goes wrong, no coroutine is left behind."""
        decision: Decision | None = None
        with self.watchdog.watching(snapshot.instance.id):
            if rewinding is not None:
                execution, decision = self.rewound(snapshot, definition, rewinding)
            else:
                execution = self._revive(snapshot.instance, history, cached, definition)
        try:
            if decision is None:
                with self.watchdog.watching(snapshot.instance.id):
                    decision = execution.take(event for _, event in messages)
            carried = self.observation.carried(
                execution, snapshot, history, decision, lambda: self.store.load(snapshot.instance.id, None)
            )
            commit = translate(
                decision,
                snapshot,
                execution,
                self.settings,
                self.publisher,
                self.codec,
                definition.max_activities,
                carried,
            )
            self.flows.complete(commit, snapshot.instance, decision, snapshot.now)
        except BaseException:
            execution.abandon()
            raise
        return execution, decision, commit

    def _commit(self, commit: TurnCommit, execution: Execution) -> Committed | None:
        """Commit; an execution whose decision did not count has run too far to be kept."""
        committed = None
        try:
            committed = self.store.commit_turn(commit)
        finally:
            if committed is None:
                execution.abandon()
        return committed

    def _after(
        self, instance: InstanceRow, execution: Execution, decision: Decision, commit: TurnCommit, committed: Committed
    ) -> None:
        """Publish what was committed, and keep the live execution."""
        execution.sequence += 1
        self.observation.committed(instance, commit, committed, decision, lambda: execution.observed)
        if decision.final is not None:
            execution.abandon()
        else:
            self.live.put(execution)
        self.publish(instance, commit, committed)

    # -- a turn together with the start ---------------------------------------------------------------

    def begin(self, new: NewInstance) -> bool:
        """Start an orchestration and take its first turn, in one commit, in the process that starts it.

        False when that is not possible or not wise; then nothing was committed, and it is to be started the usual way.

        Raises:
            StoreError: the store cannot be reached; nothing was started.
        """
        definition = self.registry.get(new.name, new.version)
        if definition is None or new.start_at is not None or new.admission is not None:
            return False
        now = self.clock.now()
        instance = InstanceRow(
            new.id, new.execution, new.name, new.version, RuntimeStatus.PENDING, 0, new.parent_id, new.parent_execution,
            new.parent_command, new.parent_attempt, new.root_id, new.queue, 0, new.input, new.canvas, new.policy,
        )  # fmt: skip
        row = InboxRow(0, EventKind.EXECUTION_STARTED, new.execution, 0, 0, None, None, new.facts, now, now)
        snapshot = Snapshot(instance, [], [row], now)
        with at_turn(snapshot):
            return self._begin(new, snapshot, definition)

    def _begin(self, new: NewInstance, snapshot: Snapshot, definition: Definition) -> bool:
        try:
            execution, decision, commit = self._decide(snapshot, [], None, definition, _in_order(snapshot))
        except Exception:
            log.debug("first turn of %r undone; it is left to a worker", new.id, exc_info=True)
            return False
        try:
            if decision.suspend_reason is not None or len(decision.commands) > _LARGEST_BEGINNING:
                return False
            committed = self.store.start_turn(new, commit)
        finally:
            execution.abandon()
        if committed is not None:
            self.observation.started(new)
            self.observation.committed(snapshot.instance, commit, committed, decision, lambda: execution.observed)
            self.publish(snapshot.instance, commit, committed)
        return committed is not None

    # -- a turn together with an outcome --------------------------------------------------------------

    def complete(self, outcome: Outcome, start: ActivityStart, cached: Execution | None) -> bool:
        """Commit an activity's outcome and the turn that follows from it at once.

        False when that is not possible now; then nothing was committed, and the outcome is to be recorded alone.
        """
        instance, ticket = start.instance, outcome.ticket
        definition = self.registry.get(instance.name, instance.version)
        if definition is None or instance.status is not RuntimeStatus.RUNNING:
            if cached is not None:
                cached.abandon()
            return False
        row = InboxRow(
            0, EventKind.ACTIVITY_FAILED if outcome.has_failed else EventKind.ACTIVITY_COMPLETED, ticket.execution,
            ticket.command, ticket.attempt, None, outcome.payload, outcome.facts, start.time_now(), 0,
        )  # fmt: skip
        snapshot = Snapshot(instance, start.history, [row], row.visible_at)
        with at_turn(snapshot):
            return self._complete(snapshot, cached, definition, ticket)

    def _complete(
        self, snapshot: Snapshot, cached: Execution | None, definition: Definition, ticket: ActivityTicket
    ) -> bool:
        instance, messages = snapshot.instance, _in_order(snapshot)
        try:
            execution, decision, commit = self._decide(snapshot, snapshot.history, cached, definition, messages)
        except Exception:
            log.debug("turn of %r undone; its outcome is recorded alone", instance.id, exc_info=True)
            return False
        commit.outcome, commit.requires_empty_inbox = ticket, True
        committed = self._commit(commit, execution)
        if committed is None:
            return False
        self._after(instance, execution, decision, commit, committed)
        changed_joins = bool(decision.joins_formed or decision.joins_ended or commit.join_changes)
        if changed_joins and not commit.clears and self.store.has_untaken(instance.id):
            self.run(instance.id)
        return True

    # -- what an outcome sets in motion ---------------------------------------------------------------

    def wake_after(self, ticket: ActivityTicket, recorded: Recorded, take_turn: Callable[[str], None]) -> None:
        """Publish what an outcome released, and bring about the turn that it wants."""
        if recorded.released:
            self.send_activities(recorded.released)
        join = recorded.join_command
        wakes = recorded.wakes
        if join is not None and self.store.finish_join(ticket.execution, recorded.instance, join):
            wakes = True
        if wakes:
            take_turn(recorded.instance)

    def publish(self, instance: InstanceRow, commit: TurnCommit, committed: Committed) -> None:
        """Send what a commit decided. A failure is left to recovery, never raised."""
        self.send_activities([*activity_rows(commit, instance.root_id or instance.id), *committed.released])
        address = address_of(instance)
        for message in commit.own_inbox:
            if message.visible_at is not None and message.check_after is not None and message.check_after >= 0:
                self.publisher.publish_turn(
                    address, delay=max(0, message.visible_at - committed.now), due=message.visible_at
                )
        if commit.next_execution is not None and not commit.rests:
            self.publisher.publish_turn(address)
        for child in committed.started_children:
            if child.admission is not None:
                continue
            delay = 0 if child.start_at is None else max(0, child.start_at - committed.now)
            self.publisher.publish_turn(
                TurnAddress(child.id, child.name, child.queue, child.canvas, child.root_id), delay=delay
            )
        if len(committed.started_children) < len(commit.children) or commit.revivals:
            self.publisher.publish_turn(address)
        self._send_again(committed.unheard)
        self.publish_messages(commit.other_inboxes, committed.now)
        if commit.revivals:
            for other in self.store.turn_addresses(sorted({revival.child_id for revival in commit.revivals})):
                self.publisher.publish_turn(other)
        if commit.status is not None and commit.status.is_terminal and self.publisher.needs_finish(instance.canvas):
            self.publisher.finish(
                address, instance.execution, commit.status, commit.output, commit.failure, commit.reason
            )
        self.flows.after(instance.name, commit, committed.started_children)

    def _send_again(self, unheard: Sequence[NewInbox]) -> None:
        """Tell a parent once more that was over when this commit looked: a rewind of it may have missed the outcome."""
        if outcomes := [message for message in unheard if message.kind in _OF_CHILDREN]:
            try:
                self.store.put(outcomes)
            except DurableError:
                log.warning("the outcome of a sub-orchestration may have missed a rewind of its parent", exc_info=True)

    def publish_messages(self, messages: Sequence[NewInbox], now: int) -> None:
        """Bring about the turns of those who were sent messages, now or when these are due."""
        dues: dict[str, set[int]] = {}
        for message in messages:
            if message.visible_at is None or message.check_after is None or message.check_after >= 0:
                dues.setdefault(message.instance, set()).add(max(0, (message.visible_at or 0) - now))
        if not dues:
            return
        for other in self.store.turn_addresses(sorted(dues)):
            for delay in sorted(dues[other.id]):
                self.publisher.publish_turn(other, delay=delay, due=now + delay if delay else None)

    def send_activities(self, rows: Sequence[ActivityRow]) -> None:
        """Send activities; those that cannot be sent are marked so that recovery sends them soon."""
        if not rows:
            return
        failed = self.publisher.publish_activities(rows)
        if not failed:
            return
        damaged = {row.instance: failed[row.ticket] for row in rows if isinstance(failed.get(row.ticket), PayloadError)}
        try:
            self.store.unsend(list(failed), _UNTIL_MENDED if damaged else 1_000_000)
            for instance_id, error in damaged.items():
                if (snapshot := self.store.load(instance_id, None)) is not None and snapshot.instance.status in MOVING:
                    self._suspend(snapshot, error)
        except DurableError:
            log.warning("activities could not be sent nor marked unsent; recovery will find them", exc_info=True)

    # -- ends and stops that no orchestrator decides ----------------------------------------------------

    def terminate(self, snapshot: Snapshot, wish: InboxRow) -> bool:
        """End an instance at once, as a message asks; False if it has moved meanwhile."""
        facts = _facts_of(wish)
        return self.end(snapshot, facts.get("reason"), wish.payload, is_recursive=facts.get("recursive", True))

    def end(self, snapshot: Snapshot, reason: str | None, output: str | None, *, is_recursive: bool = True) -> bool:
        """Terminate an instance; False if it has moved meanwhile."""
        if len(snapshot.history) != snapshot.instance.sequence:  # it tells which locks are held
            whole = self.store.load(snapshot.instance.id, None)
            if whole is None or whole.instance.execution != snapshot.instance.execution:
                return False
            snapshot = replace(snapshot, history=whole.history[: snapshot.instance.sequence])
        commit = termination(
            snapshot, reason, output, self.publisher, self.codec,
            self.store.open_children(snapshot.instance.id) if is_recursive else [],
        )  # fmt: skip
        self.flows.complete(commit, snapshot.instance, None, snapshot.now)
        committed = self.store.commit_turn(commit)
        if committed is None:
            return False
        if (live := self.live.take_instance(snapshot.instance.id)) is not None:
            live.abandon()
        rows = snapshot.history
        self.observation.committed(snapshot.instance, commit, committed, life=lambda: life_of(rows))
        self.publish(snapshot.instance, commit, committed)
        return True

    def _suspend(self, snapshot: Snapshot, error: Exception) -> bool:
        """Block an instance whose code and history do not fit; nothing of it is changed or lost."""
        if isinstance(error, _StaleLookError):
            return False
        if isinstance(error, NonDeterminismError):
            error = self._with_line(snapshot.instance, error)
        advice = _RESTORE if isinstance(error, NonDeterminismError) else ""
        if isinstance(error, (NonDeterminismError, PayloadError, TurnLimitExceeded)):
            log.error("orchestration %r is suspended: %s%s", snapshot.instance.id, error, advice)
        else:
            log.exception("orchestration %r is suspended by an unexpected error", snapshot.instance.id)
        return self.suspend(snapshot, f"{type(error).__name__}: {error}{advice}")

    def _with_line(self, instance: InstanceRow, error: NonDeterminismError) -> Exception:
        """Replay once more to learn which line of the code disagrees."""
        whole = self.store.load(instance.id, None)
        definition = self.registry.get(instance.name, instance.version)
        if whole is None or definition is None:
            return error
        execution = self.new_execution(whole.instance, definition, traces=True)
        try:
            with self.watchdog.watching(instance.id):
                replay_rows(execution, whole.history)
        except NonDeterminismError as again:
            return again
        except DurableError:
            log.debug("the second replay of %r ended otherwise", instance.id, exc_info=True)
        finally:
            execution.abandon()
        return error

    def suspend(self, snapshot: Snapshot, reason: str) -> bool:
        """Suspend an instance; False if it has moved meanwhile."""
        instance = snapshot.instance
        note = Event(EventKind.EXECUTION_SUSPENDED, snapshot.now, facts={"reason": reason})
        return self.commit_alone(instance, TurnCommit(
            instance.id, instance.execution, instance.sequence, MOVING, events=dump_events([note]),
            status=RuntimeStatus.SUSPENDED, reason=reason, parks_inbox=True,
        ))  # fmt: skip


def current_rows(rows: Sequence[str]) -> int:
    """Return how many rows replay passes over: those before the last rewind."""
    return next((number for number in range(len(rows) - 1, -1, -1) if rows[number].startswith(_REWRITTEN)), 0)


def current_events(rows: Sequence[str], instance_id: str) -> list[Event]:
    """Return the events of the rows that replay does not pass over.

    Raises:
        PayloadError: a row is damaged.
    """
    first = current_rows(rows)
    return [
        event for number, row in enumerate(rows[first:], first + 1) for event in events_of(row, instance_id, number)
    ]


def _awaits_rewind(rows: Sequence[str]) -> bool:
    """Tell whether an instance was reopened for a rewind that has not taken place yet."""
    return next((row.startswith(_REOPENED) for row in reversed(rows) if row.startswith((_REOPENED, _REWRITTEN))), False)


def replay_rows(execution: Execution, rows: Sequence[str]) -> None:
    """Replay the history rows that follow those which the execution knows.

    Raises:
        NonDeterminismError: the code asks for something else.
        PayloadError: a row is damaged.
    """
    first = current_rows(rows)
    if first or (rows and execution.sequence and rows[0].startswith(_REWRITTEN)):
        if execution.sequence:
            raise _StaleLookError(f"{execution.facts.instance_id!r} was rewound elsewhere")
        execution.sequence = first
    for row in rows[first:]:
        _replay_row(execution, row)


def _facts_of(row: InboxRow) -> dict[str, Any]:
    return row.facts if isinstance(row.facts, dict) else {}


def _replay_row(execution: Execution, row: str) -> None:
    """Replay the history row of one turn.

    Raises:
        NonDeterminismError: the code asks for something else.
        PayloadError: the row is damaged.
    """
    id_, number = execution.facts.instance_id, execution.sequence + 1
    try:
        execution.replay(events_of(row, id_, number))
    except _DAMAGE as error:  # not the user's code: its errors stay in its tasks
        if isinstance(error, PayloadError):
            raise
        raise PayloadError(f"history of {id_!r} is damaged at row {number}: {type(error).__name__}: {error}") from error


def events_of(row: str, instance_id: str, sequence: int) -> list[Event]:
    """Decode the history row of one turn.

    Raises:
        PayloadError: it is damaged.
    """
    try:
        return load_events(row)
    except _DAMAGE as error:
        raise PayloadError(f"history of {instance_id!r} is damaged at row {sequence}: {error}") from error


class _StaleLookError(Exception):
    """What was read does not fit together; look again."""


def address_of(instance: InstanceRow) -> TurnAddress:
    """Return where the turns of an instance are sent."""
    return TurnAddress(instance.id, instance.name, instance.queue, instance.canvas, instance.root_id)


def _in_order(snapshot: Snapshot) -> list[tuple[InboxRow, Event]]:
    """Return what the inbox holds as events, in the order in which they happened.

    Raises:
        PayloadError: a row is damaged.
    """
    instance = snapshot.instance
    found: list[tuple[tuple[int, bool, int], InboxRow, Event]] = []
    for row in snapshot.inbox:
        if row.kind in (InboxKind.JOIN, InboxKind.REWIND) or row.execution not in (None, instance.execution):
            continue
        if row.kind not in INPUTS or isinstance(row.facts, str):
            raise PayloadError(
                f"message {row.id} in the inbox of {instance.id!r} is damaged: kind {row.kind!r}, facts {row.facts!r:.80}"
            )
        kind = EventKind(row.kind)
        payload = instance.input if kind is EventKind.EXECUTION_STARTED else row.payload
        event = Event(kind, row.visible_at, row.command, row.attempt, row.name or "", payload, row.facts)
        found.append(((row.visible_at, kind is EventKind.TIMER_FIRED, row.id), row, event))
    return [(row, event) for _, row, event in sorted(found, key=lambda entry: entry[0])]


def _portion(
    messages: list[tuple[InboxRow, Event]],
) -> tuple[list[tuple[InboxRow, Event]], list[tuple[InboxRow, Event]]]:
    """Split what one turn takes from what the next one takes: a commit and its history row stay of bounded size."""
    size = 0
    for number, (row, _) in enumerate(messages):
        size += len(row.payload or "") + 100
        if number and size > _LARGEST_TURN:
            return messages[:number], messages[number:]
    return messages, []


def _taken(snapshot: Snapshot, decision: Decision) -> tuple[list[int], list[int]]:
    """Split the inbox rows that were looked at: deleted ones, and woken joins that wait on."""
    still_joined = {f"{join}" for join in decision.joins.values()}
    taken: list[int] = []
    reset: list[int] = []
    for row in snapshot.inbox:
        if row.kind != InboxKind.JOIN or row.execution != snapshot.instance.execution:
            taken.append(row.id)
        elif f"{row.command}" in still_joined:
            if row.wake_at is not None:
                reset.append(row.id)
        else:
            taken.append(row.id)
    return taken, reset
