"""Moves of an instance that no orchestrator decides: suspended, ended, reopened, its messages
discarded.

Each is a commit like a turn's, made only if the instance still is where it was read; none runs the
user's code. "False" always means: it has moved meanwhile, and nothing was changed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from .._errors import DurableError, NonDeterminismError
from ..core.entity import MESSAGE
from ..core.history import Event, EventKind, dump_events
from ..core.status import MOVING, RuntimeStatus
from .admission import AdmissionController
from .dispatch import Dispatcher
from .entities import answers, is_entity
from .parts import Parts
from .records import InboxKind, InboxRow, InstanceRow, ReplayPosition, Snapshot
from .replay import Replayer, StaleReadError, facts_of, replay_rows
from .summary import summary_of
from .termination import termination
from .writes import NewInbox, TurnCommit, refused_request

__all__ = ["Lifecycle"]

log: logging.Logger = logging.getLogger("celery_durable.turn")
_RESTORE = ". The instance is suspended; nothing is lost. Restore the old code, then resume it"
#: More rows than any history has: what is read "after" it is the instance and its inbox alone.
_ALL_ROWS = 2**31 - 1


@dataclass(slots=True)
class Lifecycle:
    """Suspends, ends and reopens instances."""

    parts: Parts
    replayer: Replayer
    admission: AdmissionController
    dispatcher: Dispatcher

    # -- suspended ---------------------------------------------------------------------------------

    def suspend(self, snapshot: Snapshot, reason: str) -> bool:
        """Suspend an instance."""
        instance = snapshot.instance
        note = Event(EventKind.EXECUTION_SUSPENDED, snapshot.now, facts={"reason": reason})
        commit = TurnCommit(
            instance.id,
            instance.execution,
            instance.sequence,
            MOVING,
            events=dump_events([note]),
            status=RuntimeStatus.SUSPENDED,
            reason=reason,
            parks_inbox=True,
        )
        return self.commit_alone(instance, commit)

    def suspend_for(self, snapshot: Snapshot, error: Exception) -> bool:
        """Suspend an instance whose code and history do not fit; nothing is changed or lost."""
        if isinstance(error, StaleReadError):
            return False
        if isinstance(error, NonDeterminismError):
            error = self._with_line(snapshot.instance, error)
        advice = _RESTORE if isinstance(error, NonDeterminismError) else ""
        log.error("orchestration %r is suspended: %s%s", snapshot.instance.id, error, advice)
        return self.suspend(snapshot, f"{type(error).__name__}: {error}{advice}")

    def suspend_moving(self, instance_id: str, error: Exception) -> None:
        """Suspend an instance, unless it has ended or is suspended already."""
        snapshot = self.parts.store.turns.load(instance_id, None)
        if snapshot is not None and snapshot.instance.status in MOVING:
            self.suspend_for(snapshot, error)

    def suspend_unread(self, instance_id: str, reason: str) -> bool:
        """Suspend an instance without reading its history, which may be what kills its reader."""
        record = self.parts.store.reads.fetch(instance_id)
        if record is None:
            return False
        known = ReplayPosition(record.execution, _ALL_ROWS)
        snapshot = self.parts.store.turns.load(instance_id, known)
        return snapshot is not None and self.suspend(snapshot, reason)

    def _with_line(self, instance: InstanceRow, error: NonDeterminismError) -> Exception:
        """Replay once more to learn which line of the code disagrees."""
        whole = self.parts.store.turns.load(instance.id, None)
        definition = self.parts.registry.get(instance.name, instance.version)
        if whole is None or definition is None:
            return error
        execution = self.replayer.new(whole.instance, definition, traces=True)
        try:
            self.parts.watchdog.watch(instance.id, lambda: replay_rows(execution, whole.history))
        except NonDeterminismError as again:
            return again
        except DurableError:
            log.debug("the second replay of %r ended otherwise", instance.id, exc_info=True)
        finally:
            execution.abandon()
        return error

    def note_break(self, instance_id: str, error: Exception) -> None:
        """Note what broke a turn off that is no fault of its code or history: an exhausted memory,
        an interruption.

        Nothing was committed: recovery has the turn taken again, and each further try is counted.
        """
        log.exception("a turn of orchestration %r broke off; it will be taken again", instance_id)
        with suppress(DurableError):
            self.parts.store.turns.note_waiting(
                instance_id,
                f"takes its turn again, which broke off: {type(error).__name__}: {error}",
            )

    # -- ended -------------------------------------------------------------------------------------

    def terminate(self, snapshot: Snapshot, request: InboxRow) -> bool:
        """End an instance at once, as a message asks."""
        facts = facts_of(request)
        is_recursive = facts.get("recursive", True)
        return self.end(snapshot, facts.get("reason"), request.payload, is_recursive=is_recursive)

    def end(
        self,
        snapshot: Snapshot,
        reason: str | None,
        output: str | None,
        *,
        is_recursive: bool = True,
    ) -> bool:
        """Terminate an instance, and with ``is_recursive`` ask its children to end, too."""
        parts, id_ = self.parts, snapshot.instance.id
        if len(snapshot.history) != snapshot.instance.sequence:  # it tells which locks are held
            whole = parts.store.turns.load(id_, None)
            if whole is None or whole.instance.execution != snapshot.instance.execution:
                return False
            snapshot = replace(snapshot, history=whole.history[: snapshot.instance.sequence])
        children = parts.store.reads.open_children(id_) if is_recursive else []
        is_of_entity = is_entity(snapshot.instance)
        inbox = parts.store.inbox.whole(id_, MESSAGE) if is_of_entity else ()
        commit = termination(
            snapshot, reason, output, parts.publisher, parts.codec, children, inbox
        )
        self.admission.complete(commit, snapshot.instance, None, snapshot.now)
        committed = parts.store.turns.commit(commit)
        if committed is None:
            return False
        if (live := parts.live.take_instance(id_)) is not None:
            live.abandon()
        rows = snapshot.history
        parts.notifier.committed(
            snapshot.instance, commit, committed, summary=lambda: summary_of(rows)
        )
        self.dispatcher.send(snapshot.instance, commit, committed)
        return True

    def discard(self, instance: InstanceRow, inbox: Sequence[InboxRow]) -> None:
        """Delete messages to an instance that has ended.

        A failed one keeps those that a rewind delivers.
        """
        has_failed = instance.status is RuntimeStatus.FAILED
        gone = [row for row in inbox if not (has_failed and InboxKind.is_kept(row.kind))]
        requests = [row for row in gone if row.kind == InboxKind.REWIND]
        refusals = [refused_request(row.payload, row.facts) for row in requests]
        replies = [reply for reply in refusals if reply is not None]
        if is_entity(instance):
            undelivered = [
                row.payload for row in gone if row.name == MESSAGE and row.payload is not None
            ]
            replies += answers(instance, self.parts.codec, None, undelivered)
        if replies:  # before the rows that asked for them are deleted: recovery would ask again
            self.parts.store.inbox.put(replies)
            self.dispatcher.turns_of(replies, 0)
        rows = [row.id for row in gone]
        self.parts.store.turns.discard(instance.id, instance.execution, rows)

    # -- reopened ----------------------------------------------------------------------------------

    def reopen(
        self, snapshot: Snapshot, reason: str | None, request: NewInbox | None = None
    ) -> bool:
        """Make a failed instance one that runs, for a rewind to follow."""
        instance = snapshot.instance
        note = Event(EventKind.EXECUTION_REWOUND, snapshot.now, facts={"reason": reason})
        commit = TurnCommit(
            instance.id,
            instance.execution,
            instance.sequence,
            (RuntimeStatus.FAILED,),
            events=dump_events([note]),
            status=RuntimeStatus.RUNNING,
            own_inbox=[] if request is None else [request],
            reopens=True,
            wakes_all=True,
        )
        return self.commit_alone(instance, commit)

    def commit_alone(self, instance: InstanceRow, commit: TurnCommit) -> bool:
        """Commit what no orchestrator decided, and nothing is to be sent for."""
        committed = self.parts.store.turns.commit(commit)
        if committed is not None:
            self.parts.notifier.committed(instance, commit, committed)
        return committed is not None
