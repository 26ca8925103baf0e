"""What durabletask's client gives, and is asked by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from kombu.utils.json import dumps

from ..core.status import RuntimeStatus
from ..handles.entity import Entity
from ..handles.fields import json_output_of
from ..handles.orchestration import Orchestration
from .entities import EntityMetadata, shown_state
from .entity_names import EntityInstanceId, aware
from .errors import FailureDetails, OrchestrationFailedError, details_of
from .values import incoming

__all__ = [
    "CleanEntityStorageResult",
    "EntityQuery",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PurgeInstancesResult",
    "bounds_of",
    "filters_of",
    "is_within",
    "metadata_of",
    "state_of",
    "statuses_of",
]

Item = TypeVar("Item")


class OrchestrationStatus(Enum):
    """durabletask's names of the states.

    One that was canceled here is ``TERMINATED``, none is ``CONTINUED_AS_NEW``.
    """

    RUNNING = 0
    COMPLETED = 1
    CONTINUED_AS_NEW = 2
    FAILED = 3
    TERMINATED = 5
    PENDING = 6
    SUSPENDED = 7


def _shown_status(status: RuntimeStatus) -> OrchestrationStatus:
    is_canceled = status is RuntimeStatus.CANCELED
    return OrchestrationStatus.TERMINATED if is_canceled else OrchestrationStatus[status]


def statuses_of(wanted: Iterable[Enum] | None) -> list[RuntimeStatus] | None:
    """Return the states of this package that Azure's or durabletask's stand for; None for None."""
    if wanted is None:
        return None
    names = {each.name.upper() for each in wanted}
    if "TERMINATED" in names and any(isinstance(each, OrchestrationStatus) for each in wanted):
        names.add("CANCELED")
    return [status for status in RuntimeStatus if status in names]


@dataclass
class OrchestrationState:
    """Where an orchestration stands.

    Times are naive UTC; payloads are JSON, None where they were not fetched or are empty.
    """

    instance_id: str
    name: str
    runtime_status: OrchestrationStatus
    created_at: datetime
    last_updated_at: datetime
    serialized_input: str | None
    serialized_output: str | None
    serialized_custom_status: str | None
    failure_details: FailureDetails | None
    input: Any = None
    output: Any = None
    custom_status: Any = None

    def get_input(self, expected_type: Any = None) -> Any:
        """Return the input, made to a type if one is given."""
        return incoming(self.input, expected_type)

    def get_output(self, expected_type: Any = None) -> Any:
        """Return the output, made to a type if one is given."""
        return incoming(self.output, expected_type)

    def get_custom_status(self, expected_type: Any = None) -> Any:
        """Return the custom status, made to a type if one is given."""
        return incoming(self.custom_status, expected_type)

    def raise_if_failed(self) -> None:
        """Raise if it has failed.

        Raises:
            OrchestrationFailedError: it has.
        """
        if (details := self.failure_details) is not None:
            raise OrchestrationFailedError(
                f"orchestration {self.instance_id!r} failed: {details.message}",
                failure_details=details,
            )


@dataclass
class OrchestrationQuery:
    """Which orchestrations ``get_all_orchestration_states`` gives: all that fit what is set.

    Times are UTC, if naive.
    """

    created_time_from: datetime | None = None
    created_time_to: datetime | None = None
    runtime_status: list[OrchestrationStatus] | None = None
    max_instance_count: int | None = (1 << 31) - 1
    fetch_inputs_and_outputs: bool = False
    instance_id_prefix: str | None = None


@dataclass
class EntityQuery:
    """Which entities ``get_all_entities`` gives: all that fit what is set.

    Times are UTC, if naive.
    """

    instance_id_starts_with: str | None = None
    last_modified_from: datetime | None = None
    last_modified_to: datetime | None = None
    include_state: bool = True
    include_transient: bool = False
    page_size: int | None = None


@dataclass
class PurgeInstancesResult:
    """How many orchestrations were deleted.

    ``is_complete`` is False if time ran out before all were.
    """

    deleted_instance_count: int
    is_complete: bool | None


@dataclass
class Page(Generic[Item]):
    """One page of a list; ``continuation_token`` is None on the last."""

    items: list[Item]
    continuation_token: str | None


@dataclass
class CleanEntityStorageResult:
    """How many entities were deleted.

    Locks are released by the engine itself, so there are no orphaned ones.
    """

    empty_entities_removed: int
    orphaned_locks_released: int


def state_of(run: Orchestration, fetches: bool) -> OrchestrationState:
    """Return what durabletask's client tells of an orchestration."""
    status = run.runtime_status
    failure = (
        details_of(run.failure)
        if status is RuntimeStatus.FAILED and run.failure is not None
        else None
    )
    given = next(iter(run.input["args"]), None) if fetches else None
    output, custom = (json_output_of(run), run.custom_status) if fetches else (None, None)
    return OrchestrationState(
        run.id,
        run.name,
        _shown_status(status),
        run.created_at.replace(tzinfo=None),
        run.updated_at.replace(tzinfo=None),
        _text(given),
        _text(output),
        _text(custom),
        failure,
        given,
        output,
        custom,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(dumps(value))  # type: ignore[no-untyped-call]


def metadata_of(entity: Entity, shows_state: bool) -> EntityMetadata:
    """Return what durabletask's client tells of an entity."""
    return EntityMetadata(
        EntityInstanceId(entity.name, entity.key),
        entity.updated_at.replace(tzinfo=None),
        entity.waiting,
        entity.locked_by or "",
        shows_state,
        shown_state(entity.state) if shows_state else None,
    )


def filters_of(
    first: datetime | None,
    last: datetime | None,
    statuses: list[RuntimeStatus] | None,
    prefix: str | None,
) -> dict[str, Any]:
    """Return what is set as filters of ``durable.find``."""
    begin, end = bounds_of(first, last)
    wanted = {
        "created_after": begin,
        "created_before": end,
        "status": statuses,
        "id_prefix": prefix,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def bounds_of(
    first: datetime | None, last: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """Return two times with their zone, which is UTC if they have none."""
    return None if first is None else aware(first), None if last is None else aware(last)


def is_within(moment: datetime, first: datetime | None, last: datetime | None) -> bool:
    """Tell whether a time is within bounds; None is no bound."""
    return (first is None or moment >= first) and (last is None or moment <= last)
