"""Which version of its code a start gets: the one that it names, else by the ramp, else the newest.

A process that cannot tell stores ``OPEN``: the worker that is to take the first turn chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from .._errors import ConfigurationError
from ..core.canvas_options import CanvasOptions
from ..core.plain_task import TASK, TaskOptions
from ..core.ports import Codec
from .records import InstanceRow
from .registry import Definition, Registry
from .store_ports import Store
from .switches import Ramp, SwitchBoard

__all__ = ["OPEN", "VersionChoice", "choose_version"]

log: logging.Logger = logging.getLogger("celery_durable.turn")
#: Stored in place of a version that is still to be chosen; no version is called that.
OPEN = "?"


@dataclass(slots=True)
class VersionChoice:
    """Chooses, as this process knows the code and the ramps."""

    registry: Registry
    board: SwitchBoard
    codec: Codec

    def of_start(
        self, name: str, instance_id: str, version: str | None = None
    ) -> tuple[str | None, Definition | None]:
        """Return the version of a new instance, and its code where this process has it.

        Args:
            name: of the orchestrator.
            instance_id: the choice of a ramp depends on it.
            version: what the start names.

        Raises:
            ConfigurationError: this process does not have the version that is named.
            StoreError: the ramps cannot be read.
        """
        if version is not None:
            return version, self.registry.chosen(name, version)
        ramp = self._ramps.get(name)
        if ramp is None:
            definition = self.registry.newest(name)
        elif ramp.has(name, instance_id):
            return ramp.version, self.registry.get(name, ramp.version)
        else:
            definition = self.registry.newest(name, but=ramp.version)
        return (OPEN, None) if definition is None else (definition.version, definition)

    def of_first_turn(self, name: str, instance_id: str) -> str | None:
        """Return the version of an instance that was started where it could not be told; ``OPEN``
        if it cannot be told here either.

        Where this process has the ramped version only, it is that: no one else is known to have
        another.

        Raises:
            StoreError: the ramps cannot be read.
        """
        version, _ = self.of_start(name, instance_id)
        only = self.registry.newest(name) if version == OPEN else None
        return version if only is None else only.version

    def of_schedule(
        self, name: str, instance_id: str, canvas: str | None
    ) -> tuple[str | None, Definition | None]:
        """Return the version of an instance that a schedule starts, and its code where this process
        has it.
        """
        return self.of_start(name, instance_id, TASK if self._is_plain(canvas) else None)

    def has_code(self, name: str, canvas: str | None) -> bool:
        """Tell whether this process can start what a schedule names."""
        return name in self.registry or self._is_plain(canvas)

    def _is_plain(self, canvas: str | None) -> bool:
        is_likely = CanvasOptions.may_have(canvas, "plain_task")
        return is_likely and CanvasOptions.read(self.codec, canvas).is_of_task

    def code_of(self, instance: InstanceRow) -> Definition | None:
        """Return the code of an instance, where this process has it: of a plain task also all that
        its retry policy names.
        """
        definition = self.registry.get(instance.name, instance.version)
        if instance.version == TASK and CanvasOptions.may_have(instance.canvas, "retry"):
            try:
                TaskOptions.of_kept(CanvasOptions.read(self.codec, instance.canvas).task)
            except ConfigurationError as error:
                log.warning("%r waits for a worker that has its policy: %s", instance.id, error)
                return None
        return definition

    def following(
        self, definition: Definition, instance_id: str, upgrade: bool | str | None
    ) -> str | None:
        """Return the version that an instance of this code has from its next execution on.

        ``upgrade`` is what ``ctx.continue_as_new`` was given.
        """
        wanted = definition.upgrade if upgrade is None else upgrade
        if wanted is True:
            version, _ = self.of_start(definition.name, instance_id)
            return definition.version if version == OPEN else version
        return wanted or definition.version

    def share(self, name: str, version: str | None) -> float:
        """Return which share of the new starts of a name gets a version."""
        ramp = self._ramps.get(name)
        if ramp is not None and ramp.version == version:
            return ramp.share
        other = self.registry.newest(name, but=ramp.version) if ramp else self.registry.newest(name)
        if other is None or other.version != version:
            return 0.0
        return 1.0 if ramp is None else 1.0 - ramp.share

    def is_ramped(self, name: str, version: str | None) -> bool:
        """Tell whether a ramp names a version."""
        ramp = self._ramps.get(name)
        return ramp is not None and ramp.version == version

    @property
    def _ramps(self) -> Mapping[str, Ramp]:
        return self.board.current().ramps


def choose_version(versions: VersionChoice, store: Store, instance: InstanceRow) -> bool:
    """Choose the version of an instance that was started where its code is not known; False if it
    is chosen already, or cannot be chosen here.
    """
    if instance.version != OPEN:
        return False
    version = versions.of_first_turn(instance.name, instance.id)
    if version == OPEN:
        return False
    store.turns.choose_version(instance.id, instance.execution, OPEN, version)
    return True
