"""Admission and retention: what a new instance waits for, what admits it, and what its end sets in
motion.

A limited instance is inserted with a start message that is not visible yet, and with a row that
waits. The process that commits a start or an end tries to admit the next ones after that commit; a
try finds the limits' row locked only by another process, which tries again after its own commit.
What a crash leaves out between commit and try is found by recovery, once a second.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from .._errors import StoreError
from ..core.canvas_options import CanvasOptions
from ..core.decision import Decision
from ..core.plain_task import TASK
from ..core.ports import Codec
from ..core.times import EPOCH
from ..settings import Settings
from .activity_limits import full_in_words
from .observers import Notifier
from .ports import Publisher
from .records import InstanceRow
from .registry import Definition, Registry
from .retention import Retention
from .store_ports import Store
from .writes import NewInstance, TurnCommit, Waiting

__all__ = ["AdmissionController", "waits_in_words"]

log: logging.Logger = logging.getLogger("celery_durable.flow")
_TRIES = 3


# -- what the engine does --------------------------------------------------------------------------


class _Engine(Protocol):
    @property
    def store(self) -> Store: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def notifier(self) -> Notifier: ...


@dataclass(slots=True)
class AdmissionController:
    """Admission in this process, over its engine."""

    engine: _Engine

    def apply_policies(
        self, new: NewInstance, definition: Definition | None, *, debounces: bool = False
    ) -> None:
        """Give a new instance what its orchestrator declares.

        Raises:
            ValueError: a key cannot be computed from its arguments, or it cannot be debounced.
        """
        declared = None if definition is None else definition.retention
        if new.version == TASK:
            declared = CanvasOptions.read(self.engine.codec, new.canvas).task.get("retention")
        keep = self.engine.settings.kept if declared is None else declared
        if definition is not None and definition.flow is not None:
            args, kwargs = self.engine.codec.decode(new.input)
            canvas = CanvasOptions.read(self.engine.codec, new.canvas)
            try:
                new.admission = definition.flow.admission(
                    new.name, args, kwargs, canvas.priority, debounces=debounces
                )
                if (
                    new.admission is not None
                    and new.admission.debounce is not None
                    and canvas.finish
                ):
                    raise ValueError(
                        "it is debounced, so it cannot be part of a canvas or carry link, chain or"
                        " chord"
                    )
            except ValueError as error:
                raise ValueError(
                    f"orchestration {new.id!r} ({new.name}) cannot start: {error}"
                ) from error
        new.policy = Retention(keep, new.admission is not None).to_text()

    def complete(
        self, commit: TurnCommit, instance: InstanceRow, decision: Decision | None, now: int
    ) -> None:
        """Add to a commit what admission and retention say about its children and its end."""
        # the parent hears of a child that cannot be: its own commit must not fail for it
        for child in list(commit.children):
            try:
                self.apply_policies(child, self.engine.registry.get(child.name, child.version))
            except ValueError as error:
                log.warning("%s", error)
                commit.children.remove(child)
                if child.refusal is not None and decision is not None and decision.final is None:
                    failure = self.engine.codec.encode_failure(error)
                    message = replace(
                        child.refusal, payload=failure, visible_at=now, facts={"refused": True}
                    )
                    commit.own_inbox.append(message)
        if instance.policy is not None and commit.status is not None and commit.status.is_terminal:
            # in the commit that ends it: no crash can keep its slots, or its rows for ever
            retention = Retention.parse(instance.policy)
            commit.frees_slots = retention.is_limited
            commit.keeps_for = retention.period(commit.status)

    def after(self, name: str, commit: TurnCommit, children: Sequence[NewInstance]) -> None:
        """Admit what a commit made room for, and the children that it started."""
        for limited in sorted({child.name for child in children if child.admission is not None}):
            self.admit(limited)
        if commit.frees_slots:
            self.admit(name, is_likely=False)

    def maxima_of(self, name: str) -> dict[str, int] | None:
        """Return the numbers of an orchestrator's limits now; None where its code is not known."""
        definition = self.engine.registry.newest(name)
        if definition is None:
            return None
        return {} if definition.flow is None else definition.flow.maxima

    def admit(self, name: str, *, is_likely: bool = True, notes_try: bool = False) -> None:
        """Admit those of an orchestrator that have room, and send their first turns.

        A failure is left to recovery.

        Args:
            name: of the orchestrator.
            is_likely: whether to try at once, or to ask first whether there is room.
            notes_try: whether other workers may leave out their own try for a while.
        """
        store = self.engine.store
        maxima, tries = self.maxima_of(name), _TRIES
        try:
            while tries and (is_likely or store.admission.may_admit(name, maxima)):
                admitted = store.admission.admit(name, maxima, notes_try=notes_try)
                if admitted is None:
                    return  # another process has the limits' row, and tries again after its commit
                is_likely, tries = False, _TRIES if admitted else tries - 1
                # admitted is committed: a crash before these messages is found by their rows
                for address in store.reads.turn_addresses(admitted):
                    self.engine.publisher.publish_turn(address)
        except StoreError:
            log.warning("nothing could be admitted of %s; recovery will", name, exc_info=True)


def waits_in_words(waiting: Waiting, now: int, *, shows_keys: bool = True) -> str:
    """Say what an instance waits for that has not been admitted.

    Keys come from arguments, which may be hidden.
    """
    if waiting.ready_at > now:
        return (
            "its time to begin,"
            f" {(EPOCH + timedelta(microseconds=waiting.ready_at)).isoformat(' ', 'seconds')}"
        )
    whose = f"orchestrator {waiting.name!r}"
    full = [
        full_in_words(slot, taken, "starts", whose, shows_keys=shows_keys)
        for slot, taken in waiting.slots
        if taken >= slot.most
    ]
    return f"a place: {'; '.join(full) or 'there is room'}, {waiting.before} before it"
