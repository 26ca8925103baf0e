"""The turn: read, route, act, again. The page to read first.

An instance is a row, its history, and an inbox of messages. A turn moves it: it reads all three
without a lock, replays history through the orchestrator's code, applies the messages, and commits
everything that follows at once, if the instance is still where it was read. Else it drops what it
decided and reads again. So the user's code runs with no transaction open, a frozen process holds
nothing, and of two turns of one instance one simply does not count.

Only after the commit is anything sent (``dispatch``). What dies between commit and send is found by
recovery: each row that wants a message says when it is to be looked at. Every message that wakes an
instance is put into its inbox by a commit, and its sender schedules a turn after that commit, so no
message can be overlooked: a turn that committed before it was not the last one.

Which of a few things a turn does with what it has read is a table (``routes``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .._errors import ConfigurationError, DurableError, StoreError, is_passing
from .cache import known_of
from .crash_count import CrashCount
from .decide import Decided, Decider
from .dispatch import address_of
from .inline_turns import InlineTurns
from .intake import Message, changes_joins, in_order, leaves_more, portion, settle_inbox
from .lifecycle import Lifecycle
from .loaded_turn import LoadedTurn, TurnState
from .parts import Parts
from .pausing import Pausing
from .records import InboxKind, InboxRow, Snapshot
from .replay import StaleReadError, awaits_rewind, facts_of
from .routes import Action, Request, TurnView, request_of, route
from .scope import at_turn
from .switches import Switched
from .version_choice import choose_version

__all__ = ["TurnRunner", "TurnState"]

#: So often is an instance read again that moves faster than turns are taken of it.
_CONFLICTS = 40


@dataclass(slots=True)
class TurnRunner:
    """Takes turns by message."""

    parts: Parts
    lifecycle: Lifecycle
    decider: Decider
    inline: InlineTurns
    pausing: Pausing

    def run(self, instance_id: str, *, sends: int = 0) -> TurnState:
        """Take turns of an instance until nothing in its inbox wants one.

        Args:
            instance_id: whose turns.
            sends: how often recovery has sent the message that asks for it; such a try is counted
                before anything is read, for reading may be what ends its process.

        Raises:
            StoreError: the store is down; nothing is lost, the message is to be delivered again.
        """
        crashes = CrashCount(self.parts, self.lifecycle, instance_id)
        try:
            if sends and crashes.stops_unread(sends):
                return TurnState.DONE
            state = self._run(instance_id, crashes)
        except (StoreError, ConfigurationError):
            crashes.take_back()  # this process lives: a later try may do better
            raise
        if sends:
            crashes.take_back()
        return state

    def _run(self, instance_id: str, crashes: CrashCount) -> TurnState:
        state, conflicts, snapshot = TurnState.HAS_MOVED, 0, None
        while conflicts < _CONFLICTS:
            switched = self.parts.switches.current()
            cached = self.parts.live.take_instance(instance_id)
            try:
                snapshot = self.parts.store.turns.load(instance_id, known_of(cached))
            except BaseException:
                self.parts.live.put(cached)
                raise
            if snapshot is None:
                if cached is not None:
                    cached.abandon()
                return TurnState.MISSING
            definition = self.parts.versions.code_of(snapshot.instance)
            turn = LoadedTurn(snapshot, cached, definition, crashes)
            with at_turn(snapshot):
                state = self._act(turn, switched, takes_all=state is TurnState.HAS_MORE)
            if state is TurnState.HAS_MOVED:
                conflicts += 1
                time.sleep(random.uniform(0, 0.002 * min(conflicts, 10)))  # noqa: S311
            elif state is not TurnState.HAS_MORE:
                return state
        if snapshot is not None:
            self.parts.publisher.publish_turn(address_of(snapshot.instance), delay=1_000_000)
        return TurnState.CONTENDED

    # -- the actions of the table ------------------------------------------------------------------

    def _act(self, turn: LoadedTurn, switched: Switched, *, takes_all: bool) -> TurnState:
        snapshot, lifecycle = turn.snapshot, self.lifecycle
        instance, inbox = snapshot.instance, snapshot.inbox
        is_due = turn.is_due(takes_all=takes_all)
        request, has_code = request_of(instance.status, inbox), turn.definition is not None
        pause = switched.of_turns(instance.name, instance.version, instance.queue)
        action = route(TurnView(instance.status, request, is_due, has_code, pause is not None))
        if instance.status.is_terminal or request is Request.TERMINATE or not has_code:
            turn.abandon()
        match action:
            case Action.REOPEN:
                message = turn.newest_request(InboxKind.REWIND)
                reason = facts_of(message).get("reason") if message is not None else None
                is_open = lifecycle.reopen(snapshot, reason)
                return TurnState.HAS_MORE if is_open else TurnState.HAS_MOVED
            case Action.DISCARD:
                lifecycle.discard(instance, inbox)
                return TurnState.DONE
            case Action.TERMINATE:
                message = turn.newest_request(InboxKind.TERMINATE)
                assert message is not None
                return _done_if(lifecycle.terminate(snapshot, message))
            case Action.LEAVE:
                self.parts.live.put(turn.cached)
                return TurnState.DONE
            case Action.HOLD:
                self.parts.live.put(turn.cached)
                assert pause is not None
                return _done_if(self.pausing.hold_turns(instance, pause))
            case Action.UNKNOWN_CODE:
                is_chosen = choose_version(self.parts.versions, self.parts.store, instance)
                return TurnState.HAS_MOVED if is_chosen else TurnState.UNKNOWN
            case Action.REWIND:
                return self._rewind(turn)
            case Action.TURN:
                return self._take(turn, None)

    def _rewind(self, turn: LoadedTurn) -> TurnState:
        if turn.cached is not None:  # it needs the whole history
            turn.abandon()
            return TurnState.HAS_MORE
        request = turn.newest_request(InboxKind.REWIND)
        if not awaits_rewind(turn.snapshot.history):
            request = None  # it came too late: another one was granted, and the code runs
        return self._take(turn, request)

    def _take(self, turn: LoadedTurn, rewind: InboxRow | None) -> TurnState:
        """Replay, apply, commit, send."""
        snapshot, definition = turn.snapshot, turn.definition
        assert definition is not None
        try:
            is_stopped = turn.crashes.stops(snapshot)
        except BaseException:
            self.parts.live.put(turn.cached)
            raise
        if is_stopped:
            turn.abandon()
            return TurnState.DONE
        try:
            messages, rest = portion(in_order(snapshot))
            if rewind is not None:  # all that has arrived comes before anything is asked for again
                messages, rest = messages + rest, []
            cached, turn.cached = turn.cached, None
            decided = self.decider.decide(snapshot, cached, definition, messages, rewind)
            settle_inbox(snapshot, decided.decision, decided.commit, messages, rest)
            committed = self.decider.commit(decided)
        except (DurableError, StaleReadError) as error:
            turn.abandon()
            if is_passing(error):
                raise
            return _done_if(self.lifecycle.suspend_for(snapshot, error))
        except Exception as error:
            self.lifecycle.note_break(snapshot.instance.id, error)
            raise
        if committed is None:
            return TurnState.HAS_MOVED
        # from here on it is committed: what is not sent now, recovery sends
        self.inline.after(snapshot.instance, decided, committed)
        return TurnState.HAS_MORE if self._wants_more(snapshot, decided, rest) else TurnState.DONE

    def _wants_more(self, snapshot: Snapshot, decided: Decided, rest: Sequence[Message]) -> bool:
        """Tell whether the next turn is to be taken at once."""
        decision, commit = decided.decision, decided.commit
        if leaves_more(snapshot, rest, decision, commit):
            return True
        has_untaken = self.parts.store.turns.has_untaken
        return changes_joins(decision, commit) and has_untaken(snapshot.instance.id)


def _done_if(is_committed: bool) -> TurnState:
    return TurnState.DONE if is_committed else TurnState.HAS_MOVED
