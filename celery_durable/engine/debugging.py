"""What a debugger replays: the history of an orchestration, or an exported one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._errors import ConfigurationError, InvalidState, PayloadError
from ..core.guard import refuse_inside_orchestrator
from ..core.names import parts_of_id
from ..core.plain_task import TASK
from .control import Control
from .debugger import Debugger, Recorded, Row
from .engine import Engine
from .records import InstanceRow
from .registry import Definition
from .replay import events_of
from .verify import read_history

__all__ = ["debug_document", "debug_instance"]

#: How the orchestrators of this package are called.
_OURS = "celery_durable."


def debug_instance(control: Control, instance_id: str, version: str | None = None) -> Debugger:
    """Return a debugger of an orchestration, at its beginning.

    Args:
        control: reads it.
        instance_id: of the orchestration.
        version: replay on the code of this version; its own if None.

    Raises:
        InstanceNotFound: there is no such orchestration.
        ConfigurationError: its code is not known here.
        InvalidState: it is no orchestration of the application's code.
        PayloadError: its history is damaged.
    """
    refuse_inside_orchestrator("debugger()")
    snapshot = control.snapshot(instance_id)
    instance = snapshot.instance
    if len(snapshot.history) != instance.sequence:
        raise PayloadError(
            f"history of {instance.id!r} is damaged: {len(snapshot.history)} of"
            f" {instance.sequence} rows are there"
        )
    return _debugger(control.runner, instance, snapshot.history, instance.name, version)


def debug_document(
    runner: Engine,
    document: str | bytes | Mapping[str, Any],
    name: str | None = None,
    version: str | None = None,
) -> Debugger:
    """Return a debugger of an exported history, at its beginning.

    Args:
        runner: the engine of this process.
        document: what ``export_history`` gave.
        name: replay on the code of this orchestrator; the one of the document if None.
        version: the same of the version.

    Raises:
        PayloadError: the document is damaged.
        ConfigurationError: its code is not known here.
        InvalidState: it is no orchestration of the application's code.
    """
    refuse_inside_orchestrator("debugger()")
    found = read_history(document)
    return _debugger(runner, found.instance, found.rows, name or found.instance.name, version)


def _debugger(
    runner: Engine, instance: InstanceRow, texts: Sequence[str], name: str, version: str | None
) -> Debugger:
    definition = _definition_of(runner, instance, name, version)
    rows: list[Row] = []
    first = 1
    for number, text in enumerate(texts, 1):
        if events := events_of(text, instance.id, number):
            rows.append(Row(first, events))
            first += len(events)
    return Debugger(runner, Recorded(replace(instance, name=name), definition, rows))


def _definition_of(
    runner: Engine, instance: InstanceRow, name: str, version: str | None
) -> Definition:
    if parts_of_id(instance.id) is not None or instance.version == TASK or name.startswith(_OURS):
        raise InvalidState(
            f"a debugger shows the code of an orchestrator: {instance.id!r} is {_what(instance)},"
            " and has none",
            instance_id=instance.id,
        )
    chosen = instance.version if version is None else version
    definition = runner.registry.get(name, chosen)
    if definition is None:
        known = ", ".join(
            "no version" if each is None else repr(each) for each in runner.registry.versions(name)
        )
        wanted = name if chosen is None else f"{name} version {chosen!r}"
        raise ConfigurationError(
            f"a debugger runs the code of its orchestration in this process, which has no"
            f" orchestrator {wanted}: import it here"
            + (f", or choose a version that it has: {known}" if known else ""),
            instance_id=instance.id,
        )
    return definition


def _what(instance: InstanceRow) -> str:
    if parts_of_id(instance.id) is not None:
        return "an entity: look at its state"
    if instance.version == TASK:
        return "a plain task: its body runs as an activity"
    return "a canvas, which this package runs"
