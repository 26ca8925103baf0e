"""How far limits are used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..core.guard import refuse_inside_orchestrator

if TYPE_CHECKING:
    from ..engine.activity_limits import Use
    from ..engine.runtime import Runtime

__all__ = ["LimitUse", "list_limits"]


@dataclass(frozen=True)
class LimitUse:
    """A limit that is in use, for one value of its key, as ``durable.limits()`` found it.

    Example:
        >>> use = LimitUse("crm", None, most=5, taken=5, waiting=12)
        >>> f"{use.taken} of {use.most} of {use.name} are taken, {use.waiting} wait"
        '5 of 5 of crm are taken, 12 wait'
    """

    #: Its name; without one, that of its task or orchestrator.
    name: str
    #: The value of its key, as text; None of one without a key.
    key: str | None
    #: How many slots it has; None where neither the code here nor one that waits tells.
    most: int | None
    #: How many of them are taken; of a ``Rate``, how many began within its time.
    taken: int
    #: How many wait for one.
    waiting: int
    #: Of a ``Rate`` its time; None of a ``Limit``.
    per: timedelta | None = None
    #: Whether it limits instances of an orchestrator, not attempts of activities.
    is_of_orchestrator: bool = False


def list_limits(runtime: Runtime) -> list[LimitUse]:
    """Return the limits that are in use."""
    refuse_inside_orchestrator("durable.limits()")
    engine = runtime.runner
    activities = engine.store.limits.uses(engine.limits.numbers())
    orchestrations = engine.store.admission.uses(engine.admission.maxima_of)
    found = [_use(use, False) for use in activities] + [_use(use, True) for use in orchestrations]
    return sorted(found, key=lambda use: (use.name, use.key or "", use.is_of_orchestrator))


def _use(use: Use, is_of_orchestrator: bool) -> LimitUse:
    per = None if use.period is None else timedelta(microseconds=use.period)
    return LimitUse(use.name, use.key, use.most, use.taken, use.waiting, per, is_of_orchestrator)
