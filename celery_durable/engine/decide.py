"""From an instance and its new messages to a commit: replay, apply, compile."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .._errors import DurableError, PayloadError
from ..core.canvas_options import CanvasOptions
from ..core.decision import Decision
from ..core.history import EventKind
from ..core.kinds import ContinueAsNew
from ..core.machine import Machine
from ..core.run_limit import RunLimit
from .admission import AdmissionController
from .commit import compile_decision
from .intake import Message
from .parts import Parts
from .records import InboxRow, InstanceRow, Snapshot
from .registry import Definition
from .replay import Replayer
from .writes import Committed, TurnCommit

__all__ = ["Decided", "Decider"]


class Decided(NamedTuple):
    """What a turn came to; nothing of it counts before the commit."""

    #: The live code, standing where the commit will put it.
    execution: Machine
    decision: Decision
    commit: TurnCommit


@dataclass(slots=True)
class Decider:
    """Runs the user's code; whatever goes wrong, no coroutine is left behind."""

    parts: Parts
    replayer: Replayer
    admission: AdmissionController

    def decide(
        self,
        snapshot: Snapshot,
        cached: Machine | None,
        definition: Definition,
        messages: Sequence[Message],
        rewind: InboxRow | None = None,
    ) -> Decided:
        """Replay, apply what is new, and compile what that decides.

        Args:
            snapshot: what was read.
            cached: the execution that has replayed everything before ``snapshot.history``.
            definition: the code.
            messages: what is new, in order.
            rewind: the request that makes it run again without what failed.

        Raises:
            DurableError: the code and its history do not fit, or it cannot be decided here.
        """
        parts, instance, execution = self.parts, snapshot.instance, cached
        try:
            messages = self._limited(snapshot, definition, messages)
            with parts.propagators.restored(parts.codec, instance.canvas):
                execution, decision = self._decided(snapshot, cached, definition, messages, rewind)
            carried = parts.notifier.carried(
                execution,
                snapshot,
                snapshot.history,
                decision,
                lambda: parts.store.turns.load(instance.id, None),
            )
            commit = compile_decision(
                decision,
                snapshot,
                execution,
                parts.settings,
                parts.publisher,
                parts.codec,
                parts.versions,
                parts.limits,
                definition.max_activities,
                carried,
            )
            if isinstance(decision.final, ContinueAsNew):
                commit.next_version = self._next_version(decision.final, instance, definition)
            self.admission.complete(commit, instance, decision, snapshot.now)
            return Decided(execution, decision, commit)
        except BaseException:
            if execution is not None:
                execution.abandon()
            raise

    def _next_version(
        self, command: ContinueAsNew, instance: InstanceRow, definition: Definition
    ) -> str | None:
        """Return the version of the code that an instance has from its next execution on.

        Raises:
            DurableError: that one does not take its arguments.
        """
        registry, name = self.parts.registry, instance.name
        version = self.parts.versions.following(definition, instance.id, command.upgrade)
        following = registry.get(name, version)
        if version != instance.version and following is not None:
            args, kwargs = self.parts.codec.decode(command.input)
            try:
                inspect.signature(following.function).bind(None, *args, **kwargs)
                self.parts.codec.types_of(following.function).decoded(args, kwargs)
            except (TypeError, PayloadError) as error:
                raise DurableError(
                    f"orchestration {instance.id!r} ({name}) cannot continue as version"
                    f" {version!r}, which does not take its arguments: {error}. Fix that, then"
                    " resume it",
                    instance_id=instance.id,
                ) from None
        return version

    def _limited(
        self, snapshot: Snapshot, definition: Definition, messages: Sequence[Message]
    ) -> Sequence[Message]:
        """Return the messages; a run that begins with them, and may take so long only, is told its
        deadline.
        """
        canvas, given = snapshot.instance.canvas, None
        may_be_given = CanvasOptions.may_have(canvas, "timeout")
        if definition.timeout is None and not may_be_given:
            return messages
        # not always in the first turn: what was suspended before that has a history already
        if not any(event.kind is EventKind.EXECUTION_STARTED for _, event in messages):
            return messages
        if may_be_given:
            given = CanvasOptions.read(self.parts.codec, canvas).timeout
        timeout = definition.timeout if given is None else given
        if timeout is None:
            return messages
        limit = RunLimit(timeout, snapshot.now + timeout)
        return [
            (row, event._replace(facts={**limit.facts, **(event.facts or {})}))
            if event.kind is EventKind.EXECUTION_STARTED
            else (row, event)
            for row, event in messages
        ]

    def _decided(
        self,
        snapshot: Snapshot,
        cached: Machine | None,
        definition: Definition,
        messages: Sequence[Message],
        rewind: InboxRow | None,
    ) -> tuple[Machine, Decision]:
        """Run the user's code, within the time of one turn."""
        instance, events = snapshot.instance, [event for _, event in messages]
        execution: Machine | None = None

        def turn() -> tuple[Machine, Decision]:
            nonlocal execution
            if rewind is not None:
                execution, decision = self.replayer.rewound(snapshot, definition, rewind, events)
                return execution, decision
            execution = self.replayer.to_the_end(instance, snapshot.history, cached, definition)
            return execution, execution.take(events)

        try:
            return self.parts.watchdog.watch(instance.id, turn)
        except BaseException:
            if execution is not None:
                execution.abandon()
            raise

    def commit(self, decided: Decided) -> Committed | None:
        """Commit; an execution whose decision did not count has run too far to be kept."""
        committed = None
        try:
            committed = self.parts.store.turns.commit(decided.commit)
        finally:
            if committed is None:
                decided.execution.abandon()
        return committed
