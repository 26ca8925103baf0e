"""What each verb does in each status: one table, from which refusals, documentation and tests are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..core.entity import ORCHESTRATORS
from ..core.status import RuntimeStatus
from ..errors import DurableError, InstanceNotFound, InvalidState
from .records import Filters

__all__ = [
    "EFFECTS", "WITHOUT_REASON", "BulkResult", "Effect", "acts", "apply_to_all", "is_offered", "refuse_for_entity", "statuses_of",
]  # fmt: skip

_BATCH = 200
_MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
_LIVE = (*_MOVING, RuntimeStatus.SUSPENDED)
_OVER = tuple(status for status in RuntimeStatus if status.is_terminal)


class Effect(StrEnum):
    """What becomes of a verb."""

    ACTS = "acts"
    NOTHING = "no effect"
    REFUSED = "refused"


def _effects(acts_on: tuple[RuntimeStatus, ...], nothing: tuple[RuntimeStatus, ...]) -> Mapping[RuntimeStatus, Effect]:
    found = dict.fromkeys(RuntimeStatus, Effect.REFUSED)
    return found | dict.fromkeys(acts_on, Effect.ACTS) | dict.fromkeys(nothing, Effect.NOTHING)


EFFECTS: Mapping[str, Mapping[RuntimeStatus, Effect]] = {
    "raise_event": _effects(_LIVE, ()),
    "suspend": _effects(_MOVING, (RuntimeStatus.SUSPENDED,)),
    "resume": _effects((RuntimeStatus.SUSPENDED,), _MOVING),
    "cancel": _effects(_LIVE, _OVER),
    "terminate": _effects(_LIVE, _OVER),
    "rewind": _effects((RuntimeStatus.FAILED,), _LIVE),
    "override": _effects((RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED, RuntimeStatus.FAILED), ()),
    "restart": _effects(_OVER, ()),
    "fork": _effects(tuple(status for status in RuntimeStatus if status is not RuntimeStatus.PENDING), ()),
    "purge": _effects(_OVER, ()),
}


#: The verbs that take no reason: nothing would keep it.
WITHOUT_REASON = frozenset({"raise_event", "restart", "purge"})
#: The verbs that an entity takes; the others reach code that it has not.
FOR_ENTITIES = frozenset({"suspend", "resume", "terminate", "purge"})


def statuses_of(verb: str, effect: Effect = Effect.ACTS) -> tuple[RuntimeStatus, ...]:
    """Return the statuses in which a verb has this effect."""
    return tuple(status for status, found in EFFECTS[verb].items() if found is effect)


def acts(verb: str, status: RuntimeStatus, instance_id: str) -> bool:
    """Tell whether a verb does anything in a status.

    Raises:
        InvalidState: it is refused; the text names the status that was found and those that are needed.
    """
    effect = EFFECTS[verb][status]
    if effect is Effect.REFUSED:
        needed = statuses_of(verb)
        raise InvalidState(
            f"orchestration {instance_id!r} is {status}: {verb} needs one that is {_or(needed)}",
            instance_id=instance_id, status=status, verb=verb, needed=needed,
        )  # fmt: skip
    return effect is Effect.ACTS


def _is_for(verb: str, name: str) -> bool:
    """Tell whether a verb reaches instances of this orchestrator: some are for orchestrations alone, not for entities."""
    return verb in FOR_ENTITIES or not name.startswith(ORCHESTRATORS)


def is_offered(verb: str, name: str, status: RuntimeStatus) -> bool:
    """Tell whether a verb does anything for an instance of this orchestrator in a status."""
    return EFFECTS[verb][status] is Effect.ACTS and _is_for(verb, name)


def refuse_for_entity(verb: str, name: str, instance_id: str) -> None:
    """Refuse a verb that is for orchestrations alone.

    Raises:
        InvalidState: the instance of this orchestrator is an entity.
    """
    if not _is_for(verb, name):
        raise InvalidState(f"{instance_id!r} is an entity: {verb} is for orchestrations", instance_id=instance_id)


def _or(statuses: Sequence[RuntimeStatus]) -> str:
    names = [str(status) for status in statuses]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@dataclass
class BulkResult:
    """What came of a verb for all orchestrations that matched: how many there were, how many took it, and which did not."""

    matched: int
    done: int = 0
    refused: dict[str, DurableError] = field(default_factory=dict)


def apply_to_all(store: Any, filters: Filters, verb: Callable[[str], object], limit: int | None = None) -> BulkResult:
    """Apply a verb to every orchestration that matches, newest first, page by page.

    Each is a commit of its own. When it breaks off, call it again: those that are done do not match any more, or take the verb
    without effect.
    """
    result = BulkResult(store.count(filters))
    cursor: str | None = None
    while limit is None or result.done + len(result.refused) < limit:
        left = _BATCH if limit is None else min(_BATCH, limit - result.done - len(result.refused))
        page, cursor = store.find(filters, left, cursor)
        for record in page:
            try:
                verb(record.id)
                result.done += 1
            except (InvalidState, InstanceNotFound) as error:
                result.refused[record.id] = error
        if cursor is None:
            break
    return result
