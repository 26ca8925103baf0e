"""The tree of errors without Celery: what core, engine and store raise.

``celery_durable.errors`` is the public name of all of them and adds the two that Celery's own
code catches as well. That name is stored with failures and in pickles: so it is what every class
here gives as its module.
"""

from __future__ import annotations

from typing import Any

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

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.facts)


class InstanceNotFound(DurableError, LookupError):
    """There is no orchestration with this id (``instance_id``)."""


class InstanceExists(DurableError):
    """The id is in use already (``instance_id``)."""


class InvalidState(DurableError):
    """The verb does not fit the status (``instance_id``, ``status``)."""


class ScheduleNotFound(DurableError, LookupError):
    """There is no schedule with this name (``name``)."""


class RequestRejected(DurableError):
    """The orchestrator refused a request (``instance_id``, ``request_id``)."""


class OrchestrationFailed(DurableError):
    """The orchestration ended without a result (``instance_id``, ``status``, ``reason``)."""


class OrchestrationTimeout(DurableError, TimeoutError):
    """An orchestration was not over within its ``timeout`` (``instance_id``; ``timeout`` in
    seconds).
    """


class ActivityError(DurableError):
    """An activity failed with an exception that cannot be rebuilt here.

    Facts: ``type`` (dotted name of the original), ``message``, ``traceback`` (text or None).
    """


class ActivityTimeout(DurableError, TimeoutError):
    """An activity ran out of its ``timeout``, ``start_timeout`` or ``heartbeat_timeout``
    (``kind``).
    """


class ActivityInterrupted(DurableError):
    """An activity that runs at most once began, and how it ended is not known (``instance_id``,
    ``task``, ``attempt``).
    """


class CompensationFailed(DurableError):
    """Undos of a saga failed (``undos``: their tasks, ``errors``: their texts).

    The cause is what began them.
    """


class ForbiddenOperation(DurableError, RuntimeError):
    """An orchestrator tried what cannot be replayed: real I/O, a thread, a foreign awaitable."""


class LockLost(DurableError):
    """An operation came under an entity's lock that its orchestration does not hold any more
    (``entity_id``, ``number``).
    """


class NonDeterminismError(DurableError):
    """The code disagrees with history (``instance_id``, ``event``, ``expected``, ``actual``)."""


class TurnLimitExceeded(DurableError):
    """One turn took too long, or asked for too much at once (``instance_id``).

    The instance is suspended.
    """


class PayloadError(DurableError, ValueError):
    """A value cannot be encoded, decoded, or is not accepted."""


class StoreError(DurableError):
    """The store cannot be reached, or answered with an error; nothing was decided.

    ``is_permanent`` tells that it refuses the values themselves, so that trying again would not
    help.
    """

    is_permanent = False

    def __init__(self, message: str = "", /, *, is_permanent: bool = False, **facts: Any) -> None:
        super().__init__(message, is_permanent=is_permanent, **facts)
        self.is_permanent = is_permanent


class ConfigurationError(DurableError):
    """The settings, the schema or the call's context do not fit."""


class DeterminismWarning(DurableError, UserWarning):
    """A line of an orchestrator does what a replay would do otherwise; see ``durable_guard``."""


_PUBLIC = "celery_durable.errors"
_rebuild.__module__ = _PUBLIC
for _name in __all__:
    globals()[_name].__module__ = _PUBLIC
