"""Queries: functions that look at ``ctx.state``, where the last committed turn has left it.

The history is replayed for each, in the process that asks: nothing is run, written or sent, and no
worker is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._errors import ConfigurationError
from ..core.guard import refuse_inside_orchestrator
from ..core.kinds import State
from .control import Control
from .records import Snapshot
from .registry import Definition
from .replay import replay_rows

__all__ = ["UnknownQueryError", "query"]


class UnknownQueryError(LookupError):
    """An orchestrator has no query of that name."""


def query(
    control: Control, instance_id: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Return what a query says of an orchestration, as a payload gives it back.

    Raises:
        InstanceNotFound: there is no such orchestration.
        ConfigurationError: its code is not known here.
        LookupError: it has no query of that name.
        NonDeterminismError: the code and its history do not fit.
        PayloadError: the result cannot be encoded, or the history is damaged.
        Exception: what the query raises.
    """
    refuse_inside_orchestrator("query()")
    snapshot = control.snapshot(instance_id)
    definition = _definition_of(control, snapshot)
    function = _function_of(control, definition, name)
    runner, codec = control.runner, control.codec
    with runner.propagators.restored(codec, snapshot.instance.canvas):
        execution = runner.replayer.new(snapshot.instance, definition, is_dry=True)
        try:
            runner.watchdog.watch(instance_id, lambda: replay_rows(execution, snapshot.history))
            result = function(execution.of(State).namespace, *args, **kwargs)
            return codec.decode(codec.encode(result))
        finally:
            execution.abandon()


def _definition_of(control: Control, snapshot: Snapshot) -> Definition:
    instance = snapshot.instance
    definition = control.registry.get(instance.name, instance.version)
    if definition is None:
        version = "" if instance.version is None else f" version {instance.version!r}"
        raise ConfigurationError(
            f"a query runs the code of its orchestration in this process, which has no orchestrator"
            f" {instance.name!r}{version}: import it here",
            instance_id=instance.id,
        )
    return definition


def _function_of(control: Control, definition: Definition, name: str) -> Callable[..., Any]:
    queries = control.registry.queries_of(definition)
    if name not in queries:
        known = ", ".join(map(repr, sorted(queries))) or "none"
        raise UnknownQueryError(
            f"orchestrator {definition.name} has no query {name!r}; known are {known}"
        )
    return queries[name]
