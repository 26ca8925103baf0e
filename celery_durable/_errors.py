"""The tree of errors without Celery: what core, engine and store raise.

``celery_durable.errors`` is the public name of all of them and adds the two that Celery's own
code catches as well. That name is stored with failures and in pickles: so it is what every class
here gives as its module.
"""

from __future__ import annotations

import inspect
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = [
    "DurableError",
    "InstanceNotFound",
    "InstanceExists",
    "InvalidState",
    "ScheduleNotFound",
    "RequestRejected",
    "OrchestrationFailed",
    "OrchestrationTimeout",
    "ActivityError",
    "ActivityTimeout",
    "ActivityInterrupted",
    "CompensationFailed",
    "ForbiddenOperation",
    "LockLost",
    "NonDeterminismError",
    "TurnLimitExceeded",
    "PayloadError",
    "StoreError",
    "ConfigurationError",
    "DeterminismWarning",
]


def _rebuild(cls: type[DurableError], message: str, facts: dict[str, Any]) -> DurableError:
    return cls(message, **facts)


class DurableError(Exception):
    """The root of all errors of this package; keyword facts become attributes."""

    #: All facts by their names. Each class declares those that it has; one that is not known is
    #: None.
    facts: dict[str, Any]
    _declared: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    if not TYPE_CHECKING:  # a checker is to find facts that no class declares

        def __getattr__(self, name: str) -> Any:
            facts = self.__dict__.get("facts", {})
            if name in facts:
                return facts[name]
            if name in self._declared:
                return None
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.facts)


class InstanceNotFound(DurableError, LookupError):
    """There is no orchestration with this id (``instance_id``)."""

    instance_id: str


class InstanceExists(DurableError):
    """The id is in use already (``instance_id``)."""

    instance_id: str


class InvalidState(DurableError):
    """The verb does not fit the status (``instance_id``, ``status``)."""

    instance_id: str | None
    #: A ``RuntimeStatus``, which is a string.
    status: str | None
    verb: str | None
    #: The statuses in which it would fit.
    needed: tuple[str, ...] | None
    #: Of a request that was answered before.
    request_id: str | None


class ScheduleNotFound(DurableError, LookupError):
    """There is no schedule with this name (``name``)."""

    name: str


class RequestRejected(DurableError):
    """The orchestrator refused a request (``instance_id``, ``request_id``)."""

    instance_id: str
    request_id: str


class OrchestrationFailed(DurableError):
    """The orchestration ended without a result (``instance_id``, ``status``, ``reason``)."""

    instance_id: str
    #: A ``RuntimeStatus``, which is a string.
    status: str | None
    reason: str | None


class OrchestrationTimeout(DurableError, TimeoutError):
    """An orchestration was not over within its ``timeout`` (``instance_id``; ``timeout`` in
    seconds).
    """

    instance_id: str
    timeout: float


class ActivityError(DurableError):
    """An activity failed with an exception that cannot be rebuilt here.

    Facts: ``type`` (dotted name of the original), ``message``, ``traceback`` (text or None).
    """

    type: str
    message: str
    traceback: str | None
    #: When the original asks to be tried again; None where it does not.
    retry_after: float | timedelta | datetime | None


class ActivityTimeout(DurableError, TimeoutError):
    """An activity ran out of its ``timeout``, ``start_timeout`` or ``heartbeat_timeout``
    (``kind``).
    """

    instance_id: str
    kind: str
    #: None of a sub-orchestration, as is the attempt.
    task: str | None
    attempt: int | None


class ActivityInterrupted(DurableError):
    """An activity that runs at most once began, and how it ended is not known (``instance_id``,
    ``task``, ``attempt``).
    """

    instance_id: str | None
    task: str | None
    attempt: int | None


class CompensationFailed(DurableError):
    """Undos of a saga failed (``undos``: their tasks, ``errors``: their texts).

    The cause is what began them.
    """

    instance_id: str
    undos: list[str]
    errors: list[str]


class ForbiddenOperation(DurableError, RuntimeError):
    """An orchestrator tried what cannot be replayed: real I/O, a thread, a foreign awaitable."""

    operation: str | None
    #: Of the guard: where, as ``file.py:12``.
    line: str | None
    instance_id: str | None


class LockLost(DurableError):
    """An operation came under an entity's lock that its orchestration does not hold any more
    (``entity_id``, ``number``).
    """

    entity_id: str
    #: The fencing number of that lock.
    number: int | None


class NonDeterminismError(DurableError):
    """The code disagrees with history (``instance_id``, ``event``, ``expected``, ``actual``)."""

    instance_id: str | None
    #: The number of the event, from 1.
    event: int | None
    expected: str | None
    actual: str | None
    #: Of the code, as ``file.py:12``.
    line: str | None
    #: Of several, by ``raise_for_problems()``: their ids.
    instances: list[str] | None


class TurnLimitExceeded(DurableError):
    """One turn took too long, or asked for too much at once (``instance_id``).

    The instance is suspended.
    """

    instance_id: str


class PayloadError(DurableError, ValueError):
    """A value cannot be encoded, decoded, or is not accepted."""

    #: Of one that is too large: its length in bytes, and the limit.
    size: int | None
    limit: int | None


class StoreError(DurableError):
    """The store cannot be reached, or answered with an error; nothing was decided.

    ``is_permanent`` tells that it refuses the values themselves, so that trying again would not
    help.
    """

    is_permanent: bool = False

    def __init__(self, message: str = "", /, *, is_permanent: bool = False, **facts: Any) -> None:
        super().__init__(message, is_permanent=is_permanent, **facts)
        self.is_permanent = is_permanent


class ConfigurationError(DurableError):
    """The settings, the schema or the call's context do not fit."""

    #: The name of the setting.
    setting: str | None
    #: Of a Django database.
    alias: str | None
    instance_id: str | None
    task: str | None
    #: What the store needs and this process lacks: the revision of the schema, or a setting.
    needed: str | None
    #: The revision of the schema in the database.
    found: str | None


def is_passing(error: BaseException) -> bool:
    """Tell of an error whether a later moment, or another process, may do better: the store is
    down, or this process lacks what it needs.
    """
    if isinstance(error, StoreError):
        return not error.is_permanent
    return isinstance(error, ConfigurationError) and "needed" in error.facts


class DeterminismWarning(DurableError, UserWarning):
    """A line of an orchestrator does what a replay would do otherwise; see ``durable_guard``."""


_PUBLIC = "celery_durable.errors"
_rebuild.__module__ = _PUBLIC


def declare_facts(cls: type[DurableError]) -> None:
    """Let the facts that a class annotates be None where they are not known."""
    cls._declared = cls._declared | set(inspect.get_annotations(cls)) - set(_OWN)


_OWN = inspect.get_annotations(DurableError)
for _name in __all__:
    _class = globals()[_name]
    _class.__module__ = _PUBLIC
    declare_facts(_class)
